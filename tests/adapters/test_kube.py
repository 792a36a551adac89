"""The Kubernetes adapter against a real API server."""

import asyncio
import copy
import json
import random
import re
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from e2e.cluster import paths
from modelrelease.adapters.errors import Conflict, Forbidden, NotFound, Overtaken, Refused, UnknownKind, Unreachable
from modelrelease.adapters.gateway import route_manifest
from modelrelease.adapters.kube import KubeCluster
from modelrelease.api.decision import DecisionSpec
from modelrelease.api.parse import Release, parse, parse_decision
from modelrelease.api.reasons import Reason
from modelrelease.core.announce import Announcement
from modelrelease.core.decide import RollBack
from modelrelease.core.dossier import dossier
from modelrelease.core.observation import Observation
from modelrelease.core.plan import Traffic, plan
from modelrelease.reconcile import _objects_of
from tests.builders import NOW, a_body, a_contract, a_decision, a_situation, a_status

pytestmark = pytest.mark.apiserver


@pytest.fixture
def kube(api):
    return KubeCluster(api, clock=lambda: datetime.now(UTC))


@pytest.fixture
async def body(kube, cluster, namespace):
    """A ModelRelease as the API server stored it."""
    cluster.create(_release(namespace))
    return await kube.get_release(namespace, "radar")


def _release(namespace, **spec):
    given = a_body(**spec)
    return {**given, "metadata": {"name": "radar", "namespace": namespace}}


def _parsed(body) -> Release:
    release = parse(body)
    assert isinstance(release, Release), release
    return release


def _manifests(body, replicas=1):
    """Return the ControllerRevision, Service and Deployment of the release's desired revision."""
    release = _parsed(body)
    status = a_status(stage="shadow").model_copy(update={"stable": None})
    trial = status.candidate.model_copy(update={"revision": release.desired.name, "replicas": replicas, "weight": 0})
    seen = Observation({}, {}, frozenset(), None, None, None, None)
    planned = plan(release, status.model_copy(update={"candidate": trial}), seen, NOW, drain=timedelta(seconds=10))
    return list(planned.manifests)


def _route(body, **traffic):
    return route_manifest(_parsed(body), Traffic(**traffic))


def _stored(namespace, body):
    """Return *body* as somebody would create it in *namespace*."""
    return {**body, "metadata": {"name": body["metadata"]["name"], "namespace": namespace}}


async def test_a_crd_that_is_older_than_the_operator_is_told(kube, cluster, namespace):
    """As after ``helm upgrade``, which leaves CRDs as they are: what they do not know is lost without a word."""
    serving = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/serving"
    crd = ("crd", "modelreleases.modelrelease.dev")

    async def until(want: tuple[str, ...]) -> None:
        for _ in range(200):
            if (found := await kube.unknown_fields()) == want:
                return
            await asyncio.sleep(0.1)
        assert want == found

    assert () == await kube.unknown_fields()
    try:
        removed = json.dumps([{"op": "remove", "path": serving}])
        await asyncio.to_thread(cluster.kubectl, "patch", *crd, "--type=json", "-p", removed)
        await until(("ModelRelease status.serving",))
        cluster.create(_release(namespace))
        body = await kube.get_release(namespace, "radar")
        written = await kube.write_status(body, {"serving": {"revision": "1111111", "version": "1", "weight": 100}})
        assert "serving" not in written["status"]
    finally:
        again = ("--server-side", "--force-conflicts", "-f", str(paths.REPOSITORY / "crds"))
        await asyncio.to_thread(cluster.kubectl, "apply", *again)
        await until(())


class TestDecisions:
    async def test_what_is_not_answered_yet(self, kube, cluster, namespace):
        """Only decisions about this release, and each once."""
        cluster.create(
            *(_stored(namespace, a_decision("Rollback", name=name)) for name in ("radar-1", "radar-2")),
            _stored(namespace, a_decision("Rollback", name="loans-1", release="loans")),
        )
        found = await kube.open_decisions(namespace, "radar")
        assert [item["metadata"]["name"] for item in found] == ["radar-1", "radar-2"]
        assert isinstance(parse_decision(found[0]).spec, DecisionSpec)
        await kube.write_outcome(found[0], {"outcome": "Applied", "message": "done", "time": "2026-11-23T12:00:00Z"})
        assert [item["metadata"]["name"] for item in await kube.open_decisions(namespace, "radar")] == ["radar-2"]
        assert cluster.get("mdec", namespace, "radar-1")["status"]["outcome"] == "Applied"

    async def test_an_answer_is_written_once(self, kube, cluster, namespace):
        """Two operators cannot both answer; a decision that is gone needs no answer."""
        cluster.create(_stored(namespace, a_decision("Rollback")))
        (found,) = await kube.open_decisions(namespace, "radar")
        await kube.write_outcome(found, {"outcome": "Applied"})
        with pytest.raises(Conflict):
            await kube.write_outcome(found, {"outcome": "Stale"})
        cluster.kubectl("delete", "mdec", "-n", namespace, "radar-1")
        await kube.write_outcome(found, {"outcome": "Stale"})

    async def test_a_contract(self, kube, cluster, namespace):
        """As it was written, or None."""
        assert await kube.get_contract(namespace, "promise") is None
        cluster.create(_stored(namespace, a_contract()))
        assert (await kube.get_contract(namespace, "promise"))["spec"] == a_contract()["spec"]


class TestDossiers:
    async def test_kept_once_and_never_changed(self, kube, cluster, body, namespace):
        """Immutable, owned by the release, found by name and uid without its content, and deleted only if seen."""
        release, status = _parsed(body), a_status()
        left = dossier(a_situation(status, release=release), RollBack(Reason.CONTRACT_BREACHED, "broken"))
        await kube.keep(left.manifest)
        await kube.keep(left.manifest)
        stored = cluster.get("configmap", namespace, left.name)
        assert stored["immutable"] is True
        assert json.loads(stored["data"]["gate.json"])["stage"] == "canary-10"
        children = await kube.read_children(namespace, "radar", release.uid)
        assert children.dossiers == {left.name: stored["metadata"]["uid"]}
        await kube.drop(namespace, left.name, "another-uid")
        assert cluster.names("configmap", namespace) >= {f"configmap/{left.name}"}
        await kube.drop(namespace, left.name, children.dossiers[left.name])
        await kube.drop(namespace, left.name, children.dossiers[left.name])
        assert f"configmap/{left.name}" not in cluster.names("configmap", namespace)

    async def test_other_config_maps_are_not_looked_at(self, kube, cluster, body, namespace):
        """Neither one without our label, nor one that pretends."""
        labels = {"modelrelease.dev/release": "radar", "modelrelease.dev/dossier": "gate"}
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        cluster.create(
            {**kind, "metadata": {"name": "a", "namespace": namespace}},
            {**kind, "metadata": {"name": "b", "namespace": namespace, "labels": labels}},
        )
        assert (await kube.read_children(namespace, "radar", body["metadata"]["uid"])).dossiers == {}


class TestReading:
    async def test_what_is_not_there_is_none(self, kube, namespace):
        """An absent object is a value."""
        assert await kube.get_release(namespace, "radar") is None
        assert await kube.get_route(namespace, "radar") is None
        assert await kube.get_gateway(namespace, "public") is None
        assert await kube.get_gateway_class("envoy") is None

    async def test_a_cluster_scoped_object_is_found(self, kube, cluster, namespace):
        """A GatewayClass has no namespace."""
        name = f"class-{namespace}"
        kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name}}
        cluster.create({**kind, "spec": {"controllerName": "example.com/gateway"}})
        found = await kube.get_gateway_class(name)
        assert found["spec"]["controllerName"] == "example.com/gateway"

    async def test_a_release_without_children(self, kube, body, namespace):
        """Nothing belongs to a new release."""
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert (children.workloads, children.revisions, children.services) == ({}, {}, frozenset())
        assert (children.route, children.conflict) == (None, None)

    async def test_the_stored_revision_is_the_one_that_was_ordered(self, kube, body, namespace):
        """A revision's content survives the API server bit by bit, or its name would not be the same."""
        release = _parsed(body)
        for manifest in _manifests(body):
            await kube.apply(manifest)
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert children.revisions == {release.desired.name: release.desired}
        assert children.services == {release.desired.name}
        assert children.workloads.keys() == {release.desired.name}

    async def test_odd_numbers_and_texts_survive_in_a_stored_revision(self, kube, cluster, namespace):
        """Numbers, nulls, unicode and nested lists of a template keep their form on the way to the store and back."""
        odd = {"a": 1.5, "b": 0, "c": 10**15, "d": "é\n\u2028", "e": [None, True, {"f": ""}]}
        template = {
            "metadata": {"annotations": {"odd": json.dumps(odd)}},
            "spec": {"containers": [{"name": "server", "image": "x"}], "odd": odd},
        }
        server = {"port": 3000, "template": template}
        cluster.create(_release(namespace, server=server))
        body = await kube.get_release(namespace, "radar")
        await kube.apply(_manifests(body)[0])
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert children.revisions == {_parsed(body).desired.name: _parsed(body).desired}

    async def test_a_stored_revision_that_lies_about_its_name_is_ignored(self, kube, body, namespace):
        """The name of a revision is computed from its content, never trusted."""
        manifest = _manifests(body)[0]
        manifest["data"] = {**manifest["data"], "port": 1}
        await kube.apply(manifest)
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert children.revisions == {}

    @pytest.mark.parametrize(
        ("status", "want"),
        [
            pytest.param({}, 0, id="no status yet"),
            pytest.param({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}, 2, id="some are ready"),
            pytest.param({"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}, 0, id="only old ones"),
            pytest.param({"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}, 2, id="perhaps an old one"),
            pytest.param(
                {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "observedGeneration": 0},
                0,
                id="the status is of an older spec",
            ),
        ],
    )
    async def test_available_pods_are_those_of_the_current_template(self, kube, cluster, body, namespace, status, want):
        """A pod counts when it is available and surely runs the current template."""
        release = _parsed(body)
        for manifest in _manifests(body, replicas=3):
            await kube.apply(manifest)
        name = f"radar-{release.desired.name}"
        full = {"observedGeneration": 1, "readyReplicas": status.get("availableReplicas", 0), **status}
        cluster.patch("deployment", namespace, name, {"status": full}, status=True)
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        workload = children.workloads[release.desired.name]
        assert (workload.available, workload.replicas) == (want, 3)
        assert workload.serving == status.get("availableReplicas", 0)

    async def test_a_deployment_says_what_is_wrong(self, kube, cluster, body, namespace):
        """The conditions' own words tell why pods are missing; a failure to create them tells most."""
        for manifest in _manifests(body):
            await kube.apply(manifest)
        name = f"radar-{_parsed(body).desired.name}"
        conditions = [
            {"type": "Available", "status": "False", "reason": "x", "message": "not enough"},
            {"type": "ReplicaFailure", "status": "True", "reason": "x", "message": "exceeded quota"},
        ]
        cluster.patch("deployment", namespace, name, {"status": {"conditions": conditions}}, status=True)
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert children.workloads[_parsed(body).desired.name].message == "exceeded quota"


class TestConflicts:
    async def test_a_stranger_with_a_name_of_ours_is_reported(self, kube, cluster, body, namespace):
        """An object without our label is found by the name that we are about to need."""
        revision = _parsed(body).desired.name
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"radar-{revision}", "namespace": namespace},
        }
        cluster.create({**service, "spec": {"ports": [{"port": 1}]}})
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"], revisions=[revision])
        assert children.conflict == f"Service radar-{revision}"
        assert children.services == frozenset()

    async def test_a_route_of_somebody_else_is_reported(self, kube, cluster, body, namespace):
        """A HTTPRoute of the release's name that the release does not own is not ours to take."""
        route = _route(body, weights={"abc": 100}, mirror=None)
        del route["metadata"]["ownerReferences"]
        cluster.create(route)
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert children.conflict == "HTTPRoute radar"

    async def test_children_of_an_older_release_of_this_name_are_not_ours(self, kube, body, namespace):
        """A release that was deleted and made anew does not take over what the old one left to be collected."""
        for manifest in _manifests(body):
            await kube.apply(manifest)
        children = await kube.read_children(namespace, "radar", "another-uid")
        assert (children.workloads, children.revisions, children.services) == ({}, {}, frozenset())
        assert children.leftover.startswith("ControllerRevision radar-")
        assert children.conflict is None

    async def test_children_of_another_kind_of_owner_are_a_strangers(self, kube, cluster, body, namespace):
        """Whoever else controls an object with our label does not let go of it by itself."""
        route = _route(body, weights={"abc": 100}, mirror=None)
        owner = {
            "apiVersion": "example.com/v1",
            "kind": "ModelRelease",
            "name": "radar",
            "uid": "u",
            "controller": True,
        }
        cluster.create(route | {"metadata": route["metadata"] | {"ownerReferences": [owner]}})
        children = await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert (children.conflict, children.leftover) == ("HTTPRoute radar", None)

    async def test_apply_never_takes_over_a_stranger(self, kube, cluster, body, namespace):
        """Even an object that no read has shown is not overwritten by force."""
        route = _route(body, weights={"abc": 100}, mirror=None)
        stranger = copy.deepcopy(route)
        del stranger["metadata"]["ownerReferences"]
        cluster.create(stranger)
        with pytest.raises(Conflict, match=r"HTTPRoute .*/radar exists and does not belong to this release"):
            await kube.apply(route)

    async def test_delete_never_takes_a_stranger(self, kube, cluster, body, namespace):
        """An object without our label stays."""
        meta = {"name": "radar-abc", "namespace": namespace}
        cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}})
        with pytest.raises(Conflict, match="is not of this release"):
            await kube.delete({"apiVersion": "v1", "kind": "Service", "metadata": meta})
        assert "service/radar-abc" in cluster.names("service", namespace)

    async def test_what_goes_with_a_revision_is_never_somebody_elses(self, kube, cluster, body, namespace):
        """A label of ours on an object of others does not make it ours: the owner counts."""
        [service] = [item for item in _objects_of(_parsed(body), "abc") if item["kind"] == "Service"]
        meta = {"name": "radar-abc", "namespace": namespace, "labels": {"modelrelease.dev/release": "radar"}}
        cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}})
        with pytest.raises(Conflict, match="is not of this release"):
            await kube.delete(service)
        assert "service/radar-abc" in cluster.names("service", namespace)


class TestStatus:
    async def test_status_is_written_and_returned(self, kube, body):
        """The answer is the object as it is now, ready for the next write."""
        after = await kube.write_status(body, {"observedGeneration": 1, "stage": "Pending"})
        assert after["status"] == {"observedGeneration": 1, "stage": "Pending"}
        assert after["metadata"]["generation"] == body["metadata"]["generation"]
        again = await kube.write_status(after, {"observedGeneration": 1, "stage": "shadow"})
        assert again["status"]["stage"] == "shadow"

    async def test_a_key_that_is_gone_disappears(self, kube, body, namespace):
        """What the new status does not say is not left over from the old one, at any depth; lists are replaced."""
        stable = {"revision": "a", "version": "1", "weight": 90, "since": "2026-11-23T12:00:00Z"}
        candidate = {**stable, "weight": 10, "unavailableSince": "2026-11-23T12:00:00Z", "replicas": 1}
        first = {"observedGeneration": 1, "stage": "x", "stable": stable, "candidate": candidate}
        written = await kube.write_status(body, first)
        calm = {key: value for key, value in candidate.items() if key != "unavailableSince"}
        written = await kube.write_status(written, {**first, "candidate": calm})
        assert written["status"]["candidate"] == calm
        await kube.write_status(written, {"observedGeneration": 1, "stable": stable})
        live = await kube.get_release(namespace, "radar")
        assert live["status"] == {"observedGeneration": 1, "stable": stable}

    async def test_an_unchanged_status_is_not_written(self, kube, body):
        """Quiet: the resourceVersion stays."""
        written = await kube.write_status(body, {"observedGeneration": 1})
        again = await kube.write_status(written, {"observedGeneration": 1})
        assert again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]

    async def test_a_status_of_an_object_that_has_changed_is_a_conflict(self, kube, cluster, body, namespace):
        """Two writers cannot both win, and a decision about an old spec is not recorded on a new one."""
        cluster.patch("mrel", namespace, "radar", {"spec": {"suspend": True}})
        with pytest.raises(Conflict):
            await kube.write_status(body, {"observedGeneration": 1})

    async def test_a_status_of_an_object_that_is_gone(self, kube, cluster, body, namespace):
        """The release was deleted in the meantime."""
        cluster.kubectl("delete", "mrel", "-n", namespace, "radar")
        with pytest.raises(NotFound):
            await kube.write_status(body, {"observedGeneration": 1})

    async def test_a_status_is_not_written_to_a_namesake(self, kube, cluster, body, namespace):
        """A release deleted and created anew is another object."""
        cluster.kubectl("delete", "mrel", "-n", namespace, "radar")
        cluster.create(_release(namespace))
        with pytest.raises(Conflict):
            await kube.write_status(body, {"observedGeneration": 1})

    async def test_a_status_that_the_schema_forbids_is_refused(self, kube, body):
        """The message names the field."""
        with pytest.raises(Refused, match="observedGeneration"):
            await kube.write_status(body, {"observedGeneration": "three"})


class TestApplying:
    async def test_everything_of_a_revision_is_created_once(self, kube, cluster, body, namespace):
        """The first apply creates, the second finds nothing to do and asks nothing of the API server."""
        manifests = [*_manifests(body), _route(body, weights={"abc": 100}, mirror=None)]
        assert [await kube.apply(manifest) for manifest in manifests] == [True] * 4
        await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert [await kube.apply(manifest) for manifest in manifests] == [False] * 4

    async def test_after_a_restart_nothing_changes(self, api, body, cluster, namespace):
        """A new process applies everything once, and the API server sees no difference."""
        manifests = [*_manifests(body), _route(body, weights={"abc": 100}, mirror=None)]
        for manifest in manifests:
            await KubeCluster(api, clock=lambda: NOW).apply(manifest)
        before = [cluster.get(item["kind"], namespace, item["metadata"]["name"]) for item in manifests]
        restarted = KubeCluster(api, clock=lambda: NOW)
        await restarted.read_children(namespace, "radar", body["metadata"]["uid"])
        assert [await restarted.apply(manifest) for manifest in manifests] == [False] * 4
        assert before == [cluster.get(item["kind"], namespace, item["metadata"]["name"]) for item in manifests]

    @pytest.mark.parametrize(
        ("kind", "patch", "path"),
        [
            pytest.param("Deployment", {"spec": {"replicas": 9}}, ("spec", "replicas"), id="scaled by hand"),
            pytest.param("Service", {"spec": {"selector": {"app": "x"}}}, ("spec", "selector"), id="pods of another"),
            pytest.param(
                "Service",
                {"metadata": {"labels": {"modelrelease.dev/release": None}}},
                ("metadata", "labels"),
                id="label",
            ),
        ],
    )
    async def test_drift_is_repaired(self, kube, cluster, body, namespace, kind, patch, path):
        """What somebody changed is put back, and the caller hears of it."""
        for manifest in _manifests(body):
            await kube.apply(manifest)
        wanted = next(item for item in _manifests(body) if item["kind"] == kind)
        name = wanted["metadata"]["name"]
        cluster.patch(kind, namespace, name, patch)
        await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert await kube.apply(wanted) is True
        live = cluster.get(kind, namespace, name)
        outer, inner = path
        asked = wanted[outer][inner]
        assert (
            live[outer][inner] == asked if not isinstance(asked, dict) else asked.items() <= live[outer][inner].items()
        )

    async def test_a_deleted_child_comes_back(self, kube, cluster, body, namespace):
        """Deleting a Service by hand lasts one tick."""
        manifests = _manifests(body)
        for manifest in manifests:
            await kube.apply(manifest)
        cluster.kubectl("delete", "service", "-n", namespace, manifests[1]["metadata"]["name"])
        await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert [await kube.apply(manifest) for manifest in manifests] == [False, True, False]

    async def test_what_the_manifest_no_longer_says_is_removed(self, kube, cluster, body, namespace):
        """A mirror that is over leaves the route, although nothing in the new manifest names it."""
        await kube.apply(_route(body, weights={"abc": 100}, mirror=("def", 50)))
        assert "filters" in cluster.get("httproute", namespace, "radar")["spec"]["rules"][0]
        assert await kube.apply(_route(body, weights={"abc": 100}, mirror=None)) is True
        assert "filters" not in cluster.get("httproute", namespace, "radar")["spec"]["rules"][0]

    async def test_an_added_rule_is_drift(self, kube, cluster, body, namespace):
        """A route that says more than ours is not ours any more."""
        route = _route(body, weights={"abc": 100}, mirror=None)
        await kube.apply(route)
        extra = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}]
        rules = [{**route["spec"]["rules"][0], "filters": extra}]
        cluster.patch("httproute", namespace, "radar", {"spec": {"rules": rules}})
        await kube.get_route(namespace, "radar")
        assert await kube.apply(route) is True
        assert "filters" not in cluster.get("httproute", namespace, "radar")["spec"]["rules"][0]

    async def test_a_status_of_others_is_no_drift(self, kube, cluster, body, namespace):
        """The Deployment's controller may report as often as it likes."""
        manifests = _manifests(body)
        for manifest in manifests:
            await kube.apply(manifest)
        name = manifests[2]["metadata"]["name"]
        cluster.patch("deployment", namespace, name, {"status": {"replicas": 1}}, status=True)
        cluster.patch("deployment", namespace, name, {"metadata": {"annotations": {"x": "y"}}})
        await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        assert await kube.apply(manifests[2]) is False

    async def test_a_field_of_somebody_else_stays(self, kube, cluster, body, namespace):
        """Server-side apply leaves alone what we never said."""
        manifests = _manifests(body)
        await kube.apply(manifests[2])
        name = manifests[2]["metadata"]["name"]
        cluster.patch("deployment", namespace, name, {"spec": {"minReadySeconds": 7}})
        await kube.read_children(namespace, "radar", body["metadata"]["uid"])
        await kube.apply(manifests[2])
        assert cluster.get("deployment", namespace, name)["spec"]["minReadySeconds"] == 7

    async def test_a_pod_template_that_is_none_is_refused(self, kube, body):
        """The API server's own words reach the caller."""
        manifest = _manifests(body)[2]
        manifest["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 0}]
        with pytest.raises(Refused, match="containerPort"):
            await kube.apply(manifest)

    async def test_deleting(self, kube, cluster, body, namespace):
        """A revision's objects go; what is gone already is fine."""
        manifests = _manifests(body)
        for manifest in manifests:
            await kube.apply(manifest)
        for manifest in manifests:
            bare = {key: manifest["metadata"][key] for key in ("name", "namespace")}
            await kube.delete({**manifest, "metadata": bare})
            await kube.delete({**manifest, "metadata": bare})
        assert cluster.names("deployment,service,controllerrevision", namespace) == set()


class TestEvents:
    async def test_an_event_is_seen_by_kubectl_describe(self, kube, cluster, body, namespace):
        """An event is of the release, with type, reason and message."""
        await kube.emit(body, Announcement("Warning", "RolledBack", "version 2 left stage canary-10"))
        described = cluster.kubectl("describe", "mrel", "-n", namespace, "radar")
        line = next(line for line in described.splitlines() if "RolledBack" in line)
        assert line.split()[:2] == ["Warning", "RolledBack"]
        assert "modelrelease.dev/operator" in line
        assert "version 2 left stage canary-10" in line

    async def test_events_are_described_in_the_order_in_which_things_happened(self, kube, cluster, body, namespace):
        """However many they are, whoever wrote them when: several things of one transition, too."""
        moments = [NOW + timedelta(minutes=n // 3, microseconds=n % 3) for n in range(24)]
        told = [Announcement("Normal", f"Reason{n}", "all well", moment) for n, moment in enumerate(moments)]
        for announcement in random.Random(1).sample(told, len(told)):
            await kube.emit(body, announcement)
        described = cluster.kubectl("describe", "mrel", "-n", namespace, "radar")
        assert [f"Reason{n}" for n in range(24)] == re.findall(r"Reason\d+", described)

    async def test_a_long_message_is_cut(self, kube, cluster, body, namespace):
        """1024 bytes are allowed, although the API server calls them characters."""
        for letter in ("x", "é", "🙂"):
            await kube.emit(body, Announcement("Normal", "GatePassed", letter * 5000))
        events = json.loads(cluster.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
        assert sorted(len(event["message"].encode()) for event in events) == [1023, 1023, 1024]

    async def test_what_was_said_is_not_said_twice(self, kube, cluster, body, namespace):
        """The same announcement about the same state of the object is one event."""
        for _ in range(2):
            await kube.emit(body, Announcement("Normal", "GatePassed", "all well"))
        assert len(cluster.names("events", namespace)) == 1

    async def test_what_a_predecessor_said_is_not_said_again(self, kube, api, cluster, body, namespace):
        """Another process tells of the same transition, of which the object has got a new version since."""
        told = Announcement("Warning", "RolledBack", "version 2 left stage canary-10", NOW)
        await kube.emit(body, told)
        successor = KubeCluster(api, clock=lambda: NOW)
        cluster.patch("mrel", namespace, "radar", {"metadata": {"labels": {"touched": "yes"}}})
        newer = await successor.get_release(namespace, "radar")
        assert not successor.emitted(newer, told), "it has not looked yet"
        await successor.emit(newer, told)
        assert successor.emitted(newer, told)
        assert len(cluster.names("events", namespace)) == 1

    async def test_what_could_not_be_said_is_said_by_the_next_tick(self, api, cluster, body, namespace):
        """It was not written, so it is not taken for written."""
        left = [0.0]
        kube = KubeCluster(api, clock=lambda: NOW, seconds_left=lambda: left[0])
        lost = Announcement("Normal", "GatePassed", "all well", NOW)
        release = await kube.get_release(namespace, "radar")
        await kube.emit(release, lost)
        assert not kube.emitted(release, lost)
        left[0] = 60.0
        await kube.emit(release, lost)
        assert len(cluster.names("events", namespace)) == 1

    async def test_a_failed_event_is_counted_and_not_raised(self, api, body):
        """An event for a namespace that does not exist cannot be written, and that is all."""
        failed = []
        kube = KubeCluster(api, clock=lambda: NOW, event_failed=lambda: failed.append(1))
        body["metadata"]["namespace"] = "no-such-namespace"
        await kube.emit(body, Announcement("Normal", "GatePassed", "all well"))
        assert failed == [1]


GATE_PASSED = Announcement("Normal", "GatePassed", "all well", NOW)


async def _read(kube, answers):
    """Have a stubbed KubeCluster read a release, and return it."""
    answers.append((200, {}))
    await kube.get_release("a", "b")
    meta = {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1"}
    return {"apiVersion": "modelrelease.dev/v1alpha1", "kind": "ModelRelease", "metadata": meta}


class TestFailures:
    """The answers of an API server in trouble, from a stub: the real one does not fail on demand."""

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            pytest.param(401, Refused, id="unauthorized"),
            pytest.param(403, Forbidden, id="forbidden"),
            pytest.param(410, Unreachable, id="expired"),
            pytest.param(429, Unreachable, id="too many requests, again and again"),
            pytest.param(500, Unreachable, id="internal error"),
            pytest.param(503, Unreachable, id="unavailable"),
        ],
    )
    async def test_answers_become_our_errors(self, stub, status, error):
        """Every foreign failure has a name of ours, and names the request."""
        kube, answers, _ = stub
        answers += [(status, {})] * 3
        with pytest.raises(error, match=r"GET /apis/modelrelease\.dev/v1alpha1/namespaces/a/modelreleases/b"):
            await kube.get_release("a", "b")

    async def test_a_quota_that_others_write_does_not_say_that_an_object_exists(self, stub):
        """A create is then answered with the same 409 as one of a name that is taken: neither kept nor told."""
        kube, answers, _ = stub
        release = await _read(kube, answers)
        for reason, done in (("Conflict", False), ("AlreadyExists", True)):
            answers += [(409, {}, reason)] * 2
            await kube.emit(release, GATE_PASSED)
            assert kube.emitted(release, GATE_PASSED) is done
            kept = kube.keep({"kind": "ConfigMap", "metadata": {"name": "left", "namespace": "a"}})
            with nullcontext() if done else pytest.raises(Overtaken, match="trouble"):
                await kept

    async def test_a_request_to_wait_is_obeyed_within_bounds(self, stub):
        """A Retry-After of an hour is not an order to stand still."""
        kube, answers, slept = stub
        answers += [(429, {"Retry-After": "2"}), (429, {"Retry-After": "3600"}), (200, {})]
        assert await kube.get_release("a", "b") == {"metadata": {"name": "b"}}
        assert slept == [2.0, 5.0]

    async def test_a_kind_that_is_not_installed_is_named(self, stub):
        """A 404 without a Status is about the kind, not about the object."""
        kube, answers, _ = stub
        answers += [(404, {"Content-Type": "text/plain"})] * 2
        route = {
            "kind": "HTTPRoute",
            "metadata": {"namespace": "a", "name": "b", "labels": {"modelrelease.dev/release": "b"}},
        }
        with pytest.raises(NotFound, match="is its CRD installed"):
            await kube.apply(route)

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param((404, {"Content-Type": "text/plain"}), id="an API server that has not loaded our CRD yet"),
            pytest.param((410, {}), id="expired"),
        ],
    )
    async def test_only_a_release_that_is_surely_gone_is_forgotten(self, stub, answer):
        """Forgetting one that is there would stop its rollout: no tick, no rollback."""
        kube, answers, _ = stub
        answers += [(200, {}), answer]
        await kube.get_release("a", "b")
        with pytest.raises((UnknownKind, Unreachable)):
            await kube.get_release("a", "b")
        assert kube.exists("a", "b")

    @pytest.mark.parametrize("read", ["get_contract", "get_route"])
    async def test_an_api_server_that_does_not_know_the_kind_says_nothing_of_the_object(self, stub, read):
        """To conclude that it is absent would refuse what people decide, or write what is there."""
        kube, answers, _ = stub
        answers += [(404, {"Content-Type": "text/plain"}), (404, {})]
        with pytest.raises(UnknownKind):
            await getattr(kube, read)("a", "b")
        assert await getattr(kube, read)("a", "b") is None

    async def test_children_are_read_without_the_gateway_api(self):
        """Everything else is known, and why the route is not."""

        async def answer(request: web.Request) -> web.Response:
            if request.path.startswith("/apis/gateway"):
                return web.Response(status=404, text="404 page not found")
            return web.json_response({"items": []})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(app) as server:
            configuration = Configuration(host=f"http://{server.host}:{server.port}")
            configuration.client_session_kwargs = {"trust_env": False}
            async with ApiClient(configuration) as api:
                children = await KubeCluster(api, clock=lambda: NOW).read_children("a", "b", "u")
        assert (children.route, children.workloads) == (None, {})
        assert isinstance(children.unknown_route, UnknownKind)

    async def test_no_server_is_unreachable(self):
        """A refused connection is a value of our tree."""
        async with ApiClient(Configuration(host="http://127.0.0.1:1")) as api:
            with pytest.raises(Unreachable):
                await KubeCluster(api, clock=lambda: NOW).get_release("a", "b")

    @pytest.fixture
    async def stub(self):
        """A KubeCluster, the list of answers it will get (status, headers, reason if any), and the seconds it slept."""
        answers: list[tuple[int, dict[str, str]] | tuple[int, dict[str, str], str]] = []
        slept: list[float] = []

        async def answer(_: web.Request) -> web.Response:
            status, headers, *reason = answers.pop(0)
            trouble = {"kind": "Status", "message": "trouble", "reason": "".join(reason)}
            body = {"metadata": {"name": "b"}} if status == 200 else trouble
            text = "404 page not found" if "Content-Type" in headers else json.dumps(body)
            return web.Response(status=status, headers=headers, text=text)

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        configuration.client_session_kwargs = {"trust_env": False}
        async with ApiClient(configuration) as api:
            yield KubeCluster(api, clock=lambda: NOW, sleep=sleep), answers, slept
        await runner.cleanup()
