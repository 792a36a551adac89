"""
All that a fault needs around it: an API server, a Prometheus, users, and whoever else works in a cluster.

    operator ──► proxy ──► kube-apiserver ◄── Deployment controller, Gateway (in this process, never through a proxy)
        └──────► proxy ──► Prometheus ◄────── counters of the users' requests

The operator is the real process; one for each ``Stage``, which is a namespace with proxies of its own.
"""

import asyncio
import json
import math
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from e2e.cluster import binaries
from e2e.cluster.apiserver import kubeconfig
from e2e.cluster.ports import free_port
from e2e.cluster.prometheus import PrometheusServer, Target
from modelrelease.adapters.kube import REPORTING_CONTROLLER
from modelrelease.api.parse import Release, parse
from tests.apiserver import Cluster
from tests.builders import a_body
from tests.faults.proxy import Proxy
from tests.faults.traffic import Flow, Traffic

Object = dict[str, Any]

RELEASES = "/apis/modelrelease.dev/v1alpha1"
GATEWAY = "/apis/gateway.networking.k8s.io/v1"
PATIENCE = float(os.environ.get("FAULTS_PATIENCE", "60"))
"""Seconds that a healthy operator gets for a step; generous, because a busy machine is no fault."""

CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [
        {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%", "assure": {"overall": "20%"}},
        {"name": "few-blocks", "metric": "block-rate", "atMost": "50%"},
    ],
}


def stages(*, shadow: str = "1s", canary: str = "1s", full: str = "1s") -> list[Object]:
    """Return a short plan with these bakes."""
    return [
        {"name": "shadow", "shadow": {"percent": 100}, "bake": shadow, "deadline": "4h"},
        {"name": "canary", "canary": {"percent": 10}, "bake": canary, "deadline": "4h"},
        {"name": "full", "full": {}, "bake": full, "deadline": "4h"},
    ]


def a_spec(version: str, plan: list[Object], *, interval: str = "1s") -> Object:
    """Return the spec of a release of *version*."""
    server = {
        "replicas": 2,
        "port": 3000,
        "shadowReplicas": 1,
        "template": {"spec": {"containers": [{"name": "server", "image": "radar:1"}]}},
    }
    spec: Object = a_body(version, server=server, contract=CONTRACT, stages=plan, analysis={"interval": interval})
    return dict(spec["spec"])


def revision(version: str) -> str:
    """Return the name of a version's revision, which depends on nothing but version and server."""
    release = parse({**a_body(version), "spec": a_spec(version, stages())})
    assert isinstance(release, Release), release
    return release.desired.name


async def a_new_second() -> float:
    """Wait for the next second and return its Unix time: what the operator records, it records to the second."""
    second = math.floor(time.time()) + 1.0
    await asyncio.sleep(second - time.time() + 0.01)
    return second


class Api:
    """The API server as everybody but the operator under test sees it."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.url = cluster.server.url
        self._session = session

    async def call(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Object:
        data = json.dumps(body) if body is not None else None
        async with self._session.request(method, self.url + path, data=data, headers={"Content-Type": kind}) as answer:
            said: Object = await answer.json(content_type=None)
            if answer.status >= 400:
                raise LookupError(f"{method} {path}: {answer.status} {said.get('message')}")
            return said

    async def merge(self, path: str, patch: Object) -> Object:
        return await self.call("PATCH", path, patch, kind="application/merge-patch+json")

    async def follow(self, path: str, tell: Callable[[Object], Awaitable[None]]) -> None:
        """Tell every object there is and every later state of it, in order, until cancelled."""
        while True:
            try:
                listed = await self.call("GET", path)
                for item in listed["items"]:
                    await tell(item)
                version = listed["metadata"]["resourceVersion"]
                query = f"?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
                async with self._session.get(self.url + path + query) as lines:
                    async for line in lines.content:
                        event = json.loads(line)
                        if event["type"] in {"ADDED", "MODIFIED"}:
                            await tell(event["object"])
            except (aiohttp.ClientError, LookupError, ValueError):
                await asyncio.sleep(0.5)


class Scene:
    """A cluster with users; many operators can work in it, each in a namespace of its own."""

    def __init__(self, api: Api, traffic: Traffic, prometheus: PrometheusServer, cluster: Cluster) -> None:
        self.api, self.traffic, self.prometheus, self.cluster = api, traffic, prometheus, cluster
        self.seen: dict[tuple[str, str], list[tuple[float, Object]]] = {}

    async def on_deployment(self, item: Object) -> None:
        """Report its pods as available, as soon as they are asked for."""
        meta, wanted, status = item["metadata"], item["spec"].get("replicas", 1), item.get("status") or {}
        if (status.get("observedGeneration"), status.get("availableReplicas", 0)) == (meta["generation"], wanted):
            return
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = {"observedGeneration": meta["generation"], **dict.fromkeys(counts, wanted)}
        path = f"/apis/apps/v1/namespaces/{meta['namespace']}/deployments/{meta['name']}/status"
        await self._unless_gone(path, {"status": status})

    async def on_route(self, item: Object) -> None:
        """Accept the route and send users where it says."""
        meta, (rule,) = item["metadata"], item["spec"]["rules"]
        name, prefix = meta["name"], f"{meta['name']}-"
        weights = {ref["name"].removeprefix(prefix): ref["weight"] for ref in rule["backendRefs"]}
        mirrors = [it["requestMirror"] for it in rule.get("filters", ()) if it["type"] == "RequestMirror"]
        copies = {it["backendRef"]["name"].removeprefix(prefix): it["percent"] for it in mirrors}
        self.traffic.route(meta["namespace"], name, weights, copies)
        parents = (item.get("status") or {}).get("parents") or []
        said = [it["observedGeneration"] for parent in parents for it in parent["conditions"]]
        if said and min(said) == meta["generation"]:
            return
        common = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        conditions = [
            {**common, "type": it, "observedGeneration": meta["generation"]} for it in ("Accepted", "ResolvedRefs")
        ]
        entries = [
            {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}
            for parent in item["spec"]["parentRefs"]
        ]
        path = f"{GATEWAY}/namespaces/{meta['namespace']}/httproutes/{name}/status"
        await self._unless_gone(path, {"status": {"parents": entries}})

    async def on_release(self, item: Object) -> None:
        """Remember every state of every release."""
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        self.seen.setdefault(key, []).append((time.time(), item))

    async def _unless_gone(self, path: str, patch: Object) -> None:
        try:
            await self.api.merge(path, patch)
        except LookupError:
            return

    def now(self, namespace: str, name: str) -> Object:
        """Return the status of a release as it is now."""
        states = self.seen.get((namespace, name)) or [(0.0, {})]
        status: Object = states[-1][1].get("status") or {}
        return status

    async def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> float:
        """Wait until *condition* holds and return how many seconds it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began


@asynccontextmanager
async def a_scene(cluster: Cluster) -> AsyncIterator[Scene]:
    """Set up everything but operators."""
    trust = ssl.create_default_context(cafile=str(cluster.server.ca_file))
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    login = {"Authorization": f"Bearer {cluster.server.token}"}
    endless = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with (
        aiohttp.ClientSession(connector=connector, headers=login, timeout=endless) as session,
        Traffic() as users,
    ):
        binary = binaries.ensure("prometheus")
        # One page has the pods of all releases, so it names them itself.
        server = PrometheusServer(binary, [Target(users.address)], scrape_interval=1, options={"honor_labels": True})
        api = Api(cluster, session)
        scene = Scene(api, users, server, cluster)
        with server:
            followed = {
                "/apis/apps/v1/deployments": scene.on_deployment,
                f"{GATEWAY}/httproutes": scene.on_route,
                f"{RELEASES}/modelreleases": scene.on_release,
            }
            tasks = [asyncio.create_task(api.follow(path, tell)) for path, tell in followed.items()]
            try:
                yield scene
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


class Operator:
    """
    The real process; it can be killed and started again.

    Each start has a Lease of its own: the one before is surely dead, so nobody has to wait until its Lease runs out.
    How replicas hand over is tried in tests/engine/test_two_replicas.py.

    Attributes:
        ended: How often it ended by itself, as one does that cannot renew its Lease, and was started again.
    """

    def __init__(self, folder: Path, api: str, prometheus: str, namespace: str, token: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "operator.log"
        config = folder / "kubeconfig"
        said = json.loads(kubeconfig(api, ca_file=Path("unused"), token=token))
        said["clusters"][0]["cluster"] = {"server": api}
        config.write_text(json.dumps(said))
        self._environment = {
            "KUBECONFIG": str(config),
            "MODELRELEASE_PROMETHEUS_URL": prometheus,
            "MODELRELEASE_WATCH_NAMESPACES": namespace,
            "MODELRELEASE_DRAIN": "1s",
            "MODELRELEASE_LEASE_NAMESPACE": namespace,
        }
        self.ended = 0
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        given = {f"MODELRELEASE_{it}_PORT": str(free_port("127.0.0.1")) for it in ("PROBE", "METRICS")}
        self._starts += 1
        given["MODELRELEASE_LEASE_NAME"] = f"operator-{self._starts}"
        with self.log.open("a") as sink:
            command = [sys.executable, "-m", "modelrelease"]
            self._process = subprocess.Popen(command, stderr=sink, env={**os.environ, **self._environment, **given})

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def keep_running(self) -> None:
        """Start it again when it ends by itself, as kubelet does."""
        while True:
            await asyncio.sleep(0.5)
            if self._process is not None and self._process.poll() is not None:
                self.ended += 1
                self.start()

    @property
    def processor_seconds(self) -> float:
        """Seconds of processor time that the process has used since it was started."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> float:
        """MiB in memory."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Place:
    """A namespace with an operator of its own, which sees the world through two proxies."""

    def __init__(self, scene: Scene, namespace: str, operator: Operator, api: Proxy, prometheus: Proxy) -> None:
        self.scene, self.namespace, self.operator = scene, namespace, operator
        self.api, self.prometheus = api, prometheus

    def path(self, name: str) -> str:
        return f"{RELEASES}/namespaces/{self.namespace}/modelreleases/{name}"

    async def create(self, name: str, spec: Object) -> None:
        meta = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "modelrelease.dev/v1alpha1", "kind": "ModelRelease", "metadata": meta, "spec": spec}
        await self.scene.api.call("POST", f"{RELEASES}/namespaces/{self.namespace}/modelreleases", body)

    async def edit(self, name: str, **spec: object) -> None:
        await self.scene.api.merge(self.path(name), {"spec": spec})

    def status(self, name: str) -> Object:
        return self.scene.now(self.namespace, name)

    def flow(self, name: str) -> Flow:
        return self.scene.traffic.flow(self.namespace, name)

    async def reached(self, name: str, stage: str, version: str | None = None, seconds: float = PATIENCE) -> float:
        """Wait until a release is in *stage* (with *version* as its stable, or candidate, one)."""

        def there() -> bool:
            status = self.status(name)
            parts = [status.get("stable") or {}, status.get("candidate") or {}]
            there = version is None or version in {part.get("version") for part in parts}
            return status.get("stage") == stage and there

        try:
            return await self.scene.until(there, f"{self.namespace}/{name} is in {stage}", seconds)
        except AssertionError as error:
            tail = self.operator.log.read_text()[-3000:] if self.operator.log.exists() else ""
            raise AssertionError(f"{error}: {json.dumps(self.status(name))[:2000]}\n{tail}") from None

    async def events(self) -> list[Object]:
        """Return what the operator told; the API server tells of things too (``ClusterIPNotAllocated``)."""
        listed = await self.scene.api.call("GET", f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")
        return [it for it in listed["items"] if it.get("reportingController") == REPORTING_CONTROLLER]

    async def told(self, name: str, wanted: Mapping[str, int], since: float = 0.0, seconds: float = 20.0) -> None:
        """
        Wait until each reason in *wanted* is told of a release as often as it says, and fail if it never is.

        Args:
            name, wanted: The release, and how many events of each reason.
            since: Only events of transitions since this Unix time, a new second.
            seconds: How long to wait: an event is written after the status that it tells of.
        """
        deadline = time.monotonic() + seconds
        while True:
            said = await self._reasons(name, since)
            if {reason: said[reason] for reason in wanted} == wanted:
                return
            assert time.monotonic() < deadline, f"{name}: told {dict(said)}, wanted {dict(wanted)}"
            await asyncio.sleep(0.5)

    async def _reasons(self, name: str, since: float) -> Counter[str]:
        moments = ((it, datetime.fromisoformat(it["eventTime"]).timestamp()) for it in await self.events())
        return Counter(it["reason"] for it, at in moments if at >= since and it["regarding"]["name"] == name)


@asynccontextmanager
async def a_place(scene: Scene, namespace: str, folder: Path) -> AsyncIterator[Place]:
    """Make a namespace with a Gateway; the operator is not started yet."""
    await scene.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "none", "listeners": [listener]},
    }
    await scene.api.call("POST", f"{GATEWAY}/namespaces/{namespace}/gateways", gateway)
    trust = ssl.create_default_context(cafile=str(scene.cluster.server.ca_file))
    async with Proxy(scene.cluster.server.url, trust) as api, Proxy(scene.prometheus.url) as prometheus:
        operator = Operator(folder / namespace, api.url, prometheus.url, namespace, scene.cluster.server.token)
        kubelet = asyncio.create_task(operator.keep_running())
        try:
            yield Place(scene, namespace, operator, api, prometheus)
            assert not api.broken + prometheus.broken, f"the proxy itself: {api.broken + prometheus.broken}"
        finally:
            kubelet.cancel()
            operator.kill()
            # Its releases are not scraped or watched any longer.
            scene.traffic.flows = {key: flow for key, flow in scene.traffic.flows.items() if key[0] != namespace}
