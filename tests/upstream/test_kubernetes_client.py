"""
The ``kubernetes`` package's asyncio half on a real API server, as it is: why ``adapters/kube.py`` speaks plain JSON.

A test that fails here is good news: it says which of our code may go.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
import pytest
from kubernetes.aio.client import (
    ApiClient,
    ApiException,
    Configuration,
    CoordinationV1Api,
    CustomObjectsApi,
    V1Lease,
    V1LeaseSpec,
    V1ObjectMeta,
)
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from tests.upstream.conftest import Server, answer

GROUP = ("gateway.networking.k8s.io", "v1")


def _gateway(name: str) -> dict[str, object]:
    spec = {"gatewayClassName": "any", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    return {
        "apiVersion": "/".join(GROUP),
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.apiserver
async def test_an_apply_that_creates_is_answered_with_nothing(api: ApiClient, namespace: str):
    """The object is made, and whoever made it learns neither its uid nor its resourceVersion."""
    custom = CustomObjectsApi(api)
    how = {"field_manager": "upstream", "force": True, "_content_type": "application/apply-patch+yaml"}
    made = await custom.patch_namespaced_custom_object(
        *GROUP, namespace, "gateways", "public", _gateway("public"), **how
    )
    there = await custom.get_namespaced_custom_object(*GROUP, namespace, "gateways", "public")
    assert there["metadata"]["name"] == "public"
    assert made is None, "fixed upstream: an apply that creates is answered; KubeCluster may use CustomObjectsApi"


@pytest.mark.apiserver
@pytest.mark.parametrize(("microsecond", "status"), [(0, 400), (1, 201)], ids=["a whole second", "a part of one"])
async def test_a_lease_of_a_whole_second_is_refused(api: ApiClient, namespace: str, microsecond: int, status: int):
    """The client leaves out what is zero, and the API server wants six digits: one renewal in a million fails."""
    moment = datetime(2026, 11, 23, 12, 0, 0, microsecond, tzinfo=UTC)
    lease = V1Lease(metadata=V1ObjectMeta(name="modelrelease"), spec=V1LeaseSpec(renew_time=moment))
    answered = 201
    try:
        await CoordinationV1Api(api).create_namespaced_lease(namespace, lease)
    except ApiException as error:
        answered = error.status
    assert answered == status, "fixed upstream: a time is written as the API server reads it; Elector._body may use it"


async def test_who_is_told_to_wait_is_not_asked_again(server: Server):
    """An API server that is busy for a second costs a whole tick."""
    server.reply = lambda request, path, query: answer(request, {"code": 429}, status=429, Retry_After="0")
    async with ApiClient(Configuration(host=server.url)) as api:
        response = await api.call_api("GET", f"{server.url}/api")
    told = "fixed upstream: it waits as it is told, within bounds; the loop in KubeCluster._call may go"
    assert (response.status, len(server.asked)) == (429, 1), told


async def test_it_waits_for_minutes(server: Server, monkeypatch: pytest.MonkeyPatch):
    """A connection that died in silence would hold a release for five of them, and a Lease for longer than it lasts."""
    limits: list[object] = []
    send = aiohttp.ClientSession._request

    def noting(self, *arguments, **options):
        limits.append(options["timeout"])
        return send(self, *arguments, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", noting)
    async with ApiClient(Configuration(host=server.url)) as api:
        await api.call_api("GET", f"{server.url}/api")
    [limit] = limits
    total = limit.total if isinstance(limit, aiohttp.ClientTimeout) else limit
    told = "fixed upstream: a request has a limit that suits a Lease; REQUEST_SECONDS may go"
    assert total is None or total >= 60, told


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - other people's parts tell nobody
            await asyncio.sleep(0.05)


@asynccontextmanager
async def electing(api: ApiClient, namespace: str) -> AsyncIterator[tuple[asyncio.Task[None], list[str]]]:
    """Run the client's election; yield it, and what happens in it."""
    events: list[str] = []

    async def lead() -> None:
        events.append("leads")
        try:
            await asyncio.sleep(60)
        finally:
            events.append("leads no more")

    async def stopped() -> None:
        events.append("stopped")

    config = Config(
        LeaseLock("modelrelease", namespace, "me", api),
        lease_duration=3,
        renew_deadline=2,
        retry_period=1,
        onstarted_leading=lead,
        onstopped_leading=stopped,
    )
    election = asyncio.create_task(LeaderElection(config).run())
    try:
        yield election, events
    finally:
        election.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await election


@pytest.mark.apiserver
async def test_its_election_cannot_create_a_lease(api: ApiClient, namespace: str):
    """Somebody else has to make the Lease first."""
    async with electing(api, namespace) as (election, events):
        with suppress(TimeoutError, Exception):
            await asyncio.wait_for(asyncio.shield(election), 2)
        assert events == [], "fixed upstream: it creates the Lease; one of two reasons for our own elector is gone"


async def test_its_leader_goes_on_without_its_lease(server: Server):
    """The election dies of one connection error, and nobody tells the leader: two of them act."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "modelrelease", "namespace": "x", "resourceVersion": "1"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 3,
            "acquireTime": "2026-11-23T12:00:00.000000Z",
            "renewTime": "2026-11-23T12:00:00.000000Z",
        },
    }
    server.reply = lambda request, path, query: answer(request, lease)
    async with ApiClient(Configuration(host=server.url)) as api, electing(api, "x") as (election, events):
        await _until(lambda: "leads" in events)
        server.reply = lambda request, path, query: request.connection.close()
        await _until(election.done)
        told = "fixed upstream: a leader without its lease is stopped; one of two reasons for our own elector is gone"
        assert isinstance(election.exception(), aiohttp.ClientError), told
        assert events == ["leads"], told


async def test_it_would_send_our_requests_through_a_proxy(monkeypatch: pytest.MonkeyPatch, server: Server):
    """An HTTP_PROXY meant for other traffic would get the token of the operator."""
    server.reply = lambda request, path, query: answer(request, {"kind": "APIVersions", "versions": ["v1"]})
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with ApiClient(Configuration(host="http://api.invalid")) as api:
        await api.call_api("GET", "http://api.invalid/api")
    assert server.asked, "fixed upstream: the environment is not trusted; trust_env=False in connect() may go"
