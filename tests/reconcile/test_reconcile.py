"""The life of a rollout, through the real reconcile and the real judge: what users get at every moment."""

import copy
import itertools
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from modelrelease.adapters.errors import UnknownKind, Unreachable
from modelrelease.reconcile import reconcile
from tests.builders import NO_METRICS, a_body, revision_of
from tests.reconcile.fakes import FakeKube, Lab

ONE, TWO, THREE = (f"radar-{revision_of(version).name}" for version in "123")
STAGES = a_body()["spec"]["stages"]


async def a_lab(version: str = "1", **spec) -> Lab:
    """Return a cluster on which *version* is the release."""
    lab = Lab(FakeKube(body=a_body(version, **{"analysis": {"interval": "1m"}, **spec})))
    await lab.run(until="Completed")
    await lab.run()
    lab.kube.events.clear()
    lab.kube.writes.clear()
    return lab


def release(lab: Lab, version: str, **spec) -> None:
    lab.kube.edit(model={"version": version}, **spec)


def reasons(lab: Lab) -> list[str]:
    return [reason for reason, _ in lab.kube.events]


def condition(lab: Lab, kind: str):
    return next((c for c in lab.kube.status["conditions"] if c["type"] == kind), None)


async def test_the_first_release_goes_straight_to_full():
    """There is nothing to compare with; it serves as soon as its pods are there."""
    lab = Lab(FakeKube(body=a_body("1")))
    await lab.run(until="full")
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    await lab.run(until="Completed")
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.status["stable"]["version"] == "1"
    assert reasons(lab) == ["InitialRelease", "Promoted", "WatchStarted", "Completed"]


async def test_a_good_version_goes_through_every_stage():
    """Shadow, canary, full, completed: users see what the stage says, and pods are promoted in place."""
    lab = await a_lab()
    release(lab, "2")
    seen = []
    for stage in ("shadow", "canary-10", "canary-50", "full", "Completed"):
        await lab.run(until=stage)
        seen.append((stage, lab.kube.weights, lab.kube.mirror))
    assert seen == [
        ("shadow", {ONE: 100}, TWO),
        ("canary-10", {ONE: 90, TWO: 10}, None),
        ("canary-50", {ONE: 50, TWO: 50}, None),
        ("full", {TWO: 100}, None),
        ("Completed", {TWO: 100}, None),
    ]
    await lab.run()
    assert {name for kind, name in lab.kube.objects if kind == "Deployment"} == {TWO}
    assert condition(lab, "Ready")["status"] == "True"
    assert reasons(lab) == [
        *["RolloutStarted", "ShadowStarted", "ScalingUp", "GatePassed", "CanaryStarted", "GatePassed"],
        *["CanaryStarted", "GatePassed", "Promoted", "WatchStarted", "Completed"],
    ]


async def test_the_shadow_is_small_and_grows_before_its_weight_rises():
    """The candidate has shadowReplicas in shadow, and all its pods before a user meets it."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    await lab.tick()
    assert lab.kube.objects["Deployment", TWO]["spec"]["replicas"] == 1
    await lab.run(until="canary-10")
    scaled, routed = (
        max(i for i, w in enumerate(lab.kube.writes) if w == what) for what in (f"Deployment {TWO}", "route")
    )
    assert lab.kube.objects["Deployment", TWO]["spec"]["replicas"] == 3
    assert scaled < routed


@pytest.mark.parametrize("stage", ["shadow", "canary-10", "canary-50"])
async def test_a_breach_returns_all_users_to_stable_at_once(stage: str):
    """The route is the first write after the record, alone; then the candidate is scaled away; it stays rejected."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until=stage)
    for _ in range(3):
        await lab.tick()
    lab.metrics.rates["2"] = 0.4
    lab.kube.writes.clear()
    while lab.kube.status["stage"] != "RolledBack":
        lab.kube.writes.clear()
        await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.mirror is None
    assert lab.kube.writes[:2] == ["status", "route"]
    # What the gate was left on is kept once users are back; nothing else is written in that tick.
    assert {w.split()[0] for w in lab.kube.writes[2:]} <= {"keep", "event"}
    await lab.run()
    assert ("Deployment", TWO) not in lab.kube.objects
    rejected = lab.kube.status["rejected"][-1]
    assert (rejected["version"], rejected["stage"], rejected["clause"]) == ("2", stage, "steady")
    assert condition(lab, "Stalled")["reason"] == "RolledBack"
    assert condition(lab, "Available")["status"] == "True"
    assert reasons(lab)[-3:] == ["ContractBreached", "RolledBack", "RevisionRejected"]
    recorded = [(it["reason"], it["time"]) for it in lab.kube.status["announcements"]]
    assert [reason for reason, _ in recorded] == reasons(lab)[-3:]
    assert [time for _, time in recorded] == sorted({time for _, time in recorded}), "each is a little later"
    for _ in range(5):
        await lab.tick()
    assert lab.kube.status["stage"] == "RolledBack"


async def test_an_edit_in_mid_rollout_replaces_the_candidate():
    """Traffic goes back to stable first; the new candidate starts from the beginning."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    release(lab, "3")
    lab.kube.writes.clear()
    await lab.tick()
    assert lab.kube.writes[:2] == ["status", "route"]
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.status["stage"] == "Pending"
    assert lab.kube.status["history"][-1]["outcome"] == "Superseded"
    await lab.run(until="shadow")
    assert lab.kube.mirror == THREE
    await lab.run(until="Completed")
    await lab.run()
    assert {name for kind, name in lab.kube.objects if kind == "Deployment"} == {THREE}


async def test_two_edits_within_a_second_are_two_rollouts():
    """Status holds whole seconds; both rollouts are told, and the end of the first one."""
    lab = await a_lab()
    release(lab, "2")
    await reconcile("fraud", "radar", lab.world, lab.now)
    release(lab, "3")
    await reconcile("fraud", "radar", lab.world, lab.now + timedelta(milliseconds=400))
    assert reasons(lab) == ["RolloutStarted", "RolloutCancelled", "RolloutStarted"]
    assert lab.kube.status["candidate"]["version"] == "3"


async def test_a_revert_to_stable_cancels_without_blame():
    """git revert: users are on stable, nothing is rejected, the release is Ready."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    release(lab, "1")
    await lab.run()
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.status.get("rejected", []) == []
    assert lab.kube.status["history"][-1]["outcome"] == "Cancelled"
    assert condition(lab, "Ready")["status"] == "True"
    assert ("Deployment", TWO) not in lab.kube.objects


async def test_after_a_rollback_a_revert_makes_the_release_ready():
    """Asking for what users have is always fine."""
    lab = await a_lab()
    lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    await lab.run(until="RolledBack")
    release(lab, "1")
    await lab.run()
    assert condition(lab, "Ready")["status"] == "True"
    assert condition(lab, "Stalled") is None
    assert lab.kube.status.get("candidate") is None


async def test_suspend_freezes_traffic_and_resume_goes_on():
    """spec.suspend: nothing moves; taken away, the rollout goes on."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.kube.edit(suspend=True)
    for _ in range(30):
        await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    assert condition(lab, "Reconciling")["reason"] == "Suspended"
    lab.kube.edit(suspend=False)
    await lab.run(until="canary-50")


async def test_an_outage_of_prometheus_is_no_verdict():
    """No metrics: hold, say so, move nothing; when they are back, go on."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    lab.metrics.outage = NO_METRICS
    for _ in range(60):
        await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    assert condition(lab, "MetricsAvailable")["status"] == "False"
    lab.metrics.outage = None
    await lab.run(until="canary-50")
    assert condition(lab, "MetricsAvailable") is None or condition(lab, "MetricsAvailable")["status"] == "True"
    assert reasons(lab).count("MetricsUnavailable") == 1


async def test_an_edited_route_is_repaired_and_reported():
    """Weights follow status, never the live route."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    await lab.tick()
    lab.kube.objects["HTTPRoute", "radar"]["spec"]["rules"][0]["backendRefs"][1]["weight"] = 90
    await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    assert condition(lab, "TrafficInSync")["reason"] == "Drifted"
    assert "TrafficDrifted" in reasons(lab)
    await lab.tick()
    assert condition(lab, "TrafficInSync")["status"] == "True"


async def test_a_route_that_could_not_be_written_is_nobodys_drift():
    """The write fails, or the operator dies before it: nobody is told that somebody else changed the route."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="shadow")
    lab.kube.down.add("route")
    while lab.kube.status["stage"] == "shadow":
        with suppress(Unreachable):
            await lab.tick()
    for _ in range(3):
        assert lab.kube.weights == {ONE: 100}
        assert condition(lab, "TrafficInSync")["reason"] == "NotWritten"
        with pytest.raises(Unreachable):
            await lab.tick()
    lab.kube.down.clear()
    await lab.tick()
    assert lab.kube.weights == {ONE: 90, TWO: 10}
    await lab.tick()
    assert condition(lab, "TrafficInSync")["status"] == "True"
    assert "TrafficDrifted" not in reasons(lab)


async def test_broken_pods_roll_back_by_the_progress_deadline():
    """A candidate that never becomes available is given up; users never met it."""
    lab = await a_lab()
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    started = lab.now
    await lab.run(until="RolledBack")
    assert timedelta(minutes=10) < lab.now - started < timedelta(minutes=11)
    assert lab.kube.weights == {ONE: 100}
    assert lab.kube.status["rejected"][-1]["reason"] == "ProgressDeadlineExceeded"


async def test_nobody_is_left_with_a_candidate_without_pods():
    """In canary, a candidate whose pods are all gone loses its users within seconds, metrics or not."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    lab.kube.broken.add(revision_of("2").name)
    lab.metrics.outage = NO_METRICS
    started = lab.now
    await lab.run(until="RolledBack")
    assert lab.now - started < timedelta(minutes=2)
    assert lab.kube.weights == {ONE: 100}


class FewPods(FakeKube):
    """A cluster that keeps a revision from having more than so many pods."""

    most: dict[str, int]

    def _workload(self, revision, deployment):
        it = super()._workload(revision, deployment)
        return replace(it, **dict.fromkeys(("available", "serving"), min(it.serving, self.most.get(revision, 99))))


async def a_lab_of_few_pods() -> Lab:
    """Return a cluster on which version 2 has half of the users."""
    lab = await a_lab()
    kube = FewPods(body=lab.kube.body, objects=lab.kube.objects)
    kube.most = {}
    lab = Lab(kube, now=lab.now)
    release(lab, "2")
    await lab.run(until="canary-50")
    return lab


async def test_a_missing_pod_takes_no_grace_from_the_others():
    """One of three pods was missing for a while, and users were answered; the 15 s begin when the last one goes."""
    lab = await a_lab_of_few_pods()
    two = revision_of("2").name
    lab.kube.most[two] = 2
    for _ in range(6):
        await lab.tick()
    lab.kube.most[two] = 0
    await lab.tick()
    assert lab.kube.status["stage"] == "canary-50", "nobody is rolled back for one look"
    lab.kube.most[two] = 2
    await lab.tick()
    assert "silentSince" not in lab.kube.status["candidate"]
    lab.kube.most[two] = 0
    gone = lab.now
    await lab.run(until="RolledBack")
    assert lab.kube.status["rejected"][-1]["reason"] == "CandidateUnavailable"
    assert timedelta(seconds=15) < lab.now - gone < timedelta(seconds=30)


async def test_who_is_back_first_is_no_verdict_on_the_other():
    """A failed node takes the pods of both; the stable revision's are back a moment before the candidate's."""
    lab = await a_lab_of_few_pods()
    one, two = revision_of("1").name, revision_of("2").name
    lab.kube.most = {one: 0, two: 0}
    for _ in range(24):
        await lab.tick()
    del lab.kube.most[one]
    await lab.tick()
    assert lab.kube.status["stage"] == "canary-50"
    del lab.kube.most[two]
    await lab.run(until="full")


async def test_a_restart_of_the_pods_is_no_loss_of_them():
    """kubectl rollout restart: old pods answer until new ones do, so nobody has to be taken off the candidate."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    lab.kube.restarting.add(revision_of("2").name)
    for _ in range(10):
        await lab.tick()
    assert lab.kube.status["stage"] == "canary-50"
    assert condition(lab, "Available")["status"] == "True"
    lab.kube.restarting.clear()
    await lab.run(until="full")


class Starting(FakeKube):
    """An API server that has not loaded the Gateway API yet."""

    def _children(self, name, uid):
        unknown = UnknownKind("the API server does not know HTTPRoutes")
        return replace(super()._children(name, uid), route=None, unknown_route=unknown)


async def test_a_route_that_cannot_be_asked_for_is_not_absent():
    """An API server that is starting says nothing of the route that users are sent by: nothing is concluded from it."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-10")
    before = copy.deepcopy(lab.kube.body)
    lab.kube.__class__ = Starting
    with pytest.raises(UnknownKind):
        await lab.tick()
    assert lab.kube.body == before
    lab.kube.edit(server={"port": "http"})
    lab.kube.decide("Rollback", "2")
    with pytest.raises(UnknownKind):
        await lab.tick()
    assert lab.kube.status["stage"] == "canary-10", "a rollback without a route would tell people what is not so"
    lab.kube.__class__ = FakeKube
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}


async def test_where_nobody_is_served_yet_there_is_no_route():
    """Without the Gateway API a first release says what it lacks."""
    lab = Lab(Starting(body=a_body("1"), gateway=None))
    await lab.run(ticks=3)
    assert condition(lab, "Stalled")["reason"] == "GatewayNotFound"


async def test_a_failing_object_does_not_keep_the_route_from_being_written():
    """A quota that refuses a Deployment must not stand between users and the stable revision."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    await lab.tick()
    lab.metrics.rates["2"] = 0.4
    lab.kube.down |= {f"Deployment {ONE}", f"Deployment {TWO}", f"delete Deployment {TWO}"}
    await lab.run(until="RolledBack")
    assert lab.kube.weights == {ONE: 100}


async def test_the_watch_judges_only_what_needs_no_comparison():
    """At full nobody is left on the old revision, so its counts stand still: absolute clauses decide alone."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="full")
    for _ in range(3):
        await lab.tick()
    assert [clause["name"] for clause in lab.kube.status["gate"]["clauses"]] == ["errors"]
    lab.metrics.error_rate = 0.05
    await lab.run(until="RolledBack")
    assert lab.kube.status["rejected"][-1]["clause"] == "errors"
    assert lab.kube.weights == {ONE: 100}


async def test_a_contract_without_absolute_clauses_completes_after_its_bake():
    """There is nothing to wait for in a watch that cannot compare."""
    contract = a_body()["spec"]["contract"]
    contract["clauses"] = contract["clauses"][:1]
    lab = await a_lab(contract=contract)
    release(lab, "2")
    await lab.run(until="Completed")
    assert lab.kube.weights == {TWO: 100}


@pytest.mark.parametrize("kinds", [["shadow", "canary"], ["canary", "full"]], ids=" ".join)
async def test_a_stage_in_which_nothing_is_judged_passes_by_its_bake(kinds):
    """However much longer one waited, nobody would know more: no deadline, and least of all a rollback."""
    contract = a_body()["spec"]["contract"]
    contract["clauses"] = [{**contract["clauses"][0], "stages": kinds}]
    lab = await a_lab(contract=contract, analysis={"interval": "1m", "onInconclusive": "Rollback"})
    release(lab, "2")
    await lab.run(until="Completed")
    assert lab.kube.weights == {TWO: 100}
    assert not {"GateInconclusive", "RolledBack"} & set(reasons(lab))


async def test_evidence_is_read_stage_by_stage():
    """Every stage is read over its own window; the current one begins when the stage did."""
    lab = await a_lab()
    release(lab, "2")
    await lab.run(until="canary-50")
    await lab.tick()
    names = [name for name, _, _ in lab.metrics.asked[-1]]
    assert names == ["shadow", "canary-10", "canary-50"]
    windows = lab.metrics.asked[-1]
    assert all(earlier[2] <= later[1] for earlier, later in itertools.pairwise(windows))


async def test_nothing_is_written_when_nothing_has_changed():
    """A release at rest is quiet."""
    lab = await a_lab()
    for _ in range(5):
        await lab.tick()
    assert lab.kube.writes == []


async def test_an_invalid_spec_stalls_and_touches_nothing():
    """Where, what and what is allowed stand in the condition; traffic stays."""
    lab = await a_lab()
    lab.kube.edit(server={"port": "http", "template": {}})
    await lab.tick()
    assert lab.kube.weights == {ONE: 100}
    assert condition(lab, "Stalled")["reason"] == "InvalidSpec"
    assert "spec.server.port" in condition(lab, "Stalled")["message"]


async def test_an_absent_gateway_stalls_before_anything_starts():
    """Nothing is started that could not be finished."""
    lab = await a_lab()
    lab.kube.gateway = None
    release(lab, "2")
    await lab.tick()
    assert condition(lab, "Stalled")["reason"] == "GatewayNotFound"
    assert "fraud/public" in condition(lab, "Stalled")["message"]
    assert ("Deployment", TWO) not in lab.kube.objects


async def test_a_release_that_is_deleted_and_made_anew_waits_for_the_collector():
    """It is a matter of seconds, and nobody has to do anything: neither stalled nor worth a warning."""
    lab = await a_lab()
    collected = dict(lab.kube.objects)
    lab.kube.body["metadata"]["uid"] = "another"
    del lab.kube.body["status"]
    wait = await lab.tick()
    assert wait is not None
    assert wait <= timedelta(seconds=5)
    assert condition(lab, "Ready")["reason"] == "Pending"
    assert f"{ONE} of a deleted release of this name has to be collected first" in condition(lab, "Ready")["message"]
    assert not condition(lab, "Stalled") or condition(lab, "Stalled")["status"] == "False"
    assert dict(lab.kube.objects) == collected
    lab.kube.objects.clear()
    await lab.run(until="Completed")


async def _journey(kube: FakeKube, kind: str) -> Lab:
    lab = Lab(kube)
    await lab.run(until="Completed")
    await lab.run()
    if kind == "bad":
        lab.metrics.rates["2"] = 0.4
    release(lab, "2")
    if kind == "revert":
        await lab.run(until="canary-10")
        release(lab, "1")
        await lab.run()
    elif kind == "edit":
        await lab.run(until="canary-10")
        release(lab, "3")
        await lab.run(until="Completed")
    else:
        await lab.run(until="RolledBack" if kind == "bad" else "Completed")
    for _ in range(3):
        await lab.run()
    return lab


QUICK = [
    {"name": "shadow", "shadow": {"percent": 100}, "bake": "1m", "deadline": "1h"},
    {"name": "canary-10", "canary": {"percent": 10}, "bake": "1m", "deadline": "1h"},
    {"name": "full", "full": {}, "bake": "1m", "deadline": "1h"},
]


def a_fresh_cluster(**kube) -> FakeKube:
    """Return a cluster on which version 1 is about to be the first release, with few and short stages."""
    return FakeKube(body=a_body("1", stages=QUICK), **kube)


def _whole_cluster(lab: Lab):
    return lab.kube.cluster()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "bad", "edit", "revert"])
async def test_dying_after_any_write_changes_nothing(kind: str):
    """
    Wherever the operator dies, the next one ends with the same cluster; no stage is skipped, none repeated.

    Dying before a write is the same as dying after the one before it: the operator remembers nothing. Every event is
    told, and once: what was to be told is recorded with the status that it tells of.
    """
    calm = await _journey(a_fresh_cluster(), kind)
    want, stages = _whole_cluster(calm), _stages_entered(calm)
    for index in range(len(calm.kube.writes)):
        kube = a_fresh_cluster(crash_at=index)
        lab = await _journey(kube, kind)
        assert lab.kube.crash_at is None, "the crash happened"
        assert _whole_cluster(lab) == want, calm.kube.writes[index]
        assert _stages_entered(lab) == stages, calm.kube.writes[index]
        assert _reasons(lab) == _reasons(calm), calm.kube.writes[index]


def _forget_conditions(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one look, what a release needs to be carried out is gone."""
    del monkeypatch
    lab.kube.edit(contract={})


def _lose_the_route(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one look, the API server does not know of routes."""
    children = lab.kube._children
    monkeypatch.setattr(lab.kube, "_children", lambda *asked: replace(children(*asked), route=None))


async def _leave_the_shadow_without_its_route(lab: Lab) -> None:
    """Go on until the canary is recorded; its route cannot be written, then or later."""
    await lab.run(until="shadow")
    while lab.kube.status["stage"] == "shadow":
        lab.kube.down = {"route"}
        with suppress(Unreachable):
            await lab.tick()


@pytest.mark.parametrize("meanwhile", [None, _forget_conditions, _lose_the_route])
async def test_what_was_counted_before_the_route_was_in_place_is_no_evidence_of_the_stage(meanwhile, monkeypatch):
    """
    The operator died after it had recorded the canary: until the next one wrote the route, the candidate got copies.

    Five minutes of copies are more requests than the canary gets in an hour, and say nothing of what users get.
    """
    lab = await a_lab()
    release(lab, "2")
    await _leave_the_shadow_without_its_route(lab)
    assert lab.kube.weights == {ONE: 100}
    if meanwhile:
        spec = copy.deepcopy(lab.kube.body["spec"])
        with monkeypatch.context() as patch, suppress(Unreachable):
            meanwhile(lab, patch)
            await lab.tick()
        assert condition(lab, "TrafficInSync") is None, "who has looked has not seen the route"
        lab.kube.edit(**spec)
    lab.now += timedelta(minutes=20)
    lab.kube.down = set()
    await lab.run(ticks=3)
    assert lab.kube.status["stage"] == "canary-10", "its bake has begun with its route"
    began = lab.now
    await lab.run(until="canary-50")
    (record,) = (it for it in lab.kube.status["candidate"]["stages"] if it["name"] == "canary-10")
    started = datetime.fromisoformat(record["startTime"])
    assert abs(started - began) < timedelta(minutes=2)
    assert datetime.fromisoformat(record["endTime"]) - started >= timedelta(minutes=10)
    a_scrape_later = started + lab.scrape_interval + timedelta(seconds=1)
    asked = [start for windows in lab.metrics.asked[-5:] for name, start, _ in windows if name == "canary-10"]
    assert set(asked) == {a_scrape_later}


@pytest.mark.parametrize("answers", [True, False], ids=["the Gateway answers", "the Gateway is silent for a while"])
async def test_copies_are_no_breach_of_the_canary(answers):
    """
    The route could not be written for minutes: the shadow's copies went on, and its pods were slow with them.

    What is promised of canaries alone was never promised of a shadow. A canary that is bad itself is rolled back, also
    when no Gateway has said that it took the route: users may be on it.
    """
    contract = a_body()["spec"]["contract"]
    contract["clauses"] = [{**clause, "stages": ["canary", "full"]} for clause in contract["clauses"]]
    lab = await a_lab(contract=contract)
    lab.metrics.seen_as = _bad_when(lambda stage: stage.stage == "canary-10" and stage.seconds > 1000)
    release(lab, "2")
    await _leave_the_shadow_without_its_route(lab)
    for _ in range(3):
        lab.now += timedelta(minutes=20)
        with suppress(Unreachable):
            await lab.tick()
        assert lab.kube.status["stage"] == "canary-10"
        assert not lab.kube.status.get("gate")
    lab.kube.down = set()
    lab.kube.gateway_answers = answers
    await lab.run(ticks=3)
    assert lab.kube.status["stage"] == "canary-10"
    assert sorted(lab.kube.weights.values()) == [10, 90]
    assert "EvidenceLost" not in reasons(lab), "nothing is lost that never counted"
    if answers:
        await lab.run(until="canary-50")
    else:
        lab.metrics.seen_as = _bad_when(lambda stage: stage.stage == "canary-10")
        await lab.run(until="RolledBack")
        assert lab.kube.weights == {ONE: 100}


def _bad_when(bad):
    """Return what spoils the candidate's counts in the stages that are *bad*."""

    def seen(stage):
        if not bad(stage):
            return stage
        doubled = {key: replace(it, events=it.events * [[1, 2]]) for key, it in stage.counts.items()}
        return replace(stage, counts=doubled)

    return seen


def _reasons(lab: Lab) -> list[str]:
    """Return what was told, in order; messages hold numbers, which depend on the moment."""
    return [reason for reason, _ in lab.kube.events]


def _stages_entered(lab: Lab) -> list[str]:
    """Return the stages in which evidence was asked for, each once, in order."""
    entered: list[str] = []
    for name in (windows[-1][0] for windows in lab.metrics.asked):
        if name != "history" and (not entered or entered[-1] != name):
            entered.append(name)
    return entered
