"""
Two real operator processes on a real API server: one acts, whatever is done to it.

What was written, by whom and when, is told by a proxy between each process and the API server.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from modelrelease.adapters.errors import AdapterError
from modelrelease.adapters.kube import KubeCluster
from tests.adapters.test_kube import _release
from tests.builders import NOW
from tests.engine.relay import Relay
from tests.engine.test_operator import Process, gateway, make_available, until

__all__ = ["gateway"]
pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "3"))
"""Leaders that are ended in test_leaders_killed_under_load; ``make kills`` ends 200."""

DURATION, DEADLINE = 5.0, 4.0
"""Seconds; on a machine so busy that a process stands still for longer, leaders lose their lease without a fault."""
TERMS = {
    "MODELRELEASE_LEASE_DURATION": f"{DURATION:g}s",
    "MODELRELEASE_LEASE_RENEW_DEADLINE": f"{DEADLINE:g}s",
    "MODELRELEASE_LEASE_RETRY": "500ms",
}


class Fleet:
    """Operators that share a Lease, each behind an address of its own."""

    def __init__(self, cluster, namespace, relay, folder) -> None:
        self.cluster, self.namespace, self.relay, self.folder = cluster, namespace, relay, folder
        self.alive: dict[str, Process] = {}
        self._numbers = itertools.count(1)

    def start(self) -> str:
        name = f"operator-{next(self._numbers)}"
        server = {"server": self.relay.address(name)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": server}],
            "users": [{"name": "x", "user": {"token": self.cluster.server.token}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        self.alive[name] = Process(
            self.cluster, self.namespace, self.folder / f"{name}.log", KUBECONFIG=str(path), HOSTNAME=name, **TERMS
        )
        return name

    async def ready(self, name) -> None:
        process = self.alive[name]
        await until(lambda: process.ask(process.probes, "/readyz")[0] == 200, f"{name} is ready", seconds=60)

    def writes(self, name=None):
        """Return the writes that were carried out, those of Leases left out, in the order of their answers."""
        done = [write for write in self.relay.writes if write.accepted and not write.of_lease]
        return sorted((w for w in done if name in (None, w.client)), key=lambda write: write.answered)

    def terms(self):
        """Return who became leader when, oldest first."""
        took = [
            (write.answered, write.client)
            for write in self.relay.writes
            if write.of_lease and write.accepted and write.body["spec"]["holderIdentity"].startswith(write.client)
        ]
        return [
            (when, client) for (_, before), (when, client) in itertools.pairwise([(0, ""), *took]) if client != before
        ]

    def leader(self):
        terms = self.terms()
        return terms[-1][1] if terms and terms[-1][1] in self.alive else None

    def standbys(self, leader):
        """Return which of the others are warm."""
        others = {name: process for name, process in self.alive.items() if name != leader}
        return [name for name, process in others.items() if process.ask(process.probes, "/readyz")[0] == 200]

    def forget(self, name) -> None:
        self.alive.pop(name).close()

    def close(self) -> None:
        for process in self.alive.values():
            process.close()

    def log(self, name) -> str:
        return (self.folder / f"{name}.log").read_text()

    def assert_one_writer_at_a_time(self) -> None:
        """Each one's writes have all been carried out before the next one's first was sent."""
        spans = {}
        for write in self.writes():
            first, last = spans.get(write.client, (write.sent, write.answered))
            spans[write.client] = (min(first, write.sent), max(last, write.answered))
        ordered = sorted(spans.items(), key=lambda item: item[1])
        for (one, (_, last)), (other, (first, _)) in itertools.pairwise(ordered):
            after = [it for it in self.writes(one) if it.answered > first]
            late = [f"{it.method} {it.path} at {it.sent - first:.3f} s" for it in after]
            assert last <= first, f"{one} wrote {last - first:.3f} s after {other} had begun: {late}"


@asynccontextmanager
async def fleet_of(cluster, namespace, folder, number=2):
    with Relay(cluster.server) as relay:
        fleet = Fleet(cluster, namespace, relay, folder)
        try:
            names = [fleet.start() for _ in range(number)]
            for name in names:
                await fleet.ready(name)
            yield fleet
        except BaseException:
            for name in fleet.alive:
                print(f"--- {name}", *fleet.log(name).splitlines()[-30:], sep="\n")
            raise
        finally:
            fleet.close()


def _is(kind, client):
    """Match writes of a kind of object by a client, but for those of a Lease."""
    return lambda write: write.client == client and f"/{kind}" in write.path


async def other_leads(fleet, old):
    await until(lambda: fleet.leader() not in (None, old), "the standby leads", seconds=30)
    return fleet.leader()


async def test_a_standby_says_so_and_writes_nothing(cluster, namespace, gateway, tmp_path):
    """Ready and warm, without a single write; at work at once when the leader has stopped."""
    async with fleet_of(cluster, namespace, tmp_path) as fleet:
        await until(fleet.leader, "somebody leads")
        leader = fleet.leader()
        (standby,) = fleet.alive.keys() - {leader}
        cluster.create(_release(namespace))
        await until(lambda: fleet.writes(leader), "the leader acts")
        lead, wait = fleet.alive[leader], fleet.alive[standby]
        assert lead.ask(lead.probes, "/healthz") == (200, "ok\n")
        # Whoever reached for the Lease in the same moment says so until it looks again.
        behind = f"ok, standing by: {leader}_"
        await until(lambda: wait.ask(wait.probes, "/healthz")[1].startswith(behind), "it names who leads")
        assert wait.ask(wait.probes, "/healthz")[0] == 200
        assert "modelrelease_leader 1.0" in lead.ask(lead.metrics, "/metrics")[1]
        assert "modelrelease_leader 0.0" in wait.ask(wait.metrics, "/metrics")[1]
        assert fleet.writes(standby) == []

        began = time.monotonic()
        lead.process.send_signal(signal.SIGTERM)
        assert await other_leads(fleet, leader) == standby
        taken = fleet.terms()[-1][0] - began
        await until(lambda: fleet.writes(standby), "the standby acts")
        acts = fleet.writes(standby)[0].sent - began
        print(f"hand-over on SIGTERM: lease taken after {taken:.2f} s, first write after {acts:.2f} s")
        assert lead.process.wait(timeout=20) == 0
        fleet.assert_one_writer_at_a_time()


async def test_a_leader_that_is_cut_off_stops_before_its_lease_runs_out(cluster, namespace, gateway, tmp_path):
    """It ends by itself, with an error, and the standby begins after that."""
    async with fleet_of(cluster, namespace, tmp_path) as fleet:
        await until(fleet.leader, "somebody leads")
        leader = fleet.leader()
        process = fleet.alive[leader].process
        began = time.monotonic()
        fleet.relay.cut(leader)
        await until(lambda: f"was not renewed for {DEADLINE:g} s" in fleet.log(leader), "it gives up")
        gave_up = time.monotonic() - began
        assert await other_leads(fleet, leader) in fleet.alive
        taken = fleet.terms()[-1][0] - began
        print(f"API outage: the leader ended within {gave_up:.1f} s, lease taken after {taken:.1f} s")
        assert await asyncio.to_thread(process.wait, 20) == 1


@pytest.mark.parametrize("kind", ["modelreleases", "httproutes"])
async def test_what_a_paused_leader_had_under_way_is_void(cluster, namespace, gateway, tmp_path, kind):
    """
    Its write is held on the way, it is stopped, a second one acts; then the write arrives, and the first one wakes up.

    The second one finds the very state that it wants: nothing differs by which the API server could tell the two apart,
    but that it has taken each object over.
    """
    async with fleet_of(cluster, namespace, tmp_path) as fleet:
        await until(fleet.leader, "somebody leads")
        leader = fleet.leader()
        cluster.create(_release(namespace, suspend=False))
        await until(lambda: cluster.names("deployment", namespace), "its Deployment")
        make_available(cluster, namespace, 3)
        await until(lambda: cluster.names("httproute", namespace), "its route")
        await asyncio.sleep(1)
        held = fleet.relay.hold(_is(kind, leader))
        edit = {
            "modelreleases": {"model": {"version": "3"}},
            "httproutes": {"traffic": {"gatewayAPI": {"hostnames": ["old.example.com"]}}},
        }[kind]
        spec = cluster.get("mrel", namespace, "radar")["spec"]
        cluster.patch("mrel", namespace, "radar", {"spec": edit})
        assert await asyncio.to_thread(held.caught.wait, 20)
        paused = fleet.alive[leader].process
        paused.send_signal(signal.SIGSTOP)
        cluster.kubectl("patch", "mrel", "-n", namespace, "radar", "--type=json", "-p", _back(spec))
        successor = await other_leads(fleet, leader)
        await until(lambda: any(_is("httproutes", successor)(w) for w in fleet.writes(successor)), "its first applies")
        await until(lambda: any(_is("deployments", successor)(w) for w in fleet.writes(successor)), "its first applies")
        wanted = _state(cluster, namespace)

        held.let_go()
        await until(lambda: held.write.status, "the answer to the held write")
        assert held.write.status == 409
        paused.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(paused.wait, 20) == 1
        # Whichever of its tasks is the first to find out.
        assert any(why in fleet.log(leader) for why in ("stood still", "was taken by", "was not renewed for"))
        assert _state(cluster, namespace) == wanted
        fleet.assert_one_writer_at_a_time()


def _back(spec):
    return json.dumps([{"op": "replace", "path": "/spec", "value": spec}])


def _state(cluster, namespace):
    """Return what users meet."""
    route = cluster.get("httproute", namespace, "radar")["spec"]
    status = cluster.get("mrel", namespace, "radar")["status"]
    deployments = {
        name: cluster.get("deployment", namespace, name.split("/")[1])["spec"]["replicas"]
        for name in cluster.names("deployment", namespace)
    }
    return route, status["stage"], status.get("candidate"), deployments


class Users:
    """Releases that never rest, and a controller that reports every Deployment available."""

    def __init__(self, api, namespace, number, seed) -> None:
        self._kube = KubeCluster(api, clock=lambda: NOW)
        self._namespace = namespace
        self.names = [f"radar-{index}" for index in range(number)]
        self._random = random.Random(seed)
        self._versions = itertools.count(10)

    async def live(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            try:
                await self._report_available()
                await self._edit(self._random.choice(self.names))
            except AdapterError:
                continue  # a conflict with the operator

    async def _edit(self, name) -> None:
        """A new version, never one that was there before; or another size; or back to the stable version."""
        path = f"/apis/modelrelease.dev/v1alpha1/namespaces/{self._namespace}/modelreleases/{name}"
        body = await self._kube._call("GET", path)
        stable = (body.get("status") or {}).get("stable")
        match self._random.randrange(4):
            case 0 | 1:
                spec = {"model": {"version": str(next(self._versions))}}
            case 2:
                spec = {"server": {"replicas": self._random.randint(1, 5)}}
            case _ if stable:
                spec = {"model": {"version": stable["version"]}}
            case _:
                return
        await self._patch(path, {"spec": spec})

    async def _report_available(self) -> None:
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments"
        for item in (await self._kube._call("GET", path))["items"]:
            replicas, status = item["spec"]["replicas"], item.get("status") or {}
            generation = item["metadata"]["generation"]
            if (status.get("observedGeneration"), status.get("availableReplicas", 0)) != (generation, replicas):
                counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
                patch = {"status": {"observedGeneration": generation, **counts}}
                await self._patch(f"{path}/{item['metadata']['name']}/status", patch)

    async def _patch(self, path, patch) -> None:
        await self._kube._call("PATCH", path, body=patch, content_type="application/merge-patch+json")


def transitions(writes):
    """Count how many times each candidate of each release entered each stage."""
    entered, last = Counter(), {}
    statuses = [write for write in writes if write.path.endswith("/status") and "/modelreleases/" in write.path]
    for write in sorted(statuses, key=lambda write: int(write.answer["metadata"]["resourceVersion"])):
        name, status = write.answer["metadata"]["name"], write.answer["status"]
        now = ((status.get("candidate") or {}).get("revision"), status["stage"])
        if now != last.get(name) and now[0]:
            entered[name, *now] += 1
        last[name] = now
    return entered


async def test_leaders_killed_under_load(cluster, namespace, gateway, api, tmp_path):
    """kill -9, SIGTERM, a pause until after the lease: never two writers, never a transition twice."""
    took = {"kill": [], "stop": [], "pause": []}
    users = Users(api, namespace, number=5, seed=KILLS)
    for name in users.names:
        body = _release(namespace)
        cluster.create({**body, "metadata": {**body["metadata"], "name": name}})
    # Three, so that one stands by while the one before is started again.
    async with fleet_of(cluster, namespace, tmp_path, number=3) as fleet:
        load = asyncio.create_task(users.live())
        for number in range(1, KILLS + 1):
            await until(fleet.leader, "somebody leads", seconds=60)
            leader = fleet.leader()
            await until(lambda name=leader: len(fleet.writes(name)) > 5, f"{leader} acts", seconds=60)
            await until(lambda name=leader: fleet.standbys(name), "a standby is warm", seconds=60)
            how = ("kill", "pause", "kill", "stop")[number % 4]
            await end(fleet, leader, how, took[how])
            fleet.start()
            fleet.assert_one_writer_at_a_time()
            assert [entry for entry, times in transitions(fleet.writes()).items() if times > 1] == []
            if number % 10 == 0 or number == KILLS:
                _print_progress(number, fleet.writes(), took)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        writes = fleet.writes()
    assert len(transitions(writes)) >= KILLS
    assert len({write.client for write in writes}) >= KILLS


def _print_progress(number, writes, took):
    many = f"{len(writes)} writes, {len(transitions(writes))} transitions"
    print(f"{number} leaders ended: {many}, none doubled, never two writers; lease taken after:", flush=True)
    for how, seconds in took.items():
        if seconds:
            spread = f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
            print(f"  {how}: {spread} of {len(seconds)}", flush=True)


async def end(fleet, leader, how, took) -> None:
    """End the leader in one of three ways, and note how long it was until another one led."""
    process = fleet.alive[leader].process
    began = time.monotonic()
    process.send_signal({"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "stop": signal.SIGTERM}[how])
    await other_leads(fleet, leader)
    took.append(fleet.terms()[-1][0] - began)
    if how == "pause":
        process.send_signal(signal.SIGCONT)
    code = await asyncio.to_thread(process.wait, 60)
    assert code == {"kill": -signal.SIGKILL, "pause": 1, "stop": 0}[how], fleet.log(leader)
    fleet.forget(leader)
