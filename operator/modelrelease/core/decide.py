"""
Every decision, in one table.

``decide`` asks the rows of ``TABLE`` in order; the first that has something to say decides. A row looks at the
situation and returns a decision or None; it changes nothing. So the table reads like the manual:

    what a person wants at once       a rollback
    what is wrong with the order      invalid spec, suspended
    what is ordered                   the stable revision, a rejected one, a new one
    what cannot work                  a name that is taken, a Gateway that is absent
    whether the candidate lives       not available yet, not available any more
    what was edited on the way        fewer users in the open stage, another contract
    what the evidence says            breach, lost, no metrics, inconclusive
    and only then what comes next     bake, approval, grow, next stage, complete

The last row always answers, and no row raises: a fault is a Hold with a reason, never a verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeGuard

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import Verb
from modelrelease.api.parse import InvalidSpec, Release
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import (
    ApprovalMode,
    OnInconclusive,
    OnNoMetrics,
    ReleaseSpec,
    Stage,
    StageApproval,
    StageKind,
)
from modelrelease.api.status import (
    ROLLED_BACK,
    CandidateStatus,
    DecisionRecord,
    ReleaseStatus,
    RevisionStatus,
    StageRecord,
)
from modelrelease.core.counts import MetricsUnavailable, StageCounts
from modelrelease.core.elapsed import Jump, elapsed
from modelrelease.core.observation import Observation
from modelrelease.core.verdict import ClauseVerdict, Finding, GateVerdict

NO_PODS_GRACE: Final = timedelta(seconds=15)
"""How long users may be sent to a candidate that has no pod left: one restart, not more."""


GAP_TOLD: Final = timedelta(minutes=1)
"""Time of a stage without samples, or without requests, from which on it is worth a word."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing moves. *stalled* means that it will not go on by itself."""

    reason: Reason
    message: str
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """The desired revision becomes the candidate; one that was on trial before gives way, traffic first."""

    message: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """The candidate grows to *replicas* before its weight rises."""

    replicas: int
    message: str


@dataclass(frozen=True, slots=True)
class Advance:
    """The candidate enters *stage*."""

    stage: Stage
    message: str


@dataclass(frozen=True, slots=True)
class Rejudge:
    """The contract was edited, or the evidence is lost: the open stage, its evidence and its bake, begins anew."""

    message: str


@dataclass(frozen=True, slots=True)
class Reshare:
    """The open stage begins anew with the share that the spec has come to ask for: fewer users, or other copies."""

    stage: Stage
    message: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """All traffic returns to the stable revision, and the candidate is rejected."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """All traffic returns to the stable revision, without blame for the candidate."""

    message: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The candidate becomes the stable revision."""

    message: str


Decision = Hold | Start | Prepare | Advance | Rejudge | Reshare | RollBack | Cancel | Complete


def _was_written(record: StageRecord) -> bool:
    """Return whether the route was ever seen as the stage asks; of a record older than ``routed``, it is believed."""
    return record.routed is not False or record.written is True


def stopped_since(status: ReleaseStatus, record: StageRecord) -> datetime | None:
    """Return since when the open stage's deadline has not come nearer; None when it does."""
    since = record.paused_since or status.metrics_missing_since
    return max(since, record.counts_from) if since else None


@dataclass(frozen=True, slots=True)
class Situation:
    """
    Everything that a decision rests on.

    Attributes:
        release: What is ordered.
        status: What we have committed to.
        seen: What was read this tick.
        finding: What the open stage's gate says; None when no stage is open or it was not asked.
        now: The one time of this tick.
        jumps: When and how far the clock was set since this process began.
    """

    release: Release
    status: ReleaseStatus
    seen: Observation
    finding: Finding | None
    now: datetime
    jumps: tuple[Jump, ...] = ()

    @property
    def trial(self) -> CandidateStatus | None:
        """The candidate on trial; a rejected one is not."""
        return on_trial(self.status)

    @property
    def initial(self) -> bool:
        """Whether there is no stable revision yet."""
        return self.status.stable is None

    @property
    def wants_stable(self) -> bool:
        """Whether the spec asks for what is stable already."""
        return self.status.stable is not None and self.status.stable.revision == self.release.desired.name

    @property
    def wants_rejected(self) -> bool:
        """Whether the spec asks for a revision that was rolled back."""
        return any(entry.revision == self.release.desired.name for entry in self.status.rejected)

    @property
    def available(self) -> int:
        """Available pods of the candidate on trial; none while it *lacks* what they need."""
        workload = self.seen.workloads.get(self.trial.revision) if self.trial else None
        return workload.available if workload and not self.lacks else 0

    @property
    def lacks(self) -> str:
        """What the candidate has to have besides pods, and has not; "" for nothing."""
        if not self.reached(self.trial):
            return "the candidate has no Service: nobody can reach its pods"
        if self.trial and not self.record and self.trial.revision not in self.seen.revisions:
            return "the content of the candidate's revision is not stored: its pods could not be made again"
        return ""

    def reached(self, part: RevisionStatus | None) -> bool:
        """Return whether a revision has a Service: a Gateway answers what it would send to none with errors."""
        return part is not None and part.revision in self.seen.services

    def serves(self, part: RevisionStatus | None) -> bool:
        """Return whether a revision has a pod that answers, be it one that is about to be replaced."""
        workload = self.seen.workloads.get(part.revision) if part else None
        return workload is not None and workload.serving > 0 and self.reached(part)

    @property
    def missing_pods(self) -> int:
        """Pods that the candidate should have now and that are not available."""
        return max(0, pods_of(self.release, self.trial) - self.available) if self.trial else 0

    @property
    def silent(self) -> bool:
        """Whether users are given to a candidate without a pod to answer, while the stable revision has one."""
        return (
            bool(self.trial and self.trial.weight) and not self.serves(self.trial) and self.serves(self.status.stable)
        )

    @property
    def record(self) -> StageRecord | None:
        """The open stage, as recorded."""
        return self.trial.current_stage if self.trial else None

    @property
    def stage(self) -> Stage | None:
        """The open stage, as planned; None when none is open or the plan has lost it, name or kind."""
        stages = {(stage.name, stage.kind.value): stage for stage in self.plan}
        return stages.get((self.record.name, self.record.kind)) if self.record else None

    @property
    def approvals(self) -> tuple[DecisionRecord, ...]:
        """
        The approvals of the open stage: given while it was open, or ahead of it, and under the present contract.

        Which those are is recorded, not told by clocks: one that was set back would leave people unheard.
        """
        if self.trial is None or self.record is None:
            return ()
        name, contract = self.record.name, self.release.contract.digest
        given = decided(self.status, Verb.APPROVE, self.trial)
        return tuple(it for it in given if it.stage == name and it.approves_under(contract))

    def approved_ahead(self, stage: Stage) -> bool:
        """Return whether a person approved *stage* before it was opened, and the contract is still the same."""
        given = decided(self.status, Verb.APPROVE, self.trial) if self.trial else ()
        contract = self.release.contract.digest
        return any(it.stage == stage.name and it.ahead and it.approves_under(contract) for it in given)

    def needs_approval(self, stage: Stage) -> bool:
        """Return whether a person has to say that *stage* is left; nobody is asked about a first release."""
        return not self.initial and needs_approval(self.release.spec, stage)

    @property
    def promotion(self) -> DecisionRecord | None:
        """The Promote that was given where the candidate is now."""
        given = decided(self.status, Verb.PROMOTE, self.trial) if self.trial else ()
        return next((it for it in given if it.stage == self.status.stage), None)

    def overruled(self, reason: Reason) -> bool:
        """Return whether a person has approved the open stage in spite of *reason*."""
        return any(it.despite == reason for it in self.approvals)

    @property
    def unseen(self) -> tuple[ClauseVerdict, ...]:
        """The broken clauses that hold the open stage, and that nobody has seen broken who approved it."""
        overruled = {name for it in self.approvals for name in it.overruled or ()}
        held = self.finding.held if isinstance(self.finding, GateVerdict) else ()
        return tuple(it for it in held if it.clause not in overruled)

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages of this rollout; a first release has nothing to compare with and goes straight to full."""
        stages = self.release.spec.plan_stages
        return tuple(stage for stage in stages if stage.kind is StageKind.FULL) if self.initial else stages

    @property
    def raised(self) -> bool:
        """Whether the spec has come to ask for more users in the open stage than it was entered with."""
        return self.stage is not None and self.trial is not None and self.stage.weight > self.trial.weight

    @property
    def next_stage(self) -> Stage | None:
        """
        The stage after the open one, or the first; None when the open one is the last.

        After a stage that is to have more users than it was entered with comes that stage once more: what was proved
        with few is not proved with many.
        """
        if self.stage is None:
            return self.plan[0]
        if self.raised:
            return self.stage
        following = self.plan[self.plan.index(self.stage) + 1 :]
        return following[0] if following else None

    def since(self, moment: datetime | None) -> timedelta:
        """Return how much time has passed since *moment*; none for a moment that never came or that lies ahead."""
        return elapsed(moment, self.now, self.jumps) if moment else timedelta(0)

    @property
    def begins(self) -> bool:
        """
        Whether the route of the open stage is found in place for the first time since the stage was recorded.

        Until then requests were shared as an earlier stage asked, for as long as it takes to replace an operator that
        died before it wrote the route: what was counted meanwhile is that stage's evidence, not this one's.
        """
        route = self.seen.route
        if self.record is None or self.record.routed is not False or route is None:
            return False
        return route.in_sync and route.accepted is True

    @property
    def counts_copies(self) -> bool:
        """
        Whether what is counted for the open stage may be the copies of the shadow before it.

        The candidate gets them until the route is written, be it for minutes. They say nothing of what users get: its
        few pods may be slow with all the copies, and what is promised of canaries was not promised of a shadow.
        """
        if self.trial is None or self.record is None or self.record.kind == "shadow" or _was_written(self.record):
            return False
        # An edit may have had the stage begin anew before its route was written: what counts is who was written last.
        last = next((it for it in reversed(self.trial.stages) if _was_written(it)), None)
        return last is not None and last.kind == "shadow"

    @property
    def left_shadow(self) -> bool:
        """Whether the route is first seen written after a shadow, and no Gateway has answered: users may be on it."""
        route = self.seen.route
        return self.counts_copies and route is not None and route.in_sync and route.accepted is None

    @property
    def paused(self) -> timedelta:
        """
        How long the open stage has been unable to be left.

        Because a person stopped it, its spec is no spec, or Prometheus is silent: it is no fault of the candidate.
        """
        since = stopped_since(self.status, self.record) if self.record else None
        return self.since(since) if since else timedelta(0)

    @property
    def waited(self) -> timedelta:
        """
        Time of the open stage in which its gate could have been passed: what its deadline is about.

        A stage whose route is not in place yet has not begun: no Gateway that is down makes anybody late.
        """
        if self.record is None or self.record.routed is False:
            return timedelta(0)
        return max(self.since(self.record.counts_from) - self.paused, timedelta(0))

    @property
    def open_for(self) -> timedelta:
        """Time since the open stage began."""
        return self.since(self.record.start_time if self.record else None)

    @property
    def passes(self) -> bool:
        """Whether the gate of the open stage passes."""
        return isinstance(self.finding, GateVerdict) and self.finding.outcome is Outcome.PASS

    @property
    def observed(self) -> timedelta:
        """
        Time of the open stage of which there is evidence.

        It is what Prometheus has samples of, and the candidate requests: neither a clock that jumps nor an hour without
        scrapes or users bakes anything. Where nobody knows, it is the time that has passed.
        """
        return min(self.scraped, self._counted(lambda it: it.served))

    @property
    def scraped(self) -> timedelta:
        """Time of the open stage of which Prometheus has samples of the candidate."""
        return self._counted(lambda it: it.covered)

    @property
    def counts(self) -> StageCounts | None:
        """What was counted in the open stage; None when nothing was read."""
        return self.seen.evidence[-1] if isinstance(self.seen.evidence, tuple) and self.seen.evidence else None

    def _counted(self, seconds: Callable[[StageCounts], float | None]) -> timedelta:
        told = seconds(self.counts) if self.counts else None
        return self.open_for if told is None else min(self.open_for, timedelta(seconds=told))


def under_another_contract(record: StageRecord, release: Release) -> bool:
    """Return whether a stage was judged by a contract that says something else than the present one."""
    return record.contract is not None and record.contract != release.contract.digest


def on_trial(status: ReleaseStatus) -> CandidateStatus | None:
    """Return the candidate that still has pods to keep; a rejected one has not."""
    return None if status.stage == ROLLED_BACK else status.candidate


def decided(status: ReleaseStatus, verb: Verb, trial: CandidateStatus) -> tuple[DecisionRecord, ...]:
    """Return what people decided about the candidate with this verb, in order."""
    return tuple(it for it in status.decisions if it.decision == verb and it.revision == trial.revision)


def needs_approval(spec: ReleaseSpec, stage: Stage) -> bool:
    """Return whether a person has to say that *stage* is left when its gate passes."""
    if stage.approval is not None:
        return stage.approval is StageApproval.REQUIRED
    return spec.approval_mode is not ApprovalMode.AUTO


def suggests(release: Release, stage: Stage) -> bool:
    """Return whether the operator suggests what it would do, and learns how often that is followed."""
    return stage.approval is None and release.spec.approval_mode is ApprovalMode.SUGGEST


def overdue(it: Situation) -> bool:
    """Return whether the open stage is past its deadline, and waits for somebody to say what becomes of it."""
    if it.stage is None or it.record is None or it.release.spec.on_inconclusive is not OnInconclusive.HOLD:
        return False
    return it.waited > it.stage.deadline_time


def replicas_for(release: Release, stage: Stage) -> int:
    """Return how many pods the candidate needs in *stage*."""
    return release.spec.shadow_replicas if stage.kind is StageKind.SHADOW else release.spec.replicas


def pods_of(release: Release, trial: CandidateStatus) -> int:
    """Return how many pods the candidate is to have: as promised, or fewer when the spec has come to ask for fewer."""
    return min(trial.replicas, release.spec.replicas)


# What is ordered.


def _rollback_asked(it: Situation) -> Decision | None:
    given = decided(it.status, Verb.ROLLBACK, it.trial) if it.trial else ()
    if not given or it.initial:
        return None
    return RollBack(Reason.REQUESTED, f"asked for by {_who(given[-1])}")


def _who(record: DecisionRecord) -> str:
    return f"{record.approved_by}: {record.reason}" if record.reason else f"{record.approved_by}, without a reason"


def _suspended(it: Situation) -> Decision | None:
    if not it.release.spec.suspend:
        return None
    return Hold(Reason.SUSPENDED, "spec.suspend is true: nothing moves, traffic stays where it is")


def _stable_is_wanted(it: Situation) -> Decision | None:
    if not it.wants_stable or it.trial:
        return None
    return _leads_nowhere(it) or Hold(Reason.READY, f"version {it.release.desired.version} is the release")


def _back_to_stable(it: Situation) -> Decision | None:
    if not it.wants_stable or it.trial is None:
        return None
    return Cancel(f"the spec asks for the stable revision {it.release.desired.name} again")


def _rejected_is_wanted(it: Situation) -> Decision | None:
    if not it.wants_rejected:
        return None
    if it.trial:
        return Cancel(f"the spec asks for the rejected revision {it.release.desired.name}")
    entry = next(entry for entry in reversed(it.status.rejected) if entry.revision == it.release.desired.name)
    why = f"revision {entry.revision} (version {entry.version}) was rolled back in stage {entry.stage}: {entry.message}"
    return Hold(
        Reason.ROLLED_BACK,
        f"{why}. It is not retried by itself: release another revision, or decide Retry",
        stalled=True,
    )


# What cannot work; asked only before traffic moves, for afterwards the evidence must be heard first.


def _name_is_taken(it: Situation) -> Decision | None:
    if it.seen.conflict is None or it.record:
        return None
    message = f"{it.seen.conflict} exists and does not belong to this release: rename the release or delete that object"
    return Hold(Reason.NAME_CONFLICT, message, stalled=True)


def _name_is_freed(it: Situation) -> Decision | None:
    if it.seen.leftover is None or it.record:
        return None
    return Hold(Reason.PENDING, f"{it.seen.leftover} of a deleted release of this name has to be collected first")


def _gateway_problem(it: Situation) -> Decision | None:
    problem = it.seen.gateway_problem
    if problem is None or it.record:
        return None
    return Hold(Reason(problem.reason), problem.message, stalled=True)


def _first_release_has_a_successor(it: Situation) -> Decision | None:
    if not it.initial or it.trial is None or it.trial.revision == it.release.desired.name:
        return None
    if not it.trial.weight or not it.available or _breaks_contract(it.finding):
        return None
    return Complete(f"users depend on version {it.trial.version}: version {it.release.desired.version} is tried next")


def _new_revision(it: Situation) -> Decision | None:
    if it.trial and it.trial.revision == it.release.desired.name:
        return None
    return Start(f"version {it.release.desired.version}, revision {it.release.desired.name}")


def _stage_left_the_plan(it: Situation) -> Decision | None:
    if it.record is None or it.stage:
        return None
    return Start(f"stage {it.record.name} is no longer in spec.stages: the rollout starts over")


def _share_edited(it: Situation) -> Decision | None:
    """Fewer users, or other copies that no user sees, need no proof; more users wait until the gate has passed."""
    if it.stage is None or it.trial is None or rolls_back(it):
        return None
    old, new, copies = it.trial.weight, it.stage.weight, ""
    if it.stage.kind is StageKind.SHADOW:
        old, new, copies = it.trial.mirror_percent, it.stage.mirror_percent, "copies of "
    if old == new or it.raised:
        return None
    return Reshare(
        it.stage,
        f"stage {it.stage.name}: spec.stages asks for {copies}{new} % of requests instead of {old} %: its evidence, "
        "its bake and its deadline begin anew",
    )


def _contract_edited(it: Situation) -> Decision | None:
    if it.record is None or not under_another_contract(it.record, it.release):
        return None
    return Rejudge(
        f"the contract was edited in stage {it.record.name} (digest {it.record.contract} -> "
        f"{it.release.contract.digest}): "
        "its evidence and its bake begin anew, and what earlier stages showed counts no more"
    )


# Whether the candidate lives.


def _pending(it: Situation) -> Decision | None:
    if it.record or it.trial is None or not it.missing_pods:
        return None
    if it.since(it.trial.unavailable_since) <= it.release.spec.progress_deadline:
        return Hold(Reason.PENDING, _pods(it))
    return _late(it)


def _unavailable(it: Situation) -> Decision | None:
    if it.trial is None or not it.missing_pods:
        return None
    if not it.initial and not it.serves(it.status.stable):
        return None  # what takes the pods of both is no fault of the candidate, and nobody is better off on stable
    if it.silent and it.since(it.trial.silent_since) > NO_PODS_GRACE:
        return RollBack(Reason.CANDIDATE_UNAVAILABLE, _pods(it))
    return _late(it) if it.since(it.trial.unavailable_since) > it.release.spec.progress_deadline else None


def _late(it: Situation) -> Decision:
    message = f"{_pods(it)}; server.progressDeadline is over"
    if it.initial:
        return Hold(
            Reason.PROGRESS_DEADLINE_EXCEEDED, f"{message}; there is no stable revision to return to", stalled=True
        )
    return RollBack(Reason.PROGRESS_DEADLINE_EXCEEDED, message)


def _pods(it: Situation) -> str:
    workload = it.seen.workloads.get(it.trial.revision) if it.trial else None
    if workload and it.lacks:
        return it.lacks
    why = f" ({workload.message})" if workload and workload.message else ""
    return f"{it.available} of {it.available + it.missing_pods} pods of the candidate are available{why}"


def _promoted(it: Situation) -> Decision | None:
    """Break glass: what is left to prove is skipped. What is proved is not: a breach rolls back all the same."""
    if it.trial is None or it.promotion is None or rolls_back(it):
        return None
    full, who = it.plan[-1], f"promoted by {_who(it.promotion)}"
    if it.stage is full:
        return _short_of_pods(it) or Complete(who)
    return _grown(it, full) or Advance(full, f"stage {full.name}: {who}")


# What the evidence says.


def _breaks_contract(finding: Finding | None) -> TypeGuard[GateVerdict]:
    return isinstance(finding, GateVerdict) and finding.outcome is Outcome.BREACH


def rolls_back(it: Situation) -> bool:
    """Return whether a clause is proved broken that takes users back at once."""
    breach = _breaks_contract(it.finding) and it.finding.on_breach is OnBreach.ROLLBACK
    return breach and not it.initial


def _breach(it: Situation) -> Decision | None:
    verdict = it.finding
    if not _breaks_contract(verdict):
        return None
    if verdict.on_breach is OnBreach.HOLD:
        return _held(it, verdict)
    if it.initial:
        message = f"{verdict.message}; there is no stable revision to return to, traffic stays"
        return Hold(Reason.CONTRACT_BREACHED, message, stalled=True)
    return RollBack(Reason.CONTRACT_BREACHED, verdict.message)


def without_copies(it: Situation) -> Situation:
    """Return the situation without a verdict on what may be the copies of the stage before."""
    return replace(it, finding=None) if it.counts_copies and isinstance(it.finding, GateVerdict) else it


def _copies_counted(it: Situation) -> Decision | None:
    if it.finding is not None or not it.counts_copies:
        return None
    return _route_refused(it) or _route_not_in_place(it)


def _held(it: Situation, verdict: GateVerdict) -> Decision | None:
    """Hold for every broken clause that no approval has seen; what it has not seen, nobody approved."""
    message = verdict.message
    if it.overruled(Reason.BREACH_HELD):
        if not it.unseen:
            return None
        message = "; ".join(clause.message for clause in it.unseen)
    choices = "Approve or Promote" if it.initial else "Approve, Rollback or Promote"
    return Hold(Reason.BREACH_HELD, f"{message}. A person decides: {choices}")


def _nothing_to_compare(it: Situation) -> Decision | None:
    """All users are on the candidate, and there is nothing to hold it against: waiting would teach nothing."""
    if it.stage is None or it.stage.kind is not StageKind.FULL:
        return None
    verdict = it.finding
    alone = verdict is not None and not isinstance(verdict, MetricsUnavailable) and verdict.reason is Reason.NO_BASELINE
    if not it.initial and not alone:
        return None
    done = Complete("there was nothing to compare it with")
    baking = _baking(it, it.open_for, "there is nothing to compare with")
    return _route_refused(it) or baking or _route_not_in_place(it) or _unapproved(it) or _short_of_pods(it) or done


def _nothing_judged(it: Situation) -> Decision | None:
    """The contract asks nothing of this stage: waiting would teach nothing, and its bake is all there is to it."""
    verdict = it.finding
    if it.stage is None or not isinstance(verdict, GateVerdict):
        return None
    if verdict.reason not in {Reason.NOT_JUDGED, Reason.NO_BASELINE}:
        return None
    held = _route_refused(it) or _baking(it, it.open_for, verdict.message) or _route_not_in_place(it) or _unapproved(it)
    return held or _grow(it) or _next_stage(it) or _short_of_pods(it) or Complete(verdict.message)


def _evidence_is_lost(it: Situation) -> Decision | None:
    """Begin anew: nobody knows what was counted since the stage began, and waiting would not bring it back."""
    counts = it.counts
    if it.record is None or counts is None or not any(counts.forgotten):
        return None
    arms = [name for name, gone in zip(("baseline", "candidate"), counts.forgotten, strict=True) if gone]
    return Rejudge(
        f"Prometheus has no samples of the {' and the '.join(arms)} from when stage {it.record.name} began: it has "
        "lost its data, or did not scrape the pods then. The stage's evidence, its bake and its deadline begin anew"
    )


def _no_metrics(it: Situation) -> Decision | None:
    if it.finding is not None and not isinstance(it.finding, MetricsUnavailable):
        return None
    message = it.finding.message if it.finding else "the gate was not judged"
    overdue = it.since(it.status.metrics_missing_since) > it.release.spec.metrics_deadline
    if overdue and it.release.spec.on_no_metrics is OnNoMetrics.ROLLBACK:
        return RollBack(Reason.METRICS_UNAVAILABLE, f"{message}; analysis.metricsDeadline is over")
    return Hold(Reason.METRICS_UNAVAILABLE, message)


def _leads_nowhere(it: Situation) -> Decision | None:
    problem = it.seen.gateway_problem
    if problem is None or not it.seen.leads_nowhere:
        return None
    return Hold(Reason(problem.reason), f"{problem.message}. Until then the route stays as it was", stalled=True)


def _route_refused(it: Situation) -> Decision | None:
    if nowhere := _leads_nowhere(it):
        return nowhere
    if it.seen.route is None or it.seen.route.accepted is not False:
        return None
    return Hold(Reason.ROUTE_REJECTED, it.seen.route.message, stalled=True)


def _route_not_in_place(it: Situation) -> Decision | None:
    route = it.seen.route
    if it.begins:
        return Hold(Reason.BAKING, f"the route is as stage {it.status.stage} asks for: its evidence and its bake begin")
    if route is not None and route.in_sync and route.accepted:
        return None
    what = route.message if route else "the route does not exist yet"
    return Hold(Reason.NOT_ACCEPTED, f"traffic is not yet as stage {it.status.stage} asks for: {what}")


def _inconclusive(it: Situation) -> Decision | None:
    verdict, stage = it.finding, it.stage
    if verdict is None or isinstance(verdict, MetricsUnavailable) or stage is None or it.record is None:
        return None
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        return None
    if it.waited <= stage.deadline_time:
        return Hold(verdict.reason, verdict.message)
    message = f"the deadline of stage {stage.name} is over: {verdict.message}"
    match it.release.spec.on_inconclusive:
        case OnInconclusive.ROLLBACK:
            return RollBack(Reason.DEADLINE_EXCEEDED, message)
        case OnInconclusive.HOLD:
            return None if it.overruled(Reason.DEADLINE_EXCEEDED) else Hold(Reason.DEADLINE_EXCEEDED, message)
        case OnInconclusive.ADVANCE:
            return None


# What comes next.


def _baking(it: Situation, lived: timedelta | None = None, because: str = "") -> Decision | None:
    """Hold until the stage has *lived* for its bake; by default, what counts is the time of which there is evidence."""
    if it.stage is None or it.record is None:
        return None
    doubt = _doubt(it) if lived is None else ""
    if lived is None:
        # Who goes on without a verdict, as the spec or a person says, does not need users to prove anything either.
        lived = it.observed if it.passes else it.scraped
    left = it.stage.bake_time - lived
    if left <= timedelta(0):
        return None
    why = because or _why_left(it)
    return Hold(Reason.BAKING, f"stage {it.stage.name}: {why}; it bakes until {_at(it, left)}{doubt}")


def _why_left(it: Situation) -> str:
    """Return what lets the open stage be left once it has baked."""
    if it.passes:
        return "the gate passes"
    despite = Reason.BREACH_HELD if _breaks_contract(it.finding) else Reason.DEADLINE_EXCEEDED
    given = next((record for record in reversed(it.approvals) if record.despite == despite), None)
    if given is None:
        return "its deadline is over without a verdict, and analysis.onInconclusive is Advance"
    which = f" of {', '.join(given.overruled)}" if given.overruled else ""
    return f"{given.approved_by} approved it in spite of {despite}{which}"


def _doubt(it: Situation) -> str:
    """Return how much of the open stage counts for nothing, and why."""
    unseen, unasked = it.open_for - it.scraped, it.scraped - it.observed
    gap = f"; {unseen.total_seconds():.0f} s of it have no samples and do not count" if unseen > GAP_TOLD else ""
    if unasked <= GAP_TOLD:
        return gap
    return f"{gap}; no request reached the candidate for {unasked.total_seconds():.0f} s of it: they do not count"


def _at(it: Situation, left: timedelta) -> str:
    return f"{it.now + left:%Y-%m-%d %H:%M:%S} UTC"


def _unapproved(it: Situation) -> Decision | None:
    if it.stage is None or it.approvals or not it.needs_approval(it.stage):
        return None
    following = _called(it.next_stage, again=it.raised) if it.next_stage else "the end of the rollout"
    done = f"the gate of stage {it.stage.name} passes" if it.passes else f"stage {it.stage.name} has baked"
    return Hold(
        Reason.AWAITING_APPROVAL,
        f"{done}; {following} awaits an Approve of "
        f"revision {it.trial.revision if it.trial else ''} in stage {it.stage.name}",
    )


def _called(stage: Stage, *, again: bool) -> str:
    return f"stage {stage.name}, once more with {stage.weight} % of requests," if again else f"stage {stage.name}"


def _grow(it: Situation) -> Decision | None:
    return _grown(it, it.next_stage) if it.next_stage else None


def _grown(it: Situation, stage: Stage) -> Decision | None:
    """Return what the candidate lacks in pods before it enters *stage*."""
    if it.trial is None:
        return None
    needed = replicas_for(it.release, stage)
    if needed > it.trial.replicas:
        return Prepare(needed, f"the candidate grows to {needed} pods before stage {stage.name}")
    if it.available < needed:
        return Hold(Reason.SCALING_UP, f"{it.available} of {needed} pods that stage {stage.name} needs are available")
    return None


def _next_stage(it: Situation) -> Decision | None:
    if it.next_stage is None:
        return None
    return Advance(it.next_stage, _called(it.next_stage, again=it.raised).removesuffix(","))


def _short_of_pods(it: Situation) -> Decision | None:
    return Hold(Reason.CANDIDATE_UNAVAILABLE, _pods(it)) if it.missing_pods else None


def _complete(it: Situation) -> Decision | None:
    return Complete(f"version {it.release.desired.version} is the release")


def _opening(row: Callable[[Situation], Decision | None]) -> Callable[[Situation], Decision | None]:
    """Restrict *row* to candidates that have not entered a stage yet."""
    return lambda it: None if it.record else row(it)


TABLE: Final[tuple[tuple[str, Callable[[Situation], Decision | None]], ...]] = (
    ("a rollback is asked for", _rollback_asked),
    ("suspended", _suspended),
    ("the stable revision is wanted", _stable_is_wanted),
    ("back to stable in mid-rollout", _back_to_stable),
    ("a rejected revision is wanted", _rejected_is_wanted),
    ("an object's name is taken", _name_is_taken),
    ("what a deleted release of the name left is still there", _name_is_freed),
    ("the Gateway cannot do it", _gateway_problem),
    ("a first release that serves has a successor", _first_release_has_a_successor),
    ("a new revision is wanted", _new_revision),
    ("the stage left the plan", _stage_left_the_plan),
    ("the candidate is not available yet", _pending),
    ("the candidate is not available any more", _unavailable),
    ("a person promoted it", _promoted),
    ("the open stage asks for another share", _share_edited),
    ("the contract was edited", _contract_edited),
    ("the candidate is too small for its first stage", _opening(_grow)),
    ("the candidate is ready for its first stage", _opening(_next_stage)),
    ("the contract is breached", _breach),
    ("the shadow's copies may be counted", _copies_counted),
    ("there is nothing to compare with", _nothing_to_compare),
    ("nothing is judged in the stage", _nothing_judged),
    ("the stage's evidence is lost", _evidence_is_lost),
    ("there are no metrics", _no_metrics),
    ("the route is refused", _route_refused),
    ("the gate is inconclusive", _inconclusive),
    ("passed, but not baked", _baking),
    ("passed, but the route is not in place", _route_not_in_place),
    ("passed, but not approved", _unapproved),
    ("passed, but too small for the next stage", _grow),
    ("passed: the next stage", _next_stage),
    ("passed, but pods are missing", _short_of_pods),
    ("passed: the last stage", _complete),
)
"""The decision table: first matching row wins. The names are the ids of the tests."""


def decide(situation: Situation) -> Decision:
    """Return what to do; the same for equal situations, and always something."""
    return next(decision for _, row in TABLE if (decision := row(situation)))


def refuse(invalid: InvalidSpec, status: ReleaseStatus) -> Hold | RollBack:
    """Return the decision for a spec that cannot be carried out: all stays as recorded, unless a person said no."""
    trial = on_trial(status)
    if trial and status.stable and (given := decided(status, Verb.ROLLBACK, trial)):
        return RollBack(Reason.REQUESTED, f"asked for by {_who(given[-1])}")
    return Hold(invalid.reason, invalid.message, stalled=True)
