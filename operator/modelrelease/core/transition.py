"""
From one status to the next: what a decision commits us to.

Status is the operator's memory and its promise; traffic and workloads follow it (``plan``). Nothing here looks at the
live route to find out where a rollout stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never

from modelrelease.api.decision import Verb
from modelrelease.api.parse import InvalidSpec, Release
from modelrelease.api.reasons import Reason
from modelrelease.api.release import Stage, StageKind
from modelrelease.api.status import (
    COMPLETED,
    PENDING,
    ROLLED_BACK,
    CandidateStatus,
    Condition,
    DecisionRecord,
    Followed,
    GateStatus,
    HistoryEntry,
    LineageStatus,
    Rejected,
    ReleaseStatus,
    RevisionStatus,
    StableStatus,
    StageRecord,
    Suggestion,
)
from modelrelease.core.conditions import Wanted, available, conditions_of
from modelrelease.core.counts import MetricsUnavailable, slice_name
from modelrelease.core.decide import (
    Advance,
    Cancel,
    Complete,
    Decision,
    Hold,
    Prepare,
    Rejudge,
    Reshare,
    RollBack,
    Situation,
    Start,
    on_trial,
    replicas_for,
    suggests,
    under_another_contract,
)
from modelrelease.core.judge import gate_status
from modelrelease.core.observation import Workload
from modelrelease.core.outlook import stage_forecasts
from modelrelease.core.rulings import answered
from modelrelease.core.verdict import Blame, GateVerdict

REJECTED_KEPT: Final = 10

HISTORY_KEPT: Final = 10
"""Ended rollouts that are kept while the spec cannot say how many."""

STAGES_KEPT: Final = 32
"""Stages of one candidate that are kept: each plan has 16 at most, and every edit of the contract adds one."""

MESSAGE_KEPT: Final = 1024
"""Length of the messages that are kept for years: a status that grows too large could not record the next rollback."""

HistoryOutcome = Literal["Completed", "RolledBack", "Cancelled", "Superseded"]


def transition(it: Situation, decision: Decision, dossier: str | None = None) -> ReleaseStatus:
    """
    Return the status that *decision* leads to; equal to the old one when nothing but clocks has changed.

    Args:
        it: Everything that the decision rests on.
        decision: What was decided.
        dossier: Name of what is kept of the gate that the decision leaves.
    """
    observed = _observe(it, dossier)
    moved = _move(replace(it, status=observed), decision)
    moved = moved.model_copy(update={"suggestion": _suggestion(it, decision)})
    status = moved.model_copy(update={"observed_generation": it.release.generation})
    after = _with_conditions(status, conditions_of(it, decision, status), it.release.generation, it.now)
    return _quiet(it.status, after, it.now, it.release.spec.interval)


def transition_invalid(
    status: ReleaseStatus,
    invalid: InvalidSpec,
    decision: Hold | RollBack,
    workloads: Mapping[str, Workload],
    now: datetime,
) -> ReleaseStatus:
    """Return the status of a release whose spec cannot be carried out: as it was, or rolled back, and Stalled."""
    if isinstance(decision, RollBack):
        # How many ended rollouts are to be kept, nobody can say now.
        status = rolled_back(status, decision, now, history_limit=max(HISTORY_KEPT, len(status.history)))
    status = _unseen(status, now)
    # Conditions that nobody looks after meanwhile are left out, which means unknown.
    wanted = [
        ("Ready", "False", invalid.reason, invalid.message),
        ("Stalled", "True", invalid.reason, invalid.message),
        available(workloads, status),
        ("ContractValid", "False", invalid.reason, invalid.message),
    ]
    after = status.model_copy(update={"observed_generation": invalid.generation, "suggestion": None})
    return _with_conditions(after, wanted, invalid.generation, now)


def _observe(it: Situation, dossier: str | None) -> ReleaseStatus:
    """Return the status with this tick's gate, and with the moments since when something is missing."""
    changes: dict[str, Any] = {"decisions": _under_this_contract(it)}
    match it.finding:
        case MetricsUnavailable():
            # Who has stopped everything may stop Prometheus, too.
            suspended = it.release.spec.suspend
            changes["metrics_missing_since"] = None if suspended else it.status.metrics_missing_since or it.now
        case GateVerdict() as verdict:
            changes["metrics_missing_since"] = None
            assert it.record is not None, "a verdict is given on an open stage only"
            gate = gate_status(verdict, it.record.name, it.now)
            changes["gate"] = gate.model_copy(update={"contract": it.release.contract.digest})
        case None:
            changes["metrics_missing_since"] = None
        case _ as never:
            assert_never(never)
    if it.seen.history and not isinstance(it.seen.history, MetricsUnavailable):
        changes["forecast"] = stage_forecasts(it.release, it.seen.history[-1])
    if it.trial:
        stages = _paused(it.status, it.trial, it.now) if it.release.spec.suspend else _resumed(it)
        if it.record:
            asked = it.stage.weight if it.stage and it.raised else None
            stages = [*stages[:-1], stages[-1].model_copy(update={"raise_to": asked})]
        if dossier:
            stages = [*stages[:-1], stages[-1].model_copy(update={"evidence": dossier})]
        # Nobody is blamed for what was not there while a person had stopped everything.
        moves = not it.release.spec.suspend
        changes["candidate"] = it.trial.model_copy(
            update={
                "unavailable_since": (it.trial.unavailable_since or it.now) if moves and it.missing_pods else None,
                "silent_since": (it.trial.silent_since or it.now) if moves and it.silent else None,
                "lineage": _lineage(it),
                "stages": stages,
            }
        )
    return it.status.model_copy(update=changes)


def _under_this_contract(it: Situation) -> list[DecisionRecord]:
    """Return the decisions with the approvals void that were given ahead under another contract: for ever."""
    contract = it.release.contract.digest
    return _void(it, [record for record in it.status.decisions if record.ahead not in {None, contract}])


def _paused(status: ReleaseStatus, trial: CandidateStatus, now: datetime) -> list[StageRecord]:
    """Return the stages with the open one paused: nothing is decided in it, so its deadline does not come nearer."""
    since = status.metrics_missing_since or now
    return [
        stage if stage.end_time or stage.paused_since else stage.model_copy(update={"paused_since": since})
        for stage in trial.stages
    ]


def _resumed(it: Situation) -> list[StageRecord]:
    """Return the stages with the pause of the open one, if there was any, left out of its deadline."""
    assert it.trial is not None, "the caller has a candidate"
    heard = it.status.metrics_missing_since is not None and not isinstance(it.finding, MetricsUnavailable)
    if it.record is None or not (it.record.paused_since or heard):
        return it.trial.stages
    on = {"paused_since": None, "deadline_since": (it.record.counts_from + it.paused).replace(microsecond=0)}
    return [*it.trial.stages[:-1], it.record.model_copy(update=on)]


def _unseen(status: ReleaseStatus, now: datetime) -> ReleaseStatus:
    """Return the status of a release at which nobody looks: nothing is known to have been missing all the time."""
    seen_by_nobody = status.model_copy(update={"metrics_missing_since": None})
    if (trial := on_trial(status)) is None:
        return seen_by_nobody
    stages = _paused(status, trial, now)
    return _with_candidate(seen_by_nobody, unavailable_since=None, silent_since=None, stages=stages)


def _lineage(it: Situation) -> LineageStatus | None:
    """Return where the candidate comes from: as the spec says now, or said while it asked for this revision."""
    assert it.trial is not None, "the caller has a candidate"
    return lineage_of(it.release) if it.trial.revision == it.release.desired.name else it.trial.lineage


def lineage_of(release: Release) -> LineageStatus | None:
    """Return where the desired model comes from; None when the spec does not say."""
    said = release.spec.model.lineage
    return LineageStatus.model_validate(said.model_dump()) if said else None


def _suggestion(it: Situation, decision: Decision) -> Suggestion | None:
    """Return what the operator would do, where it is to say so and to wait."""
    awaits = isinstance(decision, Hold) and decision.reason is Reason.AWAITING_APPROVAL
    if not awaits or it.stage is None or not suggests(it.release, it.stage):
        return None
    old = it.status.suggestion
    since = old.since if old and old.stage == it.stage.name else it.now
    verdict = it.finding.message if isinstance(it.finding, GateVerdict) else ""
    return Suggestion(
        stage=it.stage.name,
        action="Advance" if it.next_stage else "Complete",
        to=it.next_stage.name if it.next_stage else None,
        message=_cut(verdict),
        since=since,
    )


def _move(it: Situation, decision: Decision) -> ReleaseStatus:
    match decision:
        case Hold():
            return _hold(it, decision)
        case Start():
            return _start(it, decision)
        case Prepare(replicas=replicas):
            return _with_candidate(it.status, replicas=replicas, unavailable_since=it.now)
        case Advance(stage=stage) | Reshare(stage=stage):
            return _advance(it, stage)
        case Rejudge():
            return _rejudge(it)
        case RollBack():
            return _roll_back(it, decision)
        case Cancel():
            return _cancel(it, decision)
        case Complete():
            return _complete(it, decision)
        case _ as never:
            assert_never(never)


def _hold(it: Situation, decision: Hold) -> ReleaseStatus:
    if it.begins:
        return _uncounted(_seen(it, routed=True, start_time=it.now))
    if it.left_shadow:
        return _uncounted(_seen(it, written=True, start_time=it.now))
    if decision.reason is not Reason.READY or it.status.stage == COMPLETED:
        return it.status
    # The spec went back to the stable revision after a rollback: nothing is on trial, nothing is broken.
    return it.status.model_copy(
        update={"stage": COMPLETED, "stage_start_time": it.now, "candidate": None, "gate": None}
    )


def _seen(it: Situation, **changes: object) -> ReleaseStatus:
    """Return the status with what was seen of the route of the open stage; it counts from its ``start_time`` on."""
    assert it.trial is not None, "only a candidate has stages"
    *ended, open_ = it.trial.stages
    return _with_candidate(it.status, stages=[*ended, open_.model_copy(update=changes)])


def _uncounted(status: ReleaseStatus) -> ReleaseStatus:
    """Return the status without the counts of its gate: those of the stage, as it begins now, are still to come."""
    gate = status.gate and status.gate.model_copy(update={"clauses": [], "worst": ""})
    return status.model_copy(update={"gate": gate})


def _start(it: Situation, decision: Start) -> ReleaseStatus:
    first = it.plan[0]
    desired = it.release.desired
    candidate = CandidateStatus(
        revision=desired.name,
        version=desired.version,
        weight=0,
        since=it.now,
        lineage=lineage_of(it.release),
        replicas=replicas_for(it.release, first),
        unavailable_since=it.now,
    )
    ended: dict[str, Any] = {}
    if it.trial:
        again = it.trial.revision == desired.name
        why = decision.message if again else f"replaced by revision {desired.name}"
        ended = _recorded(it, "Superseded", Reason.SUPERSEDED, why)
    decisions = ended.get("decisions", it.status.decisions)
    return it.status.model_copy(
        update={
            "stage": PENDING,
            "stage_start_time": it.now,
            "stable": _all_users(it.status.stable),
            "serving": _serving(it),
            "candidate": candidate,
            "gate": None,
            "forecast": [],
            **ended,
            # A Retry belongs to the rollout that it begins; what was decided about others is history.
            "decisions": [record for record in decisions if record.revision == desired.name],
        }
    )


def _serving(it: Situation) -> RevisionStatus | None:
    """Return who keeps the users while the next candidate gets ready, where there is no stable revision to do it."""
    if it.status.stable or it.trial is None or not it.trial.weight:
        return it.status.serving
    return RevisionStatus(revision=it.trial.revision, version=it.trial.version, weight=it.trial.weight, since=it.now)


def _advance(it: Situation, stage: Stage) -> ReleaseStatus:
    assert it.trial is not None, "only a candidate advances"
    percent = stage.mirror_percent if stage.kind is StageKind.SHADOW else stage.weight
    record = StageRecord(
        name=stage.name,
        kind=stage.kind.value,
        percent=percent,
        contract=it.release.contract.digest,
        routed=False,
        start_time=it.now,
    )
    stable = it.status.stable and it.status.stable.model_copy(update={"weight": 100 - stage.weight})
    status = _with_candidate(
        it.status,
        weight=stage.weight,
        mirror_percent=stage.mirror_percent,
        stages=[*_closed(it.trial.stages, it.now), record][-STAGES_KEPT:],
    )
    # The verdict that opened the stage says nothing of it.
    serving = None if stage.weight else it.status.serving
    moved: dict[str, Any] = {"stage": stage.name, "stage_start_time": it.now, "stable": stable, "serving": serving}
    moved["gate"] = None
    if it.record and it.record.name == stage.name:
        # Nobody has approved that it is left with another share of the requests.
        moved["decisions"] = _void(it, [record for record in it.status.decisions if record.stage == stage.name])
    return status.model_copy(update=moved)


def _rejudge(it: Situation) -> ReleaseStatus:
    assert it.trial is not None, "only a candidate is judged"
    assert it.record is not None, "only an open stage is"
    begun = {"contract": it.release.contract.digest, "start_time": it.now, "deadline_since": None}
    again = it.record.model_copy(update=begun)
    moved = {"stage_start_time": it.now, "gate": None}
    if not under_another_contract(it.record, it.release):
        # Of what is lost no record is kept either; a person's word about the stage is not lost with it.
        return _with_candidate(it.status, stages=[*it.trial.stages[:-1], again]).model_copy(update=moved)
    stages = [*_closed(it.trial.stages, it.now), again][-STAGES_KEPT:]
    # What was approved, another contract judged.
    decisions = _void(it, [given for given in it.approvals if given.ahead is None])
    status = _with_candidate(it.status, stages=stages)
    return status.model_copy(update={**moved, "forecast": [], "decisions": decisions})


def _void(it: Situation, approvals: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    """Return the decisions with these *approvals*, as far as they are any and count yet, void."""
    since = {"void_since": it.now}
    void = [record for record in approvals if record.decision is Verb.APPROVE and record.void_since is None]
    return [record.model_copy(update=since) if record in void else record for record in it.status.decisions]


def _roll_back(it: Situation, decision: RollBack) -> ReleaseStatus:
    breach = decision.reason is Reason.CONTRACT_BREACHED
    blamed = it.finding.blame[0] if breach and isinstance(it.finding, GateVerdict) and it.finding.blame else None
    # An operator that is new may find route and breach in one look.
    status = _seen(it, routed=True) if it.begins else it.status
    return rolled_back(status, decision, it.now, history_limit=it.release.spec.history_limit, blamed=blamed)


def rolled_back(
    status: ReleaseStatus, decision: RollBack, now: datetime, *, history_limit: int, blamed: Blame | None = None
) -> ReleaseStatus:
    """Return the status in which all users are on stable, and the candidate is rejected for what *blamed* proved."""
    trial = status.candidate
    assert trial is not None, "only a candidate is rolled back"
    entry = Rejected(
        revision=trial.revision,
        version=trial.version,
        stage=status.stage,
        reason=decision.reason,
        message=_cut(decision.message),
        clause=blamed.clause if blamed else None,
        slice=slice_name(blamed.part) if blamed else None,
        time=now,
    )
    ended = _ended(status, trial, ("RolledBack", decision.reason, decision.message), now, history_limit)
    left = _with_candidate(status, weight=0, mirror_percent=0, stages=_closed(trial.stages, now))
    return left.model_copy(
        update={
            "stage": ROLLED_BACK,
            "stage_start_time": now,
            "stable": _all_users(status.stable),
            "rejected": [*status.rejected, entry][-REJECTED_KEPT:],
            **ended,
        }
    )


def _turned_down(it: Situation) -> list[Followed]:
    """Return the ledger: to go back while the operator suggests to go on is another answer than that."""
    open_ = it.status.suggestion
    return answered(it, open_.stage, followed=False) if open_ else it.status.followed


def _cancel(it: Situation, decision: Cancel) -> ReleaseStatus:
    return it.status.model_copy(
        update={
            "stage": COMPLETED,
            "stage_start_time": it.now,
            "stable": _all_users(it.status.stable),
            "candidate": None,
            "gate": None,
            "followed": _turned_down(it),
            **_recorded(it, "Cancelled", Reason.CANCELLED, decision.message),
        }
    )


def _complete(it: Situation, decision: Complete) -> ReleaseStatus:
    assert it.trial is not None, "only a candidate completes"
    stable = StableStatus(revision=it.trial.revision, version=it.trial.version, weight=100, since=it.now)
    return it.status.model_copy(
        update={
            "stage": COMPLETED,
            "stage_start_time": it.now,
            "stable": stable,
            "candidate": None,
            **_recorded(it, "Completed", Reason.COMPLETED, decision.message),
        }
    )


def _recorded(it: Situation, outcome: HistoryOutcome, reason: Reason, message: str) -> dict[str, Any]:
    """Return what of the status changes when the candidate's rollout ends."""
    assert it.trial is not None, "only a rollout has a history"
    return _ended(it.status, it.trial, (outcome, reason, message), it.now, it.release.spec.history_limit)


def _ended(
    status: ReleaseStatus,
    trial: CandidateStatus,
    how: tuple[HistoryOutcome, Reason, str],
    now: datetime,
    history_limit: int,
) -> dict[str, Any]:
    outcome, reason, message = how
    entry = HistoryEntry(
        revision=trial.revision,
        version=trial.version,
        outcome=outcome,
        reason=reason,
        message=_cut(message),
        lineage=trial.lineage,
        decisions=[record for record in status.decisions if record.revision == trial.revision],
        evidence=[stage.evidence for stage in trial.stages if stage.evidence],
        start_time=trial.since,
        end_time=now,
    )
    return {
        "history": [*status.history, entry][-history_limit:],
        "decisions": [record for record in status.decisions if record.revision != trial.revision],
    }


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_KEPT else f"{message[: MESSAGE_KEPT - 1]}…"


def _closed(stages: Sequence[StageRecord], now: datetime) -> list[StageRecord]:
    return [stage if stage.end_time else stage.model_copy(update={"end_time": now}) for stage in stages]


def _all_users(stable: StableStatus | None) -> StableStatus | None:
    return stable and stable.model_copy(update={"weight": 100})


def _with_candidate(status: ReleaseStatus, **changes: object) -> ReleaseStatus:
    assert status.candidate is not None, "the caller has a candidate"
    return status.model_copy(update={"candidate": status.candidate.model_copy(update=changes)})


def _with_conditions(status: ReleaseStatus, wanted: Sequence[Wanted], generation: int, now: datetime) -> ReleaseStatus:
    conditions = []
    for type_, state, reason, message in wanted:
        old = status.condition(type_)
        since = old.last_transition_time if old and old.status == state else now
        conditions.append(
            Condition.model_validate(
                {
                    "type": type_,
                    "status": state,
                    "reason": reason,
                    "message": message[:32768],
                    "observedGeneration": generation,
                    "lastTransitionTime": since,
                }
            )
        )
    return status.model_copy(update={"conditions": conditions})


def _quiet(before: ReleaseStatus, after: ReleaseStatus, now: datetime, interval: timedelta) -> ReleaseStatus:
    """
    Return *before* when *after* says nothing new.

    Numbers of a gate that is judged more often than every *interval* are news once an interval, in messages too;
    verdicts always are.
    """
    if before.gate is None or after.gate is None:
        return after
    old, new = before.gate, after.gate
    same_moment = after.model_copy(update={"gate": new.model_copy(update={"evaluated_at": old.evaluated_at})})
    early = old.evaluated_at != new.evaluated_at and abs(now - old.evaluated_at) < interval
    if early and _verdicts(old) == _verdicts(new) and _conditions(before) == _conditions(after):
        same_moment = after.model_copy(update={"gate": old, "conditions": before.conditions})
    return before if same_moment == before else after


def _conditions(status: ReleaseStatus) -> list[tuple[object, ...]]:
    return [(c.type, c.status, c.reason, c.observed_generation) for c in status.conditions]


def _verdicts(gate: GateStatus) -> tuple[object, ...]:
    return (gate.stage, gate.verdict, gate.reason, *((c.name, c.verdict, c.reason) for c in gate.clauses))
