"""What a hostile reviewer tried on whole rollouts: faults at the wrong moment, edits that nobody expects."""

import asyncio
import contextlib
import copy
from datetime import timedelta

import pytest

import modelrelease.reconcile
from modelrelease.adapters.errors import Forbidden, Overtaken, Refused, Unreachable
from tests.builders import NO_METRICS, a_body, revision_of
from tests.reconcile.fakes import FakeKube, FakeMetrics, Lab
from tests.reconcile.test_reconcile import ONE, THREE, TWO, a_lab, condition, reasons, release

pytestmark = pytest.mark.slow


async def test_a_route_that_cannot_be_written_stops_the_rollout():
    """Stages must not pass by while users see nothing of them."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.kube.objects["HTTPRoute", "radar"]["spec"]["rules"][0]["backendRefs"][1]["weight"] = 1
    lab.kube.down.add("route")
    for _ in range(100):
        try:
            await lab.tick()
        except Unreachable:
            lab.now += timedelta(minutes=1)
    assert lab.kube.status["stage"] == "canary-10"
    lab.kube.down.clear()
    await lab.run(until="canary-50")


async def test_the_second_version_is_judged_although_the_first_is_still_watched():
    """The first release's watch lasts a day; its successor is compared with it all the same."""
    lab = Lab(FakeKube(body=a_body("1")))
    await lab.run(until="full")
    await lab.tick()
    release(lab, "2")
    await lab.run(until="shadow")
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.mirror == TWO
    assert lab.kube.status["stable"]["version"] == "1"


class _Hanging(FakeMetrics):
    """A Prometheus that takes every question and answers none."""

    async def read(self, release, windows, baseline, candidate):
        await asyncio.sleep(3600)


async def test_a_prometheus_that_hangs_does_not_hold_users_with_a_dead_candidate(monkeypatch: pytest.MonkeyPatch):
    """What needs no metrics is decided without them."""
    monkeypatch.setattr(modelrelease.reconcile, "EVIDENCE_LIMIT", timedelta(milliseconds=10), raising=False)
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    lab.metrics = _Hanging(lab.kube)
    lab.kube.broken.add(revision_of("2").name)
    async with asyncio.timeout(5):
        await lab.run(until="RolledBack")
    assert lab.kube.weights == {ONE: 100}


async def test_a_prometheus_that_hangs_does_not_hold_what_a_person_decided(monkeypatch: pytest.MonkeyPatch):
    """Whoever asks for a rollback has seen enough: the numbers would be for the record alone."""
    monkeypatch.setattr(modelrelease.reconcile, "ROLLBACK_LIMIT", timedelta(milliseconds=10), raising=False)
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    lab.metrics = _Hanging(lab.kube)
    decision = lab.kube.decide("Rollback", "2")
    async with asyncio.timeout(5):
        await lab.run(until="RolledBack")
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.outcome(decision) == "Applied"


async def test_a_rare_look_does_not_leave_users_without_pods():
    """However long the interval of the analysis, missing pods are looked at again within seconds."""
    lab = await a_lab()
    release(lab, "2", analysis={"interval": "1h"})
    await lab.run(until="canary-50")
    lab.now += timedelta(minutes=4)
    lab.kube.broken.add(revision_of("2").name)
    lab.metrics.outage = NO_METRICS
    started = lab.now
    await lab.run(until="RolledBack")
    assert lab.now - started < timedelta(seconds=30)


async def test_a_gate_that_passed_is_announced_with_its_pass():
    """The event must not repeat the doubt of the look before."""
    lab = await a_lab()
    lab.metrics.per_second = 0.001
    release(lab, "2")
    await lab.run(until="shadow")
    for _ in range(30):
        await lab.tick()
    assert lab.kube.status["gate"]["verdict"] == "Inconclusive"
    lab.metrics.per_second = 500.0
    await lab.run(until="canary-10")
    passed = [message for reason, message in lab.kube.events if reason == "GatePassed"]
    assert "every clause holds" in passed[0]


async def test_a_stage_left_without_a_verdict_is_not_called_passed():
    """analysis.onInconclusive Advance moves on; the event says that nothing was proved."""
    lab = await a_lab(analysis={"onInconclusive": "Advance"})
    lab.metrics.per_second = 0.001
    release(lab, "2")
    await lab.run(until="canary-10")
    assert "GatePassed" not in reasons(lab)
    assert "GateInconclusive" in reasons(lab)


class _Picky(FakeKube):
    """An API server that refuses the candidate's Deployment, as it does a volume mount without a volume."""

    async def apply(self, manifest):
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == TWO:
            raise Refused("Deployment is invalid: volumeMounts[0].name: Not found: model")
        return await super().apply(manifest)


async def test_what_the_api_server_refuses_is_said():
    """A pod template that only the API server can judge must not fail in silence until the deadline."""
    lab = await a_lab()
    picky = _Picky(**vars(lab.kube))
    lab.kube = picky
    release(lab, "2")
    with pytest.raises(Refused):
        await lab.tick()
    assert ("NotApplied", "Deployment is invalid: volumeMounts[0].name: Not found: model") in picky.events


async def test_a_successor_of_a_first_release_that_failed_is_not_said_to_have_a_stable_revision():
    """There is none; the message must not promise one."""
    lab = Lab(FakeKube(body=a_body("1"), broken={revision_of("1").name}))
    await lab.run(until="Pending")
    release(lab, "2")
    await lab.tick()
    assert condition(lab, "Available")["status"] == "False"
    assert not [message for _, message in lab.kube.events if "is on the stable revision" in message]


async def test_a_successor_of_a_first_release_that_broke_its_contract_leaves_users_where_they_are():
    """They are answered by it until the next one can: it is looked after, and said to serve, but never returned to."""
    lab = Lab(FakeKube(body=a_body("1", analysis={"interval": "1m"})))
    lab.metrics.error_rate = 0.5
    await lab.run(until="full")
    await lab.run(ticks=5)
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(ticks=4)
    assert lab.kube.status["stage"] == "Pending"
    assert condition(lab, "Available")["message"] == "users are served by version 1 (100 %)"
    assert condition(lab, "TrafficInSync")["status"] == "True"
    assert "users stay on version 1 until the next one can serve" in dict(lab.kube.events)["RolloutCancelled"]

    del lab.kube.objects["Deployment", ONE]
    lab.kube.objects["HTTPRoute", "radar"]["spec"]["rules"][0]["backendRefs"] = []
    await lab.run(ticks=2)
    assert ("Deployment", ONE) in lab.kube.objects
    assert lab.kube.weights == {ONE: 100}

    release(lab, "3")
    lab.metrics.error_rate = 0.0
    await lab.tick()
    assert lab.kube.status["serving"]["version"] == "1", "the one in between has served nobody"
    await lab.run(until="full")
    assert lab.kube.weights == {THREE: 100}
    assert "serving" not in lab.kube.status
    await lab.run(until="Completed")
    await lab.run()
    assert {name for kind, name in lab.kube.objects if kind == "Deployment"} == {THREE}


async def test_a_first_release_whose_plan_is_edited_goes_on_serving():
    """Its rollout starts over; users stay, though none of its pods may be available now."""
    lab = Lab(FakeKube(body=a_body("1")))
    await lab.run(until="full")
    await lab.tick()
    lab.kube.edit(stages=[{"name": "watch", "full": {}, "bake": "1h"}])
    lab.kube.broken.add(revision_of("1").name)
    await lab.run(ticks=3)
    assert lab.kube.status["stage"] == "Pending"
    assert lab.kube.weights == {ONE: 100}
    assert condition(lab, "TrafficInSync")["status"] == "True"
    assert condition(lab, "Available")["message"] == "no pod of version 1 is available"
    lab.kube.broken.clear()
    await lab.run(until="watch")
    assert lab.kube.weights == {ONE: 100}


async def test_a_first_release_that_is_wanted_again_goes_on_serving():
    """Its successor is given up before it was ready: users never left."""
    lab = Lab(FakeKube(body=a_body("1", analysis={"interval": "1m"})))
    lab.metrics.error_rate = 0.5
    await lab.run(until="full")
    await lab.run(ticks=5)
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(ticks=3)
    release(lab, "1")
    lab.kube.writes.clear()
    await lab.run(until="full")
    assert lab.kube.weights == {ONE: 100}
    assert not [write for write in lab.kube.writes if write.startswith(("route", f"Deployment {ONE}"))]


@pytest.mark.parametrize("stage", ["Pending", "canary-50"])
async def test_what_was_missing_while_suspended_is_not_held_against_the_candidate(stage: str):
    """Suspended because the cluster is out of nodes, resumed before the last pod is back: no model is at fault."""
    lab = await a_lab()
    if stage == "Pending":
        lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(until=stage)
    lab.kube.edit(suspend=True)
    lab.kube.broken.add(revision_of("2").name)
    lab.now += timedelta(hours=1)
    await lab.tick()
    lab.now += timedelta(hours=1)
    lab.kube.edit(suspend=False)
    await lab.tick()
    await lab.tick()
    assert lab.kube.status["stage"] == stage
    await lab.run(until="RolledBack")


async def stop(lab: Lab, how: str) -> None:
    """Suspend the release, or make its spec invalid, for some forty minutes."""
    spec = copy.deepcopy(lab.kube.body["spec"])
    lab.kube.edit(**({"suspend": True} if how == "suspended" else {"server": {"port": "http", "template": {}}}))
    await lab.tick()
    lab.now += timedelta(minutes=40)
    await lab.tick()
    lab.kube.edit(**{**spec, "suspend": False})


@pytest.mark.parametrize("how", ["suspended", "invalid"])
@pytest.mark.parametrize("what", ["pods", "metrics"])
async def test_what_was_missing_before_a_stop_and_after_it_was_not_missing_all_the_time(what: str, how: str):
    """One look without it before, one after, and nobody looked in between: no deadline is over."""
    lab = await a_lab(analysis={"interval": "1m", "onNoMetrics": "Rollback"})
    release(lab, "2")
    await lab.run(until="canary-10")

    def missing(outage) -> None:
        lab.metrics.outage = NO_METRICS if what == "metrics" and outage else None
        lab.kube.broken = {revision_of("2").name} if what == "pods" and outage else set()

    missing(outage=True)
    await lab.tick()
    missing(outage=False)
    await stop(lab, how)
    missing(outage=True)
    await lab.tick()
    assert lab.kube.status["stage"] == "canary-10"
    await lab.run(until="RolledBack")


async def test_a_prometheus_that_is_moved_while_the_release_is_suspended_is_not_late():
    """It is down all the time, and for a moment after; the metrics deadline begins with the resume."""
    lab = await a_lab(analysis={"interval": "1m", "onNoMetrics": "Rollback", "metricsDeadline": "30m"})
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.metrics.outage = NO_METRICS
    await stop(lab, "suspended")
    assert condition(lab, "MetricsAvailable")["status"] == "False"
    resumed = lab.now
    await lab.run(until="RolledBack")
    assert timedelta(minutes=30) < lab.now - resumed < timedelta(minutes=35)


@pytest.mark.parametrize("how", ["suspended", "invalid"])
async def test_a_stop_is_no_time_of_a_stages_deadline(how: str):
    """A stage of an hour has it, whatever it was stopped for meanwhile: three times, and late in it."""
    lab = await a_lab(analysis={"interval": "1m", "onInconclusive": "Rollback"})
    lab.metrics.per_second = 0.001
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.tick()
    begun = lab.now
    for _ in range(3):
        lab.now += timedelta(minutes=15)
        await stop(lab, how)
        await lab.tick()
        assert lab.kube.status["stage"] == "shadow"
    await lab.run(until="RolledBack")
    assert lab.kube.status["rejected"][-1]["reason"] == "DeadlineExceeded"
    stopped = 3 * timedelta(minutes=42)  # with the two looks
    assert timedelta(hours=1) < lab.now - begun - stopped < timedelta(hours=1, minutes=5)


@pytest.mark.parametrize("stopped", ["", "suspended", "invalid"])
async def test_the_silence_of_prometheus_is_no_time_of_a_stages_deadline(stopped: str):
    """It is down for longer than the stage may wait, and onNoMetrics says Hold: no model is at fault."""
    lab = await a_lab(analysis={"interval": "1m", "onInconclusive": "Rollback", "onNoMetrics": "Hold"})
    lab.metrics.per_second = 0.001
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.tick()
    begun = lab.now
    lab.metrics.outage = NO_METRICS
    for _ in range(3):
        await lab.tick()
        lab.now += timedelta(minutes=40)
    if stopped:
        await stop(lab, stopped)
    lab.metrics.outage = None
    silent = lab.now - begun
    await lab.tick()
    assert lab.kube.status["stage"] == "shadow"
    await lab.run(until="RolledBack")
    assert lab.kube.status["rejected"][-1]["reason"] == "DeadlineExceeded"
    assert timedelta(hours=1) < lab.now - begun - silent < timedelta(hours=1, minutes=5)


async def test_an_invalid_spec_does_not_keep_old_claims():
    """Users lose their pods while a person repairs the spec: Available says so."""
    lab = await a_lab()
    lab.kube.edit(server={"port": "http", "template": {}})
    await lab.tick()
    assert condition(lab, "Available")["status"] == "True"
    assert condition(lab, "TrafficInSync") is None, "nobody looks at the route"
    lab.kube.broken.add(revision_of("1").name)
    await lab.tick()
    assert condition(lab, "Available")["status"] == "False"
    assert condition(lab, "Stalled")["reason"] == "InvalidSpec"


BAD_PROMQL = {"name": "error-rate", "ratio": {"events": "r_total{", "of": "r_total"}}


async def test_an_invalid_spec_does_not_keep_users_on_a_candidate_that_was_rolled_back():
    """The route could not be written when the rollback was recorded; then came an edit that only we can refuse."""
    lab = await a_lab(traffic={"gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": ["radar.example.com"]}})
    release(lab, "2")
    await lab.run(until="canary-50")
    await lab.tick()
    lab.metrics.rates["2"] = 0.4
    lab.kube.down.add("route")
    while lab.kube.status["stage"] != "RolledBack":
        with contextlib.suppress(Unreachable):
            await lab.tick()
    contract = a_body()["spec"]["contract"]
    lab.kube.edit(contract={**contract, "metrics": [contract["metrics"][0], BAD_PROMQL]})
    with pytest.raises(Unreachable):
        await lab.tick()
    assert lab.kube.weights == {ONE: 50, TWO: 50}
    lab.kube.down.clear()
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.objects["HTTPRoute", "radar"]["spec"]["hostnames"] == ["radar.example.com"]
    assert condition(lab, "Stalled")["reason"] == "InvalidSpec"
    lab.kube.writes.clear()
    await lab.tick()
    assert lab.kube.writes == []


async def test_an_invalid_name_is_told_without_asking_for_its_children():
    """Such a name is no label value: the API server would refuse the question, and nobody would hear of the mistake."""
    body = a_body()
    body["metadata"]["name"] = "r" * 70
    lab = Lab(_NoQuestions(body=body))
    await lab.tick()
    assert "metadata.name" in condition(lab, "Stalled")["message"]


class _NoQuestions(FakeKube):
    async def read_children(self, namespace, name, uid, revisions):
        raise Refused("unable to parse requirement: values must be no more than 63 characters")


async def test_asking_for_a_rejected_revision_again_is_an_event():
    """Back on stable, and then the rejected version once more: nothing starts, and somebody must hear of it."""
    lab = await a_lab()
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await lab.run(until="RolledBack")
    release(lab, "1")
    await lab.run(until="Completed")
    lab.kube.events.clear()
    release(lab, "2")
    await lab.tick()
    assert reasons(lab) == ["RevisionRejected"]
    await lab.tick()
    assert reasons(lab) == ["RevisionRejected"]


async def test_an_object_that_somebody_else_just_wrote_is_no_news():
    """The next tick reads it and decides anew; people need not hear of it."""

    class Overtaking(FakeKube):
        async def apply(self, manifest):
            raise Overtaken("the object has been modified")

    lab = await a_lab()
    lab.kube = Overtaking(**vars(lab.kube))
    release(lab, "2")
    with pytest.raises(Overtaken):
        await lab.tick()
    assert "NotApplied" not in reasons(lab)


async def test_what_somebody_else_has_made_his_own_is_not_deleted():
    """A candidate's Deployment got another owner while it drained: it stays, and nothing is wrong with that."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    release(lab, "1")
    await lab.run(until="Completed")
    taken = lab.kube.objects["Deployment", TWO]
    taken["metadata"]["ownerReferences"][0]["uid"] = "somebody"
    await lab.run()
    assert lab.kube.objects["Deployment", TWO] is taken
    assert ("Service", TWO) not in lab.kube.objects


async def test_a_route_that_is_left_over_is_not_called_in_sync():
    """The release was restored from a backup without its status: it gives users to nobody, whatever the route says."""
    lab = Lab(FakeKube(body=a_body("1")))
    await lab.run(until="full")
    await lab.tick()
    del lab.kube.body["status"]
    lab.kube.broken.add(revision_of("1").name)
    await lab.tick()
    await lab.tick()
    assert lab.kube.status["stage"] == "Pending"
    assert lab.kube.weights == {ONE: 100}
    assert condition(lab, "TrafficInSync") is None


class _Full(FakeKube):
    """An API server whose quota has no room for one kind of objects of the candidate."""

    full: str = ""

    async def apply(self, manifest):
        name = manifest["metadata"]["name"]
        if manifest["kind"] == self.full and name == TWO and (self.full, name) not in self.objects:
            raise Forbidden(f"exceeded quota: {self.full}")
        return await super().apply(manifest)


async def _ticks(lab: Lab, count: int) -> set[int]:
    """Return which shares of users the candidate was seen to have."""
    shares = set()
    for _ in range(count):
        with contextlib.suppress(Refused):
            await lab.tick()
            continue
        lab.now += timedelta(minutes=1)
        shares.add(lab.kube.weights.get(TWO, 0))
    return shares


@pytest.mark.parametrize(("kind", "why"), [("Service", "has no Service"), ("ControllerRevision", "is not stored")])
async def test_a_candidate_that_lacks_an_object_gets_no_users(kind: str, why: str):
    """Without a Service users get errors, and without its content nobody could make its pods again; pods are there."""
    lab = await a_lab(stages=a_body()["spec"]["stages"][1:])
    lab.kube = _Full(**vars(lab.kube))
    lab.kube.full = kind
    release(lab, "2")
    assert await _ticks(lab, 4) == {0}
    assert lab.kube.objects["Deployment", TWO]
    assert why in condition(lab, "Ready")["message"]
    assert await _ticks(lab, 20) == {0}
    assert lab.kube.status["stage"] == "RolledBack"
    assert why in lab.kube.status["rejected"][0]["message"]


async def test_users_leave_a_candidate_whose_service_cannot_be_made_again():
    """Its pods answer, and nobody can reach them: that is as bad as no pods."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    lab.kube = _Full(**vars(lab.kube))
    lab.kube.full = "Service"
    del lab.kube.objects["Service", TWO]
    await _ticks(lab, 4)
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.status["rejected"][0]["reason"] == "CandidateUnavailable"
