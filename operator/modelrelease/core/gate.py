"""
The gate of the open stage: the judge's verdict on its evidence, and the proof that there is any.

What was counted in a stage cannot be undone. So where an earlier look found events or requests and this one finds none
at all, series are missing from Prometheus' answer, and what is left of it proves nothing: an absent numerator is no
events, and no errors would be a pass. A numerator that was never there is not doubted; it may be one that is born with
its first event.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from modelrelease.api.contract import Contract
from modelrelease.api.parse import Release
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import ArmNumbers, CandidateStatus, ClauseStatus, GateStatus, ReleaseStatus, StageRecord
from modelrelease.core.arrival import arrival, wrong_split
from modelrelease.core.counts import Evidence, MetricsUnavailable, StageCounts
from modelrelease.core.judge import judge
from modelrelease.core.report import percent
from modelrelease.core.verdict import ClauseVerdict, Finding, GateVerdict


def evaluate(release: Release, status: ReleaseStatus, evidence: Evidence | None, now: datetime) -> Finding | None:
    """
    Return what *evidence* says of the open stage's gate; None when no stage is open or nothing was read.

    Evidence that does not end with the open stage says nothing of it, and neither does evidence that lacks what was
    counted before *now*, as *status* says.
    """
    trial = status.candidate
    record = trial.current_stage if trial else None
    if trial is None or record is None or evidence is None:
        return None
    if isinstance(evidence, MetricsUnavailable):
        return evidence
    if not evidence or evidence[-1].stage != record.name:
        return MetricsUnavailable(f"no counts of stage {record.name} were read")
    verdict = judge(
        release.contract,
        evidence,
        error_budget=release.spec.error_budget,
        has_baseline=status.stable is not None,
        # At full, nobody is left on the old revision: a comparison would be one with the past.
        compared=status.stable is not None and status.stable.weight > 0,
        time_left=_time_left(release, record, evidence[-1]),
    )
    known = _comparable(status.gate, record, release.contract, now)
    # Who knows that all is lost begins anew, and is not to wait for it.
    gone = next(_vanished(verdict, known), None) if known and not any(evidence[-1].forgotten) else None
    if gone:
        return MetricsUnavailable(gone)
    doubt = None if verdict.outcome is Outcome.BREACH else _not_arriving(release.contract, evidence[-1], trial)
    if doubt is None:
        return verdict
    # More of the same requests do not help, so nobody can tell how much longer it takes.
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=doubt[0], message=doubt[1], eta=None)


def _comparable(gate: GateStatus | None, record: StageRecord, contract: Contract, now: datetime) -> GateStatus | None:
    """Return the *gate* of an earlier look if it counted the same; before a clock was set back, it may have not."""
    same = gate is not None and gate.stage == record.name and gate.contract == contract.digest
    return gate if same and gate is not None and gate.evaluated_at <= now else None


def _vanished(verdict: GateVerdict, known: GateStatus) -> Iterator[str]:
    """Yield what *known* has counted and *verdict* has not, over all traffic."""
    before = {it.name: it for it in known.clauses}
    for clause in verdict.clauses:
        if (old := before.get(clause.clause)) is not None:
            yield from _vanished_of(clause, old)


def _vanished_of(clause: ClauseVerdict, old: ClauseStatus) -> Iterator[str]:
    if clause.overall is None or old.overall is None:
        return
    arms = (("baseline", old.overall.baseline_counts), ("candidate", old.overall.candidate_counts))
    for (arm, numbers), events, of in zip(arms, clause.overall.events, clause.overall.of, strict=True):
        what = _missing(clause, numbers, events, of) if numbers else None
        if what:
            yield (
                f"Prometheus had counted {what} of the {arm} for metric {clause.metric} in this stage, and says 0 now: "
                "a counter does not fall, so series are missing from its answer"
            )


def _missing(clause: ClauseVerdict, old: ArmNumbers, events: float, of: float) -> str | None:
    """Return what is counted no more of an arm that had *old*."""
    # Which observations are events depends on the baseline's own quantile, which may move.
    if clause.words.above is None and float(old.events) > 0 and events <= 0:
        return f"{old.events} events"
    if float(old.of) > 0 and of <= 0:
        return f"{old.of} {clause.words.counted}"
    return None


def _time_left(release: Release, record: StageRecord, counts: StageCounts) -> timedelta | None:
    """Return how long the open stage may still wait for a verdict; None when the plan has lost it."""
    stage = next((it for it in release.spec.plan_stages if it.name == counts.stage), None)
    paused = record.counts_from - record.start_time
    return max(stage.deadline_time + paused - timedelta(seconds=counts.seconds), timedelta(0)) if stage else None


def _not_arriving(contract: Contract, stage: StageCounts, trial: CandidateStatus) -> tuple[Reason, str] | None:
    """
    Return why the requests of the open stage do not arrive as the route asks; None when they do, or nobody can tell.

    A breach is not doubted for it: it was counted among the requests that did arrive, or, of events per second, found
    whatever the share that arrives may be.
    """
    if stage.kind == "shadow":
        copies = arrival(contract, stage, trial.mirror_percent)
        if copies.flowing is not False:
            return None
        return Reason.SHADOW_NOT_FLOWING, (
            f"{copies.arrived:.0f} of about {copies.due:.0f} copied requests reached the candidate: "
            "the Gateway does not mirror as asked, or the candidate does not count its requests"
        )
    split = wrong_split(contract, stage)
    if split is None:
        return None
    return Reason.SPLIT_MISMATCH, (
        f"the candidate gets {percent(split.arrived)} of the requests, the route asks for {percent(split.asked)}: "
        "does another route send it requests, do clients keep to one pod, or does an arm not count all of its requests?"
    )
