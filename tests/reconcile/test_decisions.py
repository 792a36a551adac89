"""People in the loop: approvals, rollbacks, retries and promotions, through the real reconcile and the real judge."""

import copy
from contextlib import suppress
from datetime import timedelta

import pytest

from modelrelease.adapters.errors import Refused, Unreachable
from tests.builders import NO_METRICS, a_body, revision_of
from tests.reconcile import test_reconcile
from tests.reconcile.fakes import FakeKube, Lab
from tests.reconcile.test_reconcile import ONE, TWO, condition, reasons, release

HELD = [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%", "onBreach": "Hold"}]
HOLDING = {**a_body()["spec"]["contract"], "clauses": HELD}

STAGES = [{**stage, "bake": "1m", "deadline": "10m"} for stage in a_body()["spec"]["stages"]]


async def a_lab(**spec) -> Lab:
    """Return a cluster on which version 1 is the release; a version that is good stays few minutes in each stage."""
    return await test_reconcile.a_lab(**{"stages": copy.deepcopy(STAGES), **spec})


async def waiting(lab: Lab, stage: str) -> None:
    """Run until the gate of *stage* awaits an approval."""
    await lab.run(until=stage)
    for _ in range(60):
        if lab.kube.status["stage"] != stage or condition(lab, "AwaitingApproval"):
            break
        await lab.tick()
    assert lab.kube.status["stage"] == stage
    assert condition(lab, "AwaitingApproval")["status"] == "True"


async def approved(lab: Lab, stage: str) -> None:
    """Wait for the suggestion in *stage*, and follow it."""
    await waiting(lab, stage)
    lab.kube.decide("Approve", lab.kube.body["spec"]["model"]["version"], stage)
    while lab.kube.status["stage"] == stage:
        await lab.tick()


async def a_whole_release(lab: Lab, version: str) -> None:
    release(lab, version)
    for stage in ("shadow", "canary-10", "canary-50", "full"):
        await approved(lab, stage)
    await lab.run()


async def test_a_required_approval_holds_its_stage_alone():
    """approval: Required on one stage: the others go on by themselves; there it waits, however long."""
    stages = copy.deepcopy(STAGES)
    stages[1]["approval"] = "Required"
    lab = await a_lab(stages=stages)
    release(lab, "2")
    await waiting(lab, "canary-10")
    assert "ApprovalNeeded" in reasons(lab)
    assert condition(lab, "Ready")["reason"] == "AwaitingApproval"
    assert lab.kube.status.get("suggestion") is None
    for _ in range(20):
        await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    name = lab.kube.decide("Approve", "2", "canary-10", reason="podcast slice checked")
    await lab.run(until="canary-50")
    assert lab.kube.outcome(name) == "Applied"
    await lab.run(until="Completed")
    assert reasons(lab).count("ApprovalNeeded") == 1
    decision = lab.kube.status["history"][-1]["decisions"][0]
    told = {key: decision[key] for key in ("name", "decision", "stage", "approvedBy", "reason")}
    assert told == {
        "name": name,
        "decision": "Approve",
        "stage": "canary-10",
        "approvedBy": "ana",
        "reason": "podcast slice checked",
    }
    assert "decisions" not in lab.kube.status or lab.kube.status["decisions"] == []


async def test_the_mode_is_manual_and_one_stage_is_not():
    """approval: Auto on a stage frees it; an approval can be given before the gate passes."""
    stages = copy.deepcopy(STAGES)
    stages[0]["approval"] = "Auto"
    lab = await a_lab(stages=stages, approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="canary-10")
    name = lab.kube.decide("Approve", "2", "canary-10")
    entered = lab.now
    await lab.run(until="canary-50")
    assert lab.kube.outcome(name) == "Applied"
    assert lab.now - entered >= timedelta(minutes=1), "the bake is not cut short"
    await waiting(lab, "canary-50")


async def test_an_approval_can_come_long_before_its_stage():
    """CI approves the stages of a revision when it starts; each waits for its own gate and bake, and is told once."""
    lab = await a_lab(approval={"mode": "Manual"})
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(until="Pending")
    names = [lab.kube.decide("Approve", "2", stage) for stage in ("shadow", "canary-50")]
    await lab.tick()
    assert [lab.kube.outcome(name) for name in names] == ["Applied", "Applied"]
    again = lab.kube.decide("Approve", "2", "canary-50")
    await lab.tick()
    assert lab.kube.outcome(again) == "Stale"
    lab.kube.broken.clear()
    await waiting(lab, "canary-10")
    assert [record["stage"] for record in lab.kube.status["decisions"]] == ["shadow", "canary-50"]
    lab.kube.decide("Approve", "2", "canary-10")
    await lab.run(until="canary-50")
    entered = lab.now
    await lab.run(until="full")
    assert lab.now - entered >= timedelta(minutes=1), "the bake is not cut short"
    await waiting(lab, "full")
    assert reasons(lab).count("Approved") == 3


async def test_an_approval_before_its_stage_is_void_under_another_contract():
    """Who approved a gate in advance approved what it promised then."""
    lab = await a_lab(approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="shadow")
    lab.kube.decide("Approve", "2", "canary-10")
    await lab.tick()
    loose = [{"name": "errors", "metric": "error-rate", "atMost": "1%"}]
    lab.kube.edit(contract={**a_body()["spec"]["contract"], "clauses": loose})
    await approved(lab, "shadow")
    await waiting(lab, "canary-10")
    again = lab.kube.decide("Approve", "2", "canary-10")
    await lab.run(until="canary-50")
    assert lab.kube.outcome(again) == "Applied"


@pytest.mark.parametrize("stage", ["Pending", "shadow"])
async def test_an_approval_before_its_stage_that_is_void_stays_void(stage):
    """Not even the contract of before, written back, makes it count again; the person is asked."""
    lab = await a_lab(approval={"mode": "Manual"})
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    if stage != "Pending":
        lab.kube.broken.clear()
    await lab.run(until=stage)
    lab.kube.decide("Approve", "2", "canary-10")
    await lab.tick()
    contract = copy.deepcopy(lab.kube.body["spec"]["contract"])
    loose = [{"name": "errors", "metric": "error-rate", "atMost": "1%"}]
    now = lab.now
    lab.kube.edit(contract={**contract, "clauses": loose})
    await lab.tick()
    lab.kube.edit(contract=contract)
    await lab.tick()
    assert lab.kube.status["decisions"][0]["voidSince"] == f"{now:%Y-%m-%dT%H:%M:%SZ}"
    lab.kube.broken.clear()
    await approved(lab, "shadow")
    await waiting(lab, "canary-10")
    again = lab.kube.decide("Approve", "2", "canary-10")
    await lab.run(until="canary-50")
    assert lab.kube.outcome(again) == "Applied"


async def test_another_clause_that_breaks_while_a_person_decides_is_told():
    """Once, and with its own numbers: whoever decides knows of it."""
    clauses = [{**clause, "onBreach": "Hold"} for clause in a_body()["spec"]["contract"]["clauses"]]
    lab = await a_lab(contract={**a_body()["spec"]["contract"], "clauses": clauses})
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.metrics.rates["2"] = 0.22
    await waiting(lab, "canary-10")
    assert reasons(lab).count("ContractBreached") == 1
    lab.metrics.error_rate = 0.5
    for _ in range(3):
        await lab.tick()
    told = [message for reason, message in lab.kube.events if reason == "ContractBreached"]
    assert len(told) == 2
    assert told[1].startswith("clause errors is broken")
    assert "steady" not in told[1]


async def test_an_approval_before_its_stage_overrules_no_breach():
    """Nobody approves what could not be seen; a held breach asks a person who has seen it."""
    lab = await a_lab(contract=HOLDING, approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="shadow")
    for stage in ("shadow", "canary-10"):
        lab.kube.decide("Approve", "2", stage)
    await lab.run(until="canary-10")
    lab.metrics.rates["2"] = 0.4
    await waiting(lab, "canary-10")
    assert condition(lab, "AwaitingApproval")["reason"] == "BreachHeld"
    lab.kube.decide("Approve", "2", "canary-10")
    await lab.run(until="canary-50")


async def test_suggest_says_what_it_would_do_and_learns():
    """Suggestions followed in a row earn automation stage by stage; one overruled takes it back."""
    lab = await a_lab(approval={"mode": "Suggest", "automateAfter": 2})
    release(lab, "2")
    await waiting(lab, "shadow")
    suggestion = lab.kube.status["suggestion"]
    assert (suggestion["stage"], suggestion["action"], suggestion["to"]) == ("shadow", "Advance", "canary-10")
    assert condition(lab, "AutomationEarned")["status"] == "False"
    for stage in ("shadow", "canary-10", "canary-50", "full"):
        await approved(lab, stage)
    await lab.run()
    assert "suggestion" not in lab.kube.status
    await a_whole_release(lab, "3")
    assert condition(lab, "AutomationEarned")["status"] == "True"
    assert reasons(lab).count("AutomationEarned") == 4
    assert [(entry["stage"], entry["inARow"]) for entry in lab.kube.status["followed"]] == [
        *[("shadow", 2), ("canary-10", 2), ("canary-50", 2), ("full", 2)],
    ]
    release(lab, "2")
    await waiting(lab, "shadow")
    lab.kube.decide("Rollback", "2")
    await lab.run(until="RolledBack")
    assert "AutomationLost" in reasons(lab)
    shadow = lab.kube.status["followed"][0]
    assert (shadow["inARow"], shadow["followed"], shadow["overruled"]) == (0, 2, 1)


async def test_a_revert_while_a_suggestion_is_open_overrules_it():
    """git revert is an answer too."""
    lab = await a_lab(approval={"mode": "Suggest"})
    release(lab, "2")
    await waiting(lab, "shadow")
    release(lab, "1")
    await lab.run()
    assert lab.kube.status["followed"][0]["overruled"] == 1


@pytest.mark.parametrize("mode", ["Auto", "Suggest", "Manual"])
async def test_no_mode_delays_a_rollback(mode: str):
    """A breach takes users back in the tick that sees it, also while an approval is awaited or just given."""
    stages = [{**stage, "approval": "Required"} for stage in STAGES]
    lab = await a_lab(stages=stages, approval={"mode": mode})
    release(lab, "2")
    await approved(lab, "shadow")
    await waiting(lab, "canary-10")
    lab.metrics.rates["2"] = 0.9
    name = lab.kube.decide("Approve", "2", "canary-10")
    lab.kube.writes.clear()
    await lab.tick()
    assert lab.kube.status["stage"] == "RolledBack"
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.writes[:2] == ["status", "route"]
    assert lab.kube.outcome(name) is not None


@pytest.mark.parametrize("trouble", ["none", "suspended", "no metrics", "invalid spec", "no contract"])
@pytest.mark.parametrize("stage", ["Pending", "shadow", "canary-50", "full"])
async def test_a_person_can_roll_back_at_any_time(stage: str, trouble: str):
    """Whatever else is wrong: all users on stable, the route first and alone, and the person is named."""
    lab = await a_lab()
    if stage == "Pending":
        lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(until=stage)
    await lab.tick()
    if trouble == "suspended":
        lab.kube.edit(suspend=True)
    elif trouble == "no metrics":
        lab.metrics.outage = NO_METRICS
    elif trouble == "invalid spec":
        lab.kube.edit(server={"port": "http"})
    elif trouble == "no contract":
        lab.kube.edit(contractRef={"name": "absent"})
        del lab.kube.body["spec"]["contract"]
    await lab.tick()
    lab.kube.writes.clear()
    name = lab.kube.decide("Rollback", "2", reason="customers call")
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.mirror is None
    if stage in {"canary-50", "full"}:
        assert lab.kube.writes[:2] == ["status", "route"]
    rejected = lab.kube.status["rejected"][-1]
    assert (rejected["reason"], rejected["stage"]) == ("Requested", stage)
    assert "customers call" in rejected["message"]
    assert lab.kube.outcome(name) == "Applied"
    assert {"RollbackRequested", "RolledBack"} <= set(reasons(lab))
    assert lab.kube.status["history"][-1]["decisions"][0]["decision"] == "Rollback"


async def test_a_retry_starts_a_rejected_revision_anew():
    """It is not retried by itself; asked for, it goes through every stage again, and may be rejected again."""
    lab = await a_lab()
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await lab.run(until="RolledBack")
    await lab.run()
    lab.metrics.rates.clear()
    name = lab.kube.decide("Retry", "2")
    await lab.run(until="shadow")
    assert lab.kube.outcome(name) == "Applied"
    assert lab.kube.status.get("rejected", []) == []
    assert "RetryRequested" in reasons(lab)
    await lab.run(until="Completed")
    assert lab.kube.status["history"][-1]["decisions"][0]["decision"] == "Retry"


async def test_a_promotion_skips_what_is_left_to_prove():
    """Break glass: to full as soon as the pods are there, and from full to the release."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    lab.metrics.outage = NO_METRICS
    await lab.tick()
    first = lab.kube.decide("Promote", "2", reason="the old one is worse")
    began = lab.now
    await lab.run(until="full")
    assert lab.now - began < timedelta(minutes=1)
    assert lab.kube.objects["Deployment", TWO]["spec"]["replicas"] == 3
    await lab.tick()
    assert lab.kube.weights == {TWO: 100}
    await lab.tick()
    assert lab.kube.status["stage"] == "full", "one Promote is one step"
    second = lab.kube.decide("Promote", "2")
    await lab.run(until="Completed")
    assert [lab.kube.outcome(name) for name in (first, second)] == ["Applied", "Applied"]
    assert lab.kube.status["stable"]["version"] == "2"


async def test_a_promoted_candidate_that_breaks_its_contract_is_rolled_back():
    """A Promote skips what is still to be proved, not what is proved."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.run(ticks=3)  # something is counted of it
    lab.metrics.rates["2"] = 0.9
    name = lab.kube.decide("Promote", "2")
    await lab.run(until="RolledBack")
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.outcome(name) is not None


async def test_a_held_breach_waits_for_a_person():
    """onBreach Hold: an Approve goes on in spite of it, this stage only; the next stage asks again."""
    lab = await a_lab(contract=HOLDING)
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await waiting(lab, "shadow")
    assert condition(lab, "AwaitingApproval")["reason"] == "BreachHeld"
    for _ in range(5):
        await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    name = lab.kube.decide("Approve", "2", "shadow")
    await lab.run(until="canary-10")
    assert lab.kube.outcome(name) == "Applied"
    assert "GateOverruled" in reasons(lab)
    assert lab.kube.status["decisions"][0]["despite"] == "BreachHeld"
    await waiting(lab, "canary-10")
    lab.kube.decide("Rollback", "2")
    await lab.run(until="RolledBack")


async def test_an_approval_overrules_the_breach_that_it_saw_and_no_later_one():
    """Another clause that breaks during the bake holds anew, is announced, and can be approved in its turn."""
    clauses = [{**clause, "onBreach": "Hold"} for clause in a_body()["spec"]["contract"]["clauses"]]
    lab = await a_lab(contract={**a_body()["spec"]["contract"], "clauses": clauses})
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.metrics.rates["2"] = 0.22
    await waiting(lab, "canary-10")
    lab.kube.decide("Approve", "2", "canary-10")
    lab.kube.edit(stages=[{**stage, "bake": "1h", "deadline": "2h"} for stage in STAGES])
    await lab.tick()
    assert lab.kube.status["decisions"][0]["overruled"] == ["steady"]
    baking = condition(lab, "Ready")
    assert baking["reason"] == "Baking"
    assert "ana approved it in spite of BreachHeld of steady; it bakes until" in baking["message"]
    assert condition(lab, "AwaitingApproval") is None
    lab.metrics.error_rate = 0.5
    await lab.tick()
    held = condition(lab, "AwaitingApproval")
    assert held["reason"] == "BreachHeld"
    assert "clause errors is broken" in held["message"]
    assert "steady" not in held["message"], "that one is decided"
    assert reasons(lab).count("ContractBreached") == 2
    for _ in range(200):
        await lab.tick()
    assert lab.kube.status["stage"] == "canary-10"
    name = lab.kube.decide("Approve", "2", "canary-10")
    await lab.run(until="canary-50")
    assert lab.kube.outcome(name) == "Applied"
    assert lab.kube.status["decisions"][1]["overruled"] == ["steady", "errors"]


async def test_an_approval_from_before_a_breach_does_not_overrule_it():
    """Nobody approves what could not be seen."""
    lab = await a_lab(contract=HOLDING, approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="shadow")
    lab.kube.decide("Approve", "2", "shadow")
    await lab.tick()
    lab.metrics.rates["2"] = 0.4
    for _ in range(5):
        await lab.tick()
    assert lab.kube.status["stage"] == "shadow"
    assert condition(lab, "AwaitingApproval")["reason"] == "BreachHeld"
    lab.kube.decide("Approve", "2", "shadow")
    await lab.run(until="canary-10")


async def test_a_gate_past_its_deadline_can_be_approved():
    """Without a verdict in time, a person says that the stage is left."""
    lab = await a_lab()
    lab.metrics.per_second = 0.01
    release(lab, "2")
    await lab.run(until="shadow")
    early = lab.kube.decide("Approve", "2", "shadow")
    for _ in range(20):
        await lab.tick()
    assert lab.kube.outcome(early) == "Refused", "the gate would have been left by itself"
    assert condition(lab, "Reconciling")["reason"] == "DeadlineExceeded"
    lab.kube.decide("Approve", "2", "shadow")
    await lab.run(until="canary-10")
    assert lab.kube.status["decisions"][0]["despite"] == "DeadlineExceeded"


WRONG = [
    # decision, version, stage, outcome, says
    ("Approve", "3", "canary-10", "Stale", "is not the candidate: it is"),
    ("Approve", "1", "canary-10", "Stale", "is not the candidate"),
    ("Approve", "2", "shadow", "Stale", "stage shadow was left, the candidate is in stage canary-10"),
    ("Approve", "2", "canary-50", "Refused", "stage canary-50 needs no approval"),
    ("Approve", "2", "canary-7", "Refused", "no stage 'canary-7', allowed: shadow, canary-10, canary-50, full"),
    ("Approve", "2", "canary-10", "Refused", "needs no approval"),
    ("Rollback", "3", None, "Stale", "is not the candidate"),
    ("Rollback", "1", None, "Refused", "is the stable one"),
    ("Retry", "2", None, "Stale", "is not rejected"),
    ("Promote", "3", None, "Stale", "is not the candidate"),
]


@pytest.mark.parametrize(("decision", "version", "stage", "outcome", "says"), WRONG)
async def test_what_cannot_be_done_is_answered_and_moves_nothing(decision, version, stage, outcome, says):
    """Bound to revision and stage: the answer says where the release is, an event tells it, and nothing else moves."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    await lab.tick()
    before = {key: lab.kube.status.get(key) for key in ("stage", "candidate", "stable", "rejected", "decisions")}
    name = lab.kube.decide(decision, version, stage)
    await lab.tick()
    answer = lab.kube.decisions[name]["status"]
    assert (answer["outcome"], says in answer["message"]) == (outcome, True), answer
    assert before == {key: lab.kube.status.get(key) for key in before}
    assert f"Decision{outcome}" in reasons(lab)
    lab.kube.writes.clear()
    await lab.tick()
    assert not any(write.startswith("outcome") for write in lab.kube.writes), "answered once"


async def test_nothing_but_a_rollback_is_decided_while_suspended():
    """A Promote does not lie in wait for the day when suspend is taken away."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.kube.edit(suspend=True)
    name = lab.kube.decide("Promote", "2")
    await lab.tick()
    assert lab.kube.outcome(name) == "Refused"
    assert lab.kube.status["stage"] == "canary-10"


async def test_a_second_approval_is_stale():
    """Two people approve at once: one is applied, the other is told."""
    lab = await a_lab(approval={"mode": "Manual"})
    release(lab, "2")
    await waiting(lab, "shadow")
    names = [lab.kube.decide("Approve", "2", "shadow", approvedBy=who) for who in ("ana", "bob")]
    await lab.tick()
    assert [lab.kube.outcome(name) for name in names] == ["Applied", "Stale"]


async def test_an_edit_of_the_contract_voids_an_approval():
    """What was approved was judged by another contract."""
    lab = await a_lab(approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="shadow")
    lab.kube.decide("Approve", "2", "shadow")
    await lab.tick()
    loose = [{"name": "errors", "metric": "error-rate", "atMost": "1%"}]
    now = lab.now
    lab.kube.edit(contract={**a_body()["spec"]["contract"], "clauses": loose})
    await lab.tick()
    await waiting(lab, "shadow")
    assert lab.kube.status["decisions"][0]["voidSince"] == f"{now:%Y-%m-%dT%H:%M:%SZ}"


async def test_an_edit_of_the_contract_in_the_same_second_voids_an_approval():
    """Not even the contract of before, written back, makes it count again: its evidence has begun anew."""
    lab = await a_lab(approval={"mode": "Manual"})
    release(lab, "2")
    await lab.run(until="shadow")
    contract = copy.deepcopy(lab.kube.body["spec"]["contract"])
    moment = lab.now
    name = lab.kube.decide("Approve", "2", "shadow")
    for clauses in (None, [{"name": "errors", "metric": "error-rate", "atMost": "1%"}], contract["clauses"]):
        lab.now = moment
        lab.kube.edit(contract={**contract, "clauses": clauses or contract["clauses"]})
        await lab.tick()
    assert lab.kube.outcome(name) == "Applied"
    await waiting(lab, "shadow")
    lab.kube.decide("Approve", "2", "shadow")
    await lab.run(until="canary-10")


async def test_a_decision_about_no_release_is_stale():
    """It would wait for ever otherwise."""
    lab = await a_lab()
    name = lab.kube.decide("Rollback", "2")
    lab.kube.body = None
    await lab.tick()
    assert lab.kube.outcome(name) == "Stale"
    assert "no ModelRelease 'radar' in namespace fraud" in lab.kube.decisions[name]["status"]["message"]


async def test_lineage_is_kept_in_the_history():
    """It says where a model came from; to correct it starts no rollout."""
    lab = await a_lab()
    lab.kube.edit(model={"version": "2", "lineage": {"code": "git@1", "data": "s3://x"}})
    await lab.run(until="canary-10")
    lab.kube.edit(model={"version": "2", "lineage": {"code": "git@2", "data": "s3://x"}})
    await lab.run(until="Completed")
    assert lab.kube.status["history"][-1]["lineage"] == {"code": "git@2", "data": "s3://x"}
    assert reasons(lab).count("RolloutStarted") == 1


async def test_what_gates_were_left_on_goes_with_the_history():
    """One ConfigMap a gate, named in the history; with the entry that leaves it, they go."""
    lab = await a_lab(history=2)
    for version in ("2", "3"):
        release(lab, version)
        await lab.run(until="Completed")
    await lab.run()
    first, second = lab.kube.status["history"]
    assert len(first["evidence"]) == len(second["evidence"]) == 4
    assert set(lab.kube.dossiers) == {*first["evidence"], *second["evidence"]}
    assert all(it["immutable"] for it in lab.kube.dossiers.values())
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await lab.run(until="RolledBack")
    await lab.run()
    last = lab.kube.status["history"][-1]["evidence"]
    assert len(last) == 1
    assert set(lab.kube.dossiers) == {*second["evidence"], *last}


async def test_a_gate_is_not_passed_while_nothing_can_be_kept():
    """A quota on ConfigMaps holds a rollout where it is, visibly; it does not hold a rollback."""
    lab = await a_lab()
    revision = revision_of("2").name
    lab.kube.down = {f"keep radar-{revision}-{stage}" for stage in ("shadow", "canary-10")}
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.run(ticks=10)
    assert lab.kube.status["stage"] == "shadow"
    lab.metrics.rates["2"] = 0.9
    await lab.run(ticks=10)
    assert lab.kube.status["stage"] == "RolledBack"
    assert lab.kube.dossiers.keys().isdisjoint(lab.kube.status["history"][-1]["evidence"])
    lab.kube.down = set()
    await lab.run()
    assert set(lab.kube.status["history"][-1]["evidence"]) <= lab.kube.dossiers.keys()


async def test_people_are_told_that_nothing_can_be_kept():
    """The gate is looked at and shown as ever, what people decide is answered, and it goes on once there is room."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.kube.says_no["keep"] = "configmaps is forbidden: exceeded quota"
    promote = lab.kube.decide("Promote", "2")
    for _ in range(5):
        with suppress(Refused):
            await lab.tick()
        lab.now += timedelta(minutes=2)
    assert lab.kube.status["stage"] == "canary-10"
    why = "stage canary-10 is not left: its evidence cannot be kept: " + lab.kube.says_no["keep"]
    for kind, state in (("Ready", "False"), ("Stalled", "True")):
        told = condition(lab, kind)
        assert (told["status"], told["reason"], told["message"]) == (state, "EvidenceNotKept", why)
    assert condition(lab, "Reconciling") is None
    assert lab.kube.status["gate"]["evaluatedAt"] > lab.kube.status["stageStartTime"]
    assert lab.kube.outcome(promote) == "Applied"
    assert {"EvidenceNotKept", "NotApplied", "PromotionRequested"} <= set(reasons(lab))
    lab.kube.says_no.clear()
    await lab.run(until="full")
    assert condition(lab, "Stalled") is None


async def test_a_write_that_fails_once_is_no_reason_to_call_somebody():
    """Whether a ConfigMap was written is asked again soon; that is not stalled."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    lab.kube.down = {f"keep radar-{revision_of('2').name}-shadow"}
    for _ in range(10):
        with suppress(Unreachable):
            await lab.tick()
    assert condition(lab, "Reconciling")["reason"] == "EvidenceNotKept"
    assert condition(lab, "Stalled") is None


async def _journey(kube: FakeKube) -> Lab:
    """Approve, approve, roll back, retry, promote twice: every way in which a person moves a release."""
    lab = Lab(kube)
    await lab.run(until="Completed")
    release(lab, "2")
    for stage in ("shadow", "canary-10"):
        await lab.run(until=stage)
        lab.kube.decide("Approve", "2", stage)
    await lab.run(until="full")
    lab.kube.decide("Rollback", "2")
    await lab.run(until="RolledBack")
    lab.kube.decide("Retry", "2")
    await lab.run(until="shadow")
    lab.kube.decide("Promote", "2")
    await lab.run(until="full")
    lab.kube.decide("Promote", "2")
    await lab.run(until="Completed")
    for _ in range(3):
        await lab.run()
    return lab


@pytest.mark.slow
async def test_dying_after_any_write_neither_loses_nor_repeats_a_decision():
    """Wherever the operator dies, every decision is applied once and answered, and the cluster is the same."""
    body = a_body("1", stages=test_reconcile.QUICK, approval={"mode": "Manual"})
    calm = await _journey(FakeKube(body=copy.deepcopy(body)))
    want = calm.kube.cluster()
    assert set(want["outcomes"].values()) == {"Applied"}
    assert [len(entry["decisions"]) for entry in want["status"]["history"]] == [0, 3, 3]
    # Events, pods and Services are the other journeys' matter.
    matter = ("status", "outcome", "keep", "drop", "route")
    for index, write in enumerate(calm.kube.writes):
        if write.startswith(matter):
            lab = await _journey(FakeKube(body=copy.deepcopy(body), crash_at=index))
            assert lab.kube.crash_at is None, "the crash happened"
            assert lab.kube.cluster() == want, write
