"""The informer and the engine on a real API server: what happens to objects reaches the reconcile, and nothing else."""

import asyncio
import random
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from modelrelease.adapters.errors import Unreachable
from modelrelease.adapters.kube import KubeCluster
from modelrelease.adapters.telemetry import Telemetry
from modelrelease.engine import Engine
from modelrelease.handlers import Informer
from tests.adapters.test_kube import _manifests, _release, _route
from tests.builders import a_body_that_refers, a_contract, a_decision

pytestmark = pytest.mark.apiserver


class Diary:
    """A reconcile that notes when it was called, and reads the release as the real one does."""

    def __init__(self, kube, namespace) -> None:
        self._kube = kube
        self._namespace = namespace
        self.seen = []
        self.moments = {}

    async def __call__(self, key):
        if key[0] != self._namespace:
            return
        body = await self._kube.get_release(*key)
        self.seen.append((key[1], body["metadata"]["generation"] if body else None))
        self.moments.setdefault(key[1], time.monotonic())

    async def until(self, condition, seconds=10.0):
        """Wait until *condition* holds for what was seen."""
        deadline = time.monotonic() + seconds
        while not condition(self.seen):
            assert time.monotonic() < deadline, self.seen
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(cluster, namespace, monkeypatch, *, namespaces=None):
    """Run engine and informer; yield the diary and the engine."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    async with cluster.client() as api:
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        diary = Diary(kube, namespace)
        telemetry = Telemetry(CollectorRegistry())

        async def tick(key):
            await diary(key)
            if not kube.exists(*key):
                engine.forget(key)

        engine = Engine(tick, telemetry, clock=time.monotonic, random=random.random, concurrency=10)
        wanted = (namespace,) if namespaces is None else namespaces
        informer = Informer(engine.trigger, kube.missing_kinds, wanted)
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(informer.run())]
        try:
            yield diary, engine
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _in_thread(function, *arguments, **named):
    return await asyncio.to_thread(function, *arguments, **named)


async def _quiet(diary, seconds=1.5):
    """Wait, and return what was seen meanwhile."""
    before = len(diary.seen)
    await asyncio.sleep(seconds)
    return diary.seen[before:]


async def test_create_edit_delete_reach_the_reconcile(cluster, namespace, monkeypatch):
    """The life of a release, as the engine sees it."""
    async with watching(cluster, namespace, monkeypatch) as (diary, engine):
        await asyncio.sleep(1)
        await _in_thread(cluster.create, _release(namespace))
        await diary.until(lambda seen: ("radar", 1) in seen)
        await _in_thread(cluster.patch, "mrel", namespace, "radar", {"spec": {"suspend": True}})
        await diary.until(lambda seen: ("radar", 2) in seen)
        assert engine.health.known == 1
        await _in_thread(cluster.kubectl, "delete", "mrel", "-n", namespace, "radar")
        await diary.until(lambda seen: seen[-1] == ("radar", None))
        assert await _quiet(diary) == []
        assert engine.health.known == 0


async def test_a_user_id_without_a_name_can_run_it(cluster, namespace, monkeypatch):
    """Containers run as any user id; the one of our image has no name in /etc/passwd, and kopf would ask for it."""

    def nameless():
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", nameless)
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await _in_thread(cluster.create, _release(namespace))
        await diary.until(lambda seen: len(seen) > 0)


async def test_crds_that_are_older_than_the_operator_are_told_and_nothing_begins():
    """So the new pod of an upgrade is not ready, and says why; the old one goes on."""

    async def nothing():
        return frozenset()

    async def lacking():
        return ("ModelRelease status.serving", "ModelRelease status.stable.since")

    informer = Informer(lambda _: None, nothing, unknown_fields=lacking)
    running = asyncio.create_task(informer.run())
    await asyncio.sleep(0.05)
    running.cancel()
    lacking = "ModelRelease status.serving and 1 more"
    assert informer.problem == f"the CRDs are older than this operator, they lack {lacking}: apply the chart's crds/"


async def test_our_own_status_is_no_news(cluster, namespace, monkeypatch):
    """A status write does not lead to another reconcile, or every tick would judge twice."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
        status = {"status": {"stage": "Pending"}}
        await _in_thread(cluster.patch, "mrel", namespace, "radar", status, status=True)
        assert await _quiet(diary) == []


async def test_an_edit_of_a_contract_reaches_the_releases_that_refer_to_it(cluster, namespace, monkeypatch):
    """All of them and no others; a release that has come to refer to another one hears of that."""
    refers = {**a_body_that_refers(), "metadata": {"name": "refers", "namespace": namespace}}
    cluster.create(_release(namespace), refers)
    contract = {**a_contract(), "metadata": {"name": "promise", "namespace": namespace}}
    other = {**a_contract(), "metadata": {"name": "other", "namespace": namespace}}
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: len(seen) == 2)
        await _in_thread(cluster.create, contract, other)
        await diary.until(lambda seen: len(seen) == 3)
        assert diary.seen[2] == ("refers", 1)
        await _in_thread(cluster.patch, "mrel", namespace, "refers", {"spec": {"contractRef": {"name": "other"}}})
        await diary.until(lambda seen: ("refers", 2) in seen)
        assert await _quiet(diary) == []
        await _in_thread(cluster.kubectl, "delete", "mcon", "-n", namespace, "promise", "other")
        await diary.until(lambda seen: seen[-1] == ("refers", 2) and len(seen) == 5)
        assert await _quiet(diary) == []


async def test_a_decision_reaches_its_release_until_it_is_answered(cluster, namespace, monkeypatch):
    """A person's word is heard at once; the answer that we write is no news."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
        decision = {**a_decision("Rollback"), "metadata": {"name": "radar-1", "namespace": namespace}}
        await _in_thread(cluster.create, decision)
        await diary.until(lambda seen: len(seen) == 2)
        answer = {"status": {"outcome": "Stale", "message": "it is past"}}
        await _in_thread(cluster.patch, "mdec", namespace, "radar-1", answer, status=True)
        assert await _quiet(diary) == []


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HTTPRoute"])
async def test_a_change_of_a_child_reaches_its_release(cluster, namespace, monkeypatch, kind):
    """Drift and readiness are noticed without waiting for a tick; strangers' objects are not looked at."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
        body = await _in_thread(cluster.get, "mrel", namespace, "radar")
        children = [*_manifests(body), _route(body, weights={"abc": 100}, mirror=None)]
        child = next(item for item in children if item["kind"] == kind)
        stranger = {**child, "metadata": {"name": "stranger", "namespace": namespace}}
        await _in_thread(cluster.create, stranger)
        assert await _quiet(diary) == []
        await _in_thread(cluster.create, child)
        await diary.until(lambda seen: len(seen) == 2)
        await _in_thread(
            cluster.patch, kind, namespace, child["metadata"]["name"], {"metadata": {"labels": {"a": "b"}}}
        )
        await diary.until(lambda seen: len(seen) == 3)
        await _in_thread(cluster.kubectl, "delete", kind, "-n", namespace, child["metadata"]["name"])
        await diary.until(lambda seen: len(seen) == 4)


async def test_nothing_is_put_on_the_users_object(cluster, namespace, monkeypatch):
    """No annotation, no finalizer: what Git says is what is there."""
    cluster.create(_release(namespace))
    before = cluster.get("mrel", namespace, "radar")
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
        await _in_thread(cluster.patch, "mrel", namespace, "radar", {"spec": {"suspend": True}})
        await diary.until(lambda seen: ("radar", 2) in seen)
        await asyncio.sleep(1)
    after = cluster.get("mrel", namespace, "radar")["metadata"]
    assert "annotations" not in after
    assert "finalizers" not in after
    assert after["generation"] == before["metadata"]["generation"] + 1


async def test_a_start_with_200_releases(cluster, namespace, monkeypatch, record_property):
    """Every release is reconciled soon after the start, and once."""
    releases = [_release(namespace) for _ in range(200)]
    for number, release in enumerate(releases):
        release["metadata"]["name"] = f"radar-{number}"
    cluster.create(*releases)
    began = time.monotonic()
    async with watching(cluster, namespace, monkeypatch) as (diary, engine):
        await diary.until(lambda seen: len({name for name, _ in seen}) == 200, seconds=30)
        took = max(diary.moments.values()) - began
        assert await _quiet(diary) == []
        assert len(diary.seen) == 200
        assert engine.health.known == 200
    record_property("seconds_for_200", f"{took:.2f}")
    print(f"200 releases reconciled {took:.2f} s after the start")


async def test_latency_from_an_edit_to_the_reconcile(cluster, namespace, monkeypatch):
    """An edit is acted upon in much less than a second."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
        latencies = []
        async with cluster.client() as api:
            kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
            for number in range(20):
                began = time.monotonic()
                patch = {"spec": {"suspend": number % 2 == 0}}
                path = f"/apis/modelrelease.dev/v1alpha1/namespaces/{namespace}/modelreleases/radar"
                await kube._call("PATCH", path, body=patch, content_type="application/merge-patch+json")
                await diary.until(lambda seen, wanted=number + 2: ("radar", wanted) in seen)
                latencies.append(time.monotonic() - began)
        latencies.sort()
        print(f"edit to reconcile: median {latencies[10] * 1000:.0f} ms, worst {latencies[-1] * 1000:.0f} ms")
        assert latencies[10] < 0.5


async def test_the_watch_recovers_from_an_outage(cluster, namespace, monkeypatch):
    """The API server goes away for some seconds; what happens afterwards is seen."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch) as (diary, engine):
        await diary.until(lambda seen: ("radar", 1) in seen)
        await _in_thread(cluster.server.stop)
        engine.trigger((namespace, "radar"))
        await asyncio.sleep(3)
        assert engine.health.failing == 1
        cluster.server.start()  # from this thread: the server dies with the thread that started it
        await diary.until(lambda seen: len(seen) >= 2, seconds=40)
        await _in_thread(cluster.patch, "mrel", namespace, "radar", {"spec": {"suspend": True}})
        await diary.until(lambda seen: ("radar", 2) in seen, seconds=40)
        assert engine.health.failing == 0


async def test_kinds_may_come_later(namespace, cluster, monkeypatch):
    """Without the HTTPRoute kind the operator works and says so; when the kind comes, it is watched."""
    monkeypatch.setattr("modelrelease.handlers.CHECK_SECONDS", 0.5)
    cluster.create(_release(namespace))
    cluster.kubectl("delete", "crd", "httproutes.gateway.networking.k8s.io")
    try:
        async with watching(cluster, namespace, monkeypatch) as (diary, _):
            await diary.until(lambda seen: ("radar", 1) in seen)
            await _in_thread(cluster.install_gateway_api)
            await diary.until(lambda seen: len(seen) == 2, seconds=20)
            await asyncio.sleep(1)
            body = await _in_thread(cluster.get, "mrel", namespace, "radar")
            await _in_thread(cluster.create, _route(body, weights={"abc": 100}, mirror=None))
            await diary.until(lambda seen: len(seen) == 3)
    finally:
        cluster.install_gateway_api()


async def test_kinds_may_go_and_come_back(namespace, cluster, monkeypatch):
    """Both CRDs are taken away under the running operator and come back: new releases are seen again."""
    monkeypatch.setattr("modelrelease.handlers.CHECK_SECONDS", 0.5)
    monkeypatch.setattr("modelrelease.handlers.RESTART_SECONDS", 0.5)
    crds = ("modelreleases.modelrelease.dev", "httproutes.gateway.networking.k8s.io")
    try:
        async with watching(cluster, namespace, monkeypatch) as (diary, _):
            await asyncio.sleep(2)
            await _in_thread(cluster.kubectl, "delete", "crd", *crds)
            await asyncio.sleep(3)
            await _in_thread(cluster.install_gateway_api)
            await _in_thread(cluster.install_releases)
            await _in_thread(cluster.create, _release(namespace))
            await diary.until(lambda seen: ("radar", 1) in seen, seconds=30)
    finally:
        cluster.install_gateway_api()
        cluster.install_releases()


async def test_a_check_that_failed_once_is_forgotten(namespace, cluster, monkeypatch):
    """Else the pod would be unready for ever, although it works."""
    monkeypatch.setattr("modelrelease.handlers.CHECK_SECONDS", 0.3)
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    answers = [frozenset(), Unreachable("a moment of silence")]
    problems = []

    async def missing_kinds():
        problems.append(informer.problem)
        answer = answers.pop(0) if answers else frozenset()
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    informer = Informer(lambda _: None, missing_kinds, (namespace,))
    running = asyncio.create_task(informer.run())
    await asyncio.sleep(4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "cannot ask the API server which kinds it knows: a moment of silence" in problems
    assert problems[-1] is None


async def test_a_watch_that_ended_is_noticed(namespace, cluster, monkeypatch):
    """A CRD that was replaced between two checks ends its watch; kopf would go on without, deaf for ever."""
    monkeypatch.setattr("modelrelease.handlers.CHECK_SECONDS", 1000.0)
    monkeypatch.setattr("modelrelease.handlers.RESTART_SECONDS", 0.5)
    try:
        async with watching(cluster, namespace, monkeypatch) as (diary, _):
            await asyncio.sleep(2)
            await _in_thread(cluster.kubectl, "delete", "crd", "modelreleases.modelrelease.dev")
            await _in_thread(cluster.install_releases)
            await _in_thread(cluster.create, _release(namespace))
            await diary.until(lambda seen: ("radar", 1) in seen, seconds=30)
    finally:
        cluster.install_releases()


async def test_all_namespaces(cluster, namespace, monkeypatch):
    """Without a list of namespaces every release of the cluster is looked after."""
    cluster.create(_release(namespace))
    async with watching(cluster, namespace, monkeypatch, namespaces=()) as (diary, _):
        await diary.until(lambda seen: ("radar", 1) in seen)
