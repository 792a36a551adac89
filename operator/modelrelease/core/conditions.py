"""
The conditions of a release, as kstatus and people read them.

Ready says "what was ordered is the release". Available says "users are served" and stays True through a rollback.
Reconciling and Stalled are present only while True, and never both.
"""

from collections.abc import Mapping

from modelrelease.api.reasons import Reason
from modelrelease.api.status import COMPLETED, ReleaseStatus
from modelrelease.core.arrival import requests
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.decide import Cancel, Complete, Decision, Hold, RollBack, Situation, suggests
from modelrelease.core.observation import Workload
from modelrelease.core.plan import traffic_of
from modelrelease.core.verdict import GateVerdict

Wanted = tuple[str, str, str, str]
"""Type, status, reason, message of a condition."""


def conditions_of(it: Situation, decision: Decision, after: ReleaseStatus) -> list[Wanted]:
    """Return the conditions that hold once *decision* has led to the status *after*."""
    return [
        *_progress(it, decision, after),
        available(it.seen.workloads, after),
        ("ContractValid", "True", Reason.VALID, "the spec can be carried out"),
        *_traffic(it, after),
        *_shadow(it, after),
        *_approval(decision),
        *_automation(it, after),
        *_metrics(it),
    ]


def _progress(it: Situation, decision: Decision, after: ReleaseStatus) -> list[Wanted]:
    reason, message = _why(it, decision, after)
    if after.stage == COMPLETED and not _stalled(decision) and reason is not Reason.SUSPENDED:
        if it.release.desired.name == _stable(after):
            return [("Ready", "True", reason, message)]
        return _reconciling(Reason.PROGRESSING, f"{message}; version {it.release.desired.version} is next")
    if _stalled(decision):
        return [("Ready", "False", reason, message), ("Stalled", "True", reason, message)]
    return _reconciling(reason, message)


def _reconciling(reason: Reason, message: str) -> list[Wanted]:
    return [("Ready", "False", reason, message), ("Reconciling", "True", reason, message)]


def _stable(status: ReleaseStatus) -> str | None:
    return status.stable.revision if status.stable else None


def _stalled(decision: Decision) -> bool:
    return isinstance(decision, RollBack) or (isinstance(decision, Hold) and decision.stalled)


def _why(it: Situation, decision: Decision, after: ReleaseStatus) -> tuple[Reason, str]:
    match decision:
        case Hold(reason=Reason.READY) | Complete() | Cancel():
            version = after.stable.version if after.stable else ""
            return Reason.READY, f"users are served by version {version}, revision {_stable(after)}"
        case Hold(reason=reason, message=message):
            return reason, f"{message}{_raise(it)}"
        case RollBack(message=message):
            return Reason.ROLLED_BACK, message
        case _:
            return Reason.PROGRESSING, decision.message


def _raise(it: Situation) -> str:
    if it.stage is None or it.trial is None or not it.raised:
        return ""
    return (
        f"; spec.stages asks for {it.stage.weight} % of requests in stage {it.stage.name}: it gets them when its gate "
        f"has passed with {it.trial.weight} %, and then has to pass again"
    )


def available(workloads: Mapping[str, Workload], status: ReleaseStatus) -> Wanted:
    """Return whether every revision that *status* gives users to has a pod to answer them."""
    lacking = [part for part in status.users if not _pods(workloads, part.revision)]
    if status.users and not lacking:
        shares = " and ".join(f"version {part.version} ({part.weight} %)" for part in status.users)
        return ("Available", "True", Reason.SERVING, f"users are served by {shares}")
    who = " and ".join(f"version {part.version}" for part in lacking) or "any revision"
    return ("Available", "False", Reason.NO_AVAILABLE_PODS, f"no pod of {who} is available")


def _pods(workloads: Mapping[str, Workload], revision: str) -> int:
    workload = workloads.get(revision)
    return workload.serving if workload else 0


def _traffic(it: Situation, after: ReleaseStatus) -> list[Wanted]:
    problem = it.seen.gateway_problem
    if problem:
        return [("TrafficInSync", "False", problem.reason, problem.message)]
    route = it.seen.route
    if route is None or not it.status.users:
        return []  # status gives users to nobody: a route that is left over is neither in sync nor has it drifted
    moved = traffic_of(after) != traffic_of(it.status)
    if moved or (not route.in_sync and _our_turn(it)):
        return [("TrafficInSync", "False", Reason.NOT_WRITTEN, "the route is written as status and spec now ask for")]
    if not route.in_sync:
        return [("TrafficInSync", "False", Reason.DRIFTED, f"{route.message}; it is written again")]
    if route.accepted is not True:
        return [
            ("TrafficInSync", "False", Reason.NOT_ACCEPTED, route.message or "the Gateway has not accepted the route")
        ]
    return [("TrafficInSync", "True", Reason.IN_SYNC, "the live route is what status says")]


def _our_turn(it: Situation) -> bool:
    """
    Return whether the route differs because we have not written it yet, and nobody else is to blame.

    The write may have failed, or the operator may have ended before it: what it was to do is recorded.
    """
    recorded = it.status.condition("TrafficInSync")
    edited = it.release.generation != it.status.observed_generation
    return edited or (recorded is not None and recorded.reason == Reason.NOT_WRITTEN)


def _shadow(it: Situation, after: ReleaseStatus) -> list[Wanted]:
    record = after.candidate.current_stage if after.candidate else None
    if record is None or record.kind != "shadow" or not isinstance(it.finding, GateVerdict):
        return []
    if it.finding.reason is Reason.SHADOW_NOT_FLOWING:
        return [("ShadowFlowing", "False", it.finding.reason, it.finding.message)]
    if it.finding.reason is Reason.NO_DATA:
        return [("ShadowFlowing", "Unknown", it.finding.reason, it.finding.message)]
    if it.counts and not requests(it.release.contract, it.counts)[1]:
        return [("ShadowFlowing", "Unknown", Reason.NO_DATA, "no copy of a request was counted in the candidate yet")]
    return [("ShadowFlowing", "True", Reason.FLOWING, "copies of requests reach the candidate")]


def _approval(decision: Decision) -> list[Wanted]:
    match decision:
        case Hold(reason=Reason.BREACH_HELD | Reason.AWAITING_APPROVAL as reason, message=message):
            return [("AwaitingApproval", "True", reason, message)]
        case _:
            return []


def _automation(it: Situation, after: ReleaseStatus) -> list[Wanted]:
    """Return whether a stage has earned to go on by itself, while the operator only suggests."""
    stages = [stage.name for stage in it.release.spec.plan_stages if suggests(it.release, stage)]
    if not stages:
        return []
    needed = it.release.spec.automate_after
    rows = {entry.stage: entry.in_a_row for entry in after.followed}
    count = ", ".join(f"{name} {rows.get(name, 0)}" for name in stages)
    followed = f"suggestions followed in a row, by stage: {count}; {needed} earn a stage its automation"
    earned = [name for name in stages if rows.get(name, 0) >= needed]
    if not earned:
        return [("AutomationEarned", "False", Reason.NOT_YET_EARNED, followed)]
    how = f"approval: Auto can be written for {', '.join(earned)}"
    return [("AutomationEarned", "True", Reason.SUGGESTIONS_FOLLOWED, f"{how} ({followed})")]


def _metrics(it: Situation) -> list[Wanted]:
    match it.finding:
        case MetricsUnavailable(message=message):
            return [("MetricsAvailable", "False", Reason.METRICS_UNAVAILABLE, message)]
        case GateVerdict():
            return [("MetricsAvailable", "True", Reason.METRICS_READ, "Prometheus answered the last question")]
        case _:
            return []
