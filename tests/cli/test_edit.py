"""``diff``: what an edit would start, by the state that the release is in; and it is what the operator would decide."""

import pytest

from modelrelease.api.parse import Release, parse
from modelrelease.cli.edit import Change, Edit, Effect, edit_of
from modelrelease.cli.sight import Sight
from modelrelease.core.decide import Advance, Cancel, Hold, Rejudge, Reshare, Situation, Start, decide
from tests.builders import NOW, a_body, a_status, a_verdict, seen


def edit(status, *, version="2", live="2", **spec) -> Edit:
    """Return what asking for *version* with *spec* would do to a release of version *live* in *status*."""
    body = {**a_body(live), "status": status.as_json()} if status else None
    wanted = parse(a_body(version, **spec))
    assert isinstance(wanted, Release)
    sight = Sight.of(body, NOW) if body else None
    return edit_of(sight, a_body(version, **spec)["spec"], wanted.spec, wanted.contract)


def settled():
    """Return the status of a release in which nothing is on trial."""
    return a_status("Completed", stable="2", candidate=None)


def with_share(name, percent):
    """Return the plan with another share in one stage."""
    kind = name.partition("-")[0]
    return [{**it, kind: {"percent": percent}} if it["name"] == name else it for it in a_body()["spec"]["stages"]]


SLOWER = [{**stage, "bake": "30m", "deadline": "3h"} for stage in a_body()["spec"]["stages"]]
OTHER_STAGES = [{"name": "canary-1", "canary": {"percent": 1}}, {"name": "full", "full": {}}]
OTHER_CONTRACT = {**a_body()["spec"]["contract"], "clauses": a_body()["spec"]["contract"]["clauses"][:1]}
DIGEST = parse(a_body()).contract.digest


@pytest.mark.parametrize(
    ("found", "effect", "says"),
    [
        pytest.param(lambda: edit(None), Effect.CREATED, "is the first: to all users as soon as", id="no release yet"),
        pytest.param(lambda: edit(settled()), Effect.NOTHING, "the object says the same", id="the same"),
        pytest.param(lambda: edit(settled(), version="3"), Effect.ROLLOUT, "takes the way shadow (copies", id="new"),
        pytest.param(
            lambda: edit(settled(), server={**a_body()["spec"]["server"], "replicas": 5}),
            Effect.IN_PLACE,
            "no rollout",
            id="replicas",
        ),
        pytest.param(
            lambda: edit(a_status(), version="3"),
            Effect.ROLLOUT,
            "the rollout of version 2 ends, superseded; all users go back to version 1 first; version 3",
            id="another candidate",
        ),
        pytest.param(
            lambda: edit(a_status(), version="1"),
            Effect.CANCELLED,
            "the rollout of version 2 ends, without blame; all users to version 1",
            id="git revert",
        ),
        pytest.param(
            lambda: edit(a_status("RolledBack", rejected=["2"]), version="1"),
            Effect.IN_PLACE,
            "version 1 is the release, and the release is Ready again",
            id="git revert after a rollback",
        ),
        pytest.param(
            lambda: edit(a_status(rejected=["3"]), version="3"),
            Effect.REJECTED,
            "was rolled back before and is not retried by itself; the rollout of version 2 is cancelled",
            id="a rejected revision",
        ),
        pytest.param(lambda: edit(a_status(), stages=SLOWER), Effect.IN_PLACE, "goes on in stage canary-10", id="bake"),
        pytest.param(
            lambda: edit(a_status(), stages=OTHER_STAGES),
            Effect.RESTARTED,
            "is no longer in the plan: it starts over; all users go back to version 1 first",
            id="plan",
        ),
        pytest.param(
            lambda: edit(a_status(), stages=with_share("canary-10", 4)),
            Effect.RESTARTED,
            "users go from 10 % to 4 % at once, and the stage begins anew",
            id="fewer users",
        ),
        pytest.param(
            lambda: edit(a_status(), stages=with_share("canary-10", 30)),
            Effect.IN_PLACE,
            "it keeps 10 % until its gate has passed, then begins anew with 30 %",
            id="more users",
        ),
        pytest.param(
            lambda: edit(a_status(), stages=with_share("shadow", 30)),
            Effect.IN_PLACE,
            "goes on in stage canary-10; what differs in shadow, before it, takes effect in the next rollout",
            id="a stage that was left",
        ),
        pytest.param(
            lambda: edit(a_status("shadow"), stages=with_share("shadow", 30)),
            Effect.RESTARTED,
            "copies go from 100 % to 30 % at once",
            id="copies",
        ),
        pytest.param(
            lambda: edit(a_status(contract=DIGEST), contract=OTHER_CONTRACT),
            Effect.RESTARTED,
            "evidence and bake of the open stage begin anew",
            id="contract",
        ),
        pytest.param(
            lambda: edit(settled(), version="3", suspend=True),
            Effect.ROLLOUT,
            "but spec.suspend is true: nothing moves until it is resumed",
            id="suspended",
        ),
        pytest.param(
            lambda: edit(a_status("full", stable=None), version="3"),
            Effect.ROLLOUT,
            "version 2 becomes the release as soon as it serves; then version 3",
            id="a first release has a successor",
        ),
    ],
)
def test_what_an_edit_starts(found, effect, says):
    assert found().effect is effect
    assert says in found().message


def test_the_fields_that_differ_are_named():
    stages = [{**stage} for stage in a_body()["spec"]["stages"]]
    stages[1] = {**stages[1], "canary": {"percent": 20}}
    found = edit(settled(), version="3", stages=stages)
    assert set(found.changes) == {
        Change("spec.model.version", "2", "3"),
        Change("spec.stages[1].canary.percent", 10, 20),
    }


@pytest.mark.parametrize(
    ("status", "version", "spec", "kind"),
    [
        pytest.param(settled(), "3", {}, Start, id="new revision"),
        pytest.param(a_status(), "3", {}, Start, id="another candidate"),
        pytest.param(a_status(), "1", {}, Cancel, id="git revert"),
        pytest.param(a_status("Completed", rejected=["3"], candidate=None), "3", {}, Hold, id="rejected"),
        pytest.param(a_status(), "2", {"stages": OTHER_STAGES}, Start, id="plan"),
        pytest.param(a_status(contract=DIGEST), "2", {"contract": OTHER_CONTRACT}, Rejudge, id="contract"),
        pytest.param(a_status(), "2", {"stages": with_share("canary-10", 4)}, Reshare, id="fewer users"),
        pytest.param(a_status(), "2", {"stages": with_share("canary-10", 30)}, Advance, id="more users"),
        pytest.param(a_status(contract=DIGEST), "2", {"stages": SLOWER[:2] + SLOWER[2:]}, Hold | Advance, id="bake"),
    ],
)
def test_it_is_what_the_operator_would_decide(status, version, spec, kind):
    """The same edit, through the decision table."""
    release = parse(a_body(version, **spec))
    decision = decide(Situation(release, status, seen(revisions=["3"]), a_verdict(), NOW))
    assert isinstance(decision, kind)
    effects = {
        Start: {Effect.ROLLOUT, Effect.RESTARTED},
        Cancel: {Effect.CANCELLED},
        Rejudge: {Effect.RESTARTED},
        Reshare: {Effect.RESTARTED},
        Hold: {Effect.REJECTED, Effect.IN_PLACE},
        Advance: {Effect.IN_PLACE},
    }
    assert edit(status, version=version, **spec).effect in effects[type(decision)]
