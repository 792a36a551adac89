"""
The cluster as a user sees it: kubectl, Prometheus' address, the Gateway's address, and a sender of real requests.

Demo and end-to-end tests act through this module only, so that what they do is what a user can do.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.cluster import binaries
from e2e.cluster.paths import LOGS, REPOSITORY, STATE

MANIFESTS: Final = Path(__file__).resolve().parent / "manifests"
NAMESPACE: Final = "lending"
RELEASE: Final = "loans"
OPERATOR_NAMESPACE: Final = "modelrelease-system"
HOSTNAME: Final = "loans.example.com"
GREETINGS: Final = 3
RATE: Final = 250.0
"""Requests per second that demo and tests send: real applications, replayed in order."""
FIRST, GOOD, BAD = "2026-10-01", "2026-11-05", "2026-11-20"

Object = dict[str, Any]


class Kubectl:
    """kubectl against the throwaway cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.binary = binaries.ensure("kubectl")

    def run(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """
        Run kubectl and return what it printed; raise with its error message when it fails.

        An API server that is too busy to greet is asked again: nothing has been done yet.
        """
        command = [str(self.binary), f"--kubeconfig={self.kubeconfig}", *arguments]
        for _ in range(GREETINGS):
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
            if not done.returncode or not done.stderr.startswith("Unable to connect to the server"):
                break
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stderr

    def get(self, *arguments: str) -> Object | None:
        """Return an object as the API server has it; None when there is none."""
        printed = self.run("get", *arguments, "-o", "json", "--ignore-not-found")
        found: Object | None = json.loads(printed) if printed.strip() else None
        return found

    def apply(self, *documents: Object) -> str:
        """Apply objects the way a GitOps tool does: server-side."""
        return self.run("apply", "--server-side", "--force-conflicts", "-f", "-", text=yaml.safe_dump_all(documents))


@dataclass(frozen=True, slots=True)
class World:
    """
    The cluster with the operator on it.

    Attributes:
        kubectl: Access to the API server.
        gateway: Where requests enter, when this machine cannot reach the Gateway's own address.
        prometheus: The same for Prometheus.
    """

    kubectl: Kubectl
    gateway: str | None = None
    prometheus: str | None = None

    def release(self) -> Object:
        """Return the ModelRelease as it is now."""
        found = self.kubectl.get("-n", NAMESPACE, "mrel", RELEASE)
        if found is None:
            raise LookupError(f"ModelRelease {NAMESPACE}/{RELEASE} does not exist")
        return found

    def status(self) -> Object:
        """Return the status of the ModelRelease."""
        status: Object = self.release().get("status") or {}
        return status

    def condition(self, kind: str) -> Object:
        """Return a condition of the ModelRelease; empty when it is absent."""
        conditions = self.status().get("conditions") or []
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def pods(self) -> list[str]:
        """Return the names of the release's pods."""
        found = self.kubectl.get("-n", NAMESPACE, "pods", "-l", f"modelrelease.dev/release={RELEASE}") or {}
        return [pod["metadata"]["name"] for pod in found.get("items", [])]

    def leader(self) -> str:
        """Return the name of the operator's pod that acts; raise while none does."""
        lease = self.kubectl.get("-n", OPERATOR_NAMESPACE, "lease", "modelrelease-operator") or {}
        pod = str((lease.get("spec") or {}).get("holderIdentity") or "").partition("_")[0]
        if not pod:
            raise LookupError("no operator pod holds the Lease")
        return pod

    def route(self) -> Object | None:
        """Return the live HTTPRoute."""
        return self.kubectl.get("-n", NAMESPACE, "httproute", RELEASE)

    def weights(self) -> dict[str, int]:
        """Return the live route's weights by Service name."""
        rules = ((self.route() or {}).get("spec") or {}).get("rules") or [{}]
        return {ref["name"]: ref.get("weight", 1) for ref in rules[0].get("backendRefs") or []}

    def events(self, reason: str | None = None) -> list[Object]:
        """Return the events of the ModelRelease as it is now, not of a namesake before it; oldest first."""
        uid = self.release()["metadata"]["uid"]
        found = self.kubectl.get("-n", NAMESPACE, "events", "--field-selector", f"involvedObject.uid={uid}")
        events = [event for event in (found or {}).get("items", []) if reason in (None, event["reason"])]
        return sorted(events, key=lambda event: str(event["metadata"]["creationTimestamp"]))

    def gateway_address(self) -> str:
        """Return where requests enter; raise until the Gateway has an address."""
        if self.gateway:
            return self.gateway
        gateway = self.kubectl.get("-n", NAMESPACE, "gateway", "public") or {}
        addresses = (gateway.get("status") or {}).get("addresses") or []
        if not addresses:
            raise LookupError("the Gateway has no address yet")
        return str(addresses[0]["value"])

    def prometheus_url(self) -> str:
        """Return the address of Prometheus, as seen from this machine."""
        if self.prometheus:
            return self.prometheus
        service = self.kubectl.get("-n", "monitoring", "service", "prometheus") or {}
        return f"http://{service['spec']['clusterIP']}:9090"


def loans(version: str, *, stages: list[Object] | None = None, attempt: str | None = None, **server: Any) -> Object:
    """
    Return the demo's ModelRelease.

    Args:
        version: The model's version.
        stages: Replaces the stages of the manifest.
        attempt: Goes into an annotation of the pods: the same version becomes another revision.
        server: Fields of spec.server that are replaced; ``env`` is put into the container.
    """
    release: Object = copy.deepcopy(yaml.safe_load((MANIFESTS / "loans.yaml").read_text()))
    spec = release["spec"]
    spec["model"]["version"] = version
    if stages is not None:
        spec["stages"] = stages
    if attempt is not None:
        metadata = spec["server"]["template"].setdefault("metadata", {})
        metadata.setdefault("annotations", {})["example.com/attempt"] = attempt
    for name, value in (server.pop("env", None) or {}).items():
        spec["server"]["template"]["spec"]["containers"][0].setdefault("env", []).append({"name": name, "value": value})
    spec["server"].update(server)
    return release


def wait_until(what: str, ready: Callable[[], Any], *, seconds: float, every: float = 0.5) -> Any:
    """
    Return the first true answer of *ready*.

    Raises:
        TimeoutError: It did not come within *seconds*; the message holds the last answer or exception.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if last := ready():
                return last
        except (LookupError, RuntimeError, KeyError) as error:
            last = error
        time.sleep(every)
    raise TimeoutError(f"{what} did not happen within {seconds:.0f} s; last seen: {last!r}")


@contextmanager
def traffic(address: str, *, rate: float, seconds: float, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Send real applications through the Gateway for at most *seconds*, and stop when the block ends."""
    log = log or LOGS / "traffic.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "modelserver.traffic", "--url", f"http://{address}/decide", "--host", HOSTNAME]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    with log.open("wb") as sink:
        sender = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=REPOSITORY)
    try:
        yield sender
    finally:
        sender.terminate()
        try:
            sender.wait(timeout=10)
        except subprocess.TimeoutExpired:
            sender.kill()
            sender.wait()


def kubeconfig() -> Path:
    """Return the kubeconfig of the throwaway cluster."""
    return Path(os.environ.get("MODELRELEASE_E2E_KUBECONFIG") or STATE / "kubeconfig")


def moment(text: str) -> datetime:
    """Return a Kubernetes timestamp as a time."""
    return datetime.fromisoformat(text).astimezone(UTC)
