"""``watch`` against a real API server: told of changes, through everything that ends a watch."""

import asyncio
import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
from aiohttp import web
from typer.testing import CliRunner

from modelrelease.cli import cluster as client
from modelrelease.cli.cluster import Absent, Access, ClusterProblem, Forbidden, connected
from modelrelease.cli.main import app
from tests.cli.states import a_state
from tests.cli.test_cluster_commands import stored
from tests.faults.proxy import Call, Proxy, answer, faithful, reset

pytestmark = pytest.mark.apiserver

GONE = '{"kind":"Status","status":"Failure","message":"too old resource version","reason":"Expired","code":410}'


@pytest.fixture
def become(cluster, namespace):
    """Make the release what it is in a state; the first time, create it."""

    def become(name):
        body, status = stored(name, namespace)
        if not cluster.names("mrel", namespace):
            cluster.create({key: value for key, value in body.items() if key != "status"})
        cluster.patch("mrel", namespace, "radar", {"status": status}, status=True)

    return become


@pytest.fixture
def kubeconfig(cluster, tmp_path):
    """Write a kubeconfig that leads to an address."""

    def write(url):
        config = json.loads(cluster.server.kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": url}
        config["users"][0]["user"] = {"token": cluster.server.token}
        (tmp_path / "config").write_text(json.dumps(config))
        return tmp_path / "config"

    return write


def test_each_change_is_told_at_once(cluster, namespace, become):
    """Not at the next look: there is none, for an hour. And what lasted a moment is told too."""
    become("canary, baking")
    words = ["watch", "radar", "--until-done", "--every", "3600"]
    where = ["-n", namespace, "--kubeconfig", str(cluster.server.kubeconfig)]
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(CliRunner().invoke, app, [*words, *where])
        # Until it is watched, only the last state could be seen.
        while not watching.done() and not _watched(cluster, namespace):
            pass
        for state in ("no metrics", "canary, baking", "breach, rolled back from canary"):
            become(state)
        result = watching.result(timeout=30)
    assert result.exit_code == 10, result.output
    reasons = [line.split("  ")[4] for line in result.stdout.splitlines()]
    assert reasons == ["Baking", "MetricsUnavailable", "Baking", "RolledBack"]


def _watched(cluster, namespace):
    """Return whether the API server serves a watch of releases, other than the suite's own."""
    text = cluster.kubectl("get", "--raw", "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("apiserver_longrunning_requests")]
    ours = [line for line in lines if 'resource="modelreleases"' in line and 'verb="WATCH"' in line]
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in ours)


async def _next(changes):
    return await asyncio.wait_for(anext(changes), timeout=20)


def _said(news: object) -> tuple[str, str]:
    assert isinstance(news, dict), news
    ready = next(c for c in news["status"]["conditions"] if c["type"] == "Ready")
    return news["status"]["stage"], ready["reason"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("expired", id="the watch's place in history is gone"),
        pytest.param("expired on the way", id="it goes while it is watched"),
        pytest.param("cut", id="the connection is cut"),
        pytest.param("ended", id="the server ends the watch"),
    ],
)
async def test_a_watch_that_ends_begins_anew(cluster, namespace, become, kubeconfig, monkeypatch, fault):
    """Nobody who looks on has to know: the next change is told all the same."""
    become("canary, baking")
    trust = ssl.create_default_context(cafile=str(cluster.server.ca_file))
    if fault == "ended":
        monkeypatch.setattr(client, "_WATCH_SECONDS", 1)
    faults = [_FAULTS[fault]] * 2

    async def twice(call: Call) -> web.StreamResponse:
        return await (faults.pop() if call.kind == "watch" and faults else faithful)(call)

    async with (
        Proxy(cluster.server.url, trust) as proxy,
        connected(_access(kubeconfig(proxy.url), namespace)) as seen,
        aclosing(seen.follow("radar")) as changes,
    ):
        proxy.behaviour = twice
        assert _said(await _next(changes)) == ("canary-10", "Baking")
        while faults:
            await _next(changes)
        await asyncio.to_thread(become, "no metrics")
        news = await _next(changes)
        while isinstance(news, ClusterProblem) or _said(news) != ("canary-10", "MetricsUnavailable"):
            news = await _next(changes)
        assert not proxy.broken


async def _expired_on_the_way(call: Call) -> web.StreamResponse:
    """Tell within the stream that it cannot go on."""
    line = json.dumps({"type": "ERROR", "object": json.loads(GONE)})
    return await answer(200, line + "\n")(call)


_FAULTS = {
    "expired": answer(410, GONE),
    "expired on the way": _expired_on_the_way,
    "cut": reset,
    "ended": faithful,
}


async def test_a_server_that_is_away_is_said_and_waited_for(cluster, namespace, become, kubeconfig):
    """What keeps it from being seen is told, and what is seen afterwards too."""
    become("canary, baking")
    trust = ssl.create_default_context(cafile=str(cluster.server.ca_file))
    async with (
        Proxy(cluster.server.url, trust) as proxy,
        connected(_access(kubeconfig(proxy.url), namespace)) as seen,
        aclosing(seen.follow("radar")) as changes,
    ):
        await _next(changes)
        proxy.behaviour = answer(503, "")
        coming = asyncio.ensure_future(_next(changes))
        await asyncio.sleep(0.5)
        proxy.cut_watches()
        assert isinstance(await coming, ClusterProblem)
        assert "503" in str(await _next(changes))
        proxy.behaviour = faithful
        assert _said(await _next(changes)) == ("canary-10", "Baking")


async def test_what_is_deleted_is_not_waited_for(cluster, namespace, become):
    become("canary, baking")
    async with connected(_access(cluster.server.kubeconfig, namespace)) as seen:
        async with aclosing(seen.follow("radar")) as changes:
            await _next(changes)
            coming = asyncio.ensure_future(_next(changes))
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cluster.kubectl, "delete", "mrel", "radar", "-n", namespace)
            with pytest.raises(Absent, match=r'"radar" was deleted'):
                await coming
        async with aclosing(seen.follow("radar")) as changes:
            with pytest.raises(Absent, match=r'"radar" not found'):
                await _next(changes)


async def test_who_may_not_watch_is_told_so(cluster, namespace, become):
    """And not for ever again."""
    become("canary, baking")
    nobody = Access(cluster.server.kubeconfig, None, namespace, user="nobody")
    async with connected(nobody) as seen, aclosing(seen.follow("radar")) as changes:
        with pytest.raises(Forbidden, match=r'User "nobody" cannot list resource "modelreleases"'):
            await _next(changes)


async def test_an_object_of_any_size_is_told(cluster, namespace, become):
    """A watch sends it as one line, which is longer than what the client library reads by itself."""
    become("canary, baking")
    async with (
        connected(_access(cluster.server.kubeconfig, namespace)) as seen,
        aclosing(seen.follow("radar")) as changes,
    ):
        await _next(changes)
        coming = asyncio.ensure_future(_next(changes))
        await asyncio.sleep(0.5)
        gate = {**a_state("canary, baking")["status"]["gate"], "message": "x" * 400_000}
        body = {"metadata": {"name": "radar", "namespace": namespace}, "status": {"gate": gate}}
        await asyncio.to_thread(_patch_from_a_file, cluster, namespace, body)
        assert len((await coming)["status"]["gate"]["message"]) == 400_000


def _patch_from_a_file(cluster, namespace, body):
    path = cluster.server.kubeconfig.parent / f"{namespace}-patch.json"
    path.write_text(json.dumps(body))
    arguments = ["patch", "mrel", "radar", "-n", namespace, "--type=merge", "--subresource=status"]
    cluster.kubectl(*arguments, "--patch-file", str(path))


def _access(kubeconfig, namespace):
    return Access(kubeconfig, None, namespace)
