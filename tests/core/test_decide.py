"""Every row of the decision table, by name; then what must hold whatever the situation."""

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import Verb
from modelrelease.api.parse import InvalidSpec, Release, parse
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import DecisionRecord, ReleaseStatus
from modelrelease.core.counts import StageCounts
from modelrelease.core.decide import (
    TABLE,
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
    decide,
    needs_approval,
    refuse,
    without_copies,
)
from modelrelease.core.observation import GatewayProblem
from tests.builders import (
    NO_METRICS,
    NOW,
    a_body,
    a_release,
    a_route,
    a_situation,
    a_status,
    a_verdict,
    decided,
    revision_of,
    seen,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ABSENT = GatewayProblem(reason=Reason.GATEWAY_NOT_FOUND, message="Gateway fraud/public does not exist")
PASS, INCONCLUSIVE, BREACH = Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.BREACH
CONTRACT = a_release().contract.digest


def _summary(decision: Decision) -> tuple[object, ...]:
    """Return what of a decision a test pins down: its kind, and its reason, stage or size."""
    match decision:
        case Hold(reason=reason, stalled=stalled):
            return (Hold, reason, stalled)
        case RollBack(reason=reason):
            return (RollBack, reason)
        case Advance(stage=stage) | Reshare(stage=stage):
            return (type(decision), stage.name)
        case Prepare(replicas=replicas):
            return (Prepare, replicas)
        case _:
            return (type(decision),)


def _on(policy: str, **analysis: str) -> object:
    return a_release(analysis={policy: analysis.pop("to"), **analysis})


def _with_approval(stage: str, approval: str) -> list[dict[str, object]]:
    return [{**it, "approval": approval} if it["name"] == stage else it for it in a_body()["spec"]["stages"]]


def _after_shadow(*, again: bool = False, **changes: object) -> ReleaseStatus:
    """
    Return the status of a canary that follows a shadow, and whose route nobody has found in place.

    *again*: an edit has had it begin anew meanwhile.
    """
    status = a_status()
    (canary,) = status.candidate.stages
    shadow = canary.model_copy(
        update={"name": "shadow", "kind": "shadow", "routed": True, "end_time": canary.start_time}
    )
    unrouted = canary.model_copy(update={"routed": False})
    stages = [shadow, *([unrouted] if again else []), unrouted.model_copy(update=changes)]
    return status.model_copy(update={"candidate": status.candidate.model_copy(update={"stages": stages})})


def _with_share(stage: str, percent: int) -> list[dict[str, object]]:
    return [{**it, "canary": {"percent": percent}} if it["name"] == stage else it for it in a_body()["spec"]["stages"]]


def _shadowed(percent: int) -> ReleaseStatus:
    """Return the status of a shadow that was entered with fewer copies than the spec asks for now."""
    status = a_status("shadow")
    return status.model_copy(update={"candidate": status.candidate.model_copy(update={"mirror_percent": percent})})


FORGOTTEN = StageCounts("canary-10", "canary", 600, {}, forgotten=(True, False))

CASES: list[tuple[str, str, Situation, tuple[object, ...]]] = [
    # row, case, situation, decision
    (
        "a rollback is asked for",
        "before anything else is looked at",
        a_situation(a_status(decisions=[decided(Verb.ROLLBACK, "canary-10")]), release=a_release(suspend=True)),
        (RollBack, Reason.REQUESTED),
    ),
    (
        "a rollback is asked for",
        "of a candidate without any traffic",
        a_situation(a_status("Pending", decisions=[decided(Verb.ROLLBACK, "Pending")])),
        (RollBack, Reason.REQUESTED),
    ),
    (
        "a rollback is asked for",
        "although the spec asks for another revision already",
        a_situation(a_status(decisions=[decided(Verb.ROLLBACK, "canary-10")]), release=a_release("3")),
        (RollBack, Reason.REQUESTED),
    ),
    (
        "passed: the next stage",
        "a rollback of another revision was asked for",
        a_situation(a_status(decisions=[decided(Verb.ROLLBACK, "canary-10", version="3")])),
        (Advance, "canary-50"),
    ),
    (
        "a person promoted it",
        "without metrics",
        a_situation(a_status(decisions=[decided(Verb.PROMOTE, "canary-10")]), NO_METRICS),
        (Advance, "full"),
    ),
    (
        "a person promoted it",
        "in spite of a held breach",
        a_situation(
            a_status(decisions=[decided(Verb.PROMOTE, "canary-10")]), a_verdict(BREACH, on_breach=OnBreach.HOLD)
        ),
        (Advance, "full"),
    ),
    (
        "a person promoted it",
        "a small shadow grows before users meet it",
        a_situation(a_status("shadow", decisions=[decided(Verb.PROMOTE, "shadow")]), a_verdict(INCONCLUSIVE)),
        (Prepare, 3),
    ),
    (
        "a person promoted it",
        "before its first stage",
        a_situation(a_status("Pending", replicas=3, decisions=[decided(Verb.PROMOTE, "Pending")])),
        (Advance, "full"),
    ),
    (
        "a person promoted it",
        "whatever the contract has come to say",
        a_situation(
            a_status(contract="another", decisions=[decided(Verb.PROMOTE, "canary-10")]),
            finding=a_verdict(INCONCLUSIVE),
        ),
        (Advance, "full"),
    ),
    (
        "a person promoted it",
        "in full it completes",
        a_situation(a_status("full", decisions=[decided(Verb.PROMOTE, "full")]), a_verdict(INCONCLUSIVE)),
        (Complete,),
    ),
    (
        "a person promoted it",
        "a first release too",
        a_situation(a_status("full", stable=None, decisions=[decided(Verb.PROMOTE, "full")]), a_verdict(BREACH)),
        (Complete,),
    ),
    (
        "the contract is breached",
        "a promotion skips what is to be proved, not what is",
        a_situation(a_status(decisions=[decided(Verb.PROMOTE, "canary-10")]), a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the gate is inconclusive",
        "a promotion in an earlier stage was for that one",
        a_situation(a_status(decisions=[decided(Verb.PROMOTE, "shadow")]), a_verdict(INCONCLUSIVE)),
        (Hold, Reason.LOW_TRAFFIC, False),
    ),
    (
        "passed, but not approved",
        "the mode is Manual",
        a_situation(release=a_release(approval={"mode": "Manual"})),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed, but not approved",
        "the mode is Suggest, and the last stage is no exception",
        a_situation(a_status("full", entered=5 * HOUR), release=a_release(approval={"mode": "Suggest"})),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed, but not approved",
        "this stage is Required",
        a_situation(release=a_release(stages=_with_approval("canary-10", "Required"))),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed, but not approved",
        "what was approved is another stage",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "shadow")]), release=a_release(approval={"mode": "Manual"})
        ),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed, but not approved",
        "what was approved is another revision",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", version="3")]),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed, but not approved",
        "the approval is older than the stage, which began anew",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", void_since=NOW - HOUR)]),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "passed: the next stage",
        "approved",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10")]), release=a_release(approval={"mode": "Manual"})
        ),
        (Advance, "canary-50"),
    ),
    (
        "passed: the next stage",
        "approved before the stage began",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", time=NOW - HOUR, ahead=CONTRACT)]),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Advance, "canary-50"),
    ),
    (
        "passed, but not approved",
        "approved before the stage began, under another contract",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", time=NOW - HOUR, ahead="another")]),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    (
        "the contract is breached",
        "an approval from before the stage overrules no breach",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", time=NOW - HOUR, ahead=CONTRACT)]),
            a_verdict(BREACH, on_breach=OnBreach.HOLD),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.BREACH_HELD, False),
    ),
    (
        "the gate is inconclusive",
        "an approval from before the stage overrules no deadline",
        a_situation(
            a_status(
                entered=2 * HOUR, decisions=[decided(Verb.APPROVE, "canary-10", time=NOW - 3 * HOUR, ahead=CONTRACT)]
            ),
            a_verdict(INCONCLUSIVE),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.DEADLINE_EXCEEDED, False),
    ),
    (
        "passed: the next stage",
        "the stage is Auto in a Manual release",
        a_situation(release=a_release(approval={"mode": "Manual"}, stages=_with_approval("canary-10", "Auto"))),
        (Advance, "canary-50"),
    ),
    (
        "passed, but not baked",
        "an approval does not shorten the bake",
        a_situation(
            a_status(entered=5 * MINUTE, decisions=[decided(Verb.APPROVE, "canary-10")]),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.BAKING, False),
    ),
    (
        "the gate is inconclusive",
        "an approval is no evidence",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10")]),
            a_verdict(INCONCLUSIVE),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.LOW_TRAFFIC, False),
    ),
    (
        "the contract is breached",
        "an approval does not stop a rollback",
        a_situation(a_status(decisions=[decided(Verb.APPROVE, "canary-10", despite="BreachHeld")]), a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract is breached",
        "an approval that did not see it does not overrule it",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10")]), a_verdict(BREACH, on_breach=OnBreach.HOLD)
        ),
        (Hold, Reason.BREACH_HELD, False),
    ),
    (
        "passed: the next stage",
        "a held breach that a person saw and approved",
        a_situation(
            a_status(decisions=[decided(Verb.APPROVE, "canary-10", despite="BreachHeld")]),
            a_verdict(BREACH, on_breach=OnBreach.HOLD),
        ),
        (Advance, "canary-50"),
    ),
    (
        "passed: the next stage",
        "a deadline that a person saw and approved",
        a_situation(
            a_status(entered=2 * HOUR, decisions=[decided(Verb.APPROVE, "canary-10", despite="DeadlineExceeded")]),
            a_verdict(INCONCLUSIVE),
        ),
        (Advance, "canary-50"),
    ),
    ("suspended", "moves nothing", a_situation(release=a_release(suspend=True)), (Hold, Reason.SUSPENDED, False)),
    (
        "suspended",
        "not even a breach moves traffic",
        a_situation(finding=a_verdict(BREACH), release=a_release(suspend=True)),
        (Hold, Reason.SUSPENDED, False),
    ),
    (
        "the stable revision is wanted",
        "nothing is on trial",
        a_situation(a_status("Completed", stable="2", candidate=None)),
        (Hold, Reason.READY, False),
    ),
    (
        "the stable revision is wanted",
        "after a rollback, the rejected one is no trial",
        a_situation(a_status("RolledBack", candidate="3"), release=a_release("1")),
        (Hold, Reason.READY, False),
    ),
    (
        "back to stable in mid-rollout",
        "a git revert cancels",
        a_situation(release=a_release("1")),
        (Cancel,),
    ),
    (
        "back to stable in mid-rollout",
        "before any breach is blamed",
        a_situation(finding=a_verdict(BREACH), release=a_release("1")),
        (Cancel,),
    ),
    (
        "a rejected revision is wanted",
        "is never retried by itself",
        a_situation(a_status("RolledBack", candidate="2", rejected=["2"])),
        (Hold, Reason.ROLLED_BACK, True),
    ),
    (
        "a rejected revision is wanted",
        "while another is on trial",
        a_situation(a_status(candidate="3", rejected=["2"])),
        (Cancel,),
    ),
    (
        "an object's name is taken",
        "by somebody else's object",
        a_situation(a_status("Completed", candidate=None), observation=seen(conflict="Deployment fraud/radar-1")),
        (Hold, Reason.NAME_CONFLICT, True),
    ),
    (
        "an object's name is taken",
        "by somebody else's object, whatever a deleted release has left",
        a_situation(
            observation=seen(conflict="Service radar-1", leftover="Deployment radar-1"),
            status=a_status("Completed", candidate=None),
        ),
        (Hold, Reason.NAME_CONFLICT, True),
    ),
    (
        "what a deleted release of the name left is still there",
        "deleted and made anew at once",
        a_situation(a_status("", stable=None, candidate=None), observation=seen(leftover="Deployment radar-1")),
        (Hold, Reason.PENDING, False),
    ),
    (
        "the Gateway cannot do it",
        "nothing starts",
        a_situation(a_status("Completed", candidate=None), observation=seen(gateway_problem=ABSENT)),
        (Hold, Reason.GATEWAY_NOT_FOUND, True),
    ),
    (
        "the Gateway cannot do it",
        "a pending candidate stays without traffic",
        a_situation(a_status("Pending"), observation=seen(gateway_problem=ABSENT)),
        (Hold, Reason.GATEWAY_NOT_FOUND, True),
    ),
    ("a new revision is wanted", "starts", a_situation(a_status("Completed", candidate=None)), (Start,)),
    ("a new revision is wanted", "the very first", a_situation(a_status("", stable=None, candidate=None)), (Start,)),
    ("a new revision is wanted", "replaces the candidate", a_situation(release=a_release("3")), (Start,)),
    (
        "a new revision is wanted",
        "after a rollback",
        a_situation(a_status("RolledBack", rejected=["2"]), release=a_release("3")),
        (Start,),
    ),
    (
        "the open stage asks for another share",
        "fewer users at once, whatever the gate says",
        a_situation(finding=a_verdict(INCONCLUSIVE), release=a_release(stages=_with_share("canary-10", 4))),
        (Reshare, "canary-10"),
    ),
    (
        "the open stage asks for another share",
        "fewer users at once, also without metrics",
        a_situation(finding=NO_METRICS, release=a_release(stages=_with_share("canary-10", 4))),
        (Reshare, "canary-10"),
    ),
    (
        "the open stage asks for another share",
        "more copies at once, for no user sees them",
        a_situation(_shadowed(30), a_verdict(INCONCLUSIVE)),
        (Reshare, "shadow"),
    ),
    (
        "the contract is breached",
        "before fewer users are looked at",
        a_situation(finding=a_verdict(BREACH), release=a_release(stages=_with_share("canary-10", 4))),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the gate is inconclusive",
        "more users have to wait",
        a_situation(finding=a_verdict(INCONCLUSIVE), release=a_release(stages=_with_share("canary-10", 30))),
        (Hold, Reason.LOW_TRAFFIC, False),
    ),
    (
        "passed: the next stage",
        "it is the same one, with more users",
        a_situation(release=a_release(stages=_with_share("canary-10", 30))),
        (Advance, "canary-10"),
    ),
    (
        "the stage's evidence is lost",
        "it begins anew, whatever is left of it says",
        a_situation(observation=seen(evidence=(FORGOTTEN,))),
        (Rejudge,),
    ),
    (
        "the contract is breached",
        "by what is not lost",
        a_situation(finding=a_verdict(BREACH), observation=seen(evidence=(FORGOTTEN,))),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract was edited",
        "its evidence and its bake begin anew",
        a_situation(a_status(contract="another"), finding=a_verdict(BREACH)),
        (Rejudge,),
    ),
    (
        "the candidate is not available any more",
        "before an edit of the contract is looked at",
        a_situation(a_status(contract="another", silent=MINUTE), observation=seen(available={"1": 3, "2": 0})),
        (RollBack, Reason.CANDIDATE_UNAVAILABLE),
    ),
    (
        "the stage left the plan",
        "starts over",
        a_situation(release=a_release(stages=[{"name": "full", "full": {}}])),
        (Start,),
    ),
    (
        "the candidate is not available yet",
        "waits",
        a_situation(a_status("Pending", entered=MINUTE), observation=seen(available={"1": 3, "2": 0})),
        (Hold, Reason.PENDING, False),
    ),
    (
        "the candidate is not available yet",
        "until server.progressDeadline",
        a_situation(a_status("Pending", unavailable=11 * MINUTE), observation=seen(available={"1": 3})),
        (RollBack, Reason.PROGRESS_DEADLINE_EXCEEDED),
    ),
    (
        "the candidate is not available yet",
        "a first release has nowhere to return to",
        a_situation(a_status("Pending", stable=None, unavailable=11 * MINUTE), observation=seen(available={})),
        (Hold, Reason.PROGRESS_DEADLINE_EXCEEDED, True),
    ),
    (
        "the candidate is ready for its first stage",
        "enters it",
        a_situation(a_status("Pending")),
        (Advance, "shadow"),
    ),
    (
        "the candidate is ready for its first stage",
        "a first release goes straight to full",
        a_situation(a_status("Pending", stable=None, replicas=3)),
        (Advance, "full"),
    ),
    (
        "the candidate is not available any more",
        "users would meet nobody",
        a_situation(a_status(silent=16 * timedelta(seconds=1)), observation=seen(available={"1": 3, "2": 0})),
        (RollBack, Reason.CANDIDATE_UNAVAILABLE),
    ),
    (
        "the candidate is not available any more",
        "some pods are missing for too long",
        a_situation(a_status(unavailable=11 * MINUTE), observation=seen(available={"1": 3, "2": 2})),
        (RollBack, Reason.PROGRESS_DEADLINE_EXCEEDED),
    ),
    (
        "passed, but too small for the next stage",
        "one pod restarts: the evidence decides, and growth waits",
        a_situation(a_status(unavailable=MINUTE), observation=seen(available={"1": 3, "2": 2})),
        (Hold, Reason.SCALING_UP, False),
    ),
    (
        "the contract is breached",
        "rolls back",
        a_situation(finding=a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract is breached",
        "in shadow",
        a_situation(a_status("shadow"), a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract is breached",
        "in the watch",
        a_situation(a_status("full"), a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract is breached",
        "while it bakes",
        a_situation(a_status(entered=MINUTE), a_verdict(BREACH)),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the contract is breached",
        "onBreach Hold asks a person",
        a_situation(finding=a_verdict(BREACH, on_breach=OnBreach.HOLD)),
        (Hold, Reason.BREACH_HELD, False),
    ),
    (
        "the contract is breached",
        "a first release has nowhere to return to",
        a_situation(a_status("full", stable=None), a_verdict(BREACH)),
        (Hold, Reason.CONTRACT_BREACHED, True),
    ),
    (
        "there is nothing to compare with",
        "for its bake time",
        a_situation(a_status("full", stable=None, entered=MINUTE), a_verdict(INCONCLUSIVE, Reason.NO_BASELINE)),
        (Hold, Reason.BAKING, False),
    ),
    (
        "there is nothing to compare with",
        "and then is the release, as nothing could be compared",
        a_situation(a_status("full", stable=None, entered=2 * HOUR), a_verdict(INCONCLUSIVE, Reason.NO_BASELINE)),
        (Complete,),
    ),
    (
        "there is nothing to compare with",
        "in the watch of a contract without absolute clauses",
        a_situation(a_status("full", entered=2 * HOUR), a_verdict(INCONCLUSIVE, Reason.NO_BASELINE)),
        (Complete,),
    ),
    (
        "nothing is judged in the stage",
        "for its bake time",
        a_situation(a_status("shadow", entered=MINUTE), a_verdict(INCONCLUSIVE, Reason.NOT_JUDGED)),
        (Hold, Reason.BAKING, False),
    ),
    (
        "nothing is judged in the stage",
        "and then the next one begins, be it after the deadline",
        a_situation(
            a_status("shadow", replicas=3, entered=48 * HOUR),
            a_verdict(INCONCLUSIVE, Reason.NOT_JUDGED),
            release=_on("onInconclusive", to="Rollback"),
        ),
        (Advance, "canary-10"),
    ),
    (
        "nothing is judged in the stage",
        "of a canary of all users, who leave nobody to compare with",
        a_situation(a_status("canary-10", entered=2 * HOUR), a_verdict(INCONCLUSIVE, Reason.NO_BASELINE)),
        (Advance, "canary-50"),
    ),
    (
        "nothing is judged in the stage",
        "and at full the candidate is the release",
        a_situation(a_status("full", entered=2 * HOUR), a_verdict(INCONCLUSIVE, Reason.NOT_JUDGED)),
        (Complete,),
    ),
    (
        "nothing is judged in the stage",
        "unless a person has to approve it",
        a_situation(
            a_status("full", entered=2 * HOUR),
            a_verdict(INCONCLUSIVE, Reason.NOT_JUDGED),
            release=a_release(approval={"mode": "Manual"}),
        ),
        (Hold, Reason.AWAITING_APPROVAL, False),
    ),
    ("there are no metrics", "holds", a_situation(finding=NO_METRICS), (Hold, Reason.METRICS_UNAVAILABLE, False)),
    (
        "there are no metrics",
        "holds for ever by default",
        a_situation(a_status(metrics_missing=9 * HOUR), NO_METRICS),
        (Hold, Reason.METRICS_UNAVAILABLE, False),
    ),
    (
        "there are no metrics",
        "analysis.onNoMetrics Rollback waits for its deadline",
        a_situation(a_status(metrics_missing=29 * MINUTE), NO_METRICS, release=_on("onNoMetrics", to="Rollback")),
        (Hold, Reason.METRICS_UNAVAILABLE, False),
    ),
    (
        "there are no metrics",
        "analysis.onNoMetrics Rollback at its deadline",
        a_situation(a_status(metrics_missing=31 * MINUTE), NO_METRICS, release=_on("onNoMetrics", to="Rollback")),
        (RollBack, Reason.METRICS_UNAVAILABLE),
    ),
    (
        "the shadow's copies may be counted",
        "a breach while the route is not written is one of copies",
        without_copies(a_situation(_after_shadow(), a_verdict(BREACH), observation=seen(route=a_route(in_sync=False)))),
        (Hold, Reason.NOT_ACCEPTED, False),
    ),
    (
        "the shadow's copies may be counted",
        "also when an edit has had the canary begin anew meanwhile",
        without_copies(
            a_situation(_after_shadow(again=True), a_verdict(BREACH), observation=seen(route=a_route(in_sync=False)))
        ),
        (Hold, Reason.NOT_ACCEPTED, False),
    ),
    (
        "the shadow's copies may be counted",
        "nor do they count when the route is first found in place",
        without_copies(a_situation(_after_shadow(), a_verdict(BREACH))),
        (Hold, Reason.BAKING, False),
    ),
    (
        "the contract is breached",
        "once the route was seen written, whether or not a Gateway answers",
        without_copies(
            a_situation(_after_shadow(written=True), a_verdict(BREACH), observation=seen(route=a_route(accepted=None)))
        ),
        (RollBack, Reason.CONTRACT_BREACHED),
    ),
    (
        "the route is refused",
        "does not advance on traffic that is not routed",
        a_situation(observation=seen(route=a_route(accepted=False))),
        (Hold, Reason.ROUTE_REJECTED, True),
    ),
    (
        "the gate is inconclusive",
        "waits for evidence, with the judge's reason",
        a_situation(finding=a_verdict(INCONCLUSIVE, Reason.SILENT_SLICE)),
        (Hold, Reason.SILENT_SLICE, False),
    ),
    (
        "the gate is inconclusive",
        "holds at its deadline",
        a_situation(a_status(entered=2 * HOUR), a_verdict(INCONCLUSIVE)),
        (Hold, Reason.DEADLINE_EXCEEDED, False),
    ),
    (
        "the gate is inconclusive",
        "rolls back at its deadline if asked to",
        a_situation(a_status(entered=2 * HOUR), a_verdict(INCONCLUSIVE), release=_on("onInconclusive", to="Rollback")),
        (RollBack, Reason.DEADLINE_EXCEEDED),
    ),
    (
        "passed: the next stage",
        "advances inconclusive at its deadline if asked to",
        a_situation(a_status(entered=2 * HOUR), a_verdict(INCONCLUSIVE), release=_on("onInconclusive", to="Advance")),
        (Advance, "canary-50"),
    ),
    ("passed, but not baked", "bakes", a_situation(a_status(entered=9 * MINUTE)), (Hold, Reason.BAKING, False)),
    (
        "the candidate is too small for its first stage",
        "grows before it gets users",
        a_situation(a_status("Pending"), release=a_release(stages=a_body()["spec"]["stages"][1:])),
        (Prepare, 3),
    ),
    (
        "passed, but the route is not in place",
        "waits for traffic to be what the stage says",
        a_situation(observation=seen(route=a_route(accepted=None))),
        (Hold, Reason.NOT_ACCEPTED, False),
    ),
    (
        "passed, but too small for the next stage",
        "grows first",
        a_situation(a_status("shadow")),
        (Prepare, 3),
    ),
    (
        "passed, but too small for the next stage",
        "waits until it has grown",
        a_situation(a_status("shadow", replicas=3), observation=seen(available={"1": 3, "2": 1})),
        (Hold, Reason.SCALING_UP, False),
    ),
    ("passed: the next stage", "advances", a_situation(), (Advance, "canary-50")),
    (
        "passed: the next stage",
        "at exactly the bake time",
        a_situation(a_status(entered=10 * MINUTE)),
        (Advance, "canary-50"),
    ),
    ("passed: the next stage", "shadow to canary", a_situation(a_status("shadow", replicas=3)), (Advance, "canary-10")),
    ("passed: the next stage", "canary to full", a_situation(a_status("canary-50")), (Advance, "full")),
    (
        "passed, but pods are missing",
        "waits for them at the end of the watch",
        a_situation(a_status("full", entered=2 * HOUR), observation=seen(available={"1": 3, "2": 2})),
        (Hold, Reason.CANDIDATE_UNAVAILABLE, False),
    ),
    (
        "a first release that serves has a successor",
        "becomes stable first, so that the successor is compared with it",
        a_situation(a_status("full", stable=None, candidate="1"), a_verdict(INCONCLUSIVE, Reason.NO_BASELINE)),
        (Complete,),
    ),
    ("passed: the last stage", "is the release", a_situation(a_status("full", entered=2 * HOUR)), (Complete,)),
]


@pytest.mark.parametrize(
    ("row", "situation", "want"), [pytest.param(c[0], c[2], c[3], id=f"{c[0]}: {c[1]}") for c in CASES]
)
def test_a_row_of_the_table_decides(row: str, situation: Situation, want: tuple[object, ...]):
    """The first row that has something to say decides, and it is the row that we mean."""
    decision = decide(situation)
    assert want == _summary(decision)
    assert row == next(name for name, ask in TABLE if ask(situation))


def test_every_row_has_a_case():
    """No row of the table is without a test."""
    assert {name for name, _ in TABLE} == {case[0] for case in CASES}


def test_an_invalid_spec_holds_everything():
    """A spec that cannot be carried out stalls; it decides nothing else."""
    invalid = parse(a_body(model={}))
    assert isinstance(invalid, InvalidSpec)
    assert (Hold, Reason.INVALID_SPEC, True) == _summary(refuse(invalid, a_status()))


UNTIMED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""How fast situations are made says how busy the machine is, and nothing of decisions."""

VERSIONS = st.sampled_from(["1", "2", "3"])
STAGES = st.sampled_from(["", "Pending", "shadow", "canary-10", "canary-50", "full", "Completed", "RolledBack"])
FINDINGS = st.one_of(
    st.just(NO_METRICS),
    st.builds(
        a_verdict,
        st.sampled_from(list(Outcome)),
        st.sampled_from([Reason.NO_DATA, Reason.LOW_TRAFFIC, Reason.UNDECIDED, Reason.SILENT_SLICE]),
        on_breach=st.sampled_from([None, OnBreach.ROLLBACK, OnBreach.HOLD]),
    ),
)


def _decisions(draw: st.DrawFn) -> list[DecisionRecord]:
    verbs = draw(st.lists(st.sampled_from(Verb), max_size=2))
    despite = st.sampled_from([None, "BreachHeld", "DeadlineExceeded"])
    ahead = st.sampled_from([None, CONTRACT, "another"])
    void = st.sampled_from([None, NOW])
    return [
        decided(verb, draw(STAGES), draw(VERSIONS), despite=draw(despite), ahead=draw(ahead), void_since=draw(void))
        for verb in verbs
    ]


@cache
def _a_release_with(version: str, suspend: bool, mode: str, on_inconclusive: str, on_no_metrics: str) -> Release:
    """Return a release; parsing one takes long, and there are few."""
    analysis = {"onInconclusive": on_inconclusive, "onNoMetrics": on_no_metrics}
    return a_release(version, suspend=suspend, approval={"mode": mode}, analysis=analysis)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw any situation at all, the senseless ones included."""
    stage = draw(STAGES)
    open_stage = stage in {"shadow", "canary-10", "canary-50", "full"}
    candidate = draw(VERSIONS) if open_stage or stage in {"Pending", "RolledBack"} else None
    status = a_status(
        stage,
        stable=draw(st.none() | VERSIONS),
        candidate=candidate,
        entered=timedelta(minutes=draw(st.integers(-60, 600))),
        unavailable=draw(st.none() | st.timedeltas(timedelta(0), HOUR)),
        silent=draw(st.none() | st.timedeltas(timedelta(0), HOUR)),
        metrics_missing=draw(st.none() | st.timedeltas(timedelta(0), HOUR)),
        rejected=draw(st.lists(VERSIONS, max_size=2)),
        contract=draw(st.none() | st.sampled_from([CONTRACT, "another"])),
        decisions=_decisions(draw),
    )
    return Situation(
        release=_a_release_with(
            draw(VERSIONS),
            draw(st.booleans()),
            draw(st.sampled_from(["Auto", "Suggest", "Manual"])),
            draw(st.sampled_from(["Hold", "Advance", "Rollback"])),
            draw(st.sampled_from(["Hold", "Rollback"])),
        ),
        status=status,
        seen=seen(
            available=draw(st.dictionaries(VERSIONS, st.integers(0, 3))),
            route=a_route(in_sync=draw(st.booleans()), accepted=draw(st.none() | st.booleans())),
            gateway_problem=draw(st.none() | st.just(ABSENT)),
            conflict=draw(st.none() | st.just("Service fraud/radar-1")),
            leftover=draw(st.none() | st.just("Deployment fraud/radar-1")),
        ),
        # Nothing is judged by a contract that is not the stage's.
        finding=draw(FINDINGS) if open_stage and status.candidate.current_stage.contract != "another" else None,
        now=NOW,
    )


@UNTIMED
@given(situations())
def test_deciding_never_raises_and_is_the_same_twice(situation: Situation):
    """No situation raises, and equal situations are decided alike."""
    assert decide(situation) == decide(situation)


@UNTIMED
@given(situations())
def test_no_evidence_never_advances(situation: Situation):
    """A candidate that is compared with something gets more weight only on a pass, or where the user asked for it."""
    decision = decide(situation)
    if not isinstance(decision, Advance | Complete) or situation.record is None or situation.initial:
        return
    verdict = situation.finding
    asked = situation.release.spec.on_inconclusive == "Advance"
    if situation.promotion or any(approval.despite for approval in situation.approvals):
        return
    assert verdict not in (None, NO_METRICS)
    assert verdict.outcome is PASS or (asked and verdict.outcome is INCONCLUSIVE)


@UNTIMED
@given(situations())
def test_a_breach_leaves_users_on_stable_in_one_decision(situation: Situation):
    """Whatever the stage, a breach with onBreach Rollback takes users off the candidate at once, unless suspended."""
    verdict = situation.finding
    if verdict in (None, NO_METRICS) or verdict.on_breach is not OnBreach.ROLLBACK or verdict.outcome is not BREACH:
        return
    if situation.initial or situation.release.spec.suspend:
        return
    assert isinstance(decide(situation), RollBack | Cancel | Start)


@UNTIMED
@given(situations())
def test_a_rollback_that_a_person_asks_for_is_decided_at_once(situation: Situation):
    """No mode, no suspend, no fault and no other decision stands before it."""
    trial = situation.trial
    if trial is None or situation.initial:
        return
    asked = decided(Verb.ROLLBACK, situation.status.stage).model_copy(update={"revision": trial.revision})
    status = situation.status.model_copy(update={"decisions": [asked, *situation.status.decisions]})
    assert isinstance(decide(replace(situation, status=status)), RollBack)


@UNTIMED
@given(situations())
def test_without_an_approval_nothing_that_needs_one_moves_on(situation: Situation):
    """A stage that needs an approval is left forwards only with one, or by a promotion."""
    decision, stage = decide(situation), situation.stage
    if not isinstance(decision, Advance | Complete) or stage is None or situation.initial:
        return
    assert not needs_approval(situation.release.spec, stage) or situation.approvals or situation.promotion


def test_the_rejected_are_remembered_by_revision_not_by_version():
    """The same version in another image is another revision, and may be tried."""
    other = a_release(
        server={"port": 3000, "template": {"spec": {"containers": [{"name": "s", "image": "radar:fixed"}]}}}
    )
    assert other.desired.name != revision_of("2").name
    assert isinstance(decide(a_situation(a_status("RolledBack", rejected=["2"]), release=other)), Start)
