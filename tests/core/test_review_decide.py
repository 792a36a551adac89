"""What a hostile reviewer tried on the table: each test is a situation in which users or the truth would have lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

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


def test_a_breach_is_heard_whatever_the_route_says():
    """Holding still is for what passes."""
    observation = replace(seen(), route=None)
    assert isinstance(decide(a_situation(finding=a_verdict(Outcome.BREACH), observation=observation)), RollBack)


# The first release.


# Pods.


# The plan.


# What is said.
