"""What must hold of every status that any situation at all leads to."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings

from modelrelease.api.status import ROLLED_BACK
from modelrelease.core.announce import announce
from modelrelease.core.decide import Situation, decide
from modelrelease.core.plan import traffic_of
from modelrelease.core.transition import transition
from tests.core.test_decide import situations

pytestmark = pytest.mark.slow


@given(situations())
@settings(max_examples=300)
def test_conditions_never_contradict_each_other(situation: Situation):
    """kstatus: one of Reconciling and Stalled at most; Ready only without both, and only of what was ordered."""
    after = transition(situation, decide(situation))
    of = {condition.type: condition for condition in after.conditions}
    assert max(Counter(condition.type for condition in after.conditions).values()) == 1
    assert not ("Reconciling" in of and "Stalled" in of)
    assert (of["Ready"].status == "True") is not ("Reconciling" in of or "Stalled" in of)
    if of["Ready"].status == "True":
        assert after.stable.revision == situation.release.desired.name
        assert after.stable.weight == 100
    assert {condition.observed_generation for condition in after.conditions} == {situation.release.generation}
    assert after.observed_generation == situation.release.generation


@given(situations())
@settings(max_examples=300)
def test_users_are_always_somebodys(situation: Situation):
    """With a stable revision the weights add up to all users, and a rejected candidate has none."""
    roles = [part.revision for part in (situation.status.stable, situation.status.candidate) if part]
    assume(len(set(roles)) == len(roles))
    after = transition(situation, decide(situation))
    if after.stable is not None:
        assert sum(traffic_of(after).weights.values()) == 100
    if after.stage == ROLLED_BACK:
        assert after.candidate.weight == after.candidate.mirror_percent == 0


@given(situations())
@settings(max_examples=200)
def test_the_status_is_a_fixed_point_of_holding_and_says_nothing_twice(situation: Situation):
    """What has been said is not said again, and the API server can store what is written."""
    after = transition(situation, decide(situation))
    assert announce(after, after) == []
    assert type(after).model_validate(after.as_json()).as_json() == after.as_json()
