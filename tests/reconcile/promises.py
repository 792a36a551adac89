"""
What the operator promises of every single reconcile, whatever fails in it; judged from outside, by what was done.

    status first          what is written first is the commitment; when users leave a candidate, then the route, alone
    users add up          a route gives 100 % to the revisions of status, as status says
    only proof raises     a candidate's share grows by one stage of the plan, or to what the spec has come to ask for in
                          the open one, by a pass on evidence of the open stage
    fewer is at once      a smaller share that the spec has come to ask for in the open stage is what users get next
    rejected is rejected  a revision that was rolled back gets neither users nor copies, until a Retry lets it be tried
    people are heard      a decision is recorded as it was made, or answered with why not, and then moves nothing
    a breach is final     once decided, status and, unless that very write fails, the route are all stable
    the route follows     a reconcile that got as far as to write leaves the route as status says
    somebody answers      nobody is given users without a pod that answers, and nobody who has users is taken away;
                          the stable revision, to which users return from a candidate, is the exception: it is entitled
                          whatever its pods do, the candidate is not any more
    a pause blames nobody what was missing before a suspension or an invalid spec is not missing ever since
    nothing is untold     an event that could not be written, or that nobody lived to write, is written by the next one
    no silent end         conditions agree with each other and with what was seen, and nothing waits without saying so
"""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Final

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import DecisionOutcome, Verb
from modelrelease.api.parse import Release
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import ApprovalMode, OnInconclusive, Stage, StageApproval
from modelrelease.api.status import (
    PENDING,
    ROLLED_BACK,
    CandidateStatus,
    DecisionRecord,
    ReleaseStatus,
    RevisionStatus,
)
from modelrelease.core.announce import to_tell
from modelrelease.core.decide import NO_PODS_GRACE
from modelrelease.core.elapsed import elapsed
from modelrelease.core.gate import evaluate
from modelrelease.core.verdict import Finding, GateVerdict
from tests.reconcile.fakes import Object, owner_of
from tests.reconcile.hostile import Tick
from tests.reconcile.memory import parsed, status_of

MOST_BYTES: Final = 1_000_000
LATE: Final = {Reason.METRICS_UNAVAILABLE, Reason.PROGRESS_DEADLINE_EXCEEDED, Reason.CANDIDATE_UNAVAILABLE}
READS: Final = {"release", "contract", "decisions", "children", "gateway", "class"}


def check(tick: Tick) -> None:
    """Raise AssertionError when a promise is broken."""
    if tick.body is None or tick.body["metadata"].get("deletionTimestamp"):
        assert tick.effects == [], "what is not there is left alone"
        return
    told = Told(tick)
    for promise in PROMISES:
        promise(told)


class Told:
    """
    What a tick tells, each thing worked out once.

    Attributes:
        tick: The tick.
        before: The status as it was read.
        written: The statuses that were written, each with the one before it.
        after: The status that stands recorded when the reconcile goes on to act, or ends.
        release: The release as it was read; None when its spec is invalid.
    """

    def __init__(self, tick: Tick) -> None:
        """Read both statuses."""
        self.tick = tick
        self.before = status_of(tick.body.get("status") or {})
        pairs = [(it.before, it.after) for it in tick.effects if it.what == "status"]
        self.written = [(status_of(old), status_of(new)) for old, new in pairs]
        self.after = self.written[-1][1] if self.written else self.before
        release = parsed(tick.body)
        self.release = release if isinstance(release, Release) else None

    @cached_property
    def finding(self) -> Finding | None:
        """What the gate said."""
        now = self.tick.now.replace(microsecond=0)
        return evaluate(self.release, self.before, self.tick.evidence, now) if self.release else None

    @property
    def acted(self) -> bool:
        """Whether the reconcile got beyond its record: it ended well, or something after the record failed."""
        tick = self.tick
        last = tick.calls[-1] if tick.calls else ""
        early = last in {*READS, "status"} or (last.startswith("keep") and "status" not in tick.calls)
        return not tick.died and (tick.error is None or not early)

    @property
    def recorded(self) -> bool:
        """Whether a decision was taken, and its record not refused."""
        tick = self.tick
        return tick.decision is not None and "status" not in tick.failed and not (tick.died and not self.written)

    @property
    def routes(self) -> list[Object]:
        """The routes that were written."""
        return [it.after for it in self.tick.effects if it.what == "route" and it.after]


def _trial(status: ReleaseStatus) -> CandidateStatus | None:
    return None if status.stage == ROLLED_BACK else status.candidate


def _shares(status: ReleaseStatus) -> dict[str, int]:
    """Return the share of users by revision, in percent, as status says."""
    return {part.revision: part.weight for part in status.users}


def _routed(route: Object | None) -> dict[str, int]:
    """Return the share of users by revision as a route says, straight from its rules."""
    rules = route["spec"]["rules"] if route else []
    return {ref["name"].removeprefix("radar-"): ref["weight"] for rule in rules for ref in rule["backendRefs"]}


def _copied(route: Object | None) -> dict[str, int]:
    filters = [item for rule in (route["spec"]["rules"] if route else []) for item in rule.get("filters", [])]
    copies = [item["requestMirror"] for item in filters]
    return {copy["backendRef"]["name"].removeprefix("radar-"): copy["percent"] for copy in copies}


def _answering(tick: Tick, part: RevisionStatus | None) -> int:
    workload = tick.children.workloads.get(part.revision) if tick.children and part else None
    return workload.serving if workload else 0


def _reached(tick: Tick, part: RevisionStatus | None) -> bool:
    """Return whether a pod answers, and a Service leads to it."""
    return _answering(tick, part) > 0 and part.revision in tick.children.services


# The promises.


def the_status_is_written_first(told: Told) -> None:
    """A crash must never leave the cluster ahead of what is recorded."""
    # What a gate is passed on is kept before it is passed: it moves nothing, and goes when no record names it.
    attempts = [call for call in told.tick.calls if call not in READS and not call.startswith("keep")]
    if "status" in attempts:
        assert attempts.index("status") == 0
        assert attempts.count("status") == 1
    if "status" in told.tick.failed:
        assert attempts == ["status"], "nothing follows a record that failed"


def users_leave_a_candidate_first_of_all(told: Told) -> None:
    """Nothing may stand between users and the stable revision."""
    for before, after in told.written:
        leaves = before.candidate and before.candidate.weight and not (after.candidate and after.candidate.weight)
        if leaves and _shares(after) != _shares(before):
            rest = [it for it in told.tick.calls if it not in {*READS, "status"} and not it.startswith("event")]
            # What a breach was proved by is kept once they have left it, what they go on with before they do.
            back = after.stage == ROLLED_BACK
            assert [it for it in rest if not it.startswith(("keep", "drop", "outcome"))] in ([], ["route"]), rest
            # What history has forgotten goes after them.
            before_route = rest[: rest.index("route")] if "route" in rest else []
            assert not any(it.startswith("drop") for it in before_route), rest
            assert not back or "route" not in rest or rest[0] == "route"


def users_add_up(told: Told) -> None:
    """Every status and every route that is written gives all users to somebody, and to nobody unknown."""
    for _, status in told.written:
        assert sum(_shares(status).values()) == (100 if status.stable or _shares(status) else 0)
        mirrored = [part.revision for part in (status.stable, status.candidate) if part and part.mirror_percent]
        assert mirrored in ([], [status.candidate and status.candidate.revision])
    for route in told.routes:
        assert sum(_routed(route).values()) == 100
        assert _routed(route) == _shares(told.after)


def only_proof_raises_a_share(told: Told) -> None:
    """More users for a candidate: the first stage when it has its pods, every other one by a pass or as asked."""
    for before, after in told.written:
        trial, record = after.candidate, after.candidate.current_stage if after.candidate else None
        same = before.candidate is not None and trial is not None and before.candidate.revision == trial.revision
        old = before.candidate if same and before.stage != ROLLED_BACK else None
        if trial is None or (trial.weight, trial.mirror_percent) == (0, 0) or record is None:
            continue
        if old and old.weight >= trial.weight and old.mirror_percent >= trial.mirror_percent:
            continue
        if old and before.stage == after.stage and record.kind == "shadow":
            continue  # more copies in an open shadow, that no user sees
        release = told.release
        assert release is not None
        assert not release.spec.suspend
        assert old is not None, "a candidate starts with nothing"
        _entered_by_right(told, release, before, after)


def fewer_users_are_at_once(told: Told) -> None:
    """Whatever the gate says and whether or not there are metrics: only a person's Promote outdoes an edit."""
    release, trial = told.release, _trial(told.before)
    if release is None or release.spec.suspend or not told.recorded or trial is None or trial.current_stage is None:
        return
    record, kept = trial.current_stage, _trial(told.after)
    asked = [it.weight for it in release.spec.plan_stages if (it.name, it.kind.value) == (record.name, record.kind)]
    promoted = any(it.decision is Verb.PROMOTE for it in _given(release, told.before, told.after))
    if kept and kept.revision == trial.revision and not promoted and asked and asked[0] < trial.weight:
        assert kept.weight <= asked[0]
        # A clock that was set back while nobody watched begins everything before what it has recorded.
        assert kept.stages[-1].start_time >= min(record.start_time, told.tick.now.replace(microsecond=0))
        assert kept.stages[-1] != record, "no record has evidence of two shares"


def _entered_by_right(told: Told, release: Release, before: ReleaseStatus, after: ReleaseStatus) -> None:
    stages = [it for it in release.spec.plan_stages if before.stable or it.full is not None]
    names = [it.name for it in stages]
    entered = stages[names.index(after.stage)]
    size = release.spec.replicas if entered.weight else release.spec.shadow_replicas
    assert told.tick.children.workloads[after.candidate.revision].available >= size, "its pods were there"
    given = _given(release, before, after)
    if any(it.decision is Verb.PROMOTE for it in given):
        assert entered is stages[-1], "who promotes skips what is left, and not a part of it"
        return
    left = before.candidate.current_stage
    if left is None:
        assert before.stage == PENDING
        assert entered is stages[0]
        return
    planned = stages[names.index(left.name)]
    raised = planned.weight > before.candidate.weight
    assert entered is (planned if raised else stages[names.index(left.name) + 1]), "no stage is skipped"
    assert _routed(told.tick.children.route) == _shares(before), "the route carried the stage that is left"
    assert told.tick.windows[-1].name == left.name
    assert left.start_time <= told.tick.windows[-1].start, "what was before the stage proves nothing of it"
    assert told.tick.windows[-1].end <= told.tick.now
    counts = told.tick.evidence[-1]
    assert timedelta(seconds=counts.covered) >= planned.bake_time, "no jump of the clock bakes anything"
    approvals = [it for it in given if it.decision is Verb.APPROVE]
    assert approvals or not _needs_approval(release, planned), "nobody has approved"
    verdict = told.finding
    assert isinstance(verdict, GateVerdict)
    if verdict.outcome is Outcome.PASS:
        assert timedelta(seconds=counts.served) >= planned.bake_time, "silence bakes nothing"
        return
    breach = verdict.outcome is Outcome.BREACH
    overruled = Reason.BREACH_HELD if breach else Reason.DEADLINE_EXCEEDED
    late = told.tick.now.replace(microsecond=0) - left.start_time > planned.deadline_time
    advances = release.spec.on_inconclusive is OnInconclusive.ADVANCE and late and not breach
    broken = {it.clause for it in verdict.clauses if (it.outcome, it.on_breach) == (Outcome.BREACH, OnBreach.HOLD)}
    assert broken <= {name for it in approvals for name in it.overruled or ()}, "nobody saw that one broken"
    assert advances or any(it.despite == overruled for it in approvals), "an approval skips no more than it names"


def _given(release: Release, before: ReleaseStatus, after: ReleaseStatus) -> list[DecisionRecord]:
    """Return what people decided about the candidate since it is where it is, or ahead under this very contract."""
    # What is taken up now may be used up at once: where a stage is entered once more, with more users, it is void then.
    records = [*(it for it in before.decisions if it.void_since is None), *_new_records(before, after)]
    here = (before.candidate.revision, before.stage)
    about = [it for it in records if (it.revision, it.stage) == here]
    return [it for it in about if it.ahead in (None, release.contract.digest)]


def _needs_approval(release: Release, stage: Stage) -> bool:
    if stage.approval is not None:
        return stage.approval is StageApproval.REQUIRED
    return release.spec.approval_mode is not ApprovalMode.AUTO


def a_rejected_revision_gets_nothing(told: Told) -> None:
    """Neither users nor copies, neither in the record nor on the route."""
    rejected = {entry.revision for entry in told.after.rejected}
    for _, status in told.written:
        part = status.candidate
        assert not (part and part.revision in rejected and (part.weight or part.mirror_percent))
        assert not (status.stable and status.stable.revision in rejected)
    for route in told.routes:
        assert rejected.isdisjoint({**_routed(route), **_copied(route)})


def rejected_stays_rejected(told: Told) -> None:
    """Only a Retry of that very revision lets it be tried again."""
    for before, after in told.written:
        free = {it.revision for it in before.rejected} - {it.revision for it in after.rejected}
        retried = {it.revision for it in _new_records(before, after) if it.decision is Verb.RETRY}
        assert free <= retried


def people_are_heard(told: Told) -> None:
    """What is recorded is what somebody decided about this candidate; what is turned down leaves no trace."""
    asked = {it["metadata"]["uid"]: it["spec"] for it in told.tick.asked}
    for before, after in told.written:
        for record in _new_records(before, after):
            spec = asked[record.uid]
            said = (record.decision, record.revision, record.approved_by)
            assert said == (spec["decision"], spec["revision"], spec["approvedBy"])
            about = {it.revision for it in before.rejected} if record.decision is Verb.RETRY else _on_trial(before)
            assert record.revision in about, "it is about somebody else"
            if record.decision is Verb.APPROVE:
                trial = _trial(before)
                begun = {it.name for it in trial.stages} if trial else set()
                assert record.stage == spec["stage"]
                assert record.stage not in begun if record.ahead else record.stage == before.stage
                assert not (record.ahead and record.despite), "nobody overrules what nobody can have seen"
        old, new = (it.candidate.current_stage if it.candidate else None for it in (before, after))
        if old and new and old.name == new.name and old.percent != new.percent:
            left = [it for it in after.decisions if (it.decision, it.stage) == (Verb.APPROVE, new.name)]
            assert all(it.void_since for it in left), "nobody has approved what gets another share"
        if old and new and old.name == new.name and old.contract != new.contract:
            left = [it for it in after.decisions if (it.decision, it.stage) == (Verb.APPROVE, new.name)]
            assert all(it.void_since or it.ahead for it in left), "nobody has approved what is judged anew"
    known = {it.uid for it in _records(told.after)}
    for effect in told.tick.effects:
        if effect.what.startswith("outcome"):
            applied = effect.after["status"]["outcome"] == DecisionOutcome.APPLIED
            assert (effect.after["metadata"]["uid"] in known) is applied


def _on_trial(status: ReleaseStatus) -> set[str]:
    trial = _trial(status)
    return {trial.revision} if trial else set()


def _records(status: ReleaseStatus) -> list[DecisionRecord]:
    return [*status.decisions, *(record for entry in status.history for record in entry.decisions)]


def _new_records(before: ReleaseStatus, after: ReleaseStatus) -> list[DecisionRecord]:
    known = {it.uid for it in _records(before)}
    return [it for it in _records(after) if it.uid not in known]


def _may_be_copies(status: ReleaseStatus) -> bool:
    trial = status.candidate
    if trial is None or trial.current_stage is None or trial.current_stage.kind == "shadow":
        return False
    # Who had its route written last still gets what it asked for; of a stage before the last one, nothing is left.
    last = next((it for it in reversed(trial.stages) if it.written or it.routed is not False), None)
    return last is not None and last.kind == "shadow"


def a_breach_returns_users_at_once(told: Told) -> None:
    """
    The very reconcile that sees a breach records that all users are on the stable revision.

    Not one that may see the copies of a shadow: they are counted until the route of the stage after it is written.
    """
    release, verdict, before = told.release, told.finding, told.before
    if release is None or release.spec.suspend or before.stable is None or not told.recorded or _may_be_copies(before):
        return
    breach = isinstance(verdict, GateVerdict) and verdict.outcome is Outcome.BREACH
    if breach and verdict.on_breach is OnBreach.ROLLBACK:
        assert _shares(told.after) == {before.stable.revision: 100}


def the_route_follows_the_status(told: Told) -> None:
    """Whatever else fails: only the write of the route itself may keep the route from being what status says."""
    if not told.acted or "route" in told.tick.failed:
        return
    wanted = _shares(told.after)
    ours = told.tick.route_after is not None and owner_of(told.tick.route_after) == told.tick.body["metadata"]["uid"]
    if wanted and (ours or told.release):
        assert _routed(told.tick.route_after) == wanted
        trial = _trial(told.after)
        copies = {trial.revision: trial.mirror_percent} if trial and trial.mirror_percent else {}
        assert _copied(told.tick.route_after) == copies


def nothing_that_is_needed_goes(told: Told) -> None:
    """A revision keeps its objects while the route names it or status gives it a part; nobody else's are touched."""
    after = told.after
    parts = {part.revision for part in (after.stable, after.serving, _trial(after)) if part}
    for effect in told.tick.effects:
        if effect.what.startswith("delete"):
            revision = effect.what.rpartition("-")[2]
            assert revision not in {*_routed(told.tick.route_after), *_copied(told.tick.route_after), *parts}
            assert owner_of(effect.before) == told.tick.body["metadata"]["uid"]


def users_do_not_stay_where_nobody_answers(told: Told) -> None:
    """A candidate that has lost all its pods loses its users, if the stable revision has a pod for them."""
    release, before = told.release, told.before
    trial, now = _trial(before), told.tick.now.replace(microsecond=0)
    if release is None or release.spec.suspend or not told.recorded or before.stable is None or trial is None:
        return
    silent = bool(trial.weight and not _reached(told.tick, trial) and _reached(told.tick, before.stable))
    # A jump of the clock that was noticed is no time that has passed.
    if silent and trial.silent_since and elapsed(trial.silent_since, now, told.tick.jumps) > NO_PODS_GRACE:
        assert _shares(told.after) == {before.stable.revision: 100}
    kept = _trial(told.after)
    if kept and kept.stages:  # else it has ended, or starts over
        assert (kept.silent_since is not None) is silent, "it counts from the moment when nobody answers, and no other"


def a_pause_makes_nobody_late(told: Told) -> None:
    """What was missing before a suspension or an invalid spec is not known to have been missing all the time."""
    trial = _trial(told.before)
    for before, after in told.written if trial and trial.current_stage and trial.current_stage.paused_since else []:
        assert {it.reason for it in after.rejected if it not in before.rejected}.isdisjoint(LATE)
    if not told.recorded or trial is None or (told.release and not told.release.spec.suspend):
        return
    kept = _trial(told.after)
    if kept is not None:
        missing = (told.after.metrics_missing_since, kept.unavailable_since, kept.silent_since)
        assert (missing, kept.current_stage is None or kept.current_stage.paused_since is not None) == (
            (None,) * 3,
            True,
        )


def the_stable_revision_is_only_followed(told: Told) -> None:
    """It changes when its candidate has had all users, and never goes."""
    for before, after in told.written:
        old, new = before.stable, after.stable
        if old and new and old.revision == new.revision:
            continue
        if old or new:
            assert new is not None
            assert before.candidate is not None
            assert new.revision == before.candidate.revision
            assert before.candidate.weight == 100
            assert _reached(told.tick, new)


def conditions_agree(told: Told) -> None:
    """kstatus: Ready, or one of Reconciling and Stalled; of the generation that was read; and nothing untrue."""
    for _, status in told.written:
        of = {it.type: it for it in status.conditions}
        assert len(of) == len(status.conditions)
        busy = [it for it in ("Reconciling", "Stalled") if it in of]
        assert (of["Ready"].status, len(busy)) in {("True", 0), ("False", 1)}
        assert all(of[it].status == "True" for it in busy)
        generation = told.tick.body["metadata"]["generation"]
        assert {status.observed_generation, *(it.observed_generation for it in status.conditions)} == {generation}
        if of["Ready"].status == "True":
            assert told.release.desired.name == status.stable.revision
            assert _shares(status) == {status.stable.revision: 100}
        parts = status.users
        served = bool(parts) and all(_answering(told.tick, part) for part in parts)
        assert (of["Available"].status == "True") is served
        if "TrafficInSync" in of and of["TrafficInSync"].status == "True":
            assert _routed(told.tick.children.route) == _shares(told.before)


def nothing_ends_in_silence(told: Told) -> None:
    """Who is not looked at again is done, or somebody has to do something, and it says which."""
    if told.tick.error or told.tick.died or told.tick.again is not None:
        return
    of = {it.type: it for it in told.after.conditions}
    suspended = "Reconciling" in of and of["Reconciling"].reason == Reason.SUSPENDED
    invalid = "Stalled" in of and of["Stalled"].reason == Reason.INVALID_SPEC
    rejected = "Stalled" in of and of["Stalled"].reason == Reason.ROLLED_BACK
    assert of["Ready"].status == "True" or suspended or invalid or rejected


def nothing_is_left_untold(told: Told) -> None:
    """What was to be told of a transition, this one's or one before it, has been told when a reconcile ends well."""
    tick = told.tick
    if tick.died or tick.error or "event" in tick.failed:
        return
    now = tick.now.replace(microsecond=0)
    assert tick.told.issuperset([*to_tell(told.before, now, tick.jumps), *to_tell(told.after, now, tick.jumps)])


def the_status_can_be_stored(told: Told) -> None:
    """It is small, and what is read back is what was written."""
    for effect in told.tick.effects:
        if effect.what == "status":
            assert status_of(effect.after).as_json() == effect.after
            assert len(json.dumps(effect.after)) < MOST_BYTES


PROMISES: Final[tuple[Callable[[Told], None], ...]] = (
    the_status_is_written_first,
    users_leave_a_candidate_first_of_all,
    users_add_up,
    only_proof_raises_a_share,
    fewer_users_are_at_once,
    a_rejected_revision_gets_nothing,
    rejected_stays_rejected,
    people_are_heard,
    a_breach_returns_users_at_once,
    the_route_follows_the_status,
    nothing_that_is_needed_goes,
    users_do_not_stay_where_nobody_answers,
    a_pause_makes_nobody_late,
    the_stable_revision_is_only_followed,
    conditions_agree,
    nothing_ends_in_silence,
    nothing_is_left_untold,
    the_status_can_be_stored,
)
