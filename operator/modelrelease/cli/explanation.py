"""
Why a release is where it is, what happens next and when, what would unblock it, and how to stop it. Pure.

For whoever is woken: the first line says what happened and who serves users; each section answers one question.

    Why      what the operator saw, with the numbers
    When     when it was rolled back, and how far it had come
    Route    only when requests do not go where they should
    Next     what the operator will do by itself, and when
    Needs    what would unblock it
    You can  the commands, ready to copy
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from modelrelease.api.base import RELEASE_LABEL
from modelrelease.api.decision import Verb
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import OnInconclusive, OnNoMetrics
from modelrelease.api.status import (
    COMPLETED,
    PENDING,
    ROLLED_BACK,
    DecisionRecord,
    GateStatus,
    Rejected,
    StageRecord,
    Suggestion,
)
from modelrelease.cli.evidence_rows import ClauseRows, clause_rows, holding
from modelrelease.cli.sight import SUSPEND_REASON, SUSPENDED_BY, Sight, called, share, users, waits_for_a_person
from modelrelease.core.counts import printable
from modelrelease.core.report import SPANS, span


@dataclass(frozen=True, slots=True)
class Command:
    """A command to copy, and what it does."""

    text: str
    does: str


Item = str | Command | ClauseRows


@dataclass(frozen=True, slots=True)
class Section:
    """The answer to one question."""

    label: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is told of a release: the headline, then sections."""

    headline: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """
    How this program was started, so that the commands it shows can be copied.

    Attributes:
        program: ``kubectl modelrelease``, or ``modelrelease``.
        options: What has to be repeated, such as ``-n lending``; may be empty.
    """

    program: str
    options: str = ""

    def line(self, *words: str) -> str:
        """Return a whole command line."""
        return " ".join(word for word in (self.program, *words, self.options) if word)

    def kubectl(self, *words: str) -> str:
        """Return a command line of kubectl itself."""
        return " ".join(word for word in ("kubectl", *words, self.options) if word)


def explain(sight: Sight, by: Invocation) -> Explanation:
    """Return what is to be told of *sight*; commands begin as *by* says."""
    sections = [
        ("Why", _why(sight)),
        ("When", _when(sight)),
        ("Route", _trouble_of_route(sight)),
        ("Next", _next(sight)),
        ("Needs", _needs(sight)),
        ("Ahead", _ahead(sight)),
        ("You can", _commands(sight, by)),
        ("Owner", iter([printable(sight.spec.owner)] if sight.spec and sight.spec.owner else [])),
    ]
    told = [Section(label, tuple(items)) for label, items in sections]
    return Explanation(headline(sight), tuple(section for section in told if section.items))


# What happened.


def headline(sight: Sight) -> str:
    """Return what happened and who serves users, in one or two sentences."""
    return f"{sight.name}: {_position(sight)} {_served(sight)}"


def _served(sight: Sight) -> str:
    serving = users(sight.status)
    if not serving:
        return "It serves no user."
    if sight.unserved is None:
        return f"Users are served by {serving}."
    lacking, missing = sight.unserved
    if not sight.alarming:
        return f"Users are sent to {serving}; {lacking} since {span(missing)}, as while pods restart."
    return f"ALARM: users are sent to {serving}, but {lacking}, for {span(missing)}."


def _position(sight: Sight) -> str:
    status = sight.status
    if sight.unseen:
        return "the operator has not looked at it yet."
    if status.stage == ROLLED_BACK and status.candidate:
        rejected = next((it for it in reversed(status.rejected) if it.revision == status.candidate.revision), None)
        return _rolled_back(sight, rejected)
    if sight.trial:
        return f"{_prefix(sight)}{_on_trial(sight)}"
    if sight.ready and status.stable:
        return f"version {status.stable.version} is the release, since {span(sight.now - status.stable.since)}."
    if sight.reason == Reason.ROLLED_BACK and sight.desired:
        return f"the spec asks for version {sight.desired.version}, which was rolled back before."
    return f"{_prefix(sight)}nothing is on trial."


def _prefix(sight: Sight) -> str:
    if sight.reason == Reason.SUSPENDED:
        return "SUSPENDED; "
    if waits_for_a_person(sight):
        return "A PERSON MUST DECIDE; "
    if sight.reason == Reason.DEADLINE_EXCEEDED:
        return "PAST ITS DEADLINE; "
    return "STUCK; " if sight.stalled else ""


def _rolled_back(sight: Sight, rejected: Rejected | None) -> str:
    trial = sight.status.candidate
    assert trial is not None, "the caller checked"
    if rejected is None:
        return f"{called(sight.status, trial)} was rolled back."
    unharmed = all(record.kind == "shadow" for record in trial.stages)
    never = " No user was ever served by it." if unharmed else ""
    where = "before its first stage" if rejected.stage == PENDING else f"in stage {rejected.stage}"
    return f"{called(sight.status, trial)} was rolled back {sight.ago(rejected.time)} {where}.{never}"


def _on_trial(sight: Sight) -> str:
    trial, record = sight.trial, sight.record
    assert trial is not None, "the caller checked"
    if record is None:
        since = f" (for {span(sight.now - trial.since)})" if sight.status.stage == PENDING else ""
        return f"{called(sight.status, trial)} is starting{since} and gets no requests yet."
    here = f"{called(sight.status, trial)} is in stage {record.name} for {span(sight.now - record.start_time)}"
    match record.kind:
        case "shadow":
            return f"{here} and gets copies of {trial.mirror_percent} % of requests; no user sees it."
        case "full":
            return f"{here} and is watched."
        case _:
            return f"{here}."


# Why.

_TOLD_OTHERWISE: Final = frozenset(
    {
        Reason.PROGRESSING,
        Reason.SUSPENDED,
        Reason.AWAITING_APPROVAL,
        Reason.BAKING,
        Reason.CONTRACT_BREACHED,
        Reason.BREACH_HELD,
        Reason.DEADLINE_EXCEEDED,
        Reason.NO_DATA,
        Reason.LOW_TRAFFIC,
        Reason.UNDECIDED,
        Reason.SILENT_SLICE,
        Reason.NOISY,
        Reason.HISTOGRAM_TOO_COARSE,
    }
)
"""Reasons of a release with an open stage that the gate, or its rows, explain better than the message does."""

_UNREADABLE: Final = frozenset({Reason.INVALID_SPEC, Reason.CONTRACT_NOT_FOUND, Reason.CONTRACT_INVALID})
"""Reasons for which nothing is judged."""


def _why(sight: Sight) -> Iterator[Item]:
    yield from _standing(sight)
    if sight.record and sight.status.stage != ROLLED_BACK and sight.reason not in _UNREADABLE:
        yield from _gate_items(sight, sight.status.gate)
    yield from _answers(sight)


def circumstances(sight: Sight) -> Iterator[str]:
    """Return what else than the gate's numbers tells why it is where it is."""
    yield from (item for item in _standing(sight) if isinstance(item, str))
    yield from _answers(sight)


def _standing(sight: Sight) -> Iterator[Item]:
    if sight.unseen:
        seen = f"created {sight.ago(sight.created)}" if sight.created else "just created"
        yield f"it was {seen}; its status is empty"
        return
    if sight.outdated:
        yield (
            f"the operator has not looked at the latest edit yet (generation {sight.generation}; "
            f"what follows is of generation {sight.status.observed_generation})"
        )
    if sight.reason == Reason.SUSPENDED:
        yield _who_suspended(sight)
    told = _TOLD_OTHERWISE if sight.record else {Reason.SUSPENDED}
    if sight.status.stage == ROLLED_BACK:
        yield from _why_rolled_back(sight)
    elif sight.ready:
        yield from _why_ready(sight)
    elif sight.stalled and sight.reason != Reason.CONTRACT_BREACHED:
        yield f"{sight.message} ({sight.reason})"
    elif not sight.stalled and (sight.reason not in told or _has_gaps(sight)):
        yield sight.message


def _answers(sight: Sight) -> Iterator[str]:
    if sight.status.suggestion:
        yield _suggested(sight, sight.status.suggestion)
    yield from (decided(record) for record in sight.status.decisions)


def _has_gaps(sight: Sight) -> bool:
    """Return whether the stage bakes longer than its start tells: time without samples or requests does not count."""
    return sight.reason == Reason.BAKING and "do not count" in sight.message


def _suggested(sight: Sight, suggestion: Suggestion) -> str:
    to = f"go on to stage {suggestion.to}" if suggestion.to else "make it the release"
    row = next((it for it in sight.status.followed if it.stage == suggestion.stage), None)
    followed = f"; its suggestions here were followed {row.in_a_row} times in a row" if row and row.in_a_row else ""
    return f"the operator suggests since {span(sight.now - suggestion.since)}: {to}{followed}"


def decided(record: DecisionRecord) -> str:
    """Return what a person decided, such as ``ana approved stage canary-10 at 11:59:00 UTC: checked by hand``."""
    did = {
        Verb.APPROVE: f"approved stage {record.stage}",
        Verb.ROLLBACK: f"rolled it back in stage {record.stage}",
        Verb.RETRY: "let it be tried again",
        Verb.PROMOTE: f"promoted it from stage {record.stage}",
    }[record.decision]
    despite = f" in spite of {record.despite}" if record.despite else ", before it began," if record.ahead else ""
    void = ", void since an edit of the contract or of the stage's share" if record.void_since else ""
    why = f": {record.reason}" if record.reason else ""
    return f"{record.approved_by} {did}{despite} at {record.time:%Y-%m-%d %H:%M:%S} UTC{void}{why}"


def _who_suspended(sight: Sight) -> str:
    who = sight.annotations.get(SUSPENDED_BY)
    reason = sight.annotations.get(SUSPEND_REASON)
    return f"spec.suspend is true{f', set by {who}' if who else ''}{f': {reason}' if reason else ''}"


def _why_ready(sight: Sight) -> Iterator[Item]:
    if not sight.status.history:
        return
    last = sight.status.history[-1]
    took = span(last.end_time - last.start_time)
    match last.outcome:
        case "Completed":
            plain = f"version {last.version} is the release"
            more = f": {last.message}" if last.message != plain else ""
            yield f"version {last.version} completed its rollout {sight.ago(last.end_time)}, after {took}{more}"
        case outcome:
            words = {"RolledBack": "rolled back", "Cancelled": "cancelled", "Superseded": "superseded"}[outcome]
            yield f"the last rollout, of version {last.version}, was {words} {sight.ago(last.end_time)}: {last.message}"


def _why_rolled_back(sight: Sight) -> Iterator[Item]:
    rejected = sight.status.rejected[-1] if sight.status.rejected else None
    gate = sight.status.gate
    breached = rejected is not None and rejected.reason == Reason.CONTRACT_BREACHED
    if breached and gate and gate.verdict is Outcome.BREACH and any(clause.overall for clause in gate.clauses):
        yield from (rows for rows in clause_rows(gate, sight.contract) if rows.outcome is Outcome.BREACH)
    elif rejected:
        yield f"{rejected.message} ({rejected.reason})"
    else:
        yield sight.message


def _gate_items(sight: Sight, gate: GateStatus | None) -> Iterator[Item]:
    if gate is None:
        yield "the gate of this stage has not been judged yet: evidence begins a scrape after its route is in place"
        return
    if sight.state("MetricsAvailable") == "False":
        yield f"last judged {sight.ago(gate.evaluated_at)}: {gate.verdict}"
        return
    if gate.verdict is Outcome.PASS:
        yield f"the gate passes: {gate.message}" + (f"; worst slice: {gate.worst}" if gate.worst else "")
        return
    found = clause_rows(gate, sight.contract)
    yield from found
    if not found:
        yield gate.message
    if gate.reason in {Reason.SHADOW_NOT_FLOWING, Reason.SPLIT_MISMATCH} and gate.message != sight.message:
        yield gate.message
    if held := holding(gate):
        yield f"holds: {', '.join(held)}"


# When.


def _when(sight: Sight) -> Iterator[Item]:
    trial = sight.status.candidate
    if sight.status.stage != ROLLED_BACK or trial is None or not sight.status.rejected:
        return
    at = sight.status.rejected[-1].time
    stages = "; ".join(_lasted(record) for record in trial.stages)
    way = f"; on its way: {stages}" if stages else ""
    yield f"{at:%Y-%m-%d %H:%M:%S} UTC, {span(at - trial.since)} after the rollout began{way}"


def _lasted(record: StageRecord) -> str:
    return f"{record.name} {span(record.end_time - record.start_time)}" if record.end_time else record.name


def _trouble_of_route(sight: Sight) -> Iterator[Item]:
    traffic = sight.status.condition("TrafficInSync")
    if traffic and traffic.status == "False" and traffic.message != sight.message:
        yield f"{traffic.message} ({traffic.reason})"


# What comes next.


_NEXT: Final = {
    Reason.INVALID_SPEC: "users stay where they are; it goes on where it stopped as soon as the spec is valid",
    Reason.CONTRACT_NOT_FOUND: "users stay where they are; it goes on where it stopped once the ModelContract is there",
    Reason.CONTRACT_INVALID: "users stay where they are; it goes on where it stopped once the ModelContract is valid",
    Reason.BREACH_HELD: "nothing until a person decides: a clause with onBreach Hold is broken; traffic stays as it is",
    Reason.AWAITING_APPROVAL: "nothing until a person approves; a breach meanwhile is acted on at once",
    Reason.CONTRACT_BREACHED: "nothing: there is no earlier revision for users to return to. Release another version",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "it goes on when its pods become available after all, or with another version",
    Reason.EVIDENCE_NOT_KEPT: "it is tried again until a ConfigMap can be written; a rollback does not wait for it",
}


def _next(sight: Sight) -> Iterator[Item]:
    if sight.unseen:
        yield "normally within seconds. If it stays so: does the operator run, and does it watch this namespace?"
        return
    if sight.ready:
        yield "nothing, until the spec asks for another version, image or port"
        return
    match sight.reason:
        case known if known in _NEXT:
            yield _NEXT[Reason(known)]
        case Reason.SUSPENDED:
            yield from _next_suspended(sight)
        case Reason.ROLLED_BACK:
            yield _next_rejected(sight)
        case Reason.METRICS_UNAVAILABLE:
            yield from _next_without_metrics(sight)
        case Reason.PENDING:
            yield from _next_pending(sight)
        case _ if sight.stalled:
            yield "nothing moves; the operator looks again every half minute and goes on once this is repaired"
        case _ if sight.record:
            yield from _next_on_trial(sight)
        case _:
            yield "the operator takes the next step by itself, within seconds"


def _next_suspended(sight: Sight) -> Iterator[str]:
    yield "nothing moves, not even on a breach, until it is resumed; traffic stays as it is"
    if sight.record and sight.status.gate and sight.status.gate.verdict is Outcome.BREACH:
        yield "when it is resumed: the contract is broken, which is acted on at once"
    elif sight.trial:
        yield f"when it is resumed: it goes on from {sight.status.stage}; the bake has run on, the deadline not"


def _next_rejected(sight: Sight) -> str:
    rejected = sight.status.rejected[-1] if sight.status.rejected else None
    which = f"revision {rejected.revision} (version {rejected.version})" if rejected else "the revision"
    return f"nothing: {which} is rejected and never retried by itself. Release another version, or retry it"


def _next_pending(sight: Sight) -> Iterator[str]:
    spec, trial, first = sight.spec, sight.trial, sight.next_stage
    if first is None or trial is None or spec is None:
        yield "its first stage, as soon as its pods are available"
        return
    yield f"stage {first.name} ({share(first)}) as soon as its pods are available"
    if trial.unavailable_since:
        late = sight.within(trial.unavailable_since + spec.progress_deadline)
        then = "rolled back" if sight.status.stable else "it is stuck, for there is nothing to return to"
        yield f"if they are not by {late}: {then} (server.progressDeadline)"


def _next_without_metrics(sight: Sight) -> Iterator[str]:
    yield "users stay where they are; no evidence is neither a pass nor a breach. It goes on when Prometheus answers"
    missing, spec = sight.status.metrics_missing_since, sight.spec
    if missing is None or spec is None:
        return
    until = sight.within(missing + spec.metrics_deadline)
    match spec.on_no_metrics:
        case OnNoMetrics.ROLLBACK:
            yield f"if it does not by {until}: rolled back (analysis.onNoMetrics)"
        case OnNoMetrics.HOLD:
            yield f"Prometheus has been missing for {span(sight.now - missing)}; nobody is rolled back for it"


def _next_on_trial(sight: Sight) -> Iterator[str]:
    gate = sight.status.gate
    goal = _goal(sight)
    if gate is None or gate.verdict is Outcome.PASS or sight.reason in _AS_IF_PASSED:
        if sight.bake_left > timedelta(0):
            yield f"{goal} at {sight.within(sight.now + sight.bake_left)}, {_because(sight, gate)}"
        else:
            yield f"{goal}, as soon as {_waits_for(sight)}"
        yield from _then_a_person(sight)
        if not _unjudged(gate):
            yield f"a breach before that: {_on_breach(sight)}"
        return
    yield _when_decided(gate, goal)
    yield from _then_a_person(sight)
    yield from _at_deadline(sight, goal)
    yield f"a breach: {_on_breach(sight)}"


def _then_a_person(sight: Sight) -> Iterator[str]:
    if sight.unapproved:
        yield "and not before a person has approved it, which can be done now or then"


_AS_IF_PASSED: Final = frozenset({Reason.BAKING, Reason.SCALING_UP, Reason.NOT_ACCEPTED})
"""Reasons that a release has after its gate has passed, a person has overruled it, or it had nothing to judge."""


def _because(sight: Sight, gate: GateStatus | None) -> str:
    """Return on what a stage that bakes is left."""
    if _unjudged(gate):
        return "for nothing is judged in this stage"
    overruled = gate is not None and gate.verdict is not Outcome.PASS
    return "as a person approved" if sight.reason in _AS_IF_PASSED and overruled else "if the gate passes then"


def _unjudged(gate: GateStatus | None) -> bool:
    """Return whether the contract asks nothing of the stage."""
    return gate is not None and gate.reason in {Reason.NOT_JUDGED, Reason.NO_BASELINE}


def _waits_for(sight: Sight) -> str:
    match sight.reason:
        case Reason.SCALING_UP | Reason.CANDIDATE_UNAVAILABLE:
            return "its pods are available"
        case Reason.NOT_ACCEPTED:
            return "the Gateway has accepted the route"
        case Reason.BAKING:
            return "it has baked; time without samples or requests does not count"
        case _:
            return "the gate passes"


def _goal(sight: Sight) -> str:
    """Return what comes after the open stage."""
    if sight.spec is None:
        return "the next stage"
    if sight.next_stage is not None:
        again = " once more" if sight.next_stage is sight.stage else ""
        return f"stage {sight.next_stage.name}{again} ({share(sight.next_stage)})"
    version = called(sight.status, sight.trial) if sight.trial else "it"
    return f"{version} becomes the release" + (" and the old pods go" if sight.status.stable else "")


def _on_breach(sight: Sight) -> str:
    stable, trial = sight.status.stable, sight.trial
    if stable is None or trial is None:
        return "it stops, with nothing to return to"
    if not trial.weight:
        users_stay = f"users stay with {called(sight.status, stable)}"
        return f"{called(sight.status, trial)} is rejected at once; {users_stay}"
    return f"all users back to {called(sight.status, stable)} at once"


def _when_decided(gate: GateStatus, goal: str) -> str:
    if gate.eta is None:
        return f"{goal}, when the gate passes; at the present rates and traffic that is not in sight"
    return f"{goal}, when the gate passes: in about {gate.eta} at the present rates and traffic"


def _at_deadline(sight: Sight, goal: str) -> Iterator[str]:
    if sight.deadline is None or sight.spec is None:
        return
    match sight.spec.on_inconclusive:
        case OnInconclusive.HOLD:
            then = "it goes on waiting here, and asks a person"
        case OnInconclusive.ADVANCE:
            then = f"{goal}, without a verdict"
        case OnInconclusive.ROLLBACK:
            then = "rolled back"
    over = "the stage's deadline was" if sight.deadline <= sight.now else "not decided by the stage's deadline,"
    yield f"{over} {sight.within(sight.deadline)}: {then} (analysis.onInconclusive {sight.spec.on_inconclusive})"


# What would unblock it.

_MORE: Final = (
    "more requests, or a promise that this traffic can prove: a wider margin or assure in the clause, a larger share "
    "of copies in a shadow; 'forecast' says what each stage can prove"
)
_BY_EVIDENCE: Final = frozenset({Reason.LOW_TRAFFIC, Reason.UNDECIDED, Reason.NO_DATA})
"""Reasons that most stages have for a while, and that more requests cure."""

_UNBLOCKED_BY: Final = {
    Reason.LOW_TRAFFIC: _MORE,
    Reason.UNDECIDED: _MORE,
    Reason.NO_DATA: "samples of that metric in Prometheus with the labels release and revision: do the pods expose it, "
    "are they scraped, does the selector fit?",
    Reason.SILENT_SLICE: "requests of that slice, or its value taken out of expected in the contract",
    Reason.NOISY: "an even mix of requests over the stable revision's pods: do clients keep to one pod?",
    Reason.HISTOGRAM_TOO_COARSE: "bucket bounds closer together near the limit, in both revisions, or a wider margin",
    Reason.SHADOW_NOT_FLOWING: "a Gateway that mirrors requests, and a candidate that counts them: look at the status "
    "of the HTTPRoute and at the candidate's request counter",
    Reason.SPLIT_MISMATCH: "a split as the route says: no other route to its pods, no sticky clients, all counted",
    Reason.METRICS_UNAVAILABLE: "a Prometheus that answers the operator, with all it had: is it up, is prometheus.url "
    "right, are all pods still scraped?",
    Reason.INVALID_SPEC: "a spec that can be carried out; 'lint FILE' says the same of a file, before it is applied",
    Reason.CONTRACT_NOT_FOUND: "that ModelContract in the namespace of the release, or a contract in its spec",
    Reason.CONTRACT_INVALID: "a ModelContract that can be judged; 'lint FILE' says the same of a file",
    Reason.GATEWAY_NOT_FOUND: "that Gateway, or another one in traffic.gatewayAPI.parentRefs",
    Reason.MIRROR_UNSUPPORTED: "a Gateway class that mirrors requests, or a plan without shadow stages",
    Reason.ROUTE_REJECTED: "a Gateway that takes the HTTPRoute: do its listeners take that hostname and namespace?",
    Reason.NAME_CONFLICT: "that object gone, or a release of another name",
    Reason.EVIDENCE_NOT_KEPT: "room for another ConfigMap in the namespace: is there a quota?",
}


def _needs(sight: Sight) -> Iterator[Item]:
    gate = sight.status.gate
    reason = sight.reason
    if sight.unserved:
        yield "pods of that version that answer: the operator has asked for them, their events say what keeps them away"
    if reason == Reason.DEADLINE_EXCEEDED and gate:
        reason = gate.reason
    # A stage that has just begun, or that will be decided in time, needs nothing but time.
    early = reason in _BY_EVIDENCE and (gate is None or _in_time(sight, gate))
    if reason in _UNBLOCKED_BY and not early:
        yield _UNBLOCKED_BY[Reason(reason)]


def _in_time(sight: Sight, gate: GateStatus) -> bool:
    """Return whether the gate is expected to be decided before the stage's deadline, at the present rates."""
    number, _, unit = (gate.eta or "").partition(" ")
    # An operator of another version may say it in other words.
    if sight.deadline is None or not number.isdecimal() or unit not in SPANS:
        return False
    return sight.now + int(number) * SPANS[unit] <= sight.deadline


# What is ahead.


def _ahead(sight: Sight) -> Iterator[Item]:
    earned = sight.status.condition("AutomationEarned")
    if earned and earned.status == "True":
        yield earned.message
    if sight.trial is None:
        return
    done = {record.name for record in sight.trial.stages}
    for stage in sight.status.forecast:
        if not stage.in_time and stage.stage not in done:
            yield f"stage {stage.stage} may not conclude before its deadline: {stage.message}"


# What a person can do.


def _commands(sight: Sight, by: Invocation) -> Iterator[Item]:
    name = sight.name
    reason = '--reason "..."'
    if sight.unserved:
        yield Command(by.kubectl("get", "pods", "-l", f"{RELEASE_LABEL}={name}"), "which pods there are")
    if sight.suspended:
        yield Command(by.line("resume", name), "it goes on")
    if sight.trial and sight.status.stable:
        stable, trial = (called(sight.status, part) for part in (sight.status.stable, sight.trial))
        yield Command(by.line("rollback", name, reason), f"all users to {stable}; {trial} is rejected")
    if sight.trial and sight.record and not sight.suspended:
        yield from _ways_forward(sight, by)
    if sight.trial and not sight.suspended:
        yield Command(by.line("suspend", name, reason), "nothing moves, not even on a breach")
    if sight.reason == Reason.ROLLED_BACK:
        yield Command(by.line("retry", name, reason), "try the same revision once more")
    if sight.trial or sight.unseen:
        yield Command(by.line("watch", name), "look on")
    if sight.status.stage == ROLLED_BACK and sight.status.candidate:
        kept = [record.evidence for record in sight.status.candidate.stages if record.evidence]
        for evidence in kept[-1:]:
            yield Command(by.kubectl("get", "configmap", evidence, "-o", "yaml"), "everything that was counted")
    if sight.ready or sight.status.stage in {ROLLED_BACK, COMPLETED}:
        yield Command(by.line("history", name), "earlier rollouts")


def _ways_forward(sight: Sight, by: Invocation) -> Iterator[Item]:
    reason = '--reason "..."'
    if waits_for_a_person(sight) or sight.reason == Reason.DEADLINE_EXCEEDED:
        despite = "" if sight.reason == Reason.AWAITING_APPROVAL else ", whatever the gate says"
        yield Command(by.line("approve", sight.name, reason), f"{_goal(sight)}{despite}")
    elif sight.unapproved:
        yield Command(by.line("approve", sight.name, reason), "the stage is left as soon as its gate passes")
    if sight.reason not in _UNREADABLE:
        yield Command(by.line("promote", sight.name, reason), "break glass: skip all that is left")
