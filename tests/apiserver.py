"""A real API server for tests: one a session, with our CRD and the Gateway API's; a namespace for each test."""

import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from e2e.cluster import binaries, paths
from e2e.cluster.apiserver import ApiServer

_numbers = itertools.count(1)


class Cluster:
    """An API server and kubectl for it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._kubectl = binaries.ensure("kubectl")

    def kubectl(self, *arguments: str, given: object = None) -> str:
        """Run kubectl, with *given* as JSON on its standard input, and return what it prints."""
        done = subprocess.run(
            [self._kubectl, "--kubeconfig", self.server.kubeconfig, *arguments],
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Return an object."""
        body: dict[str, Any] = json.loads(self.kubectl("get", kind, "-n", namespace, name, "-o", "json"))
        return body

    def names(self, kind: str, namespace: str) -> set[str]:
        """Return the names of all objects of a kind, as ``kind/name``."""
        return set(self.kubectl("get", kind, "-n", namespace, "-o", "name").split())

    def create(self, *bodies: dict[str, Any]) -> None:
        """Create objects."""
        self.kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(bodies)})

    def patch(self, kind: str, namespace: str, name: str, patch: dict[str, Any], *arguments: str) -> None:
        """Merge *patch* into an object."""
        self.kubectl("patch", kind, "-n", namespace, name, "--type=merge", "-p", json.dumps(patch), *arguments)

    def install_releases(self) -> None:
        """Install our CRD."""
        self._install(paths.REPOSITORY / "crds")

    def install_gateway_api(self) -> None:
        """Install the Gateway API's CRDs, from the Go module that Envoy Gateway requires."""
        source = binaries.module_source(binaries.MODULES["envoy-gateway"], "sigs.k8s.io/gateway-api")
        for kind in ("gatewayclasses", "gateways", "httproutes"):
            self._install(source / "config" / "crd" / "standard" / f"gateway.networking.k8s.io_{kind}.yaml")

    def _install(self, folder: object) -> None:
        self.kubectl("apply", "--server-side", "-f", str(folder))
        self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "crd", "--all")

    def client(self) -> ApiClient:
        """Return a client library's client."""
        configuration = Configuration(host=self.server.url, ssl_ca_cert=str(self.server.ca_file))
        configuration.api_key["BearerToken"] = f"Bearer {self.server.token}"
        configuration.client_session_kwargs = {"trust_env": False}
        return ApiClient(configuration)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real API server that knows our kinds and the Gateway API's."""
    with ApiServer() as server:
        running = Cluster(server)
        running.install_releases()
        running.install_gateway_api()
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new namespace."""
    name = f"team-{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    return name


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[ApiClient]:
    """A client of the API server."""
    async with cluster.client() as client:
        yield client
