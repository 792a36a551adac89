"""What an older leader has read or sent counts for nothing once the next one has begun: on the real API server."""

import copy
from datetime import UTC, datetime

import pytest

from modelrelease.adapters.errors import Conflict, NotLeading, Overtaken
from modelrelease.adapters.kube import ABSENT, APPLIED_BY, KubeCluster
from modelrelease.core.announce import Announcement
from tests.adapters.test_kube import _manifests, _release, _route
from tests.builders import NOW

pytestmark = pytest.mark.apiserver

KINDS = ["Service", "Deployment", "HTTPRoute"]


class Paused(KubeCluster):
    """An operator process that stands still between its last look at an object and its write."""

    meanwhile = None

    async def _write(self, *arguments):
        await self._stand_still()
        return await super()._write(*arguments)

    async def _remove(self, *arguments):
        await self._stand_still()
        return await super()._remove(*arguments)

    async def _stand_still(self):
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()


@pytest.fixture
async def body(api, cluster, namespace):
    """A ModelRelease that was just created."""
    cluster.create(_release(namespace))
    return await KubeCluster(api, clock=lambda: NOW).get_release(namespace, "radar")


@pytest.fixture
def old(api):
    return Paused(api, clock=lambda: NOW, instance="old")


@pytest.fixture
def new(api):
    return KubeCluster(api, clock=lambda: NOW, instance="new")


@pytest.fixture
def live(cluster, namespace):
    """Return the live object that a manifest names."""
    return lambda manifest: cluster.get(manifest["kind"], namespace, manifest["metadata"]["name"])


def of_kind(body, kind, **changed):
    """Return the manifest of a kind, and one that asks for something else."""
    if kind == "HTTPRoute":
        return _route(body, weights={"abc": 100}, mirror=None), _route(body, weights={"abc": 95, "def": 5}, mirror=None)
    wanted = next(item for item in _manifests(body, replicas=3) if item["kind"] == kind)
    other = copy.deepcopy(wanted)
    if kind == "Deployment":
        other["spec"]["replicas"] = 9
    else:
        other["spec"]["ports"][0]["targetPort"] = 1
    return wanted, other


@pytest.mark.parametrize("kind", KINDS)
async def test_an_apply_that_a_new_leader_has_overtaken_is_refused(old, new, body, live, kind):
    """Although the new one found the object as it wants it, and changed nothing but whose it is."""
    wanted, other = of_kind(body, kind)
    await old.apply(wanted)
    taken_over = []

    async def take_over():
        await new.apply(wanted)
        taken_over.append(live(wanted))

    old.meanwhile = take_over
    with pytest.raises(Overtaken):
        await old.apply(other)
    assert [live(wanted)] == taken_over
    assert live(wanted)["metadata"]["labels"][APPLIED_BY] == "new"
    assert await new.apply(wanted) is False


@pytest.mark.parametrize("kind", KINDS)
async def test_a_create_that_a_new_leader_has_overtaken_is_refused(old, new, body, live, kind):
    """There was none when the old one looked."""
    wanted, other = of_kind(body, kind)
    old.meanwhile = lambda: new.apply(wanted)
    with pytest.raises(Overtaken):
        await old.apply(other)
    assert live(wanted)["metadata"]["labels"][APPLIED_BY] == "new"
    assert await new.apply(wanted) is False


@pytest.mark.parametrize("kind", KINDS)
async def test_an_apply_does_not_bring_back_what_a_new_leader_has_deleted(old, new, body, cluster, namespace, kind):
    """An update of something that is gone creates nothing."""
    wanted, other = of_kind(body, kind)
    await old.apply(wanted)
    old.meanwhile = lambda: new.delete(wanted)
    with pytest.raises(Overtaken):
        await old.apply(other)
    assert cluster.names(kind, namespace) == set()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_delete_that_a_new_leader_has_overtaken_is_refused(old, new, body, live, kind):
    """The new one needs what the old one wanted to be rid of."""
    wanted, _ = of_kind(body, kind)
    await old.apply(wanted)
    old.meanwhile = lambda: new.apply(wanted)
    with pytest.raises(Overtaken):
        await old.delete(wanted)
    assert live(wanted)


async def test_a_status_that_others_report_meanwhile_stops_nothing(old, body, cluster, live, namespace):
    """Controllers write the status of our objects all the time: that overtakes nobody."""
    wanted, other = of_kind(body, "Deployment")
    await old.apply(wanted)

    async def report():
        name = wanted["metadata"]["name"]
        cluster.patch("deployment", namespace, name, {"status": {"replicas": 1}}, status=True)

    old.meanwhile = report
    assert await old.apply(other) is True
    assert live(wanted)["spec"]["replicas"] == 9
    old.meanwhile = report
    await old.delete(other)
    assert cluster.names("deployment", namespace) == set()


async def test_to_be_taken_over_is_no_change_for_a_deployment(old, new, body, live):
    """Its generation stays, so that its pods count as available all the time."""
    wanted, _ = of_kind(body, "Deployment")
    await old.apply(wanted)
    await new.apply(wanted)
    assert live(wanted)["metadata"]["labels"][APPLIED_BY] == "new"
    assert live(wanted)["metadata"]["generation"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_two_that_both_believe_to_lead_do_not_write_in_turns(old, new, body, live, kind):
    """Two installations by mistake: each claims an object once, and that the other has claimed it is no drift."""
    wanted, _ = of_kind(body, kind)
    for kube in (old, new, old, new):
        await kube.read_children(body["metadata"]["namespace"], "radar", body["metadata"]["uid"])
        await kube.apply(wanted)
    assert live(wanted)["metadata"]["labels"][APPLIED_BY] == "new"
    version = live(wanted)["metadata"]["resourceVersion"]
    for kube in (old, new):
        await kube.read_children(body["metadata"]["namespace"], "radar", body["metadata"]["uid"])
        assert await kube.apply(wanted) is False
    assert live(wanted)["metadata"]["resourceVersion"] == version


async def test_without_the_lease_nothing_is_sent(api, body, cluster, namespace):
    """Every write asks first; reading is free."""
    left = [10.0]
    kube = KubeCluster(api, clock=lambda: NOW, seconds_left=lambda: left[0])
    wanted, _ = of_kind(body, "Deployment")
    await kube.apply(wanted)
    left[0] = 0.0
    route, _ = of_kind(body, "HTTPRoute")
    for write in (kube.apply(route), kube.delete(wanted), kube.write_status(body, {"observedGeneration": 1})):
        with pytest.raises(NotLeading, match="not sent, another replica may act by now"):
            await write
    await kube.emit(body, Announcement("Normal", "GatePassed", "all well"))
    assert await kube.get_release(namespace, "radar") == body
    assert cluster.names("httproute,events", namespace) == set()
    assert len(cluster.names("deployment", namespace)) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_a_process_that_is_paused_until_it_has_a_connection_sends_nothing(cluster, api, namespace, known):
    """Sure to lead when it decided to write, not any more when it could; the connection may be known, or a new one."""
    answers = [5.0, 0.0]
    if known:
        await KubeCluster(api, clock=lambda: NOW).get_release(namespace, "radar")
    kube = KubeCluster(api, clock=lambda: NOW, seconds_left=lambda: answers.pop(0))
    late = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late", "namespace": namespace}}
    with pytest.raises(NotLeading, match="not sent, another replica may act by now"):
        await kube.keep(late)
    assert answers == [], "it was asked once more"
    assert cluster.names("configmap", namespace) == set()


async def test_a_lease_is_created_once_and_replaced_in_its_version_only(api, namespace):
    """The API server is the judge of who was first; it wants six digits of a second."""
    kube = KubeCluster(api, clock=lambda: NOW, seconds_left=lambda: 0.0)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": now, "renewTime": now}
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "x", "namespace": namespace},
        "spec": spec,
    }
    assert await kube.get_lease(namespace, "x") is None
    first = await kube.create_lease(lease)
    with pytest.raises(Conflict):
        await kube.create_lease(lease)
    await kube.replace_lease(first)
    second = await kube.replace_lease({**first, "spec": {**spec, "holderIdentity": "b"}})
    with pytest.raises(Conflict):
        await kube.replace_lease(first)
    assert await kube.get_lease(namespace, "x") == second


async def test_no_object_has_the_version_that_means_absent(body):
    """The API server counts all writes of all objects together, and its own came first."""
    assert int(body["metadata"]["resourceVersion"]) > int(ABSENT)
