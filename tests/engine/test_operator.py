"""The operator as a process, on a real API server: what a pod would do, but for pods."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.cluster.ports import free_port
from tests.adapters.test_kube import _release
from tests.builders import a_decision

pytestmark = pytest.mark.apiserver

GATEWAY_API = "gateway.networking.k8s.io/v1"


class Process:
    """A running operator; *environment* are variables of its environment that are other than here."""

    def __init__(self, cluster, namespace, log: Path, **environment: str) -> None:
        self.probes, self.metrics = free_port("127.0.0.1"), free_port("127.0.0.1")
        self.log = log
        self._sink = log.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelrelease"],
            stderr=self._sink,
            env={
                **os.environ,
                "KUBECONFIG": str(cluster.server.kubeconfig),
                "MODELRELEASE_PROMETHEUS_URL": "http://127.0.0.1:1",
                "MODELRELEASE_WATCH_NAMESPACES": namespace,
                "MODELRELEASE_PROBE_PORT": str(self.probes),
                "MODELRELEASE_METRICS_PORT": str(self.metrics),
                "MODELRELEASE_DRAIN": "1s",
                # The next one need not wait long for one that was killed.
                "MODELRELEASE_LEASE_NAMESPACE": namespace,
                "MODELRELEASE_LEASE_DURATION": "6s",
                "MODELRELEASE_LEASE_RENEW_DEADLINE": "4s",
                "MODELRELEASE_LEASE_RETRY": "300ms",
                **environment,
            },
        )

    def ask(self, port: int, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def end(self, number=signal.SIGTERM) -> float:
        """Send a signal and return how long it took to end."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        return time.monotonic() - began

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._sink.close()


@contextmanager
def operating(cluster, namespace, tmp_path, **settings):
    """Run the operator, and show its log if the test fails."""
    process = Process(cluster, namespace, tmp_path / "operator.log", **settings)
    try:
        yield process
    except BaseException:
        print(process.log.read_text())
        raise
    finally:
        process.close()


async def until(condition, what, seconds=20.0):
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)


@pytest.fixture
def gateway(cluster, namespace):
    """A Gateway that nobody serves."""
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": "none", "listeners": [listener]}
    meta = {"name": "public", "namespace": namespace}
    cluster.create({"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": meta, "spec": spec})


def stage_of(cluster, namespace):
    return cluster.get("mrel", namespace, "radar").get("status", {}).get("stage")


def seen_by_operator(cluster, namespace):
    """Return whether the release has a status of its generation."""
    return cluster.get("mrel", namespace, "radar")["status"]["observedGeneration"] == 1


def make_available(cluster, namespace, replicas):
    """Report every Deployment available, as its controller would."""
    for name in cluster.names("deployment", namespace):
        generation = cluster.get("deployment", namespace, name.split("/")[1])["metadata"]["generation"]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = {"observedGeneration": generation, **dict.fromkeys(counts, replicas)}
        cluster.patch("deployment", namespace, name.split("/")[1], {"status": status}, status=True)


def reasons_of(cluster, namespace):
    """Return the reasons of the release's conditions."""
    return {it["reason"] for it in cluster.get("mrel", namespace, "radar")["status"]["conditions"]}


async def test_a_first_release_from_create_to_full(cluster, namespace, gateway, tmp_path):
    """Create, become available, serve: with events, a quiet status, and a clean end."""
    cluster.create(_release(namespace))
    began = time.monotonic()
    with operating(cluster, namespace, tmp_path) as operator:
        await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 200, "ready")
        await until(lambda: stage_of(cluster, namespace) == "Pending", "the rollout begins")
        print(f"process start to first status: {time.monotonic() - began:.1f} s")
        await until(lambda: len(cluster.names("deployment", namespace)) == 1, "its Deployment")
        make_available(cluster, namespace, 3)
        await until(lambda: stage_of(cluster, namespace) == "full", "users are served")
        await until(lambda: cluster.names("httproute", namespace) != set(), "the route")
        described = cluster.kubectl("describe", "mrel", "-n", namespace, "radar")
        assert "InitialRelease" in described
        assert "WatchStarted" in described
        await until(lambda: "Baking" in reasons_of(cluster, namespace), "it bakes")
        before = cluster.get("mrel", namespace, "radar")
        await asyncio.sleep(4)
        assert cluster.get("mrel", namespace, "radar") == before
        status, metrics = operator.ask(operator.metrics, "/metrics")
        assert status == 200
        assert re.search(r'modelrelease_release_info{namespace="[^"]+",release="radar",stage="full"} 1', metrics)
        resident = re.search(r"^process_resident_memory_bytes (\S+)", metrics, re.MULTILINE)
        print(f"resident memory: {float(resident[1]) / 2**20:.0f} MiB")
        took = operator.end()
        print(f"SIGTERM to end: {took:.1f} s")
        assert operator.process.returncode == 0
        assert took < 15, "a pod is given 30 s to end"
    assert "Traceback" not in operator.log.read_text()


async def test_a_killed_operator_goes_on_where_it_was(cluster, namespace, gateway, tmp_path):
    """Killed with -9 in mid-rollout; the next one loses and repeats nothing."""
    cluster.create(_release(namespace))
    with operating(cluster, namespace, tmp_path) as operator:
        await until(lambda: len(cluster.names("deployment", namespace)) == 1, "its Deployment")
        await until(lambda: stage_of(cluster, namespace) == "Pending", "the rollout begins")
        operator.end(signal.SIGKILL)
    make_available(cluster, namespace, 3)
    with operating(cluster, namespace, tmp_path):
        await until(lambda: stage_of(cluster, namespace) == "full", "users are served")
    assert cluster.kubectl("get", "events", "-n", namespace).count("InitialRelease") == 1


async def test_a_hand_edited_route_is_repaired(cluster, namespace, gateway, tmp_path):
    """Repaired in a moment, not at the next tick, and reported."""
    cluster.create(_release(namespace))
    with operating(cluster, namespace, tmp_path):
        await until(lambda: len(cluster.names("deployment", namespace)) == 1, "its Deployment")
        make_available(cluster, namespace, 3)
        await until(lambda: cluster.names("httproute", namespace) != set(), "the route")
        await asyncio.sleep(1)
        spec = cluster.get("httproute", namespace, "radar")["spec"]
        cluster.patch("httproute", namespace, "radar", {"spec": {"hostnames": ["evil.example.com"]}})
        began = time.monotonic()
        await until(lambda: cluster.get("httproute", namespace, "radar")["spec"] == spec, "repaired", seconds=5)
        print(f"drift repaired within {time.monotonic() - began:.1f} s")
        await until(lambda: "TrafficDrifted" in cluster.kubectl("get", "events", "-n", namespace), "reported")


async def test_a_decision_about_a_release_that_is_being_deleted_is_answered(cluster, namespace, gateway, tmp_path):
    """Nothing is done for a release that goes; once it is gone, people are told that there is none."""
    release = _release(namespace)
    release["metadata"]["finalizers"] = ["example.com/slow"]
    cluster.create(release)

    def outcome():
        return cluster.get("mdec", namespace, "radar-1").get("status", {}).get("outcome")

    with operating(cluster, namespace, tmp_path):
        await until(lambda: stage_of(cluster, namespace) == "Pending", "the rollout begins")
        cluster.kubectl("delete", "mrel", "-n", namespace, "radar", "--wait=false")
        cluster.create({**a_decision("Rollback"), "metadata": {"name": "radar-1", "namespace": namespace}})
        await asyncio.sleep(1)
        assert outcome() is None
        cluster.patch("mrel", namespace, "radar", {"metadata": {"finalizers": None}})
        await until(lambda: outcome() == "Stale", "the answer", seconds=5)


async def test_without_the_crd_it_waits_and_says_so(cluster, namespace, tmp_path):
    """No crash loop: not ready, with the reason; at work as soon as the CRD is there."""
    cluster.kubectl("delete", "crd", "modelreleases.modelrelease.dev")
    try:
        with operating(cluster, namespace, tmp_path) as operator:
            await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 503, "not ready")
            await until(lambda: "not installed" in operator.ask(operator.probes, "/readyz")[1], "the reason")
            assert operator.ask(operator.probes, "/healthz")[0] == 200
            cluster.install_releases()
            cluster.create(_release(namespace))
            await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 200, "ready")
            await until(lambda: seen_by_operator(cluster, namespace), "at work")
    finally:
        cluster.install_releases()


async def test_without_an_api_server_it_waits(cluster, namespace, tmp_path):
    """An outage at the start is no reason to die."""
    cluster.server.stop()
    try:
        with operating(cluster, namespace, tmp_path) as operator:
            await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 503, "not ready")
            await asyncio.sleep(2)
            assert operator.ask(operator.probes, "/healthz")[0] == 200
            cluster.server.start()
            cluster.create(_release(namespace))
            await until(lambda: seen_by_operator(cluster, namespace), "at work", seconds=30)
            assert operator.end() < 5
    finally:
        cluster.server.start()
