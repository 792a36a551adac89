"""
What is worth an event: the differences between two statuses, and nothing else.

An event is a transition that somebody at 3 AM wants to find in ``kubectl describe``: what moved, why, with the numbers.
What is to be told of a transition is recorded in the very status that it leads to, and told afterwards. So an operator
that dies in between loses nothing: the next one reads what was to be told, and tells what is missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from modelrelease.api.decision import Verb
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import (
    COMPLETED,
    PENDING,
    ROLLED_BACK,
    Announced,
    Condition,
    DecisionRecord,
    ReleaseStatus,
    StageRecord,
)
from modelrelease.core.elapsed import Jump, elapsed
from modelrelease.core.rulings import known_decisions
from modelrelease.core.verdict import Finding, GateVerdict

MESSAGE_KEPT: Final = 1024
"""Characters of a message that are recorded; the API server takes as many of an Event."""

TOLD_WITHIN: Final = timedelta(minutes=10)
"""How long what was missed is worth telling; by then the API server still has every Event that was written."""

ANNOUNCEMENTS_KEPT: Final = 32


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    An event: its type, its specific reason, and a message for people.

    Attributes:
        time: When the transition that it tells of was recorded, a microsecond later than what is told before it; None
            when it tells of none.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    time: datetime | None = None


def recorded(
    before: ReleaseStatus,
    after: ReleaseStatus,
    now: datetime,
    finding: Finding | None = None,
    missing: Iterable[Announcement] = (),
) -> ReleaseStatus:
    """
    Return *after* with what is to be told of going there, and with what is *missing* of an earlier transition.

    When nothing is to be told it is *after* itself: no status is written for the sake of events.
    """
    told = announce(before, after, finding)
    if not told:
        return after
    moments = (_millisecond(now) + timedelta(microseconds=number) for number in range(len(told)))
    fresh = (replace(it, time=at, message=it.message[:MESSAGE_KEPT]) for it, at in zip(told, moments, strict=True))
    entries = [*missing, *fresh]
    kept = [
        Announced(type=it.type, reason=it.reason, message=it.message, time=it.time or now)
        for it in entries[-ANNOUNCEMENTS_KEPT:]
    ]
    return after.model_copy(update={"announcements": kept})


def _millisecond(moment: datetime) -> datetime:
    """Return where its millisecond begins, so that what is told of it is not told ahead of time."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def to_tell(status: ReleaseStatus, now: datetime, jumps: Sequence[Jump] = ()) -> list[Announcement]:
    """Return what *status* wants to be told and is still worth it, whoever has told it meanwhile."""
    fresh = (it for it in status.announcements if elapsed(it.time, now, jumps) < TOLD_WITHIN)
    return [Announcement(it.type, it.reason, it.message, it.time) for it in fresh]


_WAITS: Final[dict[str, tuple[Literal["Normal", "Warning"], str]]] = {
    Reason.DEADLINE_EXCEEDED: ("Warning", "GateInconclusive"),
    # More of the same requests do not help: somebody has to mend something.
    Reason.SPLIT_MISMATCH: ("Warning", Reason.SPLIT_MISMATCH),
    Reason.HISTOGRAM_TOO_COARSE: ("Warning", Reason.HISTOGRAM_TOO_COARSE),
    Reason.SUSPENDED: ("Normal", "Suspended"),
}
"""Why a rollout waits, as far as that is worth an event; its type and its reason."""

_STARTED: Final = {"shadow": "ShadowStarted", "canary": "CanaryStarted", "full": "WatchStarted"}


def announce(before: ReleaseStatus, after: ReleaseStatus, finding: Finding | None = None) -> list[Announcement]:
    """Return the events of going from *before* to *after*, by *finding*; none when nothing that matters differs."""
    return [
        *_decisions(before, after),
        *_rollout(before, after, finding),
        *_forecast(before, after),
        *_more_is_held(before, after, finding),
        *_conditions(before, after),
        *_automation(before, after),
    ]


_DECIDED: Final = {
    Verb.APPROVE: ("Approved", "approves stage {stage} of revision {revision}"),
    Verb.ROLLBACK: ("RollbackRequested", "takes users off revision {revision}"),
    Verb.RETRY: ("RetryRequested", "lets revision {revision} be tried again"),
    Verb.PROMOTE: ("PromotionRequested", "promotes revision {revision} from {stage}, without the rest of the proof"),
}


def _decisions(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    """Tell every decision that was taken up."""
    known = {record.uid for record in known_decisions(before)}
    for record in known_decisions(after):
        if record.uid not in known:
            reason, does = _DECIDED[record.decision]
            despite = f", in spite of {record.despite}" if record.despite else ""
            ahead = ", before it begins" if record.ahead else ""
            why = f": {record.reason}" if record.reason else ""
            what = does.format(stage=record.stage, revision=record.revision)
            yield Announcement("Normal", reason, f"{record.approved_by} {what}{despite}{ahead}{why}")


def _automation(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    """Tell when a stage has earned its automation, and when an answer takes it back."""
    earned = {entry.stage for entry in before.followed if entry.automation_earned}
    for entry in after.followed:
        if entry.automation_earned and entry.stage not in earned:
            row = entry.in_a_row
            followed = "1 suggestion was followed" if row == 1 else f"{row} suggestions were followed in a row"
            message = f"stage {entry.stage}: {followed}; it can be automated"
            yield Announcement("Normal", "AutomationEarned", message)
        if entry.stage in earned and not entry.automation_earned:
            message = f"stage {entry.stage}: a suggestion was overruled; the count begins anew"
            yield Announcement("Warning", "AutomationLost", message)


def _rollout(before: ReleaseStatus, after: ReleaseStatus, finding: Finding | None) -> Iterator[Announcement]:
    old, new = _open_stage(before), _open_stage(after)
    if old and new and old.name == new.name and (told := list(_edited(old, new, after))):
        yield from told
        return
    if old and new and _lost(old, new):
        yield Announcement("Warning", "EvidenceLost", _goes_on(after))
        return
    if _place(before) == _place(after):
        yield from _growing(before, after)
        return
    match after.stage:
        case "":
            return
        case _ if after.stage == PENDING:
            yield from _begun(before, after)
        case _ if after.stage == ROLLED_BACK:
            yield from _rolled_back(after)
        case _ if after.stage == COMPLETED:
            yield from _ended(before, after)
        case _:
            yield from _entered(before, after, finding)


def _place(status: ReleaseStatus) -> tuple[object, ...]:
    """Return where a rollout stands, and whose it is: two of them can begin within one second."""
    return status.stage, status.stage_start_time, status.candidate and status.candidate.revision


def _open_stage(status: ReleaseStatus) -> StageRecord | None:
    return status.candidate.current_stage if status.candidate else None


def _edited(old: StageRecord, new: StageRecord, after: ReleaseStatus) -> Iterator[Announcement]:
    """Tell what an edit does to the stage that is open, before and after."""
    if old.contract != new.contract:
        yield Announcement(
            "Normal",
            "ContractChanged",
            f"stage {new.name}: the contract was edited (digest {old.contract} -> {new.contract}): evidence and bake "
            "begin anew, and what earlier stages showed counts no more",
        )
    if _reshared(old, new):
        yield Announcement("Normal", "StageChanged", _goes_on(after))
    if new.raise_to and new.raise_to != old.raise_to:
        yield Announcement(
            "Normal",
            "StageChanged",
            f"stage {new.name}: spec.stages asks for {new.raise_to} % of requests instead of {new.percent} %: it gets "
            "them when its gate has passed with those that it has, and then has to pass again",
        )


def _reshared(old: StageRecord, new: StageRecord) -> bool:
    """Return whether the stage has got fewer users, or other copies; more users are its next entry."""
    if old.percent is None or new.percent is None or old.percent == new.percent:
        return False
    return new.kind == "shadow" or new.percent < old.percent


def _lost(old: StageRecord, new: StageRecord) -> bool:
    """Return whether the open stage begins anew although nobody has edited anything, and its route is what it was."""
    same = (old.name, old.routed, old.written) == (new.name, new.routed, new.written)
    return same and old.start_time != new.start_time


def _goes_on(after: ReleaseStatus) -> str:
    """Return what people are told of a rollout that goes on."""
    told = after.condition("Reconciling")
    return told.message if told else ""


def _growing(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    if before.candidate and after.candidate and after.candidate.replicas > before.candidate.replicas:
        yield Announcement(
            "Normal",
            "ScalingUp",
            f"the candidate grows to {after.candidate.replicas} pods before it leaves stage {after.stage}",
        )


def _begun(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    if after.candidate is None:
        return
    if before.candidate and before.stage != ROLLED_BACK:
        traffic = "all traffic is on the stable revision" if after.stable else _without_stable(after)
        again = before.candidate.revision == after.candidate.revision
        why = f" ({after.history[-1].message})" if again and after.history else ""
        yield Announcement(
            "Normal",
            "RolloutCancelled",
            f"version {before.candidate.version}, revision {before.candidate.revision}, "
            f"gave way in stage {before.stage}{why}; {traffic}",
        )
    new = f"version {after.candidate.version}, revision {after.candidate.revision}"
    if after.stable is None:
        yield Announcement("Normal", "InitialRelease", f"{new} is the first: nothing to compare with, straight to full")
    else:
        yield Announcement("Normal", "RolloutStarted", f"{new} is to replace version {after.stable.version}")


def _without_stable(after: ReleaseStatus) -> str:
    stay = f"users stay on version {after.serving.version} until the next one can serve" if after.serving else ""
    return stay or "there is no stable revision yet"


def _entered(before: ReleaseStatus, after: ReleaseStatus, finding: Finding | None) -> Iterator[Announcement]:
    trial = after.candidate
    record = trial.current_stage if trial else None
    if trial is None or record is None:
        return
    if isinstance(finding, GateVerdict):
        yield _left(before, after, finding)
    if record.kind == "full":
        yield Announcement("Normal", "Promoted", f"version {trial.version} answers all users")
    yield Announcement("Normal", _STARTED[record.kind], _stage_message(after, record))


def _left(before: ReleaseStatus, after: ReleaseStatus, verdict: GateVerdict) -> Announcement:
    stage = before.stage
    # Where the stage is entered once more, with more users, what let it be left is used up, and void at once.
    void = {record.uid for record in before.decisions if record.void_since}
    given = [it for it in after.decisions if it.stage == stage and it.uid not in void and _overrules(it)]
    if given:
        message = f"stage {stage} is left as {given[-1].approved_by} decided, whatever its gate says: {verdict.message}"
        return Announcement("Warning", "GateOverruled", message)
    if verdict.outcome is Outcome.PASS:
        return Announcement("Normal", "GatePassed", f"stage {stage}: {verdict.message}")
    if verdict.reason in {Reason.NOT_JUDGED, Reason.NO_BASELINE}:
        return Announcement("Normal", "GatePassed", f"stage {stage}: {verdict.message}")
    message = f"stage {stage} is left without a verdict, as analysis.onInconclusive asks: {verdict.message}"
    return Announcement("Warning", "GateInconclusive", message)


def _overrules(record: DecisionRecord) -> bool:
    return record.despite is not None or record.decision == Verb.PROMOTE


def _stage_message(after: ReleaseStatus, record: StageRecord) -> str:
    trial = after.candidate
    assert trial is not None, "the caller checked"
    match record.kind:
        case "shadow":
            return f"stage {record.name}: copies of {trial.mirror_percent} % of requests go to version {trial.version}"
        case "canary":
            return f"stage {record.name}: version {trial.version} answers {trial.weight} % of requests"
        case "full":
            warm = ", the old revision is kept warm" if after.stable else ""
            return f"stage {record.name}: version {trial.version} is watched{warm}"


def _rolled_back(after: ReleaseStatus) -> Iterator[Announcement]:
    if not after.rejected:
        return
    entry = after.rejected[-1]
    if entry.reason == Reason.CONTRACT_BREACHED:
        yield Announcement("Warning", "ContractBreached", f"stage {entry.stage}: {entry.message}")
    to = f"version {after.stable.version}" if after.stable else "no revision"
    yield Announcement(
        "Warning",
        "RolledBack",
        f"version {entry.version}, revision {entry.revision}, left stage {entry.stage} ({entry.reason}): "
        f"all traffic goes to {to}",
    )
    yield Announcement(
        "Warning",
        "RevisionRejected",
        f"revision {entry.revision} is not retried by itself: release another one, or decide Retry",
    )


def _ended(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    if len(after.history) and after.history != before.history:
        entry = after.history[-1]
        if entry.outcome == "Completed":
            yield Announcement(
                "Normal", "Completed", f"version {entry.version}, revision {entry.revision}, is the release"
            )
        else:
            yield Announcement("Normal", "RolloutCancelled", entry.message)


def _forecast(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    """Warn of the stages that cannot conclude, when that becomes known: once a rollout."""
    late = [stage for stage in after.forecast if not stage.in_time]
    if before.forecast or not late:
        return
    others = ", ".join(stage.stage for stage in late[1:])
    more = f"; nor may {others}" if others else ""
    yield Announcement("Warning", Reason.STAGE_MAY_NOT_CONCLUDE, f"stage {late[0].stage}: {late[0].message}{more}")


def _more_is_held(before: ReleaseStatus, after: ReleaseStatus, finding: Finding | None) -> Iterator[Announcement]:
    """Tell of every further clause that breaks while a person decides; of the first, the condition tells."""
    holds = [status.condition("AwaitingApproval") for status in (before, after)]
    if not isinstance(finding, GateVerdict) or any(it is None or it.reason != Reason.BREACH_HELD for it in holds):
        return
    told = {it.name for it in before.gate.clauses if it.verdict is Outcome.BREACH} if before.gate else set()
    for clause in finding.held:
        if clause.clause not in told:
            yield Announcement("Warning", "ContractBreached", f"{clause.message}. A person decides about this one, too")


def _conditions(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[Announcement]:
    for condition in after.conditions:
        old = before.condition(condition.type)
        yield from _condition(condition, old, after.stage)


def _condition(new: Condition, old: Condition | None, stage: str) -> Iterator[Announcement]:
    changed = old is None or (old.status, old.reason) != (new.status, new.reason)
    if not changed:
        return
    match new.type, new.status:
        case "TrafficInSync", "False" if new.reason == Reason.DRIFTED:
            yield Announcement("Warning", "TrafficDrifted", new.message)
        case "MetricsAvailable", "False":
            yield Announcement("Warning", "MetricsUnavailable", new.message)
        case "MetricsAvailable", "True" if old is not None:
            yield Announcement("Normal", "MetricsAvailable", new.message)
        case "ShadowFlowing", "False":
            yield Announcement("Warning", "ShadowNotFlowing", new.message)
        case "AwaitingApproval", "True" if new.reason == Reason.AWAITING_APPROVAL:
            yield Announcement("Normal", "ApprovalNeeded", new.message)
        case "AwaitingApproval", "True":
            yield Announcement("Warning", "ContractBreached", new.message)
        case "Reconciling", "True" if new.reason in _WAITS:
            yield Announcement(*_WAITS[new.reason], new.message)
        case "Stalled", "True" if new.reason != Reason.ROLLED_BACK:
            yield Announcement("Warning", new.reason, new.message)
        case "Stalled", "True" if stage != ROLLED_BACK:
            yield Announcement("Warning", "RevisionRejected", new.message)
