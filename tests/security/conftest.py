"""
The operator as what its chart makes of it: a service account with the rendered rights, on an API server that checks.

What a cluster has besides and this one has not, the Deployment controller and the Gateway's, is played by ``playing``.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import ApiClient

from e2e.cluster import audit
from e2e.cluster.apiserver import ApiServer, kubeconfig
from e2e.rights import Comparison, Grant, acts, compare, grants, rbac, service_account_user
from tests.apiserver import Cluster
from tests.chart.conftest import CHART, URL, helm

__all__ = ["helm"]

HOME, ACCOUNT = "modelrelease-system", "modelrelease-operator"
USER = service_account_user(ACCOUNT, HOME)
"""Whom the audit policy watches."""

_CONTROLLER = "example.com/gateway"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """An API server of our own: nobody else's objects, and nobody else's lines in the audit log."""
    with ApiServer() as server:
        running = Cluster(server)
        running.install_kinds()
        running.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
        yield running


Charted = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def charted(helm) -> Charted:
    """Return the objects of the chart, rendered with values such as ``watchNamespaces={fraud}``."""

    def render(*values: str) -> list[dict[str, Any]]:
        settings = [f"--set={value}" for value in (f"prometheus.url={URL}", *values)]
        done = helm("template", "modelrelease", str(CHART), f"--namespace={HOME}", *settings)
        assert done.returncode == 0, done.stderr
        return [body for body in yaml.safe_load_all(done.stdout) if body]

    return render


class Installed:
    """
    A service account with the rights of a rendered chart.

    Attributes:
        grants: What the chart grants it.
        access: Stands in for a cluster where the operator's process wants one: the kubeconfig is the account's.
        environment: What the chart tells the pod of the Lease that says who acts.
    """

    def __init__(self, cluster: Cluster, objects: list[dict[str, Any]], folder: Path) -> None:
        self.grants: list[Grant] = grants(objects, ACCOUNT, HOME)
        self.environment = _lease(objects)
        self._cluster = cluster
        self._items = [*(body for body in objects if body["kind"] == "ServiceAccount"), *rbac(objects)]
        self._log_begins = len(self._events())
        for name in {body["metadata"].get("namespace", HOME) for body in self._items}:
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        cluster.apply(*self._items)
        cluster.kubectl("delete", "lease", "-n", HOME, "--all")  # the operator of another test may have left one
        self._until(lambda: all(map(self._allowed, self.grants)))
        token = cluster.kubectl("create", "token", "-n", HOME, ACCOUNT).strip()
        file = folder / "operator.kubeconfig"
        file.write_text(kubeconfig(cluster.server.url, ca_file=cluster.server.ca_file, token=token))
        self.access = SimpleNamespace(server=SimpleNamespace(kubeconfig=file))

    def measured(self) -> Comparison:
        """Return what was granted against what has been done since."""
        return compare(self.grants, acts(self._events()[self._log_begins :], USER))

    def requests(self) -> list[dict[str, Any]]:
        """Return what the audit log says of the account since."""
        return [event for event in self._events()[self._log_begins :] if event["user"]["username"] == USER]

    def _events(self) -> list[dict[str, Any]]:
        log = self._cluster.server.audit_log
        return list(audit.read(log)) if log.exists() else []

    def remove(self) -> None:
        """Take the rights away again."""
        self._cluster.remove(*self._items)
        self._until(lambda: not any(map(self._allowed, self.grants)))

    def _allowed(self, grant: Grant) -> bool:
        right = (grant.right.group, grant.right.resource, grant.right.verb)
        return self._cluster.allows(USER, grant.namespace or "anywhere", right, *grant.names[:1])

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait: the API server takes up what is granted and what is taken away a moment later."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "rights are not taken up"
            time.sleep(0.02)


def _lease(objects: list[dict[str, Any]]) -> dict[str, str]:
    [deployment] = [body for body in objects if body["kind"] == "Deployment"]
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {it["name"]: it["value"] for it in variables if "_LEASE_" in it["name"]}


@pytest.fixture
def install(cluster: Cluster, charted: Charted, tmp_path: Path) -> Iterator[Callable[..., Installed]]:
    """Install the chart's rights for the time of a test."""
    installed: list[Installed] = []

    def give(*values: str) -> Installed:
        installed.append(Installed(cluster, charted(*values), tmp_path))
        return installed[-1]

    yield give
    for each in installed:
        each.remove()


class Admin:
    """Whoever may do everything, without the time that starting kubectl takes."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Return status and answer of a request."""
        headers = {"Accept": "application/json", "Content-Type": kind}
        method, url, headers, body, _ = await self._api.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = await self._api.call_api(method, url, headers, body)
        return response.status, json.loads(await response.read())

    async def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        return (await self.call("GET", path))[1].get("items", [])


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    """A client that may do everything."""
    async with cluster.client() as api:
        yield Admin(api)


@asynccontextmanager
async def playing(admin: Admin, namespace: str) -> AsyncIterator[None]:
    """Play the Deployment controller, all of whose pods are ready at once, and a Gateway that takes every route."""
    task = asyncio.create_task(_play(admin, namespace))
    try:
        yield
    finally:
        assert not task.done(), task.exception()
        task.cancel()


async def _play(admin: Admin, namespace: str) -> None:
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    routes = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    while True:
        for path, status_of in ((deployments, _all_ready), (routes, _taken)):
            for item in await admin.items(path):
                status = status_of(item)
                if not status.items() <= item.get("status", {}).items():
                    name = item["metadata"]["name"]
                    kind = "application/merge-patch+json"
                    await admin.call("PATCH", f"{path}/{name}/status", {"status": status}, kind)
        await asyncio.sleep(0.2)


def _all_ready(deployment: dict[str, Any]) -> dict[str, Any]:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **dict.fromkeys(counts, deployment["spec"]["replicas"]),
    }


def _taken(route: dict[str, Any]) -> dict[str, Any]:
    generation = route["metadata"]["generation"]
    said = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    conditions = [{"type": kind, "observedGeneration": generation, **said} for kind in ("Accepted", "ResolvedRefs")]
    parents = [
        {"parentRef": parent, "controllerName": _CONTROLLER, "conditions": conditions}
        for parent in route["spec"]["parentRefs"]
    ]
    return {"parents": parents}


def a_gateway(namespace: str, name: str = "public", *, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a Gateway."""
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"gatewayClassName": "lab", "listeners": [listener], **(spec or {})},
    }


def a_gateway_class(name: str = "lab") -> dict[str, Any]:
    """Return a class of Gateways, which belongs to the whole cluster and publishes no features."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": _CONTROLLER},
    }
