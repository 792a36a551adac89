"""
Edits in mid-rollout, by kubectl or by Git, through the real reconcile and the real judge: none ends in silence.

What users get at once, what has to wait for a gate, and what begins anew.
"""

import copy
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrelease.adapters.errors import Refused
from modelrelease.core.counts import StageCounts
from tests.builders import NO_METRICS, a_body
from tests.reconcile.fakes import FakeKube, Lab, accepted
from tests.reconcile.test_decisions import a_lab, approved, waiting
from tests.reconcile.test_reconcile import ONE, TWO, condition, reasons, release

STAGES = [{**stage, "bake": "2m", "deadline": "20m"} for stage in a_body()["spec"]["stages"]]


def with_stage(name: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the plan with fields of one stage replaced."""
    return [{**stage, **fields} if stage["name"] == name else copy.deepcopy(stage) for stage in STAGES]


async def a_lab_in(stage: str, **spec: Any) -> Lab:
    """Return a cluster on which version 2 is in *stage* for a while."""
    lab = await a_lab(stages=copy.deepcopy(STAGES), **spec)
    release(lab, "2")
    await lab.run(until=stage)
    for _ in range(2):
        await lab.tick()
    return lab


def stages(lab: Lab) -> list[tuple[str, int]]:
    return [(it["name"], it["percent"]) for it in lab.kube.status["candidate"]["stages"]]


def told(lab: Lab, reason: str) -> list[str]:
    return [message for its, message in lab.kube.events if its == reason]


@pytest.mark.parametrize("blind", [False, True], ids=["judged", "without metrics"])
async def test_fewer_users_are_taken_up_at_once_and_the_stage_begins_anew(blind):
    """The very next look writes the route, first and alone; the evidence of both shares is kept apart."""
    lab = await a_lab_in("canary-50")
    lab.metrics.outage = NO_METRICS if blind else None
    await lab.tick()
    lab.kube.writes.clear()
    edited_at = lab.now
    lab.kube.edit(stages=with_stage("canary-50", canary={"percent": 20}))
    await lab.tick()
    assert lab.kube.weights == {ONE: 80, TWO: 20}
    assert [it for it in lab.kube.writes if not it.startswith(("event", "keep"))] == ["status", "route"]
    assert lab.kube.status["stage"] == "canary-50"
    assert lab.kube.status["stable"]["weight"] == 80
    assert stages(lab) == [("shadow", 100), ("canary-10", 10), ("canary-50", 50), ("canary-50", 20)]
    (message,) = told(lab, "StageChanged")
    assert message.startswith("stage canary-50: spec.stages asks for 20 % of requests instead of 50 %")
    lab.metrics.outage = None
    await lab.run(until="full")
    assert lab.now - edited_at >= timedelta(minutes=2)
    assert [name for name, _, _ in lab.metrics.asked[-1]] == ["shadow", "canary-10", "canary-50", "canary-50"]
    assert "GateInconclusive" not in reasons(lab)


async def test_more_users_wait_for_the_gate_and_are_judged_anew():
    """Who raises the share of an open stage is told at once what it waits for; no gate is skipped."""
    lab = await a_lab_in("canary-10")
    lab.kube.edit(stages=with_stage("canary-10", canary={"percent": 30}))
    await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    assert lab.kube.status["candidate"]["stages"][-1]["raiseTo"] == 30
    assert "asks for 30 % of requests in stage canary-10: it gets them when" in condition(lab, "Reconciling")["message"]
    assert len(told(lab, "StageChanged")) == 1
    while lab.kube.weights == {ONE: 90, TWO: 10}:
        await lab.tick()
    assert lab.kube.weights == {ONE: 70, TWO: 30}
    assert stages(lab) == [("shadow", 100), ("canary-10", 10), ("canary-10", 30)]
    assert told(lab, "GatePassed")[-1].startswith("stage canary-10: every clause holds")
    assert told(lab, "CanaryStarted")[-1] == "stage canary-10: version 2 answers 30 % of requests"
    assert "raiseTo" not in lab.kube.status["candidate"]["stages"][-1]
    await lab.run(until="canary-50")
    assert len(told(lab, "StageChanged")) == 1
    assert len(told(lab, "GatePassed")) == 3


async def test_a_raise_that_a_person_approved_is_told_as_that():
    """The gate is late; the approval is used up by the raise, and void in the very look that follows it."""
    lab = await a_lab_in("canary-10")
    lab.metrics.per_second = 0.01
    lab.kube.edit(stages=with_stage("canary-10", canary={"percent": 30}))
    while condition(lab, "Reconciling")["reason"] != "DeadlineExceeded":
        await lab.tick()
    lab.kube.decide("Approve", "2", "canary-10")
    while lab.kube.weights == {ONE: 90, TWO: 10}:
        await lab.tick()
    assert lab.kube.status["decisions"][-1]["voidSince"]
    assert "stage canary-10 is left as ana decided, whatever its gate says" in told(lab, "GateOverruled")[-1]
    assert "onInconclusive" not in " ".join(told(lab, "GateInconclusive"))


async def test_a_candidate_that_is_bad_gets_no_more_users():
    """A raise takes nothing away from a breach."""
    lab = await a_lab_in("canary-10")
    lab.metrics.rates["2"] = 0.4
    lab.kube.edit(stages=with_stage("canary-10", canary={"percent": 30}))
    await lab.run(until="RolledBack")
    assert lab.kube.weights == {ONE: 100}
    assert "30 %" not in " ".join(told(lab, "CanaryStarted"))


async def test_a_raise_that_is_taken_back_leaves_no_trace():
    lab = await a_lab_in("canary-10")
    lab.kube.edit(stages=with_stage("canary-10", canary={"percent": 30}))
    await lab.tick()
    lab.kube.edit(stages=copy.deepcopy(STAGES))
    await lab.tick()
    assert "raiseTo" not in lab.kube.status["candidate"]["stages"][-1]
    assert "asks for" not in condition(lab, "Reconciling")["message"]
    await lab.run(until="canary-50")
    assert stages(lab) == [("shadow", 100), ("canary-10", 10), ("canary-50", 50)]


@pytest.mark.parametrize("percent", [30, 100])
async def test_the_copies_of_a_shadow_change_at_once(percent):
    """No user sees them, be they more or fewer."""
    first = with_stage("shadow", shadow={"percent": 60})
    lab = await a_lab(stages=first)
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.tick()
    lab.kube.edit(stages=with_stage("shadow", shadow={"percent": percent}))
    await lab.tick()
    assert lab.kube.status["candidate"]["mirrorPercent"] == percent
    assert stages(lab) == [("shadow", 60), ("shadow", percent)]
    (message,) = told(lab, "StageChanged")
    assert f"asks for copies of {percent} % of requests instead of 60 %" in message
    await lab.run(until="canary-10")


@pytest.mark.parametrize("percent", [4, 30])
async def test_an_approval_counts_for_the_share_that_it_was_given_for(percent):
    """Whoever approved ten percent has not approved more, nor what fewer will show."""
    lab = await a_lab_in("canary-10", approval={"mode": "Auto"})
    lab.kube.edit(stages=with_stage("canary-10", approval="Required"))
    await waiting(lab, "canary-10")
    lab.kube.edit(stages=with_stage("canary-10", approval="Required", canary={"percent": percent}))
    name = lab.kube.decide("Approve", "2", "canary-10")
    while lab.kube.status["candidate"]["weight"] == 10:
        await lab.tick()
    assert lab.kube.outcome(name) == "Applied"
    assert lab.kube.status["decisions"][0]["voidSince"]
    await waiting(lab, "canary-10")
    assert lab.kube.status["candidate"]["weight"] == percent
    await approved(lab, "canary-10")
    assert lab.kube.status["stage"] == "canary-50"


async def test_fewer_users_while_a_person_decides_about_a_breach():
    """The hand that takes users off a candidate is not tied by the question whether it may go on."""
    contract = a_body()["spec"]["contract"]
    held = [{**clause, "onBreach": "Hold"} for clause in contract["clauses"]]
    lab = await a_lab_in("canary-50", contract={**contract, "clauses": held})
    lab.metrics.rates["2"] = 0.3
    await waiting(lab, "canary-50")
    lab.kube.edit(stages=with_stage("canary-50", canary={"percent": 11}))
    await lab.tick()
    assert lab.kube.weights == {ONE: 89, TWO: 11}
    await waiting(lab, "canary-50")
    assert condition(lab, "AwaitingApproval")["reason"] == "BreachHeld", "what was proved is not forgotten"


async def test_the_bake_of_the_open_stage_is_the_spec_s_at_every_moment():
    """It counts from when the stage began, whatever it was then."""
    lab = await a_lab_in("canary-10")
    lab.kube.edit(stages=with_stage("canary-10", bake="8m"))
    entered = lab.now
    await lab.run(until="canary-50")
    assert lab.now - entered >= timedelta(minutes=6)


async def test_a_stage_that_is_renamed_starts_the_rollout_over_and_says_why():
    lab = await a_lab_in("canary-10")
    lab.kube.edit(stages=[{**stage, "name": stage["name"].replace("canary-", "c")} for stage in STAGES])
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    why = "stage canary-10 is no longer in spec.stages: the rollout starts over"
    assert why in told(lab, "RolloutCancelled")[-1]
    assert lab.kube.status["history"][-1]["message"] == why
    await lab.run(until="c10")


async def test_a_rollout_that_starts_over_keeps_its_pods_until_users_have_left_them():
    """The shadow needs one pod; three have all users until the Gateway has followed and their answers are given."""
    lab = await a_lab_in("full")
    lab.kube.gateway_answers = False
    lab.kube.edit(stages=[*STAGES[:-1], {**STAGES[-1], "name": "all"}])
    for _ in range(15):
        await lab.tick()
        assert lab.kube.weights == {ONE: 100}
        assert lab.kube.objects["Deployment", TWO]["spec"]["replicas"] == 3
    route = lab.kube.objects["HTTPRoute", "radar"]
    lab.kube.gateway_answers = True
    route["status"] = {"parents": [accepted(parent) for parent in route["spec"]["parentRefs"]]}
    await lab.tick()
    assert lab.kube.objects["Deployment", TWO]["spec"]["replicas"] == 1
    await lab.run(until="Completed")


async def test_a_stage_put_before_the_open_one_is_for_the_next_rollout():
    lab = await a_lab_in("canary-50")
    plan = copy.deepcopy(STAGES)
    plan.insert(2, {"name": "canary-20", "canary": {"percent": 20}, "bake": "2m"})
    lab.kube.edit(stages=plan)
    await lab.run(until="full")
    assert "canary-20" not in [name for name, _ in stages(lab)]


# Prometheus forgets.


def forgetting(lab: Lab, until: datetime) -> None:
    """Let Prometheus know nothing from before *until*."""

    def seen_as(stage: StageCounts) -> StageCounts:
        began = next(start for name, start, _ in reversed(lab.metrics.asked[-1]) if name == stage.stage)
        return replace(stage, counts={}, forgotten=(True, True)) if began < until else stage

    lab.metrics.seen_as = seen_as


async def test_a_stage_whose_evidence_is_lost_begins_anew_once():
    """Its bake and its deadline too; it is told, and what a person said counts on."""
    lab = await a_lab_in("canary-10")
    lab.kube.edit(stages=with_stage("canary-10", approval="Required"))
    await lab.tick()
    lab.kube.decide("Approve", "2", "canary-10")
    await lab.tick()
    lost_at = lab.now
    forgetting(lab, lost_at)
    await lab.tick()
    record = lab.kube.status["candidate"]["stages"][-1]
    assert f"{lost_at:%Y-%m-%dT%H:%M:%SZ}" == record["startTime"] == lab.kube.status["stageStartTime"]
    assert stages(lab) == [("shadow", 100), ("canary-10", 10)]
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    (message,) = told(lab, "EvidenceLost")
    assert message.startswith("Prometheus has no samples of the baseline and the candidate from when stage canary-10")
    await lab.run(until="canary-50")
    assert lab.now - lost_at >= timedelta(minutes=2)
    assert len(told(lab, "EvidenceLost")) == 1


# To where there is no Gateway.

NOWHERE = {"gatewayAPI": {"parentRefs": [{"name": "pubilc"}]}}


def parents(lab: Lab) -> list[str]:
    return [it["name"] for it in lab.kube.objects["HTTPRoute", "radar"]["spec"]["parentRefs"]]


async def test_a_route_is_not_moved_to_a_gateway_that_does_not_exist():
    """A slip of the pen costs no user anything: it is told, and the route stays until there is that Gateway."""
    lab = await a_lab(stages=copy.deepcopy(STAGES))
    there, lab.kube.gateway = lab.kube.gateway, None
    lab.kube.edit(traffic=NOWHERE)
    await lab.tick()
    assert parents(lab) == ["public"]
    assert condition(lab, "Ready")["reason"] == condition(lab, "Stalled")["reason"] == "GatewayNotFound"
    (message,) = told(lab, "GatewayNotFound")
    assert "Gateway fraud/pubilc does not exist" in message
    lab.kube.gateway = there
    await lab.tick()
    assert parents(lab) == ["pubilc"]
    await lab.tick()
    assert condition(lab, "Ready")["status"] == "True"


@pytest.mark.parametrize("bad", [False, True])
async def test_a_rollout_whose_route_would_lead_nowhere_holds_and_can_be_rolled_back(bad):
    lab = await a_lab_in("canary-10")
    there, lab.kube.gateway = lab.kube.gateway, None
    lab.kube.edit(traffic=NOWHERE)
    for _ in range(12):
        await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    assert parents(lab) == ["public"]
    assert condition(lab, "Stalled")["reason"] == "GatewayNotFound"
    if bad:
        lab.metrics.rates["2"] = 0.4
        await lab.run(until="RolledBack")
        assert lab.kube.weights == {ONE: 100}
        assert parents(lab) == ["public"]
        return
    lab.kube.gateway = there
    await lab.run(until="canary-50")
    assert parents(lab) == ["pubilc"]


# To a route that is none.


class _Typed(FakeKube):
    """An API server that refuses a route with what is no match, as the Gateway API's CRDs do."""

    async def apply(self, manifest):
        rules = manifest["spec"]["rules"] if manifest["kind"] == "HTTPRoute" else []
        paths = [match["path"] for rule in rules for match in rule["matches"]]
        if not all(isinstance(path, dict) and path["value"].startswith("/") for path in paths):
            raise Refused("spec.rules[0].matches[0].path: value must be an absolute path and start with '/'")
        return await super().apply(manifest)


async def a_lab_with_a_bad_route(stage: str, path: object) -> Lab:
    lab = await a_lab_in(stage)
    lab.kube = _Typed(**vars(lab.kube))
    lab.kube.edit(traffic={"gatewayAPI": {"parentRefs": [{"name": "public"}], "matches": [{"path": path}]}})
    return lab


async def refused_ticks(lab: Lab, count: int) -> None:
    for _ in range(count):
        with suppress(Refused):
            await lab.tick()
            continue
        lab.now += timedelta(minutes=1)


@pytest.mark.parametrize("path", ["/v1", {"value": "v1"}, [None]])
async def test_a_route_that_the_api_server_refuses_keeps_nobody_on_a_bad_candidate(path):
    """Where requests come from waits for a better edit; who answers them does not."""
    lab = await a_lab_with_a_bad_route("canary-50", path)
    lab.metrics.rates["2"] = 0.4
    await refused_ticks(lab, 20)
    assert lab.kube.status["stage"] == "RolledBack"
    assert lab.kube.weights == {ONE: 100}
    assert [reason for reason, _ in lab.kube.events].count("NotApplied") >= 1
    writes = len(lab.kube.writes)
    await refused_ticks(lab, 5)
    assert "route" not in lab.kube.writes[writes:]


async def test_a_route_that_the_api_server_refuses_gives_nobody_to_a_candidate():
    """A person skips the rest of the plan: users follow when the route is one."""
    lab = await a_lab_with_a_bad_route("canary-10", "/v1")
    await refused_ticks(lab, 20)
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    lab.kube.decide("Promote", "2")
    await refused_ticks(lab, 5)
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    lab.kube.edit(traffic={"gatewayAPI": {"parentRefs": [{"name": "public"}]}})
    await lab.run(until="Completed")
    assert lab.kube.weights == {TWO: 100}


# What was rolled back.


async def test_the_eleventh_rejected_revision_lets_the_first_be_tried_again_from_the_beginning():
    """Only an edit back to it does; whoever applies the same spec over and over brings nothing about."""
    lab = await a_lab(stages=copy.deepcopy(STAGES))
    versions = [f"bad-{number}" for number in range(11)]
    for version in versions:
        lab.metrics.rates[version] = 0.4
        release(lab, version)
        await lab.run(until="RolledBack")
        release(lab, version)
        for _ in range(3):
            await lab.tick()
        assert lab.kube.status["stage"] == "RolledBack"
    assert [it["version"] for it in lab.kube.status["rejected"]] == versions[1:]
    release(lab, versions[1])
    for _ in range(3):
        await lab.tick()
    assert condition(lab, "Stalled")["reason"] == "RolledBack"
    release(lab, versions[0])
    await lab.run(until="shadow")
    assert "RolloutStarted" in reasons(lab)
    assert lab.kube.weights == {ONE: 100}
    await lab.run(until="RolledBack")
