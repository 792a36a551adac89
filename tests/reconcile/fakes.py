"""
A small cluster in memory that keeps state as the real one does: resourceVersions, owners, a Deployment controller.

It can stop the operator after any write: ``Crash`` is raised where a process would die.
"""

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from modelrelease.adapters.errors import Conflict, Refused, Unreachable
from modelrelease.adapters.kube import Children
from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.revision import Revision
from modelrelease.core.announce import Announcement
from modelrelease.core.counts import Evidence, MetricsUnavailable, SliceCounts, StageCounts
from modelrelease.core.observation import Workload
from modelrelease.reconcile import World, reconcile
from tests.builders import NOW, a_body, a_decision

Object = dict[str, Any]


class Crash(BaseException):
    """The process died here."""


@dataclass
class FakeKube:
    """The API server, its Deployment controller (pods are ready at once, unless told not to be) and a Gateway."""

    body: Object = field(default_factory=a_body)
    contracts: dict[str, Object] = field(default_factory=dict)
    decisions: dict[str, Object] = field(default_factory=dict)
    dossiers: dict[str, Object] = field(default_factory=dict)
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    told: set[Announcement] = field(default_factory=set)
    writes: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    restarting: set[str] = field(default_factory=set)
    gateway: Object | None = field(default_factory=lambda: {"spec": {"gatewayClassName": "envoy"}})
    gateway_class: Object | None = None
    gateway_answers: bool = True
    crash_at: int | None = None
    down: set[str] = field(default_factory=set)
    says_no: dict[str, str] = field(default_factory=dict)  # by the first word of a write, in the API server's words
    version: int = 1

    def _write(self, what: str, effect: Any) -> Any:
        index = len(self.writes)
        self.writes.append(what)
        if what in self.down:
            raise Unreachable(f"{what} failed")
        if why := self.says_no.get(what.partition(" ")[0]):
            raise Refused(why)
        result = effect()
        if self.crash_at == index:
            raise Crash
        return result

    def _read(self, what: str, effect: Any) -> Any:
        return effect()

    def _shown(self, item: Any) -> Any:
        """Return what one side shows the other: a copy, for both change their own in place."""
        return pickle.loads(pickle.dumps(item))  # as deepcopy, several times as fast

    async def get_release(self, namespace: str, name: str) -> Object | None:
        return self._read("release", lambda: self._shown(self.body))

    async def get_contract(self, namespace: str, name: str) -> Object | None:
        return self._read("contract", lambda: self._shown(self.contracts.get(name)))

    async def open_decisions(self, namespace: str, release: str) -> list[Object]:
        asked = [d for d in self.decisions.values() if d["spec"]["release"] == release and not d.get("status")]
        return self._read("decisions", lambda: self._shown(asked))

    async def write_outcome(self, decision: Object, status: Object) -> None:
        name = decision["metadata"]["name"]

        def effect() -> None:
            if self.decisions[name].get("status"):
                raise Conflict(f"{name} was answered before")
            self.decisions[name] = {**self.decisions[name], "status": status}

        if name in self.decisions:
            self._write(f"outcome {name}", effect)

    async def read_children(self, namespace: str, name: str, uid: str, revisions: Iterable[str]) -> Children:
        return self._read("children", lambda: self._children(name, uid))

    def _children(self, name: str, uid: str) -> Children:
        def of(kind: str) -> dict[str, Object]:
            ours = [o for (k, _), o in self.objects.items() if k == kind and owner_of(o) == uid]
            return {o["metadata"]["labels"][REVISION_LABEL]: o for o in ours}

        foreign = {f"{kind} {its}": o for (kind, its), o in self.objects.items() if owner_of(o) != uid}
        left = {its for its, o in foreign.items() if of_a_release(o, name)}
        return Children(
            workloads={revision: self._workload(revision, o) for revision, o in of("Deployment").items()},
            revisions={revision: Revision.from_content(o["data"]) for revision, o in of("ControllerRevision").items()},
            services=frozenset(of("Service")),
            route=self._shown(self.objects.get(("HTTPRoute", name))),
            conflict=min(foreign.keys() - left, default=None),
            leftover=min(left, default=None),
            dossiers={its: f"u-{its}" for its, o in self.dossiers.items() if owner_of(o) == uid},
        )

    def _workload(self, revision: str, deployment: Object) -> Workload:
        asked = int(deployment["spec"]["replicas"])
        serving = 0 if revision in self.broken else asked
        return Workload(
            revision, asked, available=0 if revision in self.restarting else serving, serving=serving, message=""
        )

    async def get_gateway(self, namespace: str, name: str) -> Object | None:
        return self._read("gateway", lambda: self.gateway)

    async def get_gateway_class(self, name: str) -> Object | None:
        return self._read("class", lambda: self.gateway_class)

    async def write_status(self, body: Object, status: Object) -> Object:
        def effect() -> Object:
            if body["metadata"]["resourceVersion"] != self.body["metadata"]["resourceVersion"]:
                raise Conflict("the object has changed")
            self.body = {**self.body, "status": self._shown(status)}
            self._touch()
            return self._shown(self.body)

        return self._write("status", effect)

    async def apply(self, manifest: Object) -> bool:
        key = (manifest["kind"], manifest["metadata"]["name"])
        old = self.objects.get(key)
        if old is not None and owner_of(old) != owner_of(manifest):
            raise Conflict(f"{key[0]} {key[1]} exists and does not belong to this release")
        if old is not None and {k: v for k, v in old.items() if k != "status"} == manifest:
            return False
        what = "route" if manifest["kind"] == "HTTPRoute" else f"{manifest['kind']} {manifest['metadata']['name']}"

        def effect() -> bool:
            live = self._shown(manifest)
            if manifest["kind"] == "HTTPRoute":
                parents = manifest["spec"]["parentRefs"] if self.gateway_answers else []
                status = {"parents": [accepted(parent) for parent in parents]}
                live = {**live, "metadata": {**live["metadata"], "generation": 1}, "status": status}
            self.objects[key] = live
            return True

        if manifest["kind"] == "HTTPRoute" and old is not None and old["spec"] == manifest["spec"]:
            return False
        return self._write(what, effect)

    async def delete(self, manifest: Object) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        if key in self.objects:
            if owner_of(self.objects[key]) != owner_of(manifest):
                raise Conflict(f"{key[0]} {key[1]} is not of this release: it is not deleted")
            self._write(f"delete {key[0]} {key[1]}", lambda: self.objects.pop(key))

    async def keep(self, dossier: Object) -> None:
        name = dossier["metadata"]["name"]
        if name not in self.dossiers:
            self._write(f"keep {_undigested(name)}", lambda: self.dossiers.setdefault(name, self._shown(dossier)))

    async def drop(self, namespace: str, name: str, uid: str) -> None:
        self._write(f"drop {_undigested(name)}", lambda: self.dossiers.pop(name))

    async def emit(self, body: Object, announcement: Announcement) -> None:
        if not self.emitted(body, announcement):
            self._write(f"event {announcement.reason}", lambda: self._told(announcement))

    def emitted(self, body: Object, announcement: Announcement) -> bool:
        return announcement in self.told

    def _told(self, announcement: Announcement) -> None:
        self.events.append((announcement.reason, announcement.message))
        if announcement.time:
            self.told.add(announcement)

    def decide(self, decision: str, version: str, stage: str | None = None, **spec: Any) -> str:
        """Create a ReleaseDecision about a version, as a person would; return its name."""
        name = f"radar-{len(self.decisions) + 1}"
        body = a_decision(decision, version, stage, name=name, **spec)
        self.decisions[name] = body
        return name

    def outcome(self, name: str) -> str | None:
        """What became of a decision."""
        return (self.decisions[name].get("status") or {}).get("outcome")

    def edit(self, **spec: Any) -> None:
        """Edit the spec as a user would."""
        self.body["spec"].update(spec)
        self.body["metadata"]["generation"] += 1
        self._touch()

    def _touch(self) -> None:
        self.version += 1
        self.body["metadata"]["resourceVersion"] = str(self.version)

    @property
    def status(self) -> Object:
        return self.body.get("status") or {}

    @property
    def weights(self) -> dict[str, int]:
        """Live weights by Service name."""
        route = self.objects.get(("HTTPRoute", "radar"))
        return {r["name"]: r["weight"] for r in route["spec"]["rules"][0]["backendRefs"]} if route else {}

    @property
    def mirror(self) -> str | None:
        """The Service that gets copies."""
        route = self.objects.get(("HTTPRoute", "radar"))
        filters = route["spec"]["rules"][0].get("filters") if route else None
        return filters[0]["requestMirror"]["backendRef"]["name"] if filters else None

    def cluster(self) -> Object:
        """
        Return everything that must be the same whether or not the operator died on the way.

        Times are left out, and messages, because they hold counts that grow with time.
        """
        status = {
            k: v
            for k, v in self.status.items()
            if k in {"stage", "stable", "candidate", "rejected", "history", "decisions"}
        }
        dossiers = sorted(map(_undigested, self.dossiers))
        outcomes = {name: self.outcome(name) for name in self.decisions}
        return {"objects": self.objects, "status": _without_times(status), "outcomes": outcomes, "dossiers": dossiers}


def _undigested(name: str) -> str:
    """Return a dossier's name without the digest of its content, which holds times."""
    return name.rpartition("-")[0]


def owner_of(item: Object) -> str:
    """Return the uid of the object's controller."""
    uid: str = item["metadata"]["ownerReferences"][0]["uid"]
    return uid


def of_a_release(item: Object, name: str) -> bool:
    """Return whether a release of this name controls the object, be it one that was deleted."""
    owner = item["metadata"]["ownerReferences"][0]
    return (owner.get("kind"), owner.get("name")) == ("ModelRelease", name)


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not k.lower().endswith(("time", "since", "message"))}
        names = {"evidence": _undigested_all}
        return {k: names.get(k, _without_times)(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def _undigested_all(names: Any) -> Any:
    return _undigested(names) if isinstance(names, str) else [_undigested(name) for name in names]


def accepted(parent: Object) -> Object:
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "observedGeneration": 1}
        for kind in ("Accepted", "ResolvedRefs")
    ]
    return {"parentRef": parent, "conditions": conditions}


@dataclass
class FakeMetrics:
    """
    Prometheus, as counts that grow with the time in the stage.

    Attributes:
        rates: Share of events by version of the candidate; the baseline's is 20 %.
        error_rate: Share of errors of the candidate.
        per_second: Requests a second to each arm.
        outage: What is answered instead, if anything.
        seen_as: What becomes of the counts of a stage on their way, such as copies that get lost.
        asked: The windows of every question, to prove which evidence was used.
    """

    kube: FakeKube
    rates: dict[str, float] = field(default_factory=dict)
    error_rate: float = 0.0
    per_second: float = 500.0
    outage: MetricsUnavailable | None = None
    seen_as: Callable[[StageCounts], StageCounts] = lambda stage: stage
    asked: list[list[tuple[str, datetime, datetime]]] = field(default_factory=list)

    async def read(self, release, windows, baseline, candidate) -> Evidence:
        self.asked.append([(w.name, w.start, w.end) for w in windows])
        if self.outage:
            return self.outage
        rate = self.rates.get(release.spec.model.version, 0.2)
        return tuple(self.seen_as(self._stage(window, rate, baseline)) for window in windows)

    def _stage(self, window, rate: float, baseline: str | None) -> StageCounts:
        seconds = (window.end - window.start).total_seconds()
        # At full, the old revision gets nothing any more.
        compared = bool(baseline) and window.kind != "full"
        counts = _counts(seconds * self.per_second, rate, self.error_rate, compared)
        return StageCounts(stage=window.name, kind=window.kind, seconds=seconds, counts=counts)


@cache
def _counts(n: float, rate: float, error_rate: float, compared: bool) -> dict[tuple[str, str], SliceCounts]:
    """Return what *n* requests of each arm leave; of the same numbers, the very same counts (see ``memory``)."""
    of = np.array([[n * compared, n]])
    blocked = np.array([[n * 0.2 * compared, n * rate]])
    errors = np.array([[0.0, n * error_rate]])
    country = ((("country", "FR"),),)
    return {
        ("block-rate", ""): SliceCounts(((),), blocked, of),
        ("block-rate", "country"): SliceCounts(country, blocked, of),
        ("error-rate", ""): SliceCounts(((),), errors, of),
    }


class NoLog:
    """A log that keeps the decisions."""

    def __init__(self) -> None:
        self.decisions: list[str] = []

    def decided(self, release, stage, decision) -> None:
        self.decisions.append(f"{stage or '-'}: {type(decision).__name__}")


@dataclass
class Lab:
    """An operator, a cluster and a clock that only moves when told to."""

    kube: FakeKube = field(default_factory=FakeKube)
    metrics: FakeMetrics = field(init=False)
    log: NoLog = field(default_factory=NoLog)
    now: datetime = NOW
    scrape_interval: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        self.metrics = FakeMetrics(self.kube)

    @property
    def world(self) -> World:
        ten = timedelta(seconds=10)
        return World(
            kube=self.kube, metrics=self.metrics, log=self.log, drain=ten, scrape_interval=self.scrape_interval
        )

    async def tick(self) -> timedelta | None:
        """Reconcile once; the clock moves on by what was asked for, or by a minute."""
        wait = await reconcile("fraud", "radar", self.world, self.now)
        self.now += wait if wait is not None else timedelta(minutes=1)
        return wait

    async def run(self, ticks: int = 400, until: str | None = None) -> None:
        """Reconcile until the stage is *until*, or until nothing is left to do; a crashed operator starts again."""
        for _ in range(ticks):
            try:
                wait = await self.tick()
            except Crash:
                self.kube.crash_at = None
                continue
            except Unreachable:
                self.now += timedelta(seconds=1)
                continue
            if until is not None and self.kube.status.get("stage") == until:
                return
            if until is None and wait is None:
                return
        if until is not None:
            raise AssertionError(f"stage {until} was not reached: {self.kube.status}")
