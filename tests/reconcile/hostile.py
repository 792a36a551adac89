"""
A cluster in which everything goes wrong that may, and a Prometheus that says what it is told to.

Every call can fail in every way that an adapter has, done or not done; the process can die before and after every
write; people edit routes, Deployments and the release itself between two calls; pods come and go. What was read, tried
and done within one reconcile is kept as a ``Tick``, for ``promises`` to judge.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final

import numpy as np

from modelrelease.adapters.errors import AdapterError, Conflict, NotFound, NotLeading, Overtaken, Refused, Unreachable
from modelrelease.adapters.kube import Children
from modelrelease.core.announce import Announcement
from modelrelease.core.counts import Evidence, MetricsUnavailable, SliceCounts, StageCounts
from modelrelease.core.decide import Decision
from modelrelease.core.elapsed import Jump
from modelrelease.core.observation import Workload
from modelrelease.core.queries import StageWindow
from tests.reconcile.fakes import Crash, FakeKube, Object


@dataclass(frozen=True, slots=True)
class Fault:
    """
    How one call goes wrong.

    Attributes:
        error: What the operator sees; None: it dies.
        done: Whether a write was done all the same.
    """

    error: type[AdapterError] | None
    done: bool = False


FAULTS: Final = (
    Fault(Conflict),
    Fault(Overtaken),
    Fault(NotLeading),
    Fault(Refused),
    Fault(NotFound),
    Fault(Unreachable),
    Fault(Unreachable, done=True),
    Fault(None),
    Fault(None, done=True),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """A write that was done: its name as in ``FakeKube.writes``, and the object before and after it."""

    what: str
    before: Object | None
    after: Object | None


@dataclass
class Tick:
    """
    One reconcile, as seen from outside.

    Attributes:
        now: What the clock said, to the microsecond.
        lived: How much time has really passed since the beginning of everything.
        jumps: Those of the clock that the operator has noticed.
        body: The release as it was read; None when it was not.
        asked: The decisions as they were read.
        children: Its objects as they were read.
        windows, evidence: What was asked of Prometheus, and its answer.
        calls: Every call in order, the failed ones too.
        failed: Calls that the operator saw fail.
        effects: Writes that were done, in order.
        decision: What was decided.
        again: When to look again; None also stands for never.
        error: What the reconcile raised.
        died: Whether the process died in it.
        route_after: The route as it was left.
        told: Every event that there is by then.
    """

    now: datetime
    lived: timedelta = timedelta(0)
    jumps: tuple[Jump, ...] = ()
    body: Object | None = None
    asked: tuple[Object, ...] = ()
    children: Children | None = None
    windows: tuple[StageWindow, ...] = ()
    evidence: Evidence | None = None
    calls: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    effects: list[Effect] = field(default_factory=list)
    decision: Decision | None = None
    again: timedelta | None = None
    error: AdapterError | None = None
    died: bool = False
    route_after: Object | None = None
    told: frozenset[Announcement] = frozenset()


@dataclass
class HostileKube(FakeKube):
    """
    The cluster. Nothing in it is changed in place, so what was read, or was there before a write, can be kept as it is.

    Attributes:
        faults: What goes wrong next, by the number of the call within the reconcile.
        refused: Kinds of objects that cannot be written until further notice, as by a quota.
        edits: What people do just before a call, by its number.
        short: Revisions of which one pod is available at most.
        gateway_says: What the Gateway answers about the route: True, False, or None for nothing yet.
        tick: The reconcile under way.
    """

    faults: dict[int, Fault] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    edits: dict[int, Callable[[], None]] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    gateway_says: bool | None = True
    tick: Tick = field(kw_only=True)

    # Calls.

    def _call(self, what: str, effect: Any, *, writes: bool) -> Any:
        number = len(self.tick.calls)
        self.tick.calls.append(what)
        if edit := self.edits.pop(number, None):
            edit()
        fault = self.faults.pop(number, None) or (Fault(Refused) if what.partition(" ")[0] in self.refused else None)
        if fault is None:
            return effect()
        if writes and fault.done:
            effect()
        if fault.error is None:
            raise Crash
        raise fault.error(f"{what} failed")

    def _read(self, what: str, effect: Any) -> Any:
        return self._call(what, effect, writes=False)

    def _write(self, what: str, effect: Any) -> Any:
        def noted() -> Any:
            before = self._target(what)
            result = effect()
            self.tick.effects.append(Effect(what, before, self._target(what)))
            return result

        return self._call(what, noted, writes=True)

    def _target(self, what: str) -> Object | None:
        match what.removeprefix("delete ").split():
            case ["status"]:
                return self.status
            case ["route"]:
                return self.objects.get(("HTTPRoute", "radar"))
            case ["outcome", name]:
                return self.decisions[name]
            case [kind, name]:
                return self.objects.get((kind, name))
        raise AssertionError(what)

    def _shown(self, item: Any) -> Any:
        return item  # nobody changes anything in place, the operator neither

    async def get_release(self, namespace: str, name: str) -> Object | None:
        self.tick.body = await super().get_release(namespace, name)
        return self.tick.body

    async def open_decisions(self, namespace: str, release: str) -> list[Object]:
        asked = await super().open_decisions(namespace, release)
        self.tick.asked = tuple(asked)
        return asked

    async def read_children(self, namespace: str, name: str, uid: str, revisions: Any) -> Children:
        self.tick.children = await super().read_children(namespace, name, uid, revisions)
        return self.tick.children

    def _children(self, name: str, uid: str) -> Children:
        children = super()._children(name, uid)
        route = children.route
        return replace(children, route={**route, "status": self._said_of(route)}) if route else children

    def _said_of(self, route: Object) -> Object:
        """Return what the Gateway says of a route that was written by us."""
        said = {"status": "False" if self.gateway_says is False else "True"}
        said["observedGeneration"] = 1 if self.gateway_says is not None else 0
        parents = route.get("status", {}).get("parents", [])
        return {"parents": [{**it, "conditions": [{**one, **said} for one in it["conditions"]]} for it in parents]}

    def _workload(self, revision: str, deployment: Object) -> Workload:
        whole = super()._workload(revision, deployment)
        if revision not in self.short:
            return whole
        return Workload(revision, whole.replicas, min(whole.available, 1), min(whole.serving, 1), "a node is full")

    async def write_status(self, body: Object, status: Object) -> Object:
        try:
            return await super().write_status(body, status)
        except AdapterError:
            self.tick.failed.add("status")
            raise

    async def apply(self, manifest: Object) -> bool:
        try:
            return await super().apply(manifest)
        except AdapterError:
            self.tick.failed.add("route" if manifest["kind"] == "HTTPRoute" else manifest["kind"])
            raise

    def edit(self, **spec: Any) -> None:
        """Edit the spec as a user would."""
        metadata = {**self.body["metadata"], "generation": self.body["metadata"]["generation"] + 1}
        self.body = {**self.body, "metadata": metadata, "spec": {**self.body["spec"], **spec}}
        self._touch()

    def _touch(self) -> None:
        self.version += 1
        self.body = {**self.body, "metadata": {**self.body["metadata"], "resourceVersion": str(self.version)}}

    def change(self, key: tuple[str, str], change: Callable[[Object], object]) -> None:
        """Change an object as somebody else would."""
        changed = copy.deepcopy(self.objects[key])
        change(changed)
        self.objects[key] = changed

    async def emit(self, body: Object, announcement: Any) -> None:
        """Lose the event rather than fail, as the real one does."""
        if self.emitted(body, announcement):
            return
        number = len(self.tick.calls)
        self.tick.calls.append(f"event {announcement.reason}")
        fault = self.faults.pop(number, None)
        if fault and fault.error is None:
            raise Crash
        if fault:
            self.tick.failed.add("event")
        else:
            self._told(announcement)


@dataclass
class TickLog:
    """Where decisions are kept."""

    kube: HostileKube

    def decided(self, release, stage, decision) -> None:
        self.kube.tick.decision = decision


class Feed(StrEnum):
    """What Prometheus has counted of a candidate."""

    GOOD = "good"
    BAD = "bad"
    FEW = "few"
    SILENT = "silent"
    ASTRAY = "astray"


REQUESTS: Final = 2_000_000.0
FEW_REQUESTS: Final = 10.0
USUAL_ERRORS: Final = 1e-5
"""Not none: one that has turned good again would have had errors and have none, and no counter does that."""
TOLD_SECONDS: Final = (0, 1, 5, 15, 60, 120, 300, 600, 1200, 3600)


@dataclass
class FedMetrics:
    """
    Prometheus, as told.

    Attributes:
        kube: Where the tick is kept.
        feeds: What was counted, by revision of the candidate; ``GOOD`` unless told otherwise.
        outage: Whether nothing can be read.
        began: How much time had passed when each stage was first asked about, by revision, name and recorded start.
    """

    kube: HostileKube
    feeds: dict[str, Feed] = field(default_factory=dict)
    outage: bool = False
    began: dict[tuple[str, str, datetime], timedelta] = field(default_factory=dict)

    async def read(self, release, windows, baseline, candidate) -> Evidence:
        feed = self.feeds.get(candidate, Feed.GOOD)
        told = MetricsUnavailable("the connection was refused") if self.outage else None
        counted = tuple(
            _counted(it.name, it.kind, it.percent, _seconds(it), feed, baseline is not None) for it in windows
        )
        open_ = windows[-1]
        began = self.began.setdefault((candidate, open_.name, open_.start), self.kube.tick.lived)
        covered = (self.kube.tick.lived - began).total_seconds()
        served = 0.0 if feed in {Feed.SILENT, Feed.ASTRAY} else covered
        evidence = told or (*counted[:-1], replace(counted[-1], covered=covered, served=served))
        self.kube.tick.windows, self.kube.tick.evidence = tuple(windows), evidence
        return evidence


def _seconds(window: StageWindow) -> int:
    """Return what is told of the length of a window: not every second, so that few answers can be remembered."""
    seconds = (window.end - window.start).total_seconds()
    return max((it for it in TOLD_SECONDS if it <= seconds), default=0)


@cache
def _counted(name: str, kind: str, percent: int | None, seconds: int, feed: Feed, baseline: bool) -> StageCounts:
    """Return the counts of a window: requests are shared as its stage asks, but for what the feed says."""
    requests = {Feed.FEW: FEW_REQUESTS, Feed.SILENT: 0.0}.get(feed, REQUESTS) if seconds else 0.0
    share = (percent or 0) / 100
    old, new = {"shadow": (1.0, share), "canary": (1 - share, share), "full": (0.0, 1.0)}[kind]
    n_old, n_new = requests * old * baseline, requests * new * (feed is not Feed.ASTRAY)
    blocked, errors = (0.4, 0.05) if feed is Feed.BAD else (0.2, USUAL_ERRORS)
    of = np.array([[n_old, n_new]])
    decisions = np.array([[n_old * 0.2, n_new * blocked]])
    france = ((("country", "FR"),),)
    counts = {
        ("block-rate", ""): SliceCounts(((),), decisions, of),
        ("block-rate", "country"): SliceCounts(france, decisions, of),
        ("error-rate", ""): SliceCounts(((),), np.array([[n_old * USUAL_ERRORS, n_new * errors]]), of),
    }
    return StageCounts(name, kind, float(seconds), counts, percent=percent)
