"""
Every way in which Prometheus can fail, for a good release and for one that breaks its contract.

A real Prometheus scrapes and answers; where a real one cannot be made to misbehave, a proxy changes its answers. Both
releases are in canary when the fault begins, and the bad one turns bad just then. While nothing can be known, nothing
moves, for longer than the bake; soon after the fault has ended, the bad one is rolled back and the good one promoted.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from modelrelease.core.queries import SCRAPED
from tests.faults.proxy import Behaviour, Call, Proxy, answer, faithful, reset, slow, stall
from tests.faults.scene import PATIENCE, Object, Place, Scene, a_new_second, a_place, a_scene, a_spec, revision
from tests.faults.tables import FULL, Table

pytestmark = [pytest.mark.faults, pytest.mark.apiserver, pytest.mark.prometheus, pytest.mark.slow]

INTERVAL = 5.0
BAKE = 10.0
BEGINS = 6.0
"""Seconds from the start of a stage until what is counted is its evidence: one scrape and a second."""
HELD = float(os.environ.get("FAULTS_SUSTAINED", "300" if FULL else "12"))
SLACK = 15.0
"""Seconds for a question under way (10) and for a server that is left alone after failures (5)."""
UNDER_WAY = 3.0
"""Seconds before the end of a bake in which answers that were given before the fault may still end it."""
MOST_TRIES = 3
MOST_MIB = 220.0
ONLY = os.environ.get("FAULTS_CELL", "")

PLAN: list[Object] = [
    {"name": "canary", "canary": {"percent": 10}, "bake": f"{BAKE:g}s", "deadline": "4h"},
    {"name": "full", "full": {}, "bake": "1s", "deadline": "4h"},
]
OLD, NEW = revision("1"), revision("2")

TOLD = {
    "bad": dict.fromkeys(("RolloutStarted", "CanaryStarted", "ContractBreached", "RolledBack", "RevisionRejected"), 1),
    "good": dict.fromkeys(("RolloutStarted", "CanaryStarted", "GatePassed", "Promoted", "Completed"), 1),
}
"""How often each transition of the two rollouts is told, whatever happens meanwhile."""

Answer = dict[str, Any]


def changed(change: Callable[[Answer, str], Answer | None]) -> Behaviour:
    """Let the real one answer, and change what it says."""

    async def changing(call: Call) -> web.StreamResponse:
        status, headers, data = await call.fetch()
        if status != 200:
            return web.Response(status=status, headers=headers, body=data)
        new = change(json.loads(data), _query(call))
        return web.Response(text=json.dumps(new), content_type="application/json")

    return changing


def _query(call: Call) -> str:
    return call.request.query.get("query", "") or call.body.decode()


def _scraped(element: dict[str, Any]) -> bool:
    """Return whether it tells when samples were scraped: that is Prometheus' own knowledge."""
    return SCRAPED in element["metric"]


def value(text: str) -> Behaviour:
    """Replace every number of the candidate."""

    def change(said: Answer, query: str) -> Answer:
        if query.startswith("max by (revision, instance) (timestamp("):
            return said
        for element in said["data"]["result"]:
            if element["metric"].get("revision") == NEW and "value" in element and not _scraped(element):
                element["value"][1] = text
        return said

    return changed(change)


def without(revision_: str) -> Behaviour:
    """Leave out one arm."""

    def change(said: Answer, _: str) -> Answer:
        kept = [element for element in said["data"]["result"] if element["metric"].get("revision") != revision_]
        return {**said, "data": {**said["data"], "result": kept}}

    return changed(change)


def _no_numerator(*revisions: str) -> Callable[[Answer, str], Answer]:
    """Leave out what decisions were counted of *revisions*; of all when there are none."""

    def change(said: Answer, query: str) -> Answer:
        if "decision=" not in query:
            return said
        known = said["data"]["result"]
        kept = [it for it in known if _scraped(it) or (revisions and it["metric"].get("revision") not in revisions)]
        return {**said, "data": {**said["data"], "result": kept}}

    return change


def _twice(said: Answer, _: str) -> Answer:
    return {**said, "data": {**said["data"], "result": said["data"]["result"] * 2}}


HUGE = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"revision": NEW, "country": f"{number:0200}"}, "value": [1, "1"]}
                for number in range(45_000)
            ],
        },
    }
)
PARTIAL = changed(lambda said, _: {**said, "warnings": ["some blocks could not be read"]})
ERROR = json.dumps({"status": "error", "errorType": "internal", "error": "a test says so"})
HTML = "<html><body>Log in</body></html>"


async def nothing_is_scraped(place: Place, name: str) -> None:
    """Scrapes of all of its pods stop."""
    place.flow(name).silent |= {OLD, NEW}


async def counters_reset(place: Place, name: str) -> None:
    """All containers restart, and count from nothing."""
    place.flow(name).counters.clear()


@dataclass(frozen=True)
class Cell:
    """
    A fault.

    Attributes:
        name: What it is.
        behaviour: What the proxy does with questions.
        event: Besides, what happens to the pods.
        absence: Besides, how there is no Prometheus to ask.
        blinds: Whether nothing can be known while it lasts.
    """

    name: str
    behaviour: Behaviour = faithful
    event: Callable[[Place, str], Awaitable[None]] | None = None
    absence: Callable[[Proxy], Awaitable[None]] | None = None
    blinds: bool = True


ALL = [
    Cell("refused", absence=Proxy.end),
    Cell("down", absence=Proxy.vanish),
    Cell("reset", reset),
    Cell("slow beyond the timeout", slow(20)),
    Cell("never answers", stall),
    Cell("500", answer(500, ERROR)),
    Cell("503, Retry-After 99999", answer(503, ERROR, Retry_After="99999")),
    Cell("429, Retry-After 99999", answer(429, ERROR, Retry_After="99999")),
    Cell("502 with a page of HTML", answer(502, HTML, "text/html")),
    Cell("200 with a page of HTML", answer(200, HTML, "text/html")),
    Cell("200 with an error", answer(200, ERROR)),
    Cell("200, partial, with warnings", PARTIAL),
    Cell("10 MB", answer(200, HUGE)),
    Cell("NaN", value("NaN")),
    Cell("+Inf", value("+Inf")),
    Cell("negative", value("-5")),
    Cell("candidate missing", without(NEW)),
    Cell("baseline missing", without(OLD)),
    Cell("numerator missing", changed(_no_numerator())),
    Cell("numerator of the baseline missing", changed(_no_numerator(OLD))),
    Cell("numerator of the candidate missing", changed(_no_numerator(NEW))),
    Cell("series twice", changed(_twice)),
    Cell("stale", event=nothing_is_scraped),
    Cell("counters reset", event=counters_reset, blinds=False),
]
CORE = {
    "down",
    "slow beyond the timeout",
    "200 with an error",
    "NaN",
    "numerator of the baseline missing",
    "10 MB",
    "stale",
    "counters reset",
}
RESTART = "Prometheus restarts"


async def test_whatever_prometheus_says_no_fault_is_a_verdict(cluster, tmp_path):
    """Blind, it holds; seeing again, it does what is right, at once."""
    cells = [
        cell for cell in ALL if (any(it in cell.name for it in ONLY.split("|")) if ONLY else FULL or cell.name in CORE)
    ]
    table = Table("Faults of Prometheus")
    failures: list[str] = []
    async with a_scene(cluster) as scene:
        gate = asyncio.Semaphore(int(os.environ.get("FAULTS_AT_ONCE", "4" if FULL else "7")))

        async def one(number: int, cell: Cell) -> None:
            async with gate:
                try:
                    after = await _tried_in_time(scene, cell, f"metrics-{number}", tmp_path)
                except AssertionError as error:
                    failures.append(f"{cell.name}: {error}")
                    print(f"FAILED {failures[-1]}", flush=True)
                    table.add(cell.name, "FAILED")
                else:
                    print(f"{cell.name}: rolled back {after:.1f} s after its end", flush=True)
                    table.add(cell.name, "held, then right" if cell.blinds else "right meanwhile")

        await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells)))
    print(table)
    assert not failures, "\n\n".join(failures)


async def test_a_prometheus_that_restarts_in_mid_window_costs_nothing(cluster, tmp_path):
    """Killed and started on its data while both releases are in canary: the counts are whole again."""
    async with a_scene(cluster) as scene, a_place(scene, "metrics-restart", tmp_path) as place:
        began = await _both_in_canary(place)
        resident = place.operator.resident
        place.flow("bad").spoiled[NEW, "canary"] = 0.2
        await asyncio.to_thread(scene.prometheus.stop)
        await asyncio.sleep(BEGINS + BAKE + 2)
        _nothing_moved(place)
        assert _says_so(place)
        await asyncio.to_thread(scene.prometheus.start)
        await _right_at_last(place, 2 * INTERVAL + SLACK)
        await _said_once_and_no_larger(place, began, resident, outage=True)


async def test_a_prometheus_that_loses_its_data_in_mid_window_makes_no_verdict(cluster, tmp_path):
    """It comes back empty, with counters that are old: the stage begins anew, once, and then all goes as it should."""
    async with a_scene(cluster) as scene, a_place(scene, "metrics-lost", tmp_path) as place:
        began = await _both_in_canary(place)
        resident = place.operator.resident
        await asyncio.to_thread(scene.prometheus.stop)
        for name in ("good", "bad"):
            # An old baseline that blocked far more before: what it counted then is no part of the stage.
            place.flow(name).counters[OLD, "FR", "block"] += 50_000_000
        place.flow("bad").spoiled[NEW, "canary"] = 0.2
        await asyncio.to_thread(shutil.rmtree, scene.prometheus.data)
        _nothing_moved(place)
        await asyncio.to_thread(scene.prometheus.start)
        await _right_at_last(place, 4 * INTERVAL + BEGINS + BAKE + SLACK)
        await _said_once_and_no_larger(place, began, resident, EvidenceLost=1)


class TooSlow(Exception):  # noqa: N818 - reads as what it is
    """The gates may have passed, and rightly, before there was a fault."""


async def _tried_in_time(scene: Scene, cell: Cell, namespace: str, folder: Path) -> float:
    """Run one cell, again if there was no fault in it."""
    for number in range(MOST_TRIES):
        async with a_place(scene, f"{namespace}-{number}", folder) as place:
            try:
                return await _tried(place, cell)
            except TooSlow:
                continue
            except AssertionError as error:
                raise AssertionError(f"{error}\n{place.operator.log.read_text()[-1500:]}") from None
    raise AssertionError(f"{MOST_TRIES} times, the gates may have passed before there was a fault")


async def _tried(place: Place, cell: Cell) -> float:
    """
    Run one cell and return how long after the fault's end the bad release was rolled back.

    Raises:
        TooSlow: There is nothing to be said, because the machine is too busy.
    """
    began = await _both_in_canary(place)
    resident = place.operator.resident
    place.prometheus.behaviour = cell.behaviour
    if cell.absence:
        await cell.absence(place.prometheus)
    place.flow("bad").spoiled[NEW, "canary"] = 0.2
    if not all(_bakes_for_a_while(place.status(name)) for name in ("good", "bad")):
        raise TooSlow
    if cell.event:
        for name in ("good", "bad"):
            await cell.event(place, name)
    if cell.blinds:
        await _holds(place, cell)
    after = await _right_at_last(place, 2 * INTERVAL + SLACK)
    await _said_once_and_no_larger(place, began, resident, outage=cell.blinds)
    return after


async def _holds(place: Place, cell: Cell) -> None:
    """Sit out the fault: it is told as long as it lasts, and nothing moves for longer than the bake."""
    told = await place.scene.until(lambda: _says_so(place), "told", 60)
    await asyncio.sleep(max(HELD - told, BEGINS + BAKE + 2))
    _nothing_moved(place)
    assert _says_so(place), [place.status(name)["conditions"] for name in ("good", "bad")]
    place.prometheus.behaviour = faithful
    if cell.absence:
        await place.prometheus.come_back()
    for name in ("good", "bad"):
        place.flow(name).silent.clear()


async def _said_once_and_no_larger(
    place: Place, began: float, resident: float, *, outage: bool = False, **more: int
) -> None:
    """Check that all is told, and nothing twice; an *outage* once as it began: a server left alone is the same one."""
    trouble = {"MetricsUnavailable": 1, "MetricsAvailable": 1} if outage else {}
    for name, told in TOLD.items():
        await place.told(name, {**told, **trouble, **more}, since=began)
    assert place.operator.resident < max(MOST_MIB, resident + 20), f"{place.operator.resident:.0f} MiB"


async def _both_in_canary(place: Place) -> float:
    """Return the Unix time at which the first of the two rollouts was ordered."""
    place.operator.start()
    for name in ("good", "bad"):
        await place.create(name, a_spec("1", PLAN, interval=f"{INTERVAL:g}s"))
    for name in ("good", "bad"):
        await place.reached(name, "Completed", "1", 180)
    began = await a_new_second()
    for name in ("good", "bad"):
        await place.edit(name, model={"version": "2"})
    scene: Scene = place.scene
    for name in ("good", "bad"):
        await place.reached(name, "canary", "2", PATIENCE)
    await scene.until(lambda: all(place.flow(it).weights.get(NEW) == 10 for it in ("good", "bad")), "users", PATIENCE)
    await scene.until(lambda: all(_counted(place.status(it)) for it in ("good", "bad")), "counts of both", PATIENCE)
    return began


def _bakes_for_a_while(status: Object) -> bool:
    trial = status.get("candidate")
    began = datetime.fromisoformat(trial["stages"][-1]["startTime"]) if trial else None
    age = (datetime.now(UTC) - began).total_seconds() if began else BEGINS + BAKE
    return status["stage"] == "canary" and age < BEGINS + BAKE - UNDER_WAY


def _counted(status: Object) -> bool:
    """Return whether events of both arms were seen: of what was never seen, nobody can say that it is missing."""
    found = [it.get("overall") or {} for it in (status.get("gate") or {}).get("clauses") or []]
    arms = [it[arm]["events"] for it in found for arm in ("baselineCounts", "candidateCounts") if arm in it]
    return bool(arms) and "0" not in arms


def _says_so(place: Place) -> bool:
    """Return whether both releases say that there are no metrics, and no other condition is up about anything."""
    wanted = {
        "Ready": ("False", "MetricsUnavailable"),
        "Reconciling": ("True", "MetricsUnavailable"),
        "MetricsAvailable": ("False", "MetricsUnavailable"),
        "Available": ("True", "Serving"),
        "ContractValid": ("True", "Valid"),
        "TrafficInSync": ("True", "InSync"),
    }
    return all(_conditions(place.status(name)) == wanted for name in ("good", "bad"))


def _conditions(status: Object) -> dict[str, tuple[str, str]]:
    return {it["type"]: (it["status"], it["reason"]) for it in status["conditions"]}


def _nothing_moved(place: Place) -> None:
    for name in ("good", "bad"):
        status = place.status(name)
        assert status["stage"] == "canary", f"{name} is in {status['stage']}: {json.dumps(status)[:1500]}"
        assert place.flow(name).weights == {OLD: 90, NEW: 10}
    assert not place.operator.ended


async def _right_at_last(place: Place, seconds: float) -> float:
    after = await place.reached("bad", "RolledBack", "2", seconds)
    await place.scene.until(lambda: place.flow("bad").weights == {OLD: 100}, "all users are on stable", 2 * INTERVAL)
    await place.reached("good", "Completed", "2", seconds + PATIENCE)
    assert not place.operator.ended
    return after
