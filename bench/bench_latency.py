"""
How long a bad candidate keeps its users: from "visible in Prometheus" to "route written".

    python bench/bench_latency.py                             # 100 breaches, 20 releases in a fresh canary at once
    python bench/bench_latency.py --releases 20 --at-once 5

Real are the operator's process, the API server, and Prometheus, which scrapes every 5 seconds. Played are pods (they
only count: 100 requests a second, 1 % of them errors, a canary of 10 %), their Deployments' status, and the Gateway's
answer to a route. In a fresh canary stage, at a random moment, the candidate begins to answer half its requests with
errors. The route is watched.

When a breach was visible is found afterwards: the operator's own reader and judge are asked, at every quarter of a
second since the errors began, what Prometheus held then. Both readings are printed:

    first      the first moment at which it was enough for a breach
    unbroken   the first moment since which it was, without a break: the arms are scraped at different moments, so
               that evidence can come and go
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from e2e.cluster import binaries
from e2e.cluster.apiserver import ApiServer
from e2e.cluster.ports import free_port
from e2e.cluster.prometheus import PrometheusServer, Target
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.parse import Release, parse
from modelrelease.api.reasons import Outcome
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.gate import evaluate
from modelrelease.core.queries import evidence_window
from modelrelease.core.verdict import GateVerdict
from tests.apiserver import Cluster

NAMESPACE = "bench"
SCRAPE_SECONDS = 5.0
REQUESTS_PER_SECOND = 100.0
PERCENT = 10
HEALTHY, BROKEN = 0.01, 0.5
COUNTRIES = {"FR": 0.6, "DE": 0.3, "MT": 0.1}
HEALTHY_SECONDS = (15.0, 60.0)
STEP = timedelta(seconds=0.25)
STABLE_PODS = 2
ATTEMPTS = 5
ANALYSED_AT_ONCE = 4

Object = dict[str, Any]


def a_release(name: str, version: str) -> Object:
    """Return a ModelRelease with one canary stage; its contract compares the error rate, in every country."""
    contract = {
        "slices": [{"name": "country", "labels": ["country"]}],
        "metrics": [{"name": "error-rate", "ratio": {"events": 'd_total{code="500"}', "of": "d_total"}}],
        "clauses": [{"name": "errors", "metric": "error-rate", "per": ["country"], "noWorse": "10%"}],
    }
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"version": version},
            "server": {"replicas": 1, "port": 3000, "template": {"spec": {"containers": [CONTAINER]}}},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
            "contract": contract,
            "stages": [
                {"name": "canary", "canary": {"percent": PERCENT}, "bake": "10m", "deadline": "1h"},
                {"name": "full", "full": {}, "bake": "0s", "deadline": "1h"},
            ],
        },
    }


CONTAINER = {"name": "server", "image": "none:1"}


# The pods.


@dataclass
class Pods:
    """
    What the pods of one revision have counted, together; each of the *pods* shows its part.

    Attributes:
        share: Their share of the requests; 0 before they get any.
        broken_at: Unix time since when half the answers are errors; infinite while they are healthy.
    """

    pods: int
    share: float = 0.0
    broken_at: float = float("inf")
    counted: dict[tuple[int, str, str], int] = field(default_factory=dict)
    _until: float = field(default_factory=time.time)

    def serve(self, share: float) -> None:
        """Give them that share of the requests from now on."""
        self._advance(time.time())
        self.share = share

    def page(self, pod: int) -> bytes | None:
        """Return what *pod* says now; None before it is there."""
        self._advance(time.time())
        if not self.counted:
            return None
        lines = [
            f'd_total{{country="{country}",code="{code}"}} {n}'
            for (which, country, code), n in self.counted.items()
            if which == pod
        ]
        return ("# TYPE d_total counter\n" + "\n".join(lines) + "\n").encode()

    def _advance(self, now: float) -> None:
        if self.share:
            edge = min(max(self.broken_at, self._until), now)
            self._count(edge - self._until, HEALTHY)
            self._count(now - edge, BROKEN)
        self._until = now

    def _count(self, seconds: float, rate: float) -> None:
        for pod in range(self.pods):
            for country, part in COUNTRIES.items():
                expected = seconds * REQUESTS_PER_SECOND * self.share * part / self.pods
                for code, chance in (("500", rate), ("200", 1 - rate)):
                    key = (pod, country, code)
                    self.counted[key] = self.counted.get(key, 0) + int(np.random.poisson(expected * chance))


class Exporter:
    """All pods behind one port, ``/<release>/<revision>/<pod>``."""

    def __init__(self) -> None:
        self.revisions: dict[str, Pods] = {}
        self.lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                revision, _, pod = self.path.strip("/").rpartition("/")
                with exporter.lock:
                    page = exporter.revisions[revision].page(int(pod))
                with contextlib.suppress(ConnectionError):  # Prometheus gives up on a late page
                    self.send_response(200 if page else 503)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(page or b"")))
                    self.end_headers()
                    self.wfile.write(page or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.request_queue_size = 256
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, release: str, revision: str, pods: int) -> list[Target]:
        """Return the targets of a new revision."""
        self.revisions[f"{release}/{revision}"] = Pods(pods)
        address = f"127.0.0.1:{self.server.server_port}"
        own = {"namespace": NAMESPACE, "release": release, "revision": revision}
        return [
            Target(
                address,
                {**own, "instance": f"{release}-{revision}-{pod}", "__metrics_path__": f"/{release}/{revision}/{pod}"},
            )
            for pod in range(pods)
        ]


# The cluster that is played.


@dataclass
class Rollout:
    """
    One release, and what happened to it.

    Attributes:
        name: Of the release.
        stable, candidate: Its revisions.
        weights: When its route was written, and the candidate's weight then; Unix times.
        broken, written: Unix times.
        body: The object at the moment of the breach: its status tells what was compared.
    """

    name: str
    stable: str
    candidate: str
    weights: list[tuple[float, int]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    broken: float = 0.0
    written: float = 0.0
    body: Object = field(default_factory=dict)

    async def weight(self, wanted: int, seconds: float) -> float:
        """
        Return when the candidate's weight became *wanted*.

        Raises:
            TimeoutError: It did not within *seconds*.
        """
        async with asyncio.timeout(seconds):
            while not self.weights or self.weights[-1][1] != wanted:
                self.changed.clear()
                await self.changed.wait()
        return self.weights[-1][0]


class Played:
    """Deployment controller and Gateway: they only report that all is as ordered."""

    def __init__(self, session: aiohttp.ClientSession, rollouts: dict[str, Rollout]) -> None:
        self._session = session
        self._rollouts = rollouts

    async def run(self) -> None:
        """Answer until cancelled."""
        await asyncio.gather(
            self._follow(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", self._deployment),
            self._follow(f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes", self._route),
        )

    async def _follow(self, path: str, answer: Callable[[str, Object], Awaitable[None]]) -> None:
        async with self._session.get(path) as listed:
            found = await listed.json()
        for item in found["items"]:
            await answer(path, item)
        version = found["metadata"]["resourceVersion"]
        async with self._session.get(path, params={"watch": "1", "resourceVersion": version}) as watch:
            async for line in watch.content:
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    await answer(path, event["object"])

    async def _deployment(self, path: str, item: Object) -> None:
        wanted, generation = item["spec"].get("replicas", 1), item["metadata"]["generation"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
        if (item.get("status") or {}).get("observedGeneration") != generation:
            await self._report(path, item, {"observedGeneration": generation, **counts})

    async def _route(self, path: str, item: Object) -> None:
        now, generation = time.time(), item["metadata"]["generation"]
        rollout = self._rollouts[item["metadata"]["name"]]
        backends = item["spec"]["rules"][0]["backendRefs"]
        weights = {backend["name"]: backend.get("weight", 1) for backend in backends}
        weight = weights.get(f"{rollout.name}-{rollout.candidate}", 0)
        if not rollout.weights or rollout.weights[-1][1] != weight:
            rollout.weights.append((now, weight))
            rollout.changed.set()
        said = ((item.get("status") or {}).get("parents") or [{}])[0].get("conditions") or [{}]
        if said[0].get("observedGeneration") == generation:
            return
        condition = {
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        conditions = [{"type": kind, **condition} for kind in ("Accepted", "ResolvedRefs")]
        parent = {"parentRef": item["spec"]["parentRefs"][0], "controllerName": "bench/gateway"}
        await self._report(path, item, {"parents": [{**parent, "conditions": conditions}]})

    async def _report(self, path: str, item: Object, status: Object) -> None:
        await patch(self._session, f"{path}/{item['metadata']['name']}/status", {"status": status})


async def patch(session: aiohttp.ClientSession, path: str, change: Object) -> Object:
    """Merge *change* into an object and return it."""
    headers = {"Content-Type": "application/merge-patch+json"}
    async with session.patch(path, json=change, headers=headers) as answer:
        body: Object = await answer.json()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {body.get('message')}")
        return body


@contextlib.asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session with the API server."""
    tls = ssl.create_default_context(cafile=str(cluster.server.ca_file))
    async with aiohttp.ClientSession(
        cluster.server.url,
        headers={"Authorization": f"Bearer {cluster.server.token}"},
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        timeout=aiohttp.ClientTimeout(total=None, connect=10),
        read_bufsize=2**22,
    ) as session:
        yield session


@contextlib.contextmanager
def operating(cluster: Cluster, prometheus: str, log: Path) -> Iterator[int]:
    """Run the operator with its default settings and return its process id."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.server.kubeconfig),
        "MODELRELEASE_PROMETHEUS_URL": prometheus,
        "MODELRELEASE_WATCH_NAMESPACES": NAMESPACE,
        "MODELRELEASE_PROBE_PORT": str(free_port("127.0.0.1")),
        "MODELRELEASE_METRICS_PORT": str(free_port("127.0.0.1")),
    }
    with log.open("w") as sink:
        process = subprocess.Popen([sys.executable, "-m", "modelrelease"], stderr=sink, env=environment)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=30)


# One release.


async def roll_out(session: aiohttp.ClientSession, rollout: Rollout, exporter: Exporter) -> None:
    """Start a rollout, break the candidate at a random moment of its canary stage, and wait until its users left."""
    path = f"/apis/modelrelease.dev/v1alpha1/namespaces/{NAMESPACE}/modelreleases/{rollout.name}"
    stable, candidate = (exporter.revisions[f"{rollout.name}/{it}"] for it in (rollout.stable, rollout.candidate))
    await patch(session, path, {"spec": {"model": {"version": "2"}}})
    await rollout.weight(PERCENT, 120)
    with exporter.lock:
        stable.serve(1 - PERCENT / 100)
        candidate.serve(PERCENT / 100)
    await asyncio.sleep(random.uniform(*HEALTHY_SECONDS))
    async with session.get(path) as answer:
        rollout.body = await answer.json()
    with exporter.lock:
        rollout.broken = candidate.broken_at = time.time()
    rollout.written = await rollout.weight(0, 120)
    with exporter.lock:
        stable.serve(1.0)
        candidate.serve(0.0)


# When it was visible.


async def visible(rollout: Rollout, reader: PrometheusReader) -> tuple[float, float] | None:
    """
    Return the first moment at which a breach was visible, and the first of the unbroken one; Unix times.

    None when no moment shows one: the route was written for another reason, or Prometheus cannot tell any more. At a
    moment of which the reader says that there is no evidence, nothing was visible.
    """
    release = parse(rollout.body)
    assert isinstance(release, Release), release
    status = ReleaseStatus.model_validate(rollout.body["status"])
    assert status.candidate is not None
    assert status.stable is not None
    stage = status.candidate.stages[-1]
    moment, end = (datetime.fromtimestamp(it, UTC) for it in (rollout.broken, rollout.written))
    first = since = None
    while moment < end:
        still_open = stage.model_copy(update={"end_time": None})
        window = evidence_window(still_open, moment, timedelta(seconds=SCRAPE_SECONDS))
        for _ in range(ATTEMPTS):
            counts = await reader.read(release, [window], status.stable.revision, status.candidate.revision)
            finding = evaluate(release, status, counts, moment)
            if not isinstance(finding, MetricsUnavailable):
                break
        broken = isinstance(finding, GateVerdict) and finding.outcome is Outcome.BREACH
        first = (first or moment) if broken else first
        since = (since or moment) if broken else None
        moment += STEP
    return (first.timestamp(), since.timestamp()) if first and since else None


# All together.


async def run(cluster: Cluster, prometheus: PrometheusServer, given: argparse.Namespace, log: Path) -> None:
    """Set the releases up, break them, and print how long it took."""
    exporter = Exporter()
    rollouts, targets = {}, []
    for number in range(given.releases):
        name = f"r{number:03}"
        revisions = [revision_of(name, version) for version in ("1", "2")]
        rollouts[name] = Rollout(name, revisions[0], revisions[1])
        targets += exporter.add(name, revisions[0], STABLE_PODS) + exporter.add(name, revisions[1], 1)
    prometheus.set_targets(targets)
    async with connected(cluster) as session:
        playing = asyncio.create_task(Played(session, rollouts).run())
        with operating(cluster, prometheus.url, log) as operator:
            cluster.create(*(a_release(name, "1") for name in rollouts))
            await asyncio.gather(*(rollout.weight(0, 120) for rollout in rollouts.values()))
            await served(session, len(rollouts))
            with exporter.lock:
                for rollout in rollouts.values():
                    exporter.revisions[f"{rollout.name}/{rollout.stable}"].serve(1.0)
            await asyncio.sleep(3 * SCRAPE_SECONDS)
            began, cpu, asked = time.monotonic(), processor_seconds(operator), questions(prometheus)
            places = asyncio.Semaphore(given.at_once)

            async def one(rollout: Rollout) -> None:
                async with places:
                    await roll_out(session, rollout, exporter)

            await asyncio.gather(*(one(rollout) for rollout in rollouts.values()))
            took = time.monotonic() - began
            cpu, asked = processor_seconds(operator) - cpu, questions(prometheus) - asked
        playing.cancel()
    prometheus.set_targets([])
    reader = PrometheusReader(PrometheusSettings(url=prometheus.url))
    places = asyncio.Semaphore(ANALYSED_AT_ONCE)

    async def look_back(rollout: Rollout) -> tuple[float, float] | None:
        async with places:
            return await visible(rollout, reader)

    found = await asyncio.gather(*(look_back(rollout) for rollout in rollouts.values()))
    reader.close()
    report(list(rollouts.values()), found)
    print(
        f"in {took:.0f} s with at most {given.at_once} releases in a canary: the operator used {cpu / took:.2f} cores "
        f"and asked Prometheus {asked / took:.0f} questions a second; load average {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores"
    )


def revision_of(name: str, version: str) -> str:
    """Return the name of the revision of a model version."""
    body = a_release(name, version)
    release = parse({**body, "metadata": {**body["metadata"], "uid": "u", "generation": 1, "resourceVersion": "1"}})
    assert isinstance(release, Release), release
    return release.desired.name


async def served(session: aiohttp.ClientSession, releases: int) -> None:
    """Wait until every initial release has ended: its first revision is the stable one."""
    async with asyncio.timeout(180):
        while True:
            async with session.get(f"/apis/modelrelease.dev/v1alpha1/namespaces/{NAMESPACE}/modelreleases") as answer:
                items = (await answer.json())["items"]
            if sum(bool((item.get("status") or {}).get("stable")) for item in items) == releases:
                return
            await asyncio.sleep(1)


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def questions(prometheus: PrometheusServer) -> float:
    """Return how many queries Prometheus has answered."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{prometheus.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("prometheus_http_requests_total") and "/api/v1/query" in line
    )


def report(rollouts: list[Rollout], found: list[tuple[float, float] | None]) -> None:
    """Print the quantiles; a breach that cannot be found afterwards is told, and is not in them."""
    shown = [(rollout, moments) for rollout, moments in zip(rollouts, found, strict=True) if moments]
    written = np.array([rollout.written for rollout, _ in shown])
    broken = np.array([rollout.broken for rollout, _ in shown])
    first, since = np.array([moments for _, moments in shown]).T
    unseen = [rollout.name for rollout, moments in zip(rollouts, found, strict=True) if not moments]
    if unseen:
        print(f"rolled back, and no breach is found in Prometheus afterwards: {', '.join(unseen)}")
    print(f"{len(shown)} breaches, seconds until the route was written:\n")
    print(f"{'since':<42}{'p50':>7}{'p90':>7}{'p99':>7}{'max':>7}")
    for name, start in (
        ("a breach was visible in Prometheus, first", first),
        ("a breach was visible, unbroken", since),
        ("the first error", broken),
    ):
        values = np.quantile(written - start, [0.5, 0.9, 0.99, 1.0])
        print(f"{name:<42}" + "".join(f"{value:>7.2f}" for value in values))
    print()


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--releases", type=int, default=100)
    options.add_argument("--at-once", type=int, default=20)
    options.add_argument("--log", type=Path, help="file for the operator's log")
    given = options.parse_args()
    # A socket for every scrape of every pod.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer() as server,
        PrometheusServer(binaries.ensure("prometheus"), scrape_interval=SCRAPE_SECONDS) as prometheus,
    ):
        cluster = Cluster(server)
        cluster.install_releases()
        cluster.install_gateway_api()
        cluster.kubectl("create", "namespace", NAMESPACE)
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        cluster.create(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "public", "namespace": NAMESPACE},
                "spec": {"gatewayClassName": "none", "listeners": [listener]},
            }
        )
        asyncio.run(run(cluster, prometheus, given, given.log or Path(folder) / "operator.log"))


if __name__ == "__main__":
    main()
