"""What a hostile reviewer tried on the table: each test is a situation in which users or the truth would have lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.contract import OnBreach
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.decide import Advance, Complete, Decision, Hold, Prepare, RollBack, Start, decide
from modelrelease.core.plan import plan
from modelrelease.core.transition import transition
from tests.builders import (
    NO_METRICS,
    NOW,
    a_body,
    a_release,
    a_route,
    a_situation,
    a_status,
    a_verdict,
    revision_of,
    seen,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
STAGES = a_body()["spec"]["stages"]
ONE, TWO = revision_of("1").name, revision_of("2").name


def _server(**changes: object) -> dict[str, object]:
    return {**a_body()["spec"]["server"], **changes}


def _held(decision: Decision) -> Reason | None:
    return decision.reason if isinstance(decision, Hold) else None


# The route.


@pytest.mark.parametrize(
    "route",
    [a_route(in_sync=False), a_route(accepted=None), None],
    ids=["other than status asks for", "not accepted yet", "absent"],
)
@pytest.mark.parametrize("stage", ["shadow", "canary-10", "canary-50", "full"])
def test_no_stage_is_left_while_the_route_does_not_carry_it(stage, route):
    """A route that cannot be written would let a candidate pass every stage on the traffic of the first."""
    observation = replace(seen(), route=route)
    decision = decide(a_situation(a_status(stage, replicas=3, entered=2 * HOUR), observation=observation))
    assert _held(decision) is Reason.NOT_ACCEPTED


@pytest.mark.parametrize("policy", ["Rollback", "Advance", "Hold"])
@pytest.mark.parametrize("route", [a_route(in_sync=False, accepted=None), a_route(accepted=None), a_route()])
def test_a_stage_that_has_not_begun_is_not_late(route, policy):
    """The Gateway's controller is down for hours: no request can have reached the candidate, and nobody is at fault."""
    status = a_status(entered=2 * HOUR)
    stages = [status.candidate.current_stage.model_copy(update={"routed": False})]
    status = status.model_copy(update={"candidate": status.candidate.model_copy(update={"stages": stages})})
    release = a_release(analysis={"onInconclusive": policy})
    observation = replace(seen(), route=route)
    decision = decide(a_situation(status, a_verdict(Outcome.INCONCLUSIVE), release=release, observation=observation))
    assert _held(decision) is Reason.LOW_TRAFFIC


def test_a_breach_is_heard_whatever_the_route_says():
    """Holding still is for what passes."""
    observation = replace(seen(), route=None)
    assert isinstance(decide(a_situation(finding=a_verdict(Outcome.BREACH), observation=observation)), RollBack)


# The first release.


def test_a_first_release_that_serves_becomes_stable_before_its_successor_is_tried():
    """Else the second version would go straight to all users, unjudged, with nothing to return to."""
    status = a_status("full", stable=None, candidate="1", entered=MINUTE)
    assert isinstance(decide(a_situation(status, a_verdict(Outcome.INCONCLUSIVE))), Complete)
    assert isinstance(decide(a_situation(status, NO_METRICS)), Complete)


@pytest.mark.parametrize(
    ("finding", "pods"), [(a_verdict(Outcome.BREACH), 3), (a_verdict(), 0)], ids=["breaches", "has no pods"]
)
def test_a_first_release_that_harms_users_gives_way_at_once(finding, pods):
    """Nothing is gained by comparing its repair with it."""
    status = a_status("full", stable=None, candidate="1", entered=MINUTE)
    situation = a_situation(status, finding, observation=seen(available={"1": pods}))
    assert isinstance(decide(situation), Start)


def test_a_first_release_does_not_complete_behind_a_refused_route():
    """Ready must not be said of what no user can reach."""
    status = a_status("full", stable=None, entered=2 * HOUR)
    refused = a_situation(status, a_verdict(Outcome.INCONCLUSIVE), observation=seen(route=a_route(accepted=False)))
    assert _held(decide(refused)) is Reason.ROUTE_REJECTED


@pytest.mark.parametrize("stable", ["1", None])
def test_nothing_completes_without_its_pods(stable):
    """At the end of the watch all pods are there, or it is not the end."""
    status = a_status("full", stable=stable, entered=2 * HOUR, unavailable=MINUTE)
    situation = a_situation(status, observation=seen(available={"1": 3, "2": 1}))
    assert _held(decide(situation)) is Reason.CANDIDATE_UNAVAILABLE


# Pods.


@pytest.mark.parametrize("missing", [MINUTE, HOUR])
def test_a_fault_that_takes_both_revisions_is_not_the_candidates(missing):
    """Users would be sent to a stable revision without pods, and a good candidate would stay rejected."""
    status = a_status("canary-50", unavailable=missing, silent=missing)
    situation = a_situation(status, NO_METRICS, observation=seen(available={"1": 0, "2": 0}))
    assert isinstance(decide(situation), Hold)


def test_fewer_replicas_are_enough_once_the_spec_asks_for_fewer():
    """Who lowers replicas because the cluster is full must not see the candidate rejected for it."""
    release = a_release(server=_server(replicas=1))
    status = a_status("Pending", replicas=3, entered=HOUR)
    situation = a_situation(status, release=release, observation=seen(available={"1": 1, "2": 1}))
    assert isinstance(decide(situation), Advance)
    planned = plan(release, status, situation.seen, NOW, drain=timedelta(seconds=10))
    sizes = {m["metadata"]["name"]: m["spec"]["replicas"] for m in planned.manifests if m["kind"] == "Deployment"}
    assert sizes == {f"radar-{ONE}": 1, f"radar-{TWO}": 1}


def test_a_first_stage_with_users_waits_for_its_pods():
    """The first stage was a small shadow when the candidate started; then the shadow was taken out of the plan."""
    release = a_release(stages=STAGES[1:])
    assert decide(a_situation(a_status("Pending", replicas=1), release=release)) == Prepare(
        3, "the candidate grows to 3 pods before stage canary-10"
    )


@pytest.mark.parametrize("accepted", [None, False])
def test_pods_stay_until_the_gateway_has_taken_up_the_route(accepted):
    """A Gateway whose controller is away still sends users by the old route, whatever the new one says."""
    waiting = seen(route=a_route(accepted=accepted, weights={ONE: 100}))
    drain = timedelta(seconds=10)
    assert plan(a_release("1"), a_status("RolledBack"), waiting, NOW, drain=drain).prune == ()
    settled = seen(route=a_route(accepted=True, weights={ONE: 100}))
    assert plan(a_release("1"), a_status("RolledBack"), settled, NOW, drain=drain).prune == (TWO,)


# The plan.


def test_a_stage_of_another_kind_is_another_stage():
    """The evidence of a canary does not complete a release because the canary's name is now that of the last stage."""
    release = a_release(stages=[STAGES[0], {"name": "canary-10", "full": {}, "bake": "1m"}])
    assert isinstance(decide(a_situation(a_status("canary-10"), release=release)), Start)


# What is said.


def test_a_candidate_that_gives_way_to_a_rejected_revision_leaves_no_contradiction():
    """Ready=False with reason Ready tells nobody anything."""
    release = a_release("3")
    after = transition(situation := a_situation(a_status(rejected=["3"]), release=release), decide(situation))
    ready = after.condition("Ready")
    assert (ready.status, ready.reason) == ("False", Reason.PROGRESSING)


def test_an_edit_of_the_spec_is_not_drift():
    """Whoever changes the host names must not be told that somebody else changed the route."""
    status = a_status().model_copy(update={"observed_generation": 2})
    situation = a_situation(status, observation=seen(route=a_route(in_sync=False)))
    condition = transition(situation, decide(situation)).condition("TrafficInSync")
    assert (condition.status, condition.reason) == ("False", Reason.NOT_WRITTEN)


def test_what_is_kept_for_years_is_short():
    """History keeps fifty messages: a status that grows too large could not record the next rollback."""
    situation = a_situation(finding=a_verdict(Outcome.BREACH, message="clause broken; " * 3000))
    after = transition(situation, decide(situation))
    assert max(len(after.rejected[-1].message), len(after.history[-1].message)) <= 1024
    assert after.rejected[-1].message.endswith("…")


def test_numbers_in_messages_are_no_news_either():
    """A doubt that counts up every second is written once an interval."""
    first = a_situation(finding=a_verdict(Outcome.INCONCLUSIVE, message="12 events of 300"))
    before = transition(first, decide(first))
    later = NOW + timedelta(seconds=5)
    second = a_situation(before, a_verdict(Outcome.INCONCLUSIVE, message="13 events of 310"), now=later)
    assert transition(second, decide(second)) is before
    much_later = NOW + MINUTE
    third = a_situation(before, a_verdict(Outcome.INCONCLUSIVE, message="40 events of 900"), now=much_later)
    assert "40 events" in transition(third, decide(third)).condition("Ready").message


@pytest.mark.parametrize(("stable", "choices"), [(None, "Approve or Promote"), ("1", "Approve, Rollback or Promote")])
def test_nobody_is_told_to_roll_back_a_first_release(stable, choices):
    """It is refused: there is no stable revision to return to."""
    verdict = a_verdict(Outcome.BREACH, on_breach=OnBreach.HOLD)
    decision = decide(a_situation(a_status("full", stable=stable), verdict))
    assert _held(decision) is Reason.BREACH_HELD
    assert decision.message.endswith(f"A person decides: {choices}")
