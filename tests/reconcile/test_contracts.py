"""Contracts that many releases share: referred to, absent, invalid, edited in mid-rollout."""

from datetime import timedelta

import pytest

from tests.builders import a_body, a_body_that_refers, a_contract
from tests.reconcile.fakes import FakeKube, Lab
from tests.reconcile.test_reconcile import ONE, TWO, condition, reasons, release

STAGES = [{**stage, "bake": "2m"} for stage in a_body()["spec"]["stages"]]
LOOSE = [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "150%"}]


async def a_lab(**spec) -> Lab:
    """Return a cluster on which version 1 is the release, judged by a ModelContract."""
    body = a_body_that_refers("1", analysis={"interval": "1m"}, stages=STAGES, **spec)
    lab = Lab(FakeKube(body=body, contracts={"promise": a_contract()}))
    await lab.run(until="Completed")
    await lab.run()
    lab.kube.events.clear()
    return lab


def stages(lab: Lab) -> list[tuple[str, str]]:
    return [(stage["name"], stage["contract"]) for stage in lab.kube.status["candidate"]["stages"]]


async def test_a_release_is_judged_by_the_contract_that_it_refers_to():
    """The same breach as with a contract of its own, and the status says which contract it was."""
    lab = await a_lab()
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await lab.run(until="RolledBack")
    assert lab.kube.status["rejected"][-1]["clause"] == "steady"
    digest = lab.kube.status["gate"]["contract"]
    assert stages(lab) == [("shadow", digest)]
    assert digest == lab.kube.status["candidate"]["stages"][0]["contract"]


async def test_an_absent_contract_stalls_and_moves_nothing():
    """Where, what, what is allowed; users stay; as soon as it is there again, the rollout goes on."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    contract = lab.kube.contracts.pop("promise")
    for _ in range(3):
        await lab.tick()
    stalled = condition(lab, "Stalled")
    assert stalled["reason"] == "ContractNotFound"
    assert stalled["message"].startswith(
        "spec.contractRef.name: there is no ModelContract 'promise' in namespace fraud: create it"
    )
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    lab.kube.contracts["promise"] = contract
    await lab.run(until="canary-50")
    assert "ContractChanged" not in reasons(lab)


async def test_a_decision_waits_for_a_contract_that_is_away_for_a_moment():
    """A tool deletes it and makes it anew; what a person has decided in between is taken up after that."""
    approving = [{**stage, "approval": "Required"} if stage["name"] == "canary-10" else stage for stage in STAGES]
    lab = await a_lab()
    release(lab, "2", stages=approving)
    await lab.run(until="canary-10")
    contract = lab.kube.contracts.pop("promise")
    approve = lab.kube.decide("Approve", "2", "canary-10")
    await lab.tick()
    assert condition(lab, "Stalled")["reason"] == "ContractNotFound"
    assert lab.kube.outcome(approve) is None
    lab.kube.contracts["promise"] = contract
    await lab.tick()
    assert lab.kube.outcome(approve) == "Applied"
    await lab.run(until="canary-50")


async def test_a_rollback_does_not_wait_for_a_contract():
    """Users come back without one."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.kube.contracts.clear()
    rollback = lab.kube.decide("Rollback", "2")
    await lab.tick()
    assert lab.kube.outcome(rollback) == "Applied"
    assert lab.kube.weights == {ONE: 100}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"clauses": [{"name": "c", "metric": "unknown", "atMost": "1%"}]}, "spec.clauses"),
        ({"metrics": [{"name": "block-rate", "ratio": {"events": "d_total{", "of": "d_total"}}]}, "spec.metrics[0]"),
        ({"clauses": []}, "spec.clauses: [] is too short"),
    ],
)
async def test_an_invalid_contract_stalls_and_names_the_field(spec: dict, says: str):
    """Whatever got past admission is found here, with the contract's name and the field in it."""
    lab = await a_lab()
    lab.kube.contracts["promise"] = a_contract(**spec)
    await lab.tick()
    stalled = condition(lab, "Stalled")
    assert stalled["reason"] == "ContractInvalid"
    assert f"ModelContract fraud/promise: {says}" in stalled["message"]
    assert condition(lab, "ContractValid")["status"] == "False"
    assert lab.kube.weights == {ONE: 100}


@pytest.mark.parametrize("inline", [False, True])
async def test_an_edit_of_the_contract_restarts_the_stage(inline: bool):
    """Evidence and bake begin anew, with an event; nothing that was counted under the old contract is judged again."""
    lab = await a_lab()
    if inline:
        lab.kube.edit(contract=a_contract()["spec"])
        del lab.kube.body["spec"]["contractRef"]
        await lab.run()
    release(lab, "2")
    await lab.run(until="canary-10")
    await lab.tick()
    old = stages(lab)[0][1]
    edited_at = lab.now
    if inline:
        lab.kube.edit(contract=a_contract(clauses=LOOSE)["spec"])
    else:
        lab.kube.contracts["promise"] = a_contract(clauses=LOOSE)
    lab.metrics.asked.clear()
    await lab.tick()
    assert lab.metrics.asked == []
    assert "gate" not in lab.kube.status
    assert reasons(lab)[-1] == "ContractChanged"
    await lab.tick()
    new = stages(lab)[-1][1]
    assert stages(lab) == [("shadow", old), ("canary-10", old), ("canary-10", new)]
    assert new != old
    assert [(name, start >= edited_at) for name, start, _ in lab.metrics.asked[-1]] == [("canary-10", True)]
    assert lab.kube.status["gate"]["contract"] == new
    await lab.run(until="canary-50")
    assert lab.now - edited_at >= timedelta(minutes=2)
    await lab.tick()
    assert [name for name, _, _ in lab.metrics.asked[-1]] == ["canary-10", "canary-50"]


async def test_another_spelling_is_no_other_contract():
    """The order of keys and fields of their own kind's metadata change nothing."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    contract = a_contract()
    contract["metadata"]["generation"] = 7
    contract["spec"] = dict(reversed(contract["spec"].items()))
    lab.kube.contracts["promise"] = contract
    await lab.run(until="canary-50")
    assert "ContractChanged" not in reasons(lab)


async def test_a_contract_edited_again_and_again_keeps_the_status_small():
    """Each edit opens a window, and only so many are kept."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    for number in range(40):
        clause = {"name": "errors", "metric": "error-rate", "atMost": f"{number + 1}%"}
        lab.kube.contracts["promise"] = a_contract(clauses=[clause])
        await lab.tick()
    assert len(lab.kube.status["candidate"]["stages"]) == 32
    assert lab.kube.weights == {ONE: 90, TWO: 10}


async def test_an_edit_between_rollouts_changes_nothing():
    """There is no evidence to restart."""
    lab = await a_lab()
    lab.kube.writes.clear()
    lab.kube.contracts["promise"] = a_contract(clauses=LOOSE)
    await lab.tick()
    assert lab.kube.writes == []
    assert condition(lab, "Ready")["status"] == "True"
    assert a_body()["spec"]["contract"]["clauses"] != LOOSE
