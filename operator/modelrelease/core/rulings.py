"""
What becomes of what people decide: each ReleaseDecision is taken up once, or answered with the reason why not.

    asked -> ruling (Applied, Stale, Refused) -> status.decisions -> the rows of the table that look at it

A decision that applies is recorded in the release's status together with what follows from it, in one write; its own
status is written after that. A crash between the two is healed by the record: it is known by its uid, and not applied
again. Nothing here moves traffic.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import DecisionOutcome, DecisionSpec, Verb
from modelrelease.api.parse import Asked, InvalidSpec
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import DecisionRecord, Followed, ReleaseStatus
from modelrelease.core.decide import (
    Situation,
    decided,
    on_trial,
    overdue,
    rolls_back,
    suggests,
    under_another_contract,
)
from modelrelease.core.verdict import GateVerdict

DECISIONS_KEPT: Final = 20
"""Decisions of one rollout that are kept."""

REASON_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Ruling:
    """
    What becomes of a decision.

    Attributes:
        asked: The decision.
        outcome, message: What is written into its status.
        record: What is recorded of one that is applied now; None when it is not, or has been before.
    """

    asked: Asked
    outcome: DecisionOutcome
    message: str
    record: DecisionRecord | None = None


@dataclass(frozen=True, slots=True)
class _Applies:
    """
    The decision can be taken up.

    Attributes:
        message: What follows from it.
        stage: Where the candidate is; of an approval, the stage that it approves.
        despite: The hold that it overrules.
        overruled: Of a breach held, the clauses that are broken.
        ahead: Of an approval given before its stage has opened, the digest of the contract that it was given under.
    """

    message: str
    stage: str
    despite: Reason | None = None
    overruled: tuple[str, ...] = ()
    ahead: str | None = None


@dataclass(frozen=True, slots=True)
class _Past:
    """What the decision was about is past."""

    message: str


@dataclass(frozen=True, slots=True)
class _Impossible:
    """The decision cannot be carried out."""

    message: str


_Answer = _Applies | _Past | _Impossible


def take_up(it: Situation) -> tuple[Situation, tuple[Ruling, ...]]:
    """Return the situation with every decision recorded that applies, and what becomes of each, oldest first."""
    rulings = []
    for asked in _oldest_first(it.seen.asked):
        ruling = _rule(asked, it.status, it.now, partial(_answer, it))
        rulings.append(ruling)
        if ruling.record:
            it = replace(it, status=_recorded(it, ruling.record))
    return it, tuple(rulings)


def _oldest_first(asked: Sequence[Asked]) -> list[Asked]:
    return sorted(asked, key=lambda one: (one.time, one.name))


def _answer(it: Situation, spec: DecisionSpec) -> _Answer:
    return _ANSWERS[spec.decision](it, spec)


def take_up_rollbacks(
    asked: Sequence[Asked], status: ReleaseStatus, invalid: InvalidSpec, now: datetime
) -> tuple[ReleaseStatus, tuple[Ruling, ...]]:
    """
    Do the same while the spec cannot be carried out: then a Rollback applies, and nothing else can.

    A contract that is not there may be back in a moment, as when a tool deletes it and makes it anew: what else people
    decided waits for it, without a ruling.
    """
    rulings = []
    for one in _oldest_first(asked):
        if invalid.reason is Reason.CONTRACT_NOT_FOUND and not _needs_no_contract(one, status):
            continue
        ruling = _rule(one, status, now, partial(_answer_without_spec, status, invalid))
        rulings.append(ruling)
        if ruling.record:
            status = status.model_copy(update={"decisions": [*status.decisions, ruling.record][-DECISIONS_KEPT:]})
    return status, tuple(rulings)


def _needs_no_contract(asked: Asked, status: ReleaseStatus) -> bool:
    rolls_back = isinstance(asked.spec, DecisionSpec) and asked.spec.decision is Verb.ROLLBACK
    return rolls_back or isinstance(asked.spec, str) or _is_known(asked, status)


def _answer_without_spec(status: ReleaseStatus, invalid: InvalidSpec, spec: DecisionSpec) -> _Answer:
    if spec.decision is Verb.ROLLBACK:
        return _rollback(status, spec)
    return _Impossible(f"the release cannot be carried out ({invalid.reason}): only a Rollback can be applied")


def orphaned(asked: Sequence[Asked], namespace: str, release: str) -> tuple[Ruling, ...]:
    """Return what becomes of decisions about a release that does not exist."""
    message = f"there is no ModelRelease {release!r} in namespace {namespace}"
    return tuple(Ruling(one, DecisionOutcome.STALE, message) for one in asked)


def _rule(asked: Asked, status: ReleaseStatus, now: datetime, answer: Callable[[DecisionSpec], _Answer]) -> Ruling:
    spec = asked.spec
    if isinstance(spec, str):
        return Ruling(asked, DecisionOutcome.REFUSED, spec)
    if _is_known(asked, status):
        return Ruling(asked, DecisionOutcome.APPLIED, _APPLIED[spec.decision].format(revision=spec.revision))
    match answer(spec):
        case _Applies() as applies:
            record = DecisionRecord(
                name=asked.name,
                uid=asked.uid,
                decision=spec.decision,
                revision=spec.revision,
                stage=applies.stage,
                approved_by=spec.approved_by,
                reason=(spec.reason or "")[:REASON_KEPT],
                despite=applies.despite,
                overruled=list(applies.overruled) or None,
                ahead=applies.ahead,
                time=now,
            )
            return Ruling(asked, DecisionOutcome.APPLIED, applies.message, record)
        case _Past(message=message):
            return Ruling(asked, DecisionOutcome.STALE, message)
        case _Impossible(message=message):
            return Ruling(asked, DecisionOutcome.REFUSED, message)


def _is_known(asked: Asked, status: ReleaseStatus) -> bool:
    return any(record.uid == asked.uid for record in known_decisions(status))


def known_decisions(status: ReleaseStatus) -> list[DecisionRecord]:
    """Return every decision that status remembers as taken up."""
    return [*status.decisions, *(record for entry in status.history for record in entry.decisions)]


_APPLIED: Final[Mapping[Verb, str]] = {
    Verb.APPROVE: "the approval is recorded",
    Verb.ROLLBACK: "all traffic returns to the stable revision; revision {revision} is rejected",
    Verb.RETRY: "revision {revision} is no longer rejected: it starts from the beginning",
    Verb.PROMOTE: "revision {revision} is promoted without the rest of the proof",
}


# One answer a verb.


def _approve(it: Situation, spec: DecisionSpec) -> _Answer:
    if (problem := _not_on_trial(it, spec)) is not None:
        return problem
    if it.record is None or it.stage is None or spec.stage != it.record.name:
        return _not_open(it, spec)
    if under_another_contract(it.record, it.release):
        return _Past(f"the contract was edited: the evidence of stage {it.record.name} begins anew")
    despite = _held_by(it)
    new = despite is Reason.BREACH_HELD and it.unseen
    if not new and any(record.despite == despite for record in it.approvals):
        return _approved_already(it.record.name, spec)
    if despite is None and not it.needs_approval(it.stage):
        return _needs_none(it.record.name)
    what = f"stage {it.record.name} is left as soon as its gate passes"
    if despite:
        what = f"stage {it.record.name} is left in spite of {despite}"
    return _Applies(f"recorded: {what}", it.record.name, despite, _overruled(it, despite))


def _overruled(it: Situation, despite: Reason | None) -> tuple[str, ...]:
    """Return the clauses that an approval in spite of *despite* is about: those that are broken now."""
    if despite is not Reason.BREACH_HELD or not isinstance(it.finding, GateVerdict):
        return ()
    return tuple(clause.clause for clause in it.finding.held)


def _not_open(it: Situation, spec: DecisionSpec) -> _Answer:
    """Answer an approval of a stage that is not the open one."""
    planned = {stage.name: stage for stage in it.plan}
    names = list(planned)
    if spec.stage not in planned:
        return _Impossible(f"there is no stage {spec.stage!r}, allowed: {', '.join(names)}")
    if it.record and it.stage is None:
        return _Past(f"stage {it.record.name} is no longer in spec.stages: the rollout starts over")
    if it.stage and names.index(spec.stage) < names.index(it.stage.name):
        return _Past(f"stage {spec.stage} was left, the candidate is in stage {it.stage.name}")
    if it.approved_ahead(planned[spec.stage]):
        return _approved_already(spec.stage, spec)
    if not it.needs_approval(planned[spec.stage]):
        return _needs_none(spec.stage)
    # Nobody can have seen its gate: the approval waits, and overrules neither a breach nor a deadline.
    what = f"stage {spec.stage} has not begun; once it has, it is left as soon as its gate passes"
    return _Applies(f"recorded: {what}", spec.stage, ahead=it.release.contract.digest)


def _approved_already(stage: str, spec: DecisionSpec) -> _Answer:
    return _Past(f"stage {stage} of revision {spec.revision} is approved already")


def _needs_none(stage: str) -> _Answer:
    return _Impossible(
        f"stage {stage} needs no approval: it is left by itself when its gate passes. "
        "A Promote skips what is left to prove"
    )


def _held_by(it: Situation) -> Reason | None:
    """Return why the open stage would not be left however long one waits, if a person may overrule that."""
    verdict = it.finding
    if not isinstance(verdict, GateVerdict):
        return None
    match verdict.outcome:
        case Outcome.BREACH:
            return Reason.BREACH_HELD if verdict.on_breach is OnBreach.HOLD else None
        case Outcome.INCONCLUSIVE:
            return Reason.DEADLINE_EXCEEDED if overdue(it) else None
        case Outcome.PASS:
            return None


def _rollback_now(it: Situation, spec: DecisionSpec) -> _Answer:
    return _rollback(it.status, spec)


def _rollback(status: ReleaseStatus, spec: DecisionSpec) -> _Answer:
    trial = on_trial(status)
    if trial is None or spec.revision != trial.revision:
        if status.stable and spec.revision == status.stable.revision:
            return _Impossible(f"revision {spec.revision} is the stable one: release another revision instead")
        if any(entry.revision == spec.revision for entry in status.rejected):
            return _Past(f"revision {spec.revision} is rolled back already")
        return _Past(_not_candidate(status, spec))
    if decided(status, Verb.ROLLBACK, trial):
        return _Past(f"a rollback of revision {spec.revision} is under way already")
    if status.stable is None:
        return _Impossible("there is no stable revision to return to: release another revision instead")
    return _Applies(_APPLIED[Verb.ROLLBACK].format(revision=spec.revision), status.stage)


def _retry(it: Situation, spec: DecisionSpec) -> _Answer:
    if not any(entry.revision == spec.revision for entry in it.status.rejected):
        return _Past(f"revision {spec.revision} is not rejected: there is nothing to retry")
    if spec.revision != it.release.desired.name:
        return _Impossible(
            f"the spec asks for revision {it.release.desired.name} (version {it.release.desired.version}): "
            f"ask for {spec.revision} there first"
        )
    return _suspended(it) or _Applies(_APPLIED[Verb.RETRY].format(revision=spec.revision), it.status.stage)


def _promote(it: Situation, spec: DecisionSpec) -> _Answer:
    if (problem := _not_on_trial(it, spec)) is not None:
        return problem
    if it.promotion is not None:
        return _Past(f"revision {spec.revision} is promoted already")
    return _Applies(_APPLIED[Verb.PROMOTE].format(revision=spec.revision), it.status.stage)


_ANSWERS: Final[Mapping[Verb, Callable[[Situation, DecisionSpec], _Answer]]] = {
    Verb.APPROVE: _approve,
    Verb.ROLLBACK: _rollback_now,
    Verb.RETRY: _retry,
    Verb.PROMOTE: _promote,
}


def _not_on_trial(it: Situation, spec: DecisionSpec) -> _Answer | None:
    """Return why a decision for the candidate cannot be one; None when it can."""
    if it.trial is None or it.trial.revision != spec.revision:
        return _Past(_not_candidate(it.status, spec))
    if it.trial.revision != it.release.desired.name:
        return _Past(f"the spec asks for revision {it.release.desired.name} now, which replaces {spec.revision}")
    if decided(it.status, Verb.ROLLBACK, it.trial):
        return _Past(f"revision {spec.revision} is being rolled back: a person asked for it")
    if rolls_back(it):
        return _Past(f"revision {spec.revision} breaks its contract: users return to the stable revision")
    return _suspended(it)


def _not_candidate(status: ReleaseStatus, spec: DecisionSpec) -> str:
    trial = on_trial(status)
    there = f"it is {trial.revision} (version {trial.version})" if trial else "there is none"
    return f"revision {spec.revision} is not the candidate: {there}"


def _suspended(it: Situation) -> _Answer | None:
    if not it.release.spec.suspend:
        return None
    return _Impossible("spec.suspend is true: nothing but a Rollback moves, decide again when it is false")


# What is remembered.


def _recorded(it: Situation, record: DecisionRecord) -> ReleaseStatus:
    status = it.status
    changes: dict[str, object] = {
        "decisions": [*status.decisions, record][-DECISIONS_KEPT:],
        "followed": _counted(it, record),
    }
    if record.decision == Verb.RETRY:
        changes["rejected"] = [entry for entry in status.rejected if entry.revision != record.revision]
    return status.model_copy(update=changes)


def _counted(it: Situation, record: DecisionRecord) -> list[Followed]:
    """Count how a suggestion was answered: followed by an Approve; overruled by anything that it did not say."""
    suggestion = it.status.suggestion
    if record.decision == Verb.APPROVE and record.despite is None:
        follows = suggestion is not None and suggestion.stage == record.stage
        return answered(it, record.stage, followed=True) if follows else it.status.followed
    if record.decision == Verb.RETRY or it.stage is None or not suggests(it.release, it.stage):
        return it.status.followed
    return answered(it, it.stage.name, followed=False)


def answered(it: Situation, stage: str, *, followed: bool) -> list[Followed]:
    """Return the ledger after one more answer to what was suggested in *stage*; stages that are no more drop out."""
    names = [planned.name for planned in it.release.spec.plan_stages]
    ledger = {entry.stage: entry for entry in it.status.followed if entry.stage in names}
    old = ledger.get(stage, Followed(stage=stage))
    if followed:
        row = old.in_a_row + 1
        ledger[stage] = Followed(
            stage=stage,
            in_a_row=row,
            followed=old.followed + 1,
            overruled=old.overruled,
            automation_earned=row >= it.release.spec.automate_after,
        )
    else:
        ledger[stage] = Followed(stage=stage, followed=old.followed, overruled=old.overruled + 1)
    return [ledger[name] for name in names if name in ledger]
