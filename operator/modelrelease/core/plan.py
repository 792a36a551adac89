"""
What the cluster should look like, as a function of spec and status: the same list at every tick.

Traffic follows status, never the live route. A revision that serves nobody keeps its pods until the route has left it
and its last requests are answered; then it goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from modelrelease.api.base import API_VERSION, RELEASE_LABEL, REVISION_LABEL
from modelrelease.api.parse import InvalidSpec, Release
from modelrelease.api.revision import Revision
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.decide import on_trial, pods_of
from modelrelease.core.observation import Observation

SERVICE_PORT: Final = 80
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "modelrelease"}

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traffic:
    """
    Who answers users, and who gets copies.

    Attributes:
        weights: Share of requests by revision, in percent; stable first, adds up to 100.
        mirror: The revision that gets copies, and their share in percent; None without a shadow.
    """

    weights: Mapping[str, int]
    mirror: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What the cluster should look like.

    Attributes:
        traffic: The route; None while no revision can serve.
        manifests: Everything else that should exist, in the order in which to apply it.
        prune: Revisions whose objects should go now.
        prune_after: How long until what is still draining should go, or shrink; None when nothing is.
    """

    traffic: Traffic | None
    manifests: tuple[Manifest, ...]
    prune: tuple[str, ...]
    prune_after: timedelta | None


def traffic_of(status: ReleaseStatus) -> Traffic | None:
    """Return the traffic that *status* has committed to; None while nobody can be served."""
    trial = on_trial(status)
    weights: dict[str, int] = {}
    if status.stable and status.stable.weight:
        weights[status.stable.revision] = status.stable.weight
    if status.serving:
        weights[status.serving.revision] = status.serving.weight
    if trial and trial.weight:
        weights[trial.revision] = trial.weight
    if not weights:
        return None
    mirror = (trial.revision, trial.mirror_percent) if trial and trial.mirror_percent else None
    return Traffic(weights=weights, mirror=mirror)


def plan(release: Release, status: ReleaseStatus, seen: Observation, now: datetime, *, drain: timedelta) -> Plan:
    """
    Return what the cluster should look like.

    Args:
        release: What is ordered.
        status: What we have committed to.
        seen: What is there; tells what is to go, never what is to be.
        now: The one time of this tick.
        drain: How long a revision without traffic keeps its pods.
    """
    idle_for = now - status.stage_start_time if status.stage_start_time else drain
    drained = idle_for >= drain
    # Until the Gateway has taken up the route as it is now, users may still be sent by an earlier one.
    followed = seen.route is None or seen.route.accepted is True
    sizes = _sizes(release, status)
    shrinking = _shrinking(status, seen, sizes)
    if not (drained and followed):
        sizes |= shrinking
    known = {**seen.revisions, release.desired.name: release.desired}
    manifests: list[Manifest] = []
    for name, replicas in sizes.items():
        if revision := known.get(name):
            manifests += [
                _controller_revision(release, revision),
                _service(release, revision),
                _deployment(release, revision, replicas),
            ]
    leaving = _leaving(seen, keep=frozenset(sizes))
    return Plan(
        traffic=traffic_of(status),
        manifests=tuple(manifests),
        prune=leaving if drained and followed else (),
        prune_after=drain - idle_for if (leaving or shrinking) and not drained else None,
    )


def _sizes(release: Release, status: ReleaseStatus) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if status.stable:
        sizes[status.stable.revision] = release.spec.replicas
    if status.serving:
        sizes[status.serving.revision] = release.spec.replicas
    if (trial := on_trial(status)) and trial.revision not in sizes:
        # Full size once users depend on it, so that a change of spec.server.replicas reaches it too.
        sizes[trial.revision] = release.spec.replicas if trial.weight else pods_of(release, trial)
    return sizes


def _shrinking(status: ReleaseStatus, seen: Observation, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the pods of a candidate that is to have fewer, as users may still be sent to all of them."""
    trial = on_trial(status)
    workload = seen.workloads.get(trial.revision) if trial and not trial.weight else None
    return {workload.revision: workload.replicas} if workload and workload.replicas > sizes[workload.revision] else {}


def _leaving(seen: Observation, keep: frozenset[str]) -> tuple[str, ...]:
    """Return the revisions that are not kept and that the live route does not name."""
    existing = {*seen.workloads, *seen.revisions, *seen.services}
    routed = {*seen.route.weights, *seen.route.mirror_percent} if seen.route else set()
    return tuple(sorted(existing - keep - routed))


def object_name(release_name: str, revision: str) -> str:
    """Return the name of a revision's objects."""
    return f"{release_name}-{revision}"


def owner_reference(release: Release | InvalidSpec) -> dict[str, Any]:
    """Return the reference that makes an object go with its release."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelRelease",
        "name": release.name,
        "uid": release.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _metadata(release: Release, revision: Revision) -> dict[str, Any]:
    return {
        "name": object_name(release.name, revision.name),
        "namespace": release.namespace,
        "labels": {**MANAGED_BY, **_identity(release, revision)},
        "ownerReferences": [owner_reference(release)],
    }


def _identity(release: Release, revision: Revision) -> dict[str, str]:
    return {RELEASE_LABEL: release.name, REVISION_LABEL: revision.name}


def _controller_revision(release: Release, revision: Revision) -> Manifest:
    """Store the revision's content, so that its pods can be made again after the spec has moved on."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": _metadata(release, revision),
        "revision": 1,
        "data": revision.content,
    }


def _service(release: Release, revision: Revision) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(release, revision),
        "spec": {
            "selector": _identity(release, revision),
            "ports": [{"name": "http", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": revision.port}],
        },
    }


def _deployment(release: Release, revision: Revision, replicas: int) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(release, revision),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _identity(release, revision)},
            "progressDeadlineSeconds": max(1, int(release.spec.progress_deadline.total_seconds())),
            "template": _pod_template(release, revision),
        },
    }


def _pod_template(release: Release, revision: Revision) -> dict[str, Any]:
    template = revision.template
    metadata = template.get("metadata") or {}
    spec = template.get("spec") or {}
    labels = {**(metadata.get("labels") or {}), **_identity(release, revision)}
    containers = [_with_environment(container, release, revision) for container in spec.get("containers") or []]
    return {
        **template,
        "metadata": {**metadata, "labels": labels},
        "spec": {**spec, "containers": containers},
    }


def _with_environment(container: dict[str, Any], release: Release, revision: Revision) -> dict[str, Any]:
    ours = {
        "MODELRELEASE_NAME": release.name,
        "MODELRELEASE_REVISION": revision.name,
        "MODELRELEASE_VERSION": revision.version,
    }
    theirs = [entry for entry in container.get("env") or [] if entry.get("name") not in ours]
    added = [{"name": name, "value": value} for name, value in ours.items()]
    # Kubernetes expands $(NAME) where NAME comes before. Only there: another order is another template, new pods.
    refer = any(f"$({name})" in str(entry.get("value")) for entry in theirs for name in ours)
    return {**container, "env": [*added, *theirs] if refer else [*theirs, *added]}
