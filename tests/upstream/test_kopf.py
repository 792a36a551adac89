"""
kopf, as it is: why it is our informer and nothing more, and what ``handlers.py`` and ``probes.py`` do about the rest.

A test that fails here is good news: it says which of our code may go.
"""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import kopf
import pytest

from e2e.cluster.ports import free_port
from tests.apiserver import Cluster
from tests.builders import a_body
from tests.upstream.conftest import Server, answer, kopf_running, until

pytestmark = pytest.mark.slow

RELEASES = ("modelrelease.dev", "v1alpha1", "modelreleases")
LIST = "/apis/modelrelease.dev/v1alpha1/modelreleases"


KINDS = {
    "modelrelease.dev/v1alpha1": ("modelreleases", "ModelRelease"),
    "apiextensions.k8s.io/v1": ("customresourcedefinitions", "CustomResourceDefinition"),
}


def _group(name: str, version: str) -> dict[str, object]:
    entry = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _kind(plural: str, kind: str) -> dict[str, object]:
    names = {"name": plural, "singularName": kind.lower(), "kind": kind}
    return {**names, "namespaced": True, "verbs": ["get", "list", "watch", "patch"]}


class FakeApi:
    """
    An API server with one kind, scripted: what the n-th list and the n-th watch of it get.

    Attributes:
        lists: Names that each list tells; the last one is told again.
        watches: Status and events of each watch; one after the last hangs.
        unauthorized: How many of the next lists are answered with 401.
    """

    def __init__(self, server: Server, lists, watches=(), unauthorized=0) -> None:
        self.lists, self.watches, self.unauthorized = list(lists), list(watches), unauthorized
        self.listed = self.watched = 0
        self._server = server
        server.reply = self

    def __call__(self, request, path, query) -> None:
        match path:
            case "/api":
                answer(request, {"versions": ["v1"]})
            case "/api/v1":
                answer(request, {"groupVersion": "v1", "resources": [_kind("namespaces", "Namespace")]})
            case "/apis":
                answer(request, {"groups": [_group(*api.split("/")) for api in KINDS]})
            case _ if path.removeprefix("/apis/") in KINDS:
                api = path.removeprefix("/apis/")
                answer(request, {"groupVersion": api, "resources": [_kind(*KINDS[api])]})
            case _ if path == LIST and "watch" in query:
                self._watch(request)
            case _ if path == LIST:
                self._list(request)
            case _:
                answer(request, {"kind": "Status", "code": 404}, status=404)

    def _list(self, request) -> None:
        if self.unauthorized:
            self.unauthorized -= 1
            answer(request, {"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
            return
        names = self.lists[min(self.listed, len(self.lists) - 1)]
        self.listed += 1
        items = [{"metadata": {"name": name, "namespace": "x", "uid": name, "resourceVersion": "1"}} for name in names]
        answer(request, {"items": items, "metadata": {"resourceVersion": str(10 * self.listed)}})

    def _watch(self, request) -> None:
        number, self.watched = self.watched, self.watched + 1
        if number >= len(self.watches):
            request.send_response(200)
            request.end_headers()
            request.wfile.flush()
            self._server.ended.wait()
            return
        status, *events = self.watches[number]
        body = "".join(json.dumps(event) + "\n" for event in events).encode()
        answer(request, body, status=status)


def _registry(server: Server, on_event=lambda **_: None) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def login(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=server.url)

    kopf.on.login(registry=registry)(login)
    kopf.on.event(*RELEASES, registry=registry)(on_event)
    return registry


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


def test_what_is_deleted_during_a_relist_is_never_told(server: Server):
    """A watch that is cut off for long loses the deletion: only a look at the object itself can tell."""
    api = FakeApi(server, lists=[["a", "b"], ["a"]], watches=[(200, GONE)])
    told = []

    async def note(event, **_):
        told.append((event["type"], event["object"]["metadata"]["name"]))

    with kopf_running(_registry(server, note)):
        until(lambda: told.count((None, "a")) >= 2)
        until(lambda: api.watched >= 2)
    assert ("DELETED", "b") not in told, "fixed upstream: DELETED is told after a relist; kube.exists in tick() may go"


def test_a_watch_that_gets_404_ends_in_silence(server: Server):
    """The CRD was replaced: nothing is heard of releases any more, and the process looks well."""
    api = FakeApi(server, lists=[["a"]], watches=[(404, {"kind": "Status", "code": 404})])
    with kopf_running(_registry(server)) as run:
        until(lambda: api.watched >= 1)
        time.sleep(1.5)
        alive = not run.ended.is_set()
    told = "fixed upstream: kopf watches again, or ends, after a 404; _a_watch_has_ended may go"
    assert (alive, api.watched, api.listed) == (True, 1, 1), told


@pytest.mark.parametrize("lifetime", [None, timedelta(minutes=10)], ids=["as it is", "with a lifetime, as ours"])
def test_one_spurious_401_deafens_it(server: Server, lifetime):
    """An API server that restarts answers 401 for a moment; only a login that expires counts as new."""
    api = FakeApi(server, lists=[["a"]], unauthorized=1)
    registry = kopf.OperatorRegistry()

    async def login(**_: object) -> kopf.ConnectionInfo:
        expiration = datetime.now(UTC) + lifetime if lifetime else None
        return kopf.ConnectionInfo(server=server.url, expiration=expiration)

    kopf.on.login(registry=registry)(login)
    kopf.on.event(*RELEASES, registry=registry)(lambda **_: None)
    with kopf_running(registry):
        until(lambda: api.unauthorized == 0)
        if lifetime:
            until(lambda: api.listed)
            return
        time.sleep(1.5)
        assert api.listed == 0, "fixed upstream: after a 401 it asks again; LOGIN_LIFETIME may go"


def test_a_probe_that_raises_never_answers(server: Server):
    """The kubelet waits for its timeout, and nobody reads why."""
    FakeApi(server, lists=[[]])
    registry, port = _registry(server), free_port()

    def probe(**_: object) -> None:
        raise RuntimeError("the queue is stuck")

    kopf.on.probe(id="queue", registry=registry)(probe)
    url = f"http://127.0.0.1:{port}/healthz"
    with kopf_running(registry, liveness_endpoint=url):
        until(lambda: _listens(port))
        with pytest.raises(TimeoutError):  # fixed upstream: a failing probe answers; probes.py may use kopf.on.probe
            urllib.request.urlopen(url, timeout=1.5)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_it_cancels_the_tasks_of_others_when_it_ends(server: Server):
    """An engine in the same event loop would die with it: so kopf has a thread of its own."""
    FakeApi(server, lists=[[]])

    async def main() -> bool:
        stop = asyncio.Event()
        settings = kopf.OperatorSettings()
        settings.peering.standalone = settings.scanning.disabled = True
        running = asyncio.create_task(
            kopf.operator(
                registry=_registry(server), settings=settings, clusterwide=True, stop_flag=stop, identity="upstream"
            )
        )
        await asyncio.sleep(0.5)
        ours = asyncio.create_task(asyncio.sleep(60))
        stop.set()
        await running
        await asyncio.sleep(0)
        cancelled = ours.cancelled() or bool(ours.cancelling())
        ours.cancel()
        return cancelled

    done = []
    thread = threading.Thread(target=lambda: done.append(asyncio.run(main())))
    thread.start()
    thread.join(20)
    assert done == [True], "fixed upstream: other tasks are left alone; _Session need no thread of its own"


def test_it_gives_up_after_a_minute():
    """An API server that restarts for longer would end the operator."""
    backoffs = kopf.OperatorSettings().networking.error_backoffs
    assert sum(backoffs) < 120, "fixed upstream: it does not give up by default; EndlessBackoffs may go"


def test_it_waits_for_ever_by_default():
    """A watch whose connection is half dead is never noticed."""
    watching = kopf.OperatorSettings().watching
    timeouts = (watching.server_timeout, watching.client_timeout, watching.inactivity_timeout)
    assert None in timeouts, "fixed upstream: watches have timeouts by default; ours in settings_for_kopf may go"


@pytest.mark.apiserver
def test_a_timer_dies_of_one_refused_patch(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch):
    """Its object is never looked at again, in silence: a rollback that never comes."""
    body = a_body("1")
    body["metadata"] = {"name": "radar", "namespace": namespace}
    cluster.create(body)
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    registry, looked = kopf.OperatorRegistry(), []

    async def look(patch, meta, **_):
        if meta["namespace"] == namespace:
            looked.append(time.monotonic())
            patch.status["stage"] = 7 if len(looked) == 2 else f"look-{len(looked)}"  # The schema wants a string.

    kopf.on.login(registry=registry)(lambda settings, **_: kopf.login_with_kubeconfig(settings=settings))
    kopf.timer(*RELEASES, interval=0.2, registry=registry)(look)
    with kopf_running(registry) as run:
        until(lambda: len(looked) >= 2)
        time.sleep(2.5)
        alive = not run.ended.is_set()
    assert alive, "fixed upstream: the process ends at least"
    assert len(looked) == 2, (
        "fixed upstream: a timer outlives a refused patch; engine.py may be compared with kopf.timer"
    )
