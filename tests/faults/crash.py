"""
Killing the operator at one write, and telling whether that made a difference.

The writes are not listed anywhere: the proxy counts them as they come. So later kinds of writes are covered too.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from modelrelease.adapters.kube import APPLIED_BY
from tests.faults.journeys import NAME, Journey
from tests.faults.proxy import Call
from tests.faults.scene import GATEWAY, Object, Operator, Place, Scene, a_place

When = Literal["before", "after"]

NOISY_EVENTS = {"MetricsUnavailable", "MetricsAvailable"}
"""They tell of Prometheus, which a busy machine makes late; no part of any journey."""


class Killer:
    """
    Kills the operator at its *at*-th write, before the API server gets it or after it has done it, and restarts it.

    Attributes:
        writes: What was written, in order.
    """

    def __init__(self, operator: Operator, at: int = 0, when: When = "before") -> None:
        self._operator, self._at, self._when = operator, at, when
        self.writes: list[str] = []

    async def __call__(self, call: Call) -> web.StreamResponse:
        if call.kind != "write" or "/leases" in call.request.path:  # who leads is no part of any journey
            return await call.forward()
        self.writes.append(what(call))
        if len(self.writes) != self._at:
            return await call.forward()
        if self._when == "after":
            await asyncio.shield(call.fetch())
        self._operator.kill()
        self._operator.start()
        return call.cut()

    @property
    def killed_at(self) -> str | None:
        """The write at which it struck; None while there were not so many."""
        return self.writes[self._at - 1] if 0 < self._at <= len(self.writes) else None


def what(call: Call) -> str:
    """Return the kind of write, without names that change: ``PATCH modelreleases/status``."""
    path = re.sub(r"^/(api/v1|apis/[^/]+/[^/]+)/namespaces/[^/]+/", "", call.request.path)
    plural, *rest = path.split("/")
    return f"{call.request.method} {'/'.join([plural, *rest[1:]])}"


@dataclass(frozen=True)
class Outcome:
    """
    What came of a journey.

    Attributes:
        picture: Status and cluster at the end, without times.
        trace: Stage and weights as they were recorded, in order.
        events: How often each was said.
        writes: What the operator wrote.
    """

    picture: Object
    trace: tuple[tuple[object, ...], ...]
    events: Counter[tuple[str, str]]
    writes: tuple[str, ...]


async def undisturbed(scene: Scene, journey: Journey, namespace: str, folder: Path) -> Outcome:
    """Walk a journey to its end, and until the operator has nothing left to write."""
    async with a_place(scene, namespace, folder) as place:
        await journey.prepare(place)
        killer = place.api.behaviour = Killer(place.operator)
        await journey.walk(place)
        calm = 0
        before: tuple[object, int] | None = None
        while calm < 4:
            await asyncio.sleep(1)
            now = (await picture(place), len(_but_status(killer.writes)))
            calm = calm + 1 if now == before else 0
            before = now
        return Outcome(await picture(place), trace(place), await events(place), tuple(killer.writes))


def _but_status(writes: Iterable[str]) -> list[str]:
    # The numbers of an open gate are told again and again.
    return [it for it in writes if not it.endswith("/status")]


async def crashed(
    scene: Scene, journey: Journey, expected: Outcome, at: int, when: When, namespace: str, folder: Path
) -> str | None:
    """Walk it with a crash at the *at*-th write; return that write, None when there were fewer; raise if it differs."""
    async with a_place(scene, namespace, folder) as place:
        await journey.prepare(place)
        killer = place.api.behaviour = Killer(place.operator, at, when)
        await journey.walk(place)
        about = f"{journey.name}, killed {when} write {at} ({killer.killed_at})"
        for _ in range(60):
            now, said = await picture(place), await events(place)
            if now == expected.picture and not expected.events - said:
                break
            await asyncio.sleep(1)
        log = place.operator.log.read_text()
        assert now == expected.picture, f"{about}: another end: {differences(expected.picture, now)}\n{log[-2000:]}"
        assert trace(place) == expected.trace, f"{about}: another way: {trace(place)} instead of {expected.trace}"
        twice = {event: n for event, n in said.items() if n > max(expected.events[event], 1) + 1}
        more, lost = said - expected.events, expected.events - said
        assert not twice, f"{about}: said more than once again: {twice}"
        assert sum(more.values()) <= 1, f"{about}: said again: {more}"
        assert not lost, f"{about}: never said: {lost}"
        never = more.keys() - expected.events.keys()
        assert not never, f"{about}: said, and not said undisturbed: {never}"
        windows_follow_each_other(place, about)
        assert "Traceback" not in log, f"{about}: {log[-3000:]}"
        return killer.killed_at


def trace(place: Place) -> tuple[tuple[object, ...], ...]:
    """Return stages, revisions and weights as they were recorded, in order."""
    steps: list[tuple[object, ...]] = []
    for _, item in place.scene.seen.get((place.namespace, NAME), []):
        status = item.get("status") or {}
        parts = [status.get(part) or {} for part in ("stable", "candidate")]
        promised = [part.get(key) for part in parts for key in ("revision", "weight", "mirrorPercent")]
        step = (status.get("stage"), *promised)
        if not steps or steps[-1] != step:
            steps.append(step)
    return tuple(steps)


def windows_follow_each_other(place: Place, about: str) -> None:
    """
    Check that no stage's evidence began before it did, or was moved after its route had come into place.

    After a shadow it may come into place in two steps, when the Gateway answers late: written, and then accepted.
    """
    begun: dict[tuple[str, str, int], str] = {}
    written: set[tuple[str, str, int]] = set()
    in_place = False
    for _, item in place.scene.seen.get((place.namespace, NAME), []):
        status = item.get("status") or {}
        was_in_place, in_place = in_place, _in_place(status)
        trial = status.get("candidate") or {}
        records = trial.get("stages", [])
        for number, record in enumerate(records):
            key = (trial["revision"], trial["since"], number)
            moment = begun.setdefault(key, record["startTime"])
            now_written = bool(record.get("written")) and key not in written
            comes = ((in_place and not was_in_place) or now_written) and moment <= record["startTime"]
            assert comes or moment == record["startTime"], f"{about}: the evidence of {record['name']} was moved"
            begun[key] = record["startTime"]
            written |= {key} if record.get("written") else set()
        for earlier, later in pairwise(records):
            assert earlier["endTime"] <= later["startTime"], f"{about}: {later['name']} is judged on {earlier['name']}"


def _in_place(status: Object) -> bool:
    """Return whether the route is told to be what status says."""
    return any(it["type"] == "TrafficInSync" and it["status"] == "True" for it in status.get("conditions", []))


async def events(place: Place) -> Counter[tuple[str, str]]:
    """Return how often each event was said: reason, and message without its numbers."""
    said = [(it["reason"], re.sub(r"[\d.,]+", "#", it.get("note", ""))) for it in await place.events()]
    known: Counter[tuple[str, str]] = Counter()
    for reason, note in said:
        # The numbers of a verdict are of its moment.
        known[reason, "" if reason in {"GatePassed", "ContractBreached"} else note] += reason not in NOISY_EVENTS
    return +known


async def picture(place: Place) -> Object:
    """Return status and cluster without what depends on time."""
    status, found = place.status(NAME), {}
    for path in ("/apis/apps/v1", GATEWAY, "/api/v1"):
        for plural in {"/apis/apps/v1": ["deployments", "controllerrevisions"], GATEWAY: ["httproutes"]}.get(
            path, ["services"]
        ):
            listed = await place.scene.api.call("GET", f"{path}/namespaces/{place.namespace}/{plural}")
            for item in listed["items"]:
                found[f"{plural}/{item['metadata']['name']}"] = {
                    "spec": _without(item.get("spec"), "clusterIP", "clusterIPs"),
                    "data": item.get("data"),
                    "labels": _without(item["metadata"].get("labels"), APPLIED_BY),
                }
    return {"status": _timeless(status), "objects": found}


def _nameless(value: Any) -> Any:
    """Return a status with the evidence of gates named by stage alone: the rest is a digest of counts and moments."""
    if isinstance(value, dict):
        return {key: _stages_of(item) if key == "evidence" else _nameless(item) for key, item in value.items()}
    return [_nameless(item) for item in value] if isinstance(value, list) else value


def _stages_of(evidence: Any) -> Any:
    if isinstance(evidence, list):
        return [_stages_of(item) for item in evidence]
    return evidence and evidence.rpartition("-")[0]


def _without(value: Any, *keys: str) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, *keys) for key, item in value.items() if key not in keys}
    return [_without(item, *keys) for item in value] if isinstance(value, list) else value


def _timeless(status: Object) -> Object:
    kept = _without(
        _nameless(status),
        "startTime",
        "endTime",
        "since",
        "time",
        "stageStartTime",
        "evaluatedAt",
        "lastTransitionTime",
        "message",
        "unavailableSince",
        "silentSince",
        "pausedSince",
        "deadlineSince",
        "slice",  # which one is named first is of the moment, too
    )
    gate = kept.get("gate") or {}
    # Of a gate's numbers, what they mean; whether the last one passed before it did not matter is of its moment.
    kept["gate"] = {"stage": gate.get("stage"), "broken": gate.get("verdict") == "Breach"}
    kept.pop("forecast", None)  # is made of the baseline's traffic so far
    kept.pop("announcements", None)  # are compared as events
    kept["conditions"] = {it["type"]: (it["status"], it["reason"]) for it in kept.get("conditions", [])}
    return dict(kept)


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Return where two pictures differ."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = sorted({*expected, *actual})
        return [it for key in keys for it in differences(expected.get(key), actual.get(key), f"{path}.{key}")]
    return [] if expected == actual else [f"{path}: {actual!r}, should be {expected!r}"]
