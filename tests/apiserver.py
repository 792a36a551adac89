"""
A real API server for tests: one a process, with our CRD and the Gateway API's; a namespace for each test.

Tests look at objects and prepare them over one connection that stays open: a kubectl for each look, several times a
second, would take most of what the machine has. Where kubectl is what users type, tests run it.
"""

import itertools
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from e2e.cluster import binaries, paths
from e2e.cluster.apiserver import ApiServer

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

_OURS: Final = (paths.REPOSITORY / "crds",)
_numbers = itertools.count(1)


def _gateway_api() -> list[Path]:
    """Return the files of the Gateway API's CRDs, in the Go module that Envoy Gateway requires."""
    source = binaries.module_source(binaries.MODULES["envoy-gateway"], "sigs.k8s.io/gateway-api")
    kinds = ("gatewayclasses", "gateways", "httproutes")
    return [source / "config" / "crd" / "standard" / f"gateway.networking.k8s.io_{kind}.yaml" for kind in kinds]


Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of objects.

    Attributes:
        path: Where the API server has them, before the namespace.
        plural: Their name in a path.
        title: What kubectl calls one of them, before its name.
        spaced: Whether they live in namespaces.
    """

    path: str
    plural: str
    title: str
    spaced: bool

    def all_in(self, namespace: str) -> str:
        """Return the path of all objects of a namespace, or of the cluster."""
        return f"{self.path}/namespaces/{namespace}/{self.plural}" if self.spaced else f"{self.path}/{self.plural}"


class Cluster:
    """An API server and kubectl for it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._kubectl = binaries.ensure("kubectl")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(server.ca_file)
        self._session.headers["Authorization"] = f"Bearer {server.token}"
        # What a new kind is answered with until there is room for it; kubectl tries again, too.
        busy = Retry(total=None, connect=0, read=0, status=100, status_forcelist=[429], allowed_methods=None,
                     backoff_factor=0.05, backoff_max=0.2, respect_retry_after_header=False)  # fmt: skip
        self._session.mount("https://", HTTPAdapter(max_retries=busy))
        self._kinds: dict[str, Kind] = {}

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

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return an object as kubectl shows it, of a kind by any name that kubectl knows."""
        body = self._ask("GET", f"{self._kind(kind).all_in(namespace)}/{name}")
        body["metadata"].pop("managedFields", None)
        return body

    def names(self, kind: str, namespace: str) -> set[str]:
        """Return the names of all objects of a kind, or of several with commas between them, as ``kind/name``."""
        kinds = [self._kind(each) for each in kind.split(",")]
        found = [(each, self._ask("GET", each.all_in(namespace))["items"]) for each in kinds]
        return {f"{each.title}/{item['metadata']['name']}" for each, items in found for item in items}

    def create(self, *bodies: Object) -> list[Object]:
        """Create objects and return them as they were made; one with a field that nobody knows is refused."""
        how = "fieldManager=kubectl-create&fieldValidation=Strict"
        return [self._ask("POST", f"{self._folder(body)}?{how}", body) for body in bodies]

    def patch(self, kind: str, namespace: str, name: str, patch: Object, *, status: bool = False) -> None:
        """Merge *patch* into an object, or into its status."""
        path = f"{self._kind(kind).all_in(namespace)}/{name}{'/status' if status else ''}"
        self._ask("PATCH", f"{path}?fieldManager=kubectl-patch", patch, "application/merge-patch+json")

    def apply(self, *bodies: Object) -> None:
        """Create objects, or give those that are there what these say."""
        for body in bodies:
            self._ask("PATCH", f"{self._path(body)}?fieldManager=kubectl", body, "application/apply-patch+yaml")

    def remove(self, *bodies: Object) -> None:
        """Delete objects, if they are there."""
        for body in bodies:
            self._ask("DELETE", self._path(body), absent=True)

    def allows(self, user: str, namespace: str, right: tuple[str, str, str], name: str = "") -> bool:
        """Return whether *user* has a right: group, resource with its subresource, and verb."""
        group, (kind, _, subresource), verb = right[0], right[1].partition("/"), right[2]
        asked = {"group": group, "resource": kind, "subresource": subresource, "verb": verb, "name": name}
        spec = {"user": user, "resourceAttributes": {**asked, "namespace": namespace}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        [answer] = self.create(review)
        return bool(answer["status"]["allowed"])

    def _path(self, body: Object) -> str:
        return f"{self._folder(body)}/{body['metadata']['name']}"

    def _folder(self, body: Object) -> str:
        group = body["apiVersion"].rpartition("/")[0]
        kind = self._kind(f"{body['kind']}.{group}" if group else body["kind"])
        return kind.all_in(body.get("metadata", {}).get("namespace", "default"))

    def _ask(
        self, method: str, path: str, body: object = None, kind: str = "application/json", *, absent: bool = False
    ) -> Object:
        data = json.dumps(body) if body is not None else None
        answer = self._session.request(
            method, self.server.url + path, data=data, headers={"Content-Type": kind}, timeout=60
        )
        said: Object = answer.json()
        assert answer.ok or (absent and answer.status_code == 404), f"{said.get('reason')}: {said.get('message')}"
        return said

    def _kind(self, name: str) -> Kind:
        deadline = time.monotonic() + 10  # a new kind is told of a moment after it is there
        while name.lower() not in self._kinds:
            assert time.monotonic() < deadline, f"the API server knows no {name}"
            self._kinds = self._discovered()
        return self._kinds[name.lower()]

    def _discovered(self) -> dict[str, Kind]:
        """Return all kinds by their names: plural, singular, kind, the short ones; each with its group, and without."""
        accepted = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
        kinds: dict[str, Kind] = {}
        for root in ("/api", "/apis"):
            answer = self._session.get(self.server.url + root, headers=accepted, timeout=60)
            assert answer.ok, answer.text
            for group in answer.json()["items"]:
                preferred, group_name = group["versions"][0], group["metadata"].get("name", "")
                path = "/".join(part for part in (root, group_name, preferred["version"]) if part)
                for it in preferred["resources"]:
                    one, tail = it["singularResource"], f".{group_name}" if group_name else ""
                    kind = Kind(path, it["resource"], f"{one}{tail}", it["scope"] == "Namespaced")
                    for name in (it["resource"], one, it["responseKind"]["kind"].lower(), *it.get("shortNames", ())):
                        kinds.setdefault(name, kind)
                        kinds.setdefault(f"{name}{tail}", kind)
        return kinds

    def install_kinds(self) -> None:
        """Install our CRDs and the Gateway API's."""
        self._install(*_OURS, *_gateway_api())

    def install_releases(self) -> None:
        """Install our CRDs."""
        self._install(*_OURS)

    def install_gateway_api(self) -> None:
        """Install the Gateway API's CRDs."""
        self._install(*_gateway_api())

    def _install(self, *files: Path) -> None:
        self.kubectl("apply", "--server-side", *(f"--filename={file}" for file in files))
        self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "crd", "--all")

    def client(self) -> "ApiClient":
        """Return a client library's client, made as the operator's."""
        from kubernetes.aio.client import Configuration

        from modelrelease.adapters.kube import client_of

        configuration = Configuration(host=self.server.url, ssl_ca_cert=str(self.server.ca_file))
        configuration.api_key["BearerToken"] = f"Bearer {self.server.token}"
        return client_of(configuration)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real API server that knows our kinds and the Gateway API's."""
    with ApiServer() as server:
        running = Cluster(server)
        running.install_kinds()
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new namespace."""
    name = f"team-{next(_numbers)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator["ApiClient"]:
    """A client of the API server."""
    async with cluster.client() as client:
        yield client
