"""
The Kubernetes API: what a release's objects say, and how they are made to say what they should.

One asyncio client, plain JSON, no discovery: the kinds that a release touches are few and known. Reads are never from a
cache. Writes are of four kinds:

    status      merge patch with the resourceVersion that was read: two writers cannot both win
    objects     server-side apply, one field manager: fields that others own stay theirs, ours are taken back by force
    revisions   create only: the content behind a name never changes
    events      best effort: a release never fails because its event could not be written

Nothing is sent unless this process is sure to be the only one that acts; and as a request that was sent in time may
arrive late, each write of an object names the version that was read (or that there was none), so that the API server
refuses it once anybody else, such as the next leader, has written. Every leader writes its name into each object when
it applies it for the first time, be there anything else to change or not: from then on, what others sent is void.

An object is written only when its manifest or the object itself is not what it was after our last write. That is
remembered as two fingerprints in memory; after a restart everything is applied once, which changes nothing.
"""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Any, Final, Protocol

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from modelrelease.adapters.errors import (
    AdapterError,
    Conflict,
    Exists,
    Forbidden,
    NotFound,
    NotLeading,
    Overtaken,
    Refused,
    UnknownKind,
    Unreachable,
)
from modelrelease.api.base import GROUP, RELEASE_LABEL, REVISION_LABEL, VERSION
from modelrelease.api.crd import kinds
from modelrelease.api.revision import Revision
from modelrelease.core.dossier import DOSSIER_LABEL
from modelrelease.core.observation import Workload

FIELD_MANAGER: Final = "modelrelease"
REPORTING_CONTROLLER: Final = f"{GROUP}/operator"
EVENT_MESSAGE_BYTES: Final = 1024
EVENTS_REMEMBERED: Final = 64
LABEL_CHARACTERS: Final = 63

REQUEST_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0
MAX_ATTEMPTS: Final = 3

_JSON: Final = "application/json"
_METADATA_ONLY: Final = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

APPLIED_BY: Final = f"{GROUP}/applied-by"
"""
Label with the operator process that was the last to apply the object for the first time.

No annotation: those of a Deployment count as a change of its spec, and until its controller has looked no pod counts.
"""

ABSENT: Final = "1"
"""A resourceVersion that no object has: the API server creates the object, or says that there is one."""
MAX_RETRY_AFTER_SECONDS: Final = 5.0

Object = dict[str, Any]

_log = structlog.get_logger(__name__)


class Announced(Protocol):
    """What an event says; ``core.announce.Announcement`` is one."""

    @property
    def type(self) -> str:
        """``Normal`` or ``Warning``."""

    @property
    def reason(self) -> str:
        """A specific word in PascalCase."""

    @property
    def message(self) -> str:
        """A sentence for people."""

    @property
    def time(self) -> datetime | None:
        """When the transition that it tells of was recorded; None when it tells of none."""


@dataclass(frozen=True, slots=True)
class Children:
    """
    What belongs to a release.

    Attributes:
        workloads: Live Deployments by revision.
        revisions: Stored content by revision; a name that does not fit its content is not among them.
        services: Revisions that have a Service.
        route: The HTTPRoute of the release's name, whoever owns it; None when there is none.
        conflict: An object with a name of ours that somebody else owns, as ``Kind name``; None without one.
        leftover: The same of a release of this name that was deleted: it is about to be collected.
        dossiers: Uids of the ConfigMaps with what its gates were left on, by name.
        unknown_route: Why nobody can tell whether there is a route; None when it was read.
    """

    workloads: Mapping[str, Workload]
    revisions: Mapping[str, Revision]
    services: frozenset[str]
    route: Object | None
    conflict: str | None
    dossiers: Mapping[str, str] = field(default_factory=dict)
    unknown_route: UnknownKind | None = None
    leftover: str | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    api: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        steps = [self.api, *(["namespaces", namespace] if self.namespaced else []), self.plural, name, subresource]
        return "/".join(step for step in steps if step)


_GATEWAY_API: Final = "/apis/gateway.networking.k8s.io/v1"
_RELEASE: Final = _Kind("ModelRelease", f"/apis/{GROUP}/{VERSION}", "modelreleases")
_CONTRACT: Final = _Kind("ModelContract", f"/apis/{GROUP}/{VERSION}", "modelcontracts")
_DECISION: Final = _Kind("ReleaseDecision", f"/apis/{GROUP}/{VERSION}", "releasedecisions")
_DEPLOYMENT: Final = _Kind("Deployment", "/apis/apps/v1", "deployments")
_REVISION: Final = _Kind("ControllerRevision", "/apis/apps/v1", "controllerrevisions")
_SERVICE: Final = _Kind("Service", "/api/v1", "services")
_CONFIG_MAP: Final = _Kind("ConfigMap", "/api/v1", "configmaps")
_ROUTE: Final = _Kind("HTTPRoute", _GATEWAY_API, "httproutes")
_GATEWAY: Final = _Kind("Gateway", _GATEWAY_API, "gateways")
_GATEWAY_CLASS: Final = _Kind("GatewayClass", _GATEWAY_API, "gatewayclasses", namespaced=False)
_EVENT: Final = _Kind("Event", "/apis/events.k8s.io/v1", "events")
_LEASE: Final = _Kind("Lease", "/apis/coordination.k8s.io/v1", "leases")

_OURS: Final = {kind.name: kind for kind in (_DEPLOYMENT, _REVISION, _SERVICE, _ROUTE)}
_OF_A_REVISION: Final = (_DEPLOYMENT, _REVISION, _SERVICE)


@dataclass(frozen=True, slots=True)
class _Seen:
    """
    A live object as last read or written.

    Attributes:
        uid: Who it is.
        owner: Whose it is.
        fingerprint: A digest of what we care about.
        applied_by: Which operator process claims it.
        version: Its resourceVersion, which any write changes, also one of its status.
    """

    uid: str
    owner: str | None
    fingerprint: str
    applied_by: str | None
    version: str

    @classmethod
    def of(cls, live: Object) -> "_Seen":
        meta = live["metadata"]
        # The generation counts changes of the spec and leaves out those of the status; Services have none.
        state = meta.get("generation") or live.get("spec")
        labels = dict(meta.get("labels") or {})
        applied_by = labels.pop(APPLIED_BY, None)
        ours = [state, meta["uid"], labels, meta.get("ownerReferences")]
        return cls(
            uid=meta["uid"],
            owner=_controller(live),
            fingerprint=_digest(ours),
            applied_by=applied_by,
            version=meta["resourceVersion"],
        )

    def same(self, other: "_Seen") -> bool:
        """Return whether at most the status, or something else that is not our matter, differs."""
        return (self.fingerprint, self.applied_by) == (other.fingerprint, other.applied_by)


@dataclass(frozen=True, slots=True)
class _Memory:
    """
    What this process knows of one release's objects, by (kind, name).

    Attributes:
        seen: Live objects.
        applied: What was applied to each.
        events: What the latest Events say that are known to exist, oldest first.
    """

    seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    applied: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # digest of manifest, fingerprint
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS_REMEMBERED))


async def connect() -> ApiClient:
    """
    Return a client for the cluster that this process runs in, or else for the current context of the kubeconfig.

    Raises:
        Refused: There is neither.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        try:
            await load_kube_config(client_configuration=configuration)
        except ConfigException as error:
            raise Refused(f"neither in a cluster nor a usable kubeconfig: {error}") from error
    return client_of(configuration)


def client_of(configuration: Configuration) -> ApiClient:
    """Return a client of the API server that *configuration* tells of."""
    # As kopf's own client does: the API server is reached directly, whatever proxy is set for other traffic.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.trace_configs = [_asked_once_more()]
    return ApiClient(configuration)


_SURE: Final[ContextVar[Callable[[], float] | None]] = ContextVar("sure", default=None)
"""Asks whether the write that is under way in this task may still be sent; None for what anybody may send."""


def _asked_once_more() -> aiohttp.TraceConfig:
    """
    Return the hooks that ask again when a request has its connection, right before it is sent.

    Other work goes on while a connection is made, and a process can be paused meanwhile: it wakes up to write.
    """

    async def ask(*_: object) -> None:
        if sure := _SURE.get():
            sure()

    hooks = aiohttp.TraceConfig()
    hooks.on_connection_reuseconn.append(ask)
    hooks.on_connection_create_end.append(ask)
    return hooks


class KubeCluster:
    """
    The Kubernetes API, as far as releases need it. Every method raises an AdapterError when it fails.

    Args:
        api: The one client of this process; closed by whoever made it.
        clock: Tells the time of events.
        instance: Name of this operator process, and of no other at any time.
        seconds_left: Returns for how long this process is sure to be the only one that acts; 0 or less when it must
            not write.
        event_failed: Called when an event could not be written.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        clock: Callable[[], datetime],
        instance: str = "modelrelease",
        seconds_left: Callable[[], float] = lambda: inf,
        event_failed: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Remember nothing yet."""
        self._api = api
        self._clock = clock
        self._instance = instance
        self._seconds_left = seconds_left
        self._event_failed = event_failed
        self._sleep = sleep
        self._memory: dict[tuple[str, str], _Memory] = {}

    # Read.

    async def missing_kinds(self) -> frozenset[str]:
        """Return the kinds that are not built in and that the API server does not serve."""
        wanted = (_RELEASE, _CONTRACT, _DECISION, _ROUTE)
        apis = tuple({kind.api for kind in wanted})
        served = dict(zip(apis, await asyncio.gather(*map(self._served, apis)), strict=True))
        return frozenset(kind.name for kind in wanted if kind.plural not in served[kind.api])

    async def _served(self, api: str) -> frozenset[str]:
        try:
            answer = await self._call("GET", api)
        except NotFound:
            return frozenset()
        return frozenset(resource["name"] for resource in answer["resources"])

    async def unknown_fields(self) -> tuple[str, ...]:
        """
        Return what of our status the CRDs in the cluster do not know, such as ``ModelRelease status.serving``.

        The API server drops that from what is written, without a word. None when it does not say what it knows.
        """
        try:
            answer = await self._call("GET", f"/openapi/v3/apis/{GROUP}/{VERSION}")
        except (NotFound, Refused):
            return ()
        schemas = ((answer.get("components") or {}).get("schemas") or {}).values()
        published = {it["kind"]: schema for schema in schemas for it in schema.get(_GROUP_VERSION_KIND) or ()}
        return tuple(
            f"{kind.name} {path}"
            for kind in kinds()
            if kind.status and kind.name in published
            for path in _unknown(kind.status, published[kind.name]["properties"].get("status") or {}, "status")
        )

    def exists(self, namespace: str, name: str) -> bool:
        """Return whether the release was there when it was last read."""
        return (namespace, name) in self._memory

    async def get_release(self, namespace: str, name: str) -> Object | None:
        """
        Return the ModelRelease as the API server has it now; None when it is gone.

        Raises:
            UnknownKind: Nobody can tell: an API server that is starting does not know our kind yet.
        """
        try:
            release = await self._call("GET", _RELEASE.path(namespace, name))
        except UnknownKind:
            raise
        except NotFound:
            self._memory.pop((namespace, name), None)
            return None
        self._memory.setdefault((namespace, name), _Memory())
        return release

    async def get_contract(self, namespace: str, name: str) -> Object | None:
        """
        Return the ModelContract as the API server has it now; None when there is none.

        Raises:
            UnknownKind: Nobody can tell.
        """
        return await self._get_known(_CONTRACT, namespace, name)

    async def open_decisions(self, namespace: str, release: str) -> list[Object]:
        """Return the ReleaseDecisions about a release without an outcome; none when there is no such kind."""
        path, fields = _DECISION.path(namespace), f"spec.release={release},status.outcome="
        try:
            answer = await self._call("GET", path, query={"fieldSelector": fields})
        except NotFound:
            return []
        return [{"apiVersion": answer["apiVersion"], "kind": _DECISION.name, **item} for item in answer["items"]]

    async def get_route(self, namespace: str, name: str) -> Object | None:
        """
        Return the HTTPRoute; None when there is none.

        Raises:
            UnknownKind: Nobody can tell.
        """
        route = await self._get_known(_ROUTE, namespace, name)
        self._note(namespace, name, _ROUTE, name, route)
        return route

    async def get_gateway(self, namespace: str, name: str) -> Object | None:
        """Return the Gateway; None when there is none, or no such kind."""
        return await self._get(_GATEWAY, namespace, name)

    async def get_gateway_class(self, name: str) -> Object | None:
        """Return the GatewayClass; None when there is none, or no such kind."""
        return await self._get(_GATEWAY_CLASS, "", name)

    async def read_children(self, namespace: str, name: str, uid: str, revisions: Iterable[str] = ()) -> Children:
        """
        Return what belongs to a release.

        Args:
            namespace, name, uid: The release.
            revisions: Revisions whose objects are about to be made. Their names are looked up too: an object that has
                such a name and not our label would not be found otherwise.
        """
        selector = f"{RELEASE_LABEL}={name}"
        found, route, dossiers = await asyncio.gather(
            asyncio.gather(*(self._list(kind, namespace, selector) for kind in _OF_A_REVISION)),
            self._route_or_not(namespace, name),
            self._list(_CONFIG_MAP, namespace, f"{selector},{DOSSIER_LABEL}", accept=_METADATA_ONLY),
        )
        by_kind = dict(zip(_OF_A_REVISION, found, strict=True))
        known = {(kind.name, item["metadata"]["name"]) for kind, items in by_kind.items() for item in items}
        strangers = await self._unlabelled(namespace, name, revisions, known)
        everything = [(kind, item) for kind, items in by_kind.items() for item in items] + strangers
        route, unknown = (None, route) if isinstance(route, UnknownKind) else (route, None)
        everything += [(_ROUTE, route)] if route else []
        self._remember(namespace, name, everything)
        foreign = [(kind, item) for kind, item in everything if not _owned(item, uid)]
        strange = [_kind_and_name(kind, item) for kind, item in foreign if not _of_a_release(item, name)]
        left = [_kind_and_name(kind, item) for kind, item in foreign if _of_a_release(item, name)]
        owned = {kind: [item for item in items if _owned(item, uid)] for kind, items in by_kind.items()}
        workloads = [_workload(item) for item in owned[_DEPLOYMENT]]
        stored = [revision for item in owned[_REVISION] if (revision := _stored_revision(item))]
        return Children(
            workloads={workload.revision: workload for workload in workloads},
            revisions={revision.name: revision for revision in stored},
            services=frozenset(_revision_label(item) for item in owned[_SERVICE]),
            route=route,
            conflict=min(strange, default=None),
            leftover=min(left, default=None),
            dossiers={it["metadata"]["name"]: it["metadata"]["uid"] for it in dossiers if _owned(it, uid)},
            unknown_route=unknown,
        )

    async def _route_or_not(self, namespace: str, name: str) -> Object | UnknownKind | None:
        try:
            return await self.get_route(namespace, name)
        except UnknownKind as unknown:
            return unknown

    async def _unlabelled(
        self, namespace: str, release: str, revisions: Iterable[str], known: set[tuple[str, str]]
    ) -> list[tuple[_Kind, Object]]:
        """Return objects that have a name of ours without our label."""
        wanted = [
            (kind, f"{release}-{revision}")
            for revision in revisions
            for kind in _OF_A_REVISION
            if (kind.name, f"{release}-{revision}") not in known
        ]
        found = await asyncio.gather(*(self._get(kind, namespace, name) for kind, name in wanted))
        return [(kind, item) for (kind, _), item in zip(wanted, found, strict=True) if item is not None]

    def _remember(self, namespace: str, release: str, live: Iterable[tuple[_Kind, Object]]) -> None:
        memory = self._memory.setdefault((namespace, release), _Memory())
        memory.seen.clear()
        memory.seen.update({(kind.name, item["metadata"]["name"]): _Seen.of(item) for kind, item in live})
        for key in memory.applied.keys() - memory.seen.keys():
            del memory.applied[key]

    def _note(self, namespace: str, release: str, kind: _Kind, name: str, live: Object | None) -> None:
        memory = self._memory.setdefault((namespace, release), _Memory())
        if live is None:
            memory.seen.pop((kind.name, name), None)
        else:
            memory.seen[kind.name, name] = _Seen.of(live)

    # Write.

    async def write_status(self, body: Object, status: Object) -> Object:
        """
        Write *status* to exactly the object *body* that was read, and return the object as it is now.

        Keys that are in the old status and not in the new one are removed; lists are replaced as a whole.

        Raises:
            Conflict: The object has changed since it was read.
            NotFound: It is gone.
            Refused: The schema does not allow such a status.
        """
        change = _merge_patch(body.get("status") or {}, status)
        if not change:
            return body
        meta = body["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "uid": meta["uid"]}, "status": change}
        path = _RELEASE.path(meta["namespace"], meta["name"], "status")
        return await self._call("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def write_outcome(self, decision: Object, status: Object) -> None:
        """
        Write the *status* of exactly the ReleaseDecision that was read; one that is gone needs none.

        Raises:
            Conflict: It has been answered since it was read.
        """
        meta = decision["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "uid": meta["uid"]}, "status": status}
        path = _DECISION.path(meta["namespace"], meta["name"], "status")
        try:
            await self._call("PATCH", path, body=patch, content_type="application/merge-patch+json")
        except NotFound:
            return

    async def apply(self, manifest: Object) -> bool:
        """
        Make an object what *manifest* says; return whether that changed it.

        Raises:
            Conflict: An object of that name exists and is not this release's.
            Overtaken: Somebody else wrote it after it was read.
            NotFound: The API server does not know the kind, or the namespace is gone.
            Refused: The manifest is not valid, or we may not write it.
        """
        kind, namespace, name = _address(manifest)
        memory = self._memory.setdefault((namespace, _release_of(manifest)), _Memory())
        key, digest = (kind.name, name), _digest(manifest)
        seen = memory.seen.get(key) or await self._look(kind, namespace, name)
        if seen and seen.owner != _controller(manifest):
            raise Conflict(f"{kind.name} {namespace}/{name} exists and does not belong to this release")
        if seen and (kind is _REVISION or memory.applied.get(key) == (digest, seen.fingerprint)):
            return False
        written = _Seen.of(
            await self._unless_overtaken(
                kind, namespace, name, seen, lambda seen: self._write(kind, namespace, name, manifest, seen)
            )
        )
        memory.seen[key] = written
        memory.applied[key] = (digest, written.fingerprint)
        return seen is None or seen.fingerprint != written.fingerprint

    async def _look(self, kind: _Kind, namespace: str, name: str) -> _Seen | None:
        live = await self._get(kind, namespace, name)
        return _Seen.of(live) if live else None

    async def _unless_overtaken(
        self,
        kind: _Kind,
        namespace: str,
        name: str,
        seen: _Seen | None,
        write: Callable[[_Seen | None], Awaitable[Object]],
    ) -> Object:
        """Write onto what was *seen*; once more if only its status has changed since, which is others' to write."""
        for _ in range(MAX_ATTEMPTS):
            try:
                return await write(seen)
            except Conflict as error:
                refused = error
            found = await self._look(kind, namespace, name)
            if not (found and seen and found.same(seen)):
                break
            seen = found
        raise Overtaken(str(refused)) from refused

    async def _write(self, kind: _Kind, namespace: str, name: str, manifest: Object, seen: _Seen | None) -> Object:
        if kind is _REVISION:
            return await self._call("POST", kind.path(namespace), body=manifest)
        given = manifest["metadata"]
        labels = {**given["labels"], APPLIED_BY: self._instance[-LABEL_CHARACTERS:].lstrip("-_.")}
        # With the uid of an object that is gone, the API server does not make a new one.
        version = {"resourceVersion": seen.version, "uid": seen.uid} if seen else {"resourceVersion": ABSENT}
        return await self._call(
            "PATCH",
            kind.path(namespace, name),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body={**manifest, "metadata": {**given, **version, "labels": labels}},
            content_type="application/apply-patch+yaml",
        )

    async def delete(self, manifest: Object) -> None:
        """
        Delete the object that *manifest* names; one that is absent already is fine. What it owns goes after it.

        Only the very object that was seen is deleted, never a new one of the same name, and never one that is not ours.

        Raises:
            Conflict: Somebody else owns it.
            Overtaken: Somebody else wrote it after it was read.
        """
        kind, namespace, name = _address(manifest)
        live = await self._get(kind, namespace, name)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return
        owner = _controller(manifest)
        if RELEASE_LABEL not in (live["metadata"].get("labels") or {}) or (owner and not _owned(live, owner)):
            raise Conflict(f"{kind.name} {namespace}/{name} is not of this release: it is not deleted")
        try:
            await self._unless_overtaken(
                kind, namespace, name, _Seen.of(live), lambda seen: self._remove(kind, namespace, name, seen)
            )
        except NotFound:
            return

    async def _remove(self, kind: _Kind, namespace: str, name: str, seen: _Seen | None) -> Object:
        assert seen is not None, "only what was seen is deleted"
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": seen.uid, "resourceVersion": seen.version},
        }
        return await self._call("DELETE", kind.path(namespace, name), body=options)

    async def keep(self, dossier: Object) -> None:
        """
        Create a ConfigMap that is never changed; its name tells its content, so one that exists is it.

        Raises:
            Overtaken: Others write the quota of the namespace at this moment.
        """
        try:
            await self._call("POST", _CONFIG_MAP.path(dossier["metadata"]["namespace"]), body=dossier)
        except Exists:
            return
        except Conflict as error:
            raise Overtaken(str(error)) from error

    async def drop(self, namespace: str, name: str, uid: str) -> None:
        """Delete the very ConfigMap that was seen; one that is absent, or another of its name, is left alone."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", _CONFIG_MAP.path(namespace, name), body=options)
        except (NotFound, Conflict):
            return

    async def emit(self, body: Object, announcement: Announced) -> None:
        """
        Write an Event about the release *body*, unless it is known to exist.

        A failure is logged and counted, never raised: what is told of a transition is tried again by the next tick.
        """
        if self.emitted(body, announcement):
            return
        meta = body["metadata"]
        try:
            await self._call("POST", _EVENT.path(meta["namespace"]), body=self._event(body, announcement))
        except Exists:
            pass  # the name is a digest of what is said: it has been said
        except AdapterError as error:
            self._event_failed()
            _log.warning("event not written", release=_full_name(meta), reason=announcement.reason, error=str(error))
            return
        if memory := self._memory.get((meta["namespace"], meta["name"])):
            memory.events.append(_said(meta, announcement))

    def emitted(self, body: Object, announcement: Announced) -> bool:
        """Return whether this process knows that the Event exists: it has written it, or was told so."""
        meta = body["metadata"]
        memory = self._memory.get((meta["namespace"], meta["name"]))
        return memory is not None and _said(meta, announcement) in memory.events

    def _event(self, body: Object, announcement: Announced) -> Object:
        meta, time = body["metadata"], announcement.time or self._clock()
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": _event_name(meta, announcement, time), "namespace": meta["namespace"]},
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": announcement.type,
            "reason": announcement.reason,
            "note": _cut(announcement.message),
            "action": announcement.reason,
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
        }

    # Elect: what decides who may write needs no leave to be written.

    async def get_lease(self, namespace: str, name: str) -> Object | None:
        """Return the Lease; None when there is none."""
        return await self._get(_LEASE, namespace, name)

    async def create_lease(self, body: Object) -> Object:
        """Create a Lease; raise Conflict when there is one."""
        return await self._call("POST", _LEASE.path(body["metadata"]["namespace"]), body=body, leading=False)

    async def replace_lease(self, body: Object) -> Object:
        """Replace exactly the version of the Lease that *body* names; raise Conflict when it has changed since."""
        meta = body["metadata"]
        return await self._call("PUT", _LEASE.path(meta["namespace"], meta["name"]), body=body, leading=False)

    # Talk.

    async def _get(self, kind: _Kind, namespace: str, name: str) -> Object | None:
        try:
            return await self._get_known(kind, namespace, name)
        except UnknownKind:
            return None

    async def _get_known(self, kind: _Kind, namespace: str, name: str) -> Object | None:
        """Return None only when the object is surely absent: an API server that is starting does not know our kinds."""
        try:
            return await self._call("GET", kind.path(namespace, name))
        except UnknownKind:
            raise
        except NotFound:
            return None

    async def _list(self, kind: _Kind, namespace: str, selector: str, *, accept: str = _JSON) -> list[Object]:
        answer = await self._call("GET", kind.path(namespace), query={"labelSelector": selector}, accept=accept)
        items: list[Object] = answer["items"] or []  # of an empty list of metadata alone, the API server says null
        return items

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        leading: bool = True,
    ) -> Object:
        """
        Return the JSON answer; wait and ask again when the server asks for that, within bounds.

        Args:
            method, path, query, body, content_type, accept: The request.
            leading: Whether a write is for the leader only, and no longer under way than it is sure to lead.
        """
        sure = partial(self._sure, method, path) if leading and method != "GET" else None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            left = sure() if sure else inf
            asks = _SURE.set(sure)
            try:
                status, headers, data = await self._send(method, path, query, body, content_type, accept, within=left)
            finally:
                _SURE.reset(asks)
            if status != 429 or attempt == MAX_ATTEMPTS:  # too many requests: nothing was done
                break
            await self._sleep(_retry_after(headers))
        answer = _json(data)
        if status >= 400 or answer is None:
            raise _failure(method, path, status, answer)
        return answer

    def _sure(self, method: str, path: str) -> float:
        """Return for how many seconds this process is sure to lead; raise NotLeading when it is not."""
        left = self._seconds_left()
        if left <= 0:
            raise NotLeading(f"{method} {path}: not sent, another replica may act by now")
        return left

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        content_type: str,
        accept: str,
        *,
        within: float,
    ) -> tuple[int, Mapping[str, str], bytes]:
        timeout = aiohttp.ClientTimeout(total=min(REQUEST_SECONDS, within), connect=CONNECT_SECONDS)
        try:
            method, url, headers, body, _ = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
            return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise Unreachable(f"{method} {path}: {str(error) or type(error).__name__}") from error


def _json(data: bytes) -> Object | None:
    try:
        answer = json.loads(data)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _failure(method: str, path: str, status: int, answer: Object | None) -> AdapterError:
    said = str((answer or {}).get("message") or f"status {status}")
    message = f"{method} {path}: {said}"
    match status:
        case 404 if answer is None:
            return UnknownKind(f"{method} {path}: the API server does not know this kind; is its CRD installed?")
        case 404:
            return NotFound(message)
        case 409 if (answer or {}).get("reason") == "AlreadyExists":
            return Exists(message)
        case 409:  # of a create, too: a quota that many use at once is an object that has changed
            return Conflict(message)
        case 500 if "failed to create typed patch object" in said:
            return Refused(message)  # a field that the kind does not have: our fault, whatever the number says
        case 403:
            return Forbidden(message)
        case _ if status < 400 or status in {410, 429} or status >= 500:  # 410: what was asked by has expired
            return Unreachable(message)
        case _:
            return Refused(message)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("Retry-After", "1"))
    except ValueError:
        seconds = 1.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _address(manifest: Object) -> tuple[_Kind, str, str]:
    meta = manifest["metadata"]
    return _OURS[manifest["kind"]], meta["namespace"], meta["name"]


def _release_of(manifest: Object) -> str:
    name: str = manifest["metadata"]["labels"][RELEASE_LABEL]
    return name


def _revision_label(item: Object) -> str:
    return str((item["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))


def _full_name(meta: Object) -> str:
    return f"{meta['namespace']}/{meta['name']}"


def _kind_and_name(kind: _Kind, item: Object) -> str:
    return f"{kind.name} {item['metadata']['name']}"


def _reference(item: Object) -> Object:
    """Return the reference to the owner that controls the object; empty without one."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def _controller(item: Object) -> str | None:
    """Return the uid of the owner that controls the object."""
    return _reference(item).get("uid")


def _owned(item: Object, uid: str) -> bool:
    return _controller(item) == uid


def _of_a_release(item: Object, name: str) -> bool:
    """Return whether a release of this name controls the object, be it one that was deleted."""
    owner = _reference(item)
    group = str(owner.get("apiVersion")).partition("/")[0]
    return (group, owner.get("kind"), owner.get("name")) == (GROUP, _RELEASE.name, name)


def _workload(deployment: Object) -> Workload:
    meta, status = deployment["metadata"], deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= meta["generation"]
    return Workload(
        revision=_revision_label(deployment),
        replicas=deployment["spec"].get("replicas", 1),
        available=_available(status) if current else 0,
        serving=int(status.get("availableReplicas", 0)),
        message=_trouble(status),
    )


def _available(status: Object) -> int:
    """Return how many available pods surely run the current template: those of older ones may all be available."""
    updated, available = int(status.get("updatedReplicas", 0)), int(status.get("availableReplicas", 0))
    older = int(status.get("replicas", 0)) - updated
    return max(0, min(updated, available - older))


def _trouble(status: Object) -> str:
    """Return what the Deployment's conditions complain about, the most telling one."""
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    for type_, bad in (("ReplicaFailure", "True"), ("Progressing", "False"), ("Available", "False")):
        condition = conditions.get(type_)
        if condition and condition["status"] == bad:
            return str(condition.get("message", ""))
    return ""


def _stored_revision(item: Object) -> Revision | None:
    """Return the revision that a ControllerRevision holds; None for content that does not have the name it claims."""
    name = _revision_label(item)
    try:
        revision = Revision.from_content(item["data"])
    except (KeyError, TypeError):
        revision = None
    if revision and revision.name == name:
        return revision
    _log.warning("stored revision does not fit its name: ignored", object=_full_name(item["metadata"]), revision=name)
    return None


_GROUP_VERSION_KIND: Final = "x-kubernetes-group-version-kind"


def _unknown(ours: Object, theirs: Object, path: str) -> Iterator[str]:
    """Yield the places of *ours*, a JSON schema, that *theirs* does not have; of what is in such a place, nothing."""
    for name, schema in (ours.get("properties") or {}).items():
        known = (theirs.get("properties") or {}).get(name)
        if known is None:
            yield f"{path}.{name}"
        else:
            yield from _unknown(schema, known, f"{path}.{name}")
    if "items" in ours:
        yield from _unknown(ours["items"], theirs.get("items") or {}, f"{path}[]")


def _merge_patch(old: Object, new: Object) -> Object:
    """Return the JSON merge patch (RFC 7386) that turns *old* into *new*; empty when they are equal."""
    patch: Object = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if change := _merge_patch(before, value):
                patch[key] = change
        elif key not in old or value != before:
            patch[key] = value
    return patch


def _said(meta: Object, announcement: Announced) -> str:
    """Return a digest of what is said, and of which moment."""
    moment = announcement.time.isoformat() if announcement.time else meta["resourceVersion"]
    return _digest([meta["uid"], moment, announcement.reason, announcement.message])


def _event_name(meta: Object, announcement: Announced, time: datetime) -> str:
    """
    Return a name for an Event that exists once, however often it is written.

    It begins with the time, in microseconds: kubectl shows Events without a ``lastTimestamp``, which this kind may not
    have, in the order of their names.
    """
    micros = (time - _EPOCH) // timedelta(microseconds=1)
    return f"{meta['name'][:220]}.{micros:014x}{_said(meta, announcement)[:10]}"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _cut(message: str) -> str:
    """Return as much of *message* as an event may hold: the API server says characters and counts bytes."""
    data = message.encode()
    if len(data) <= EVENT_MESSAGE_BYTES:
        return message
    ellipsis = "…"
    return data[: EVENT_MESSAGE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
