"""
kopf, reduced to an informer: it tells which release may have changed, and nothing else.

    ModelRelease created, spec edited, listed     -> trigger
    ModelRelease deleted                          -> trigger, for what people decided about it is still to be answered
    ModelContract changed                         -> trigger every release that refers to it
    ReleaseDecision without an outcome            -> trigger its release
    Deployment, Service, HTTPRoute of a release   -> trigger

Handlers never raise, never patch, and put no finalizer or annotation on anybody's object; a status that we wrote comes
back as an event and is recognised by its unchanged generation. kopf runs in a thread with an event loop of its own,
because at its end it cancels every task of the loop it is in. It is started anew when kinds come or go, and when it
fails.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import kopf
import structlog

from modelrelease.adapters.errors import AdapterError
from modelrelease.api.base import GROUP, RELEASE_LABEL, VERSION
from modelrelease.api.parse import named_contract
from modelrelease.engine import LONGEST_BACKOFF, Key

LOGIN_LIFETIME: Final = timedelta(minutes=10)
"""A login counts as new after this, so that one spurious 401 does not leave kopf without any."""

REPORTER: Final = f"{GROUP}/operator"

CHECK_SECONDS: Final = 30.0
WATCH_CHECK_SECONDS: Final = 1.0
RESTART_SECONDS: Final = 5.0

_RELEASES: Final = (GROUP, VERSION, "modelreleases")
_CONTRACTS: Final = (GROUP, VERSION, "modelcontracts")
_DECISIONS: Final = (GROUP, VERSION, "releasedecisions")
_CHILDREN: Final = {
    "Deployment": ("apps", "v1", "deployments"),
    "Service": ("", "v1", "services"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
}

_log = structlog.get_logger(__name__)

# Signals are not for kopf to handle: it runs in a thread and is stopped by us.
logging.getLogger("kopf._core.reactor.running").addFilter(lambda line: "OS signals" not in line.getMessage())


class EndlessBackoffs:
    """Seconds between attempts: half a second, doubling up to five, with jitter, for ever."""

    def __iter__(self) -> Iterator[float]:
        """Begin anew for each request."""
        longest = 0.5
        while True:
            yield longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            longest = min(2 * longest, LONGEST_BACKOFF.total_seconds())


def settings_for_kopf() -> kopf.OperatorSettings:
    """Return the settings with which kopf neither gives up, nor writes, nor asks for more rights than it needs."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.server_timeout = 270
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    for group, version, plural in _CHILDREN.values():
        settings.watching.label_selectors[group, version, plural] = RELEASE_LABEL
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.posting.reporting_component = REPORTER
    settings.queueing.idle_timeout = 1
    return settings


async def login(settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo:
    """Return how to reach the API server: as the pod's service account, or as the kubeconfig says."""
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise kopf.PermanentError("neither in a cluster nor a kubeconfig")
    return replace(info, expiration=datetime.now(UTC) + LOGIN_LIFETIME)


@dataclass(slots=True)
class Informer:
    """
    Tells the engine which releases may have changed.

    Attributes:
        trigger: Called with the key of a release that may have changed.
        missing_kinds: Returns the kinds, of those that we know by name, that the API server does not serve.
        namespaces: Namespaces to look at; empty for all.
        unknown_fields: Returns what of our status the cluster's CRDs do not know; None to believe that they know all.
        hurry: Called with the key of a release that a person has decided about; None to trigger it like any other.
    """

    trigger: Callable[[Key], None]
    missing_kinds: Callable[[], Awaitable[frozenset[str]]]
    namespaces: tuple[str, ...] = ()
    hurry: Callable[[Key], None] | None = None
    unknown_fields: Callable[[], Awaitable[tuple[str, ...]]] | None = None
    problem: str | None = "has not started yet"
    _home: asyncio.AbstractEventLoop | None = None
    _known: dict[Key, tuple[str, int, bool]] = field(default_factory=dict)
    _contracts: dict[Key, Key] = field(default_factory=dict)  # of each release that refers to one

    async def run(self) -> None:
        """Watch until cancelled."""
        self._home = asyncio.get_running_loop()
        while True:
            missing = await self._missing()
            if missing is None or "ModelRelease" in missing or await self._outdated():
                await asyncio.sleep(RESTART_SECONDS)
                continue
            if missing:
                kinds = ", ".join(sorted(missing))
                _log.error("kinds are not installed: what needs them waits until they are", kinds=kinds)
            await self._watch_until_changed(missing)

    async def _missing(self) -> frozenset[str] | None:
        """Return the kinds that are missing; None when the API server does not say. Keeps ``problem`` up to date."""
        try:
            missing = await self.missing_kinds()
        except AdapterError as error:
            self._complain(f"cannot ask the API server which kinds it knows: {error}")
            return None
        if "ModelRelease" in missing:
            self._complain(f"the CRD modelreleases.{GROUP} is not installed")
        return missing

    async def _outdated(self) -> bool:
        """
        Return whether the CRDs are older than this operator, as Helm leaves them when it upgrades a chart.

        What they do not know of a status is lost whenever it is written. Who forgets what it has promised had better
        not begin: the new pod does not become ready, and the old one goes on.
        """
        try:
            unknown = await self.unknown_fields() if self.unknown_fields else ()
        except AdapterError as error:
            self._complain(f"cannot ask the API server which fields it knows: {error}")
            return True
        if unknown:
            lacking = f"{unknown[0]} and {len(unknown) - 1} more" if len(unknown) > 1 else unknown[0]
            self._complain(f"the CRDs are older than this operator, they lack {lacking}: apply the chart's crds/")
        return bool(unknown)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            _log.error("not watching", problem=problem)
        self.problem = problem

    async def _watch_until_changed(self, missing: frozenset[str]) -> None:
        """Run kopf until the set of missing kinds is another, or kopf ends by itself."""
        session = _Session(self.registry(missing), self.namespaces)
        watching = asyncio.create_task(asyncio.to_thread(session.run), name="kopf")
        try:
            self.problem = None
            while not (await asyncio.wait({watching}, timeout=CHECK_SECONDS))[0]:
                now_missing = await self._missing()
                if now_missing is not None and now_missing != missing:
                    _log.info("kinds have come or gone: watching anew", missing=sorted(now_missing))
                    return
                if now_missing is not None:
                    self.problem = None
        finally:
            session.stop()
            await _finish(watching)
        self._complain(f"kopf ended: {watching.exception() or 'without an error'}")
        await asyncio.sleep(RESTART_SECONDS)

    def registry(self, missing: frozenset[str]) -> kopf.OperatorRegistry:
        """Return the handlers for every kind that exists."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(login)
        kopf.on.event(*_RELEASES, registry=registry)(self.on_release)
        if "ModelContract" not in missing:
            kopf.on.event(*_CONTRACTS, registry=registry)(self.on_contract)
        if "ReleaseDecision" not in missing:
            kopf.on.event(*_DECISIONS, registry=registry)(self.on_decision)
        for kind, resource in _CHILDREN.items():
            if kind not in missing:
                kopf.on.event(*resource, registry=registry)(self.on_child)
        return registry

    async def on_release(self, event: kopf.RawEvent, **_: object) -> None:
        """Trigger a release that is new, listed, or gone, or whose spec has changed."""
        meta: Mapping[str, Any] = event["object"]["metadata"]
        key = (meta["namespace"], meta["name"])
        state = (meta["uid"], int(meta.get("generation", 0)), "deletionTimestamp" in meta)
        known = self._known.get(key)
        if event["type"] == "DELETED":
            # A namesake may have been made already, and its events may have come first.
            if known is None or known[0] == meta["uid"]:
                self._known.pop(key, None)
                self._contracts.pop(key, None)
                self._at_home(self.trigger, key)
            return
        self._known[key] = state
        if contract := named_contract(event["object"]):
            self._contracts[key] = (key[0], contract)
        else:
            self._contracts.pop(key, None)
        if event["type"] != "MODIFIED" or state != known:
            self._at_home(self.trigger, key)

    async def on_contract(self, event: kopf.RawEvent, **_: object) -> None:
        """Trigger every release that refers to a contract; one that is not known yet comes by its own event."""
        meta: Mapping[str, Any] = event["object"]["metadata"]
        contract = (meta["namespace"], meta["name"])
        for release, named in self._contracts.items():
            if named == contract:
                self._at_home(self.trigger, release)

    async def on_decision(self, event: kopf.RawEvent, **_: object) -> None:
        """Trigger the release that a decision is about, until it is answered."""
        body: Mapping[str, Any] = event["object"]
        if event["type"] != "DELETED" and not (body.get("status") or {}).get("outcome"):
            self._at_home(self.hurry or self.trigger, (body["metadata"]["namespace"], body["spec"]["release"]))

    async def on_child(self, event: kopf.RawEvent, **_: object) -> None:
        """Trigger the release that an object is labelled with; one that has lost its label arrives as deleted."""
        meta: Mapping[str, Any] = event["object"]["metadata"]
        release = (meta.get("labels") or {}).get(RELEASE_LABEL)
        if release:
            self._at_home(self.trigger, (meta["namespace"], release))

    def _at_home(self, call: Callable[[Key], None], key: Key) -> None:
        assert self._home is not None, "kopf runs only while run() does"
        self._home.call_soon_threadsafe(call, key)


class _Session:
    """One run of kopf, in the thread that calls ``run``."""

    def __init__(self, registry: kopf.OperatorRegistry, namespaces: tuple[str, ...]) -> None:
        self._registry = registry
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_flag: asyncio.Event | None = None

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        stop_flag = asyncio.Event()
        with self._lock:
            self._loop, self._stop_flag = asyncio.get_running_loop(), stop_flag
            if self._stopped:
                return
        deafness = asyncio.create_task(_a_watch_has_ended(), name="deafness")
        deafness.add_done_callback(lambda _: stop_flag.set())
        try:
            await kopf.operator(
                registry=self._registry,
                settings=settings_for_kopf(),
                stop_flag=stop_flag,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                # Else kopf asks for the user's name, and an arbitrary user id in a container has none.
                identity=cast("Any", REPORTER),
            )
        finally:
            deafness.cancel()
            with self._lock:
                self._loop = None

    def stop(self) -> None:
        """Ask kopf to end; from any thread, at any time."""
        with self._lock:
            self._stopped = True
            if self._loop and self._stop_flag:
                self._loop.call_soon_threadsafe(self._stop_flag.set)


async def _a_watch_has_ended() -> None:
    """
    Return when one of kopf's watches, having run, runs no more.

    A watch ends when it gets an answer that kopf does not expect (its CRD is replaced, etcd has no leader); kopf logs
    that and goes on without the watch. Its tasks' names are no public matter: test_informer notices if they change.
    """
    most = 0
    while (alive := sum(task.get_name().startswith("watcher for ") for task in asyncio.all_tasks())) >= most:
        most = alive
        await asyncio.sleep(WATCH_CHECK_SECONDS)


async def _finish(watching: asyncio.Task[None]) -> None:
    """Wait for kopf's thread, also while we are being cancelled; what it raises is looked at by the caller."""
    while not watching.done():
        try:
            await asyncio.wait({watching})
        except asyncio.CancelledError:
            continue
