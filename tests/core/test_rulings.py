"""What becomes of what people decide: taken up once, or answered; counted where the operator made a suggestion."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.api.decision import DecisionOutcome, DecisionSpec, Verb
from modelrelease.api.parse import Asked, InvalidSpec, parse, parse_decision
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import Followed, ReleaseStatus, Suggestion
from modelrelease.core.announce import announce
from modelrelease.core.decide import RollBack, refuse
from modelrelease.core.rulings import take_up, take_up_rollbacks
from tests.builders import (
    NOW,
    a_body,
    a_body_that_refers,
    a_decision,
    a_release,
    a_situation,
    a_status,
    a_verdict,
    revision_of,
    seen,
)
from tests.core.test_decide import STAGES, UNTIMED, VERSIONS, situations

APPLIED, STALE, REFUSED = DecisionOutcome.APPLIED, DecisionOutcome.STALE, DecisionOutcome.REFUSED
SUGGEST = {"mode": "Suggest", "automateAfter": 2}


def asked(decision: str, version: str = "2", stage: str | None = None, name: str = "radar-1", **spec) -> Asked:
    return parse_decision(a_decision(decision, version, stage, name=name, **spec))


def suggesting(status: ReleaseStatus, followed: list[Followed]) -> ReleaseStatus:
    open_ = Suggestion(stage="canary-10", action="Advance", to="canary-50", message="passes", since=NOW)
    return status.model_copy(update={"suggestion": open_, "followed": followed})


@st.composite
def asks(draw: st.DrawFn) -> list[Asked]:
    """Return a few decisions of anybody about anything."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        verb = draw(st.sampled_from(Verb))
        stage = draw(STAGES) if verb is Verb.APPROVE else None
        spec = DecisionSpec.model_construct(
            release="radar",
            revision=revision_of(draw(VERSIONS)).name,
            decision=verb,
            stage=stage,
            approved_by="ana",
            reason=None,
        )
        found.append(Asked(f"radar-{number}", f"uid-{number}", NOW - timedelta(minutes=draw(st.integers(0, 3))), spec))
    return found


@UNTIMED
@given(situations(), asks())
def test_every_decision_is_answered_and_none_is_taken_up_twice(situation, decisions):
    """Taking up again what is recorded changes nothing: what a crash between two writes comes to."""
    given_ = replace(situation, seen=replace(situation.seen, asked=tuple(decisions)))
    once, rulings = take_up(given_)
    twice, again = take_up(once)
    assert {ruling.asked.uid for ruling in rulings} == {one.uid for one in decisions}
    assert all(ruling.message for ruling in rulings)
    assert twice.status == once.status
    applied = {ruling.asked.uid for ruling in rulings if ruling.outcome is APPLIED}
    assert applied <= {ruling.asked.uid for ruling in again if ruling.outcome is APPLIED}
    assert not any(ruling.record for ruling in again)


@UNTIMED
@given(situations(), asks())
def test_taking_up_moves_nothing(situation, decisions):
    """Traffic, stage and pods are the table's: a decision is only recorded."""
    once, _ = take_up(replace(situation, seen=replace(situation.seen, asked=tuple(decisions))))
    for field in ("stage", "stable", "candidate", "history", "gate"):
        assert getattr(once.status, field) == getattr(situation.status, field)


@pytest.mark.parametrize(
    ("decisions", "outcomes"),
    [
        ([asked("Rollback"), asked("Rollback", name="radar-2")], [APPLIED, STALE]),
        ([asked("Rollback"), asked("Promote", name="radar-2")], [APPLIED, STALE]),
        ([asked("Promote"), asked("Rollback", name="radar-2")], [APPLIED, APPLIED]),
        ([asked("Promote"), asked("Promote", name="radar-2")], [APPLIED, STALE]),
        ([asked("Approve", stage=None)], [REFUSED]),
        ([asked("Approve", revision="latest")], [REFUSED]),
    ],
)
def test_several_at_once_are_ruled_in_order(decisions, outcomes):
    """The oldest first; a rollback leaves nothing to be decided, and nothing keeps a rollback from being applied."""
    _, rulings = take_up(a_situation(observation=seen(asked=decisions)))
    assert [ruling.outcome for ruling in rulings] == outcomes


def test_a_breach_comes_before_an_approval_of_the_same_moment():
    """What the person looked at is not what is true now."""
    it = a_situation(
        finding=a_verdict(Outcome.BREACH),
        observation=seen(asked=[asked("Approve", stage="canary-10")]),
        release=a_release(approval={"mode": "Manual"}),
    )
    _, (ruling,) = take_up(it)
    assert (ruling.outcome, "breaks its contract" in ruling.message) == (STALE, True)


@pytest.mark.parametrize(
    ("decision", "want"),
    [
        (
            asked("Approve", stage="canary-10"),
            Followed(stage="canary-10", in_a_row=2, followed=6, automation_earned=True),
        ),
        (asked("Rollback"), Followed(stage="canary-10", followed=5, overruled=1)),
        (asked("Promote"), Followed(stage="canary-10", followed=5, overruled=1)),
    ],
)
def test_how_a_suggestion_was_answered_is_counted(decision, want):
    """An Approve follows; anything else overrules, and the row begins anew."""
    status = suggesting(a_status(), [Followed(stage="canary-10", in_a_row=1, followed=5), Followed(stage="gone")])
    it = a_situation(status, observation=seen(asked=[decision]), release=a_release(approval=SUGGEST))
    after, _ = take_up(it)
    assert after.status.followed == [want]


@pytest.mark.parametrize(
    ("row", "want"),
    [
        (1, "stage canary-10: 1 suggestion was followed; it can be automated"),
        (5, "stage canary-10: 5 suggestions were followed in a row; it can be automated"),
    ],
)
def test_automation_that_is_earned_is_told_in_words(row, want):
    earned = Followed(stage="canary-10", in_a_row=row, followed=row, automation_earned=True)
    before = a_status()
    (event,) = announce(before, before.model_copy(update={"followed": [earned]}))
    assert (event.reason, event.message) == ("AutomationEarned", want)


@pytest.mark.parametrize("mode", ["Auto", "Manual"])
def test_without_suggestions_there_is_nothing_to_count(mode):
    """Nobody follows what was not said."""
    it = a_situation(observation=seen(asked=[asked("Rollback")]), release=a_release(approval={"mode": mode}))
    assert take_up(it)[0].status.followed == []


def test_an_approval_before_the_suggestion_is_not_counted():
    """It is recorded, and the stage is left with it; but nothing had been suggested yet."""
    it = a_situation(
        finding=a_verdict(Outcome.INCONCLUSIVE),
        observation=seen(asked=[asked("Approve", stage="canary-10")]),
        release=a_release(approval=SUGGEST),
    )
    after, (ruling,) = take_up(it)
    assert ruling.outcome is APPLIED
    assert after.status.followed == []


def test_an_approval_ahead_of_its_stage_follows_no_suggestion():
    """What is suggested is about the open stage; of the stage ahead nothing has been said."""
    status = suggesting(a_status(), [Followed(stage="canary-50", in_a_row=1, followed=1)])
    it = a_situation(
        status, observation=seen(asked=[asked("Approve", stage="canary-50")]), release=a_release(approval=SUGGEST)
    )
    after, (ruling,) = take_up(it)
    assert (APPLIED, it.release.contract.digest) == (ruling.outcome, ruling.record.ahead)
    assert status.followed == after.status.followed


@pytest.mark.parametrize(
    ("situation", "outcome", "says"),
    [
        pytest.param(
            a_situation(a_status("full", stable=None, candidate="2")), REFUSED, "needs no approval", id="first release"
        ),
        pytest.param(
            a_situation(
                a_status("canary-10"),
                release=a_release(stages=[{"name": "full", "full": {}}], approval={"mode": "Manual"}),
            ),
            STALE,
            "the rollout starts over",
            id="the open stage left the plan",
        ),
    ],
)
def test_where_no_approval_is_waited_for_none_is_kept(situation, outcome, says):
    """An approval that nothing would ever ask for is answered with why."""
    observation = replace(situation.seen, asked=(asked("Approve", stage="full"),))
    _, (ruling,) = take_up(replace(situation, seen=observation))
    assert (outcome, True) == (ruling.outcome, says in ruling.message), ruling.message


def test_an_invalid_spec_leaves_only_the_rollback():
    """What the spec asks for is not known; where users are is."""
    invalid = parse(a_body(server={"port": "http"}))
    assert isinstance(invalid, InvalidSpec)
    status = a_status()
    decisions = [asked("Promote"), *(asked("Rollback", name=name) for name in ("radar-2", "radar-3"))]
    recorded, rulings = take_up_rollbacks(decisions, status, invalid, NOW)
    assert [ruling.outcome for ruling in rulings] == [REFUSED, APPLIED, STALE]
    decision = refuse(invalid, recorded)
    assert isinstance(decision, RollBack)
    assert decision.reason is Reason.REQUESTED
    assert refuse(invalid, status).reason is Reason.INVALID_SPEC


def test_a_contract_that_is_not_there_leaves_decisions_open():
    """It may be back in a moment: a Rollback does not wait for it, and what can never apply is refused."""
    invalid = parse(a_body_that_refers())
    assert isinstance(invalid, InvalidSpec)
    decisions = [
        asked("Approve", stage="canary-10"),
        asked("Promote", name="radar-2"),
        replace(asked("Promote", name="radar-3"), spec="spec.decision: 'Go' is not one of"),
        asked("Rollback", name="radar-4"),
    ]
    recorded, rulings = take_up_rollbacks(decisions, a_status(), invalid, NOW)
    assert [(it.asked.name, it.outcome) for it in rulings] == [("radar-3", REFUSED), ("radar-4", APPLIED)]
    again, rulings = take_up_rollbacks(decisions[-1:], recorded, invalid, NOW)
    assert [it.outcome for it in rulings] == [APPLIED], "a record that was not answered yet is"
    assert again == recorded
