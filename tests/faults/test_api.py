"""
Every way in which the API server can fail, while one release is good and another breaks its contract.

A cell: the fault begins as users of the bad one meet its canary, which is bad from its first request. The good one is a
moment behind; it must never be rolled back, the bad one never promoted, and both must be where they belong soon after
the fault has ended.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from tests.faults.proxy import Behaviour, Call, Kind, answer, faithful, reset, reset_when_done, slow, stall
from tests.faults.scene import PATIENCE, Object, Place, Scene, a_new_second, a_place, a_scene, a_spec, revision
from tests.faults.tables import FULL, Table

pytestmark = [pytest.mark.faults, pytest.mark.apiserver, pytest.mark.prometheus, pytest.mark.slow]

INTERVAL = 5.0
SUSTAINED = float(os.environ.get("FAULTS_SUSTAINED", "300" if FULL else "4"))
REQUEST = 15.0
"""Seconds after which the operator gives up a request that is not answered."""
RENEWAL = 10.0
"""Seconds after which one that cannot renew its Lease ends; it is started again."""
MOST_MIB = 200.0
AT_ONCE = int(os.environ.get("FAULTS_AT_ONCE", "4"))
ONLY = os.environ.get("FAULTS_CELL", "")
MOST_TRIES = 3

PLAN: list[Object] = [
    {"name": "canary", "canary": {"percent": 10}, "bake": "6s", "deadline": "4h"},
    {"name": "full", "full": {}, "bake": "1s", "deadline": "4h"},
]


def refusal(code: int, reason: str, **headers: str) -> Behaviour:
    """Answer as the API server refuses."""
    said = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return answer(code, json.dumps({**said, "message": f"a test says {reason}"}), **headers)


async def gone(call: Call) -> web.StreamResponse:
    """Open the watch, and say in it that its beginning is forgotten."""
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
    return web.Response(text=json.dumps({"type": "ERROR", "object": said}) + "\n", content_type="application/json")


async def truncated(call: Call) -> web.StreamResponse:
    """Cut the watch in the middle of a line."""
    return await call.forward(most=700)


ANYWHERE: dict[str, Behaviour] = {
    "429": refusal(429, "TooManyRequests"),
    "429, Retry-After 1": refusal(429, "TooManyRequests", Retry_After="1"),
    "429, Retry-After 99999": refusal(429, "TooManyRequests", Retry_After="99999"),
    "500": refusal(500, "InternalError"),
    "503": answer(503, "upstream connect error", "text/plain"),
    "stall": stall,
    "reset": reset,
    "401": refusal(401, "Unauthorized"),
    "slow, 30 s": slow(30),
}
FAULTS: dict[Kind, dict[str, Behaviour]] = {
    "read": {
        **ANYWHERE,
        "410": refusal(410, "Expired"),
        "404 of a starting server": answer(404, "404 page not found", "text/plain"),
    },
    "write": {
        **ANYWHERE,
        "409": refusal(409, "Conflict"),
        "422": refusal(422, "Invalid"),
        "reset when done": reset_when_done,
    },
    "watch": {**ANYWHERE, "410": refusal(410, "Expired"), "410 in the watch": gone, "truncated": truncated},
}


@dataclass(frozen=True)
class Cell:
    """A fault, which calls have it, and whether all of them or the first."""

    kind: Kind
    fault: str
    sustained: bool

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.fault}, {'sustained' if self.sustained else 'once'}"

    @property
    def behaviour(self) -> Behaviour:
        return FAULTS[self.kind][self.fault]


ALL = [
    Cell(kind, fault, sustained)
    for kind, faults in FAULTS.items()
    for fault in faults
    for sustained in (False, True)
    if (fault, sustained) != ("401", True)  # an operator without a login is another matter: it waits for one
]
CORE = {
    "read, 429, Retry-After 99999, sustained",
    "read, reset, sustained",
    "read, 410, once",
    "read, 404 of a starting server, sustained",
    "write, 409, sustained",
    "write, 422, once",
    "write, 503, sustained",
    "write, reset when done, sustained",
    "watch, truncated, sustained",
    "watch, 401, once",
}


TOLD = {
    "bad": dict.fromkeys(("RolloutStarted", "CanaryStarted", "ContractBreached", "RolledBack", "RevisionRejected"), 1),
    "good": dict.fromkeys(("RolloutStarted", "CanaryStarted", "GatePassed", "Promoted", "Completed"), 1),
}
"""How often each transition of a cell is told."""


class Faulty:
    """Behaves badly to one kind of calls."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.hits = 0

    async def __call__(self, call: Call) -> web.StreamResponse:
        if call.kind != self._cell.kind or (self.hits and not self._cell.sustained):
            return await call.forward()
        self.hits += 1
        return await self._cell.behaviour(call)


async def test_whatever_the_api_server_does_no_fault_is_a_verdict(cluster, tmp_path):
    """No wrong promotion, no wrong rollback, soon back at work, and no more memory than before."""
    cells = [
        cell for cell in ALL if (any(it in cell.name for it in ONLY.split("|")) if ONLY else FULL or cell.name in CORE)
    ]
    assert cells
    table = Table("Faults of the API server", "calls")
    failures: list[str] = []
    # Longest first, and every operator with several: they are to survive one fault after the other.
    waiting = iter(sorted(cells, key=lambda cell: not cell.sustained))
    async with a_scene(cluster) as scene:
        await asyncio.gather(
            *(_works_off(scene, f"api-{n}", waiting, table, failures, tmp_path) for n in range(AT_ONCE))
        )
    print(table)
    assert not failures, "\n\n".join(failures)


async def _works_off(scene: Scene, namespace: str, cells: Iterator[Cell], table: Table, failures: list[str], folder):
    """Put one operator through one cell after the other."""
    versions = itertools.count(2)
    async with a_place(scene, namespace, folder) as place:
        place.operator.start()
        for name in ("good", "bad"):
            await place.create(name, a_spec("1", PLAN, interval=f"{INTERVAL:g}s"))
        for name in ("good", "bad"):
            await place.reached(name, "Completed", "1", 180)
        for cell in cells:
            try:
                after = await _tried_in_time(place, cell, versions)
            except AssertionError as error:
                failures.append(f"{cell.name}: {error}\n{place.operator.log.read_text()[-1500:]}")
                table.add(cell.kind, f"{cell.fault}, {_length(cell)}", "FAILED")
                print(f"FAILED {failures[-1]}", flush=True)
                return
            print(f"{cell.name}: users on stable {after:.1f} s after its end", flush=True)
            table.add(cell.kind, f"{cell.fault}, {_length(cell)}", "held, then right")


def _length(cell: Cell) -> str:
    return f"{SUSTAINED:g} s" if cell.sustained else "once"


async def _tried_in_time(place: Place, cell: Cell, versions: Iterator[int]) -> float:
    """Run one cell, again if there was no fault in it."""
    for _ in range(MOST_TRIES):
        after = await _tried(place, cell, str(next(versions)))
        if after is not None:
            return after
    raise AssertionError(f"{MOST_TRIES} times, it was rolled back before there was a fault")


async def _tried(place: Place, cell: Cell, version: str) -> float | None:
    """
    Run one cell and return how long after the fault's end the bad release was off its users.

    None: the test was so slow that the operator had rolled it back before there was a fault.
    """
    scene, began = place.scene, await a_new_second()
    resident, ended = place.operator.resident, place.operator.ended
    # Bad from the first request on: were it good for a while, its gate might pass rightly before it turns bad.
    place.flow("bad").spoiled[revision(version), "canary"] = 0.2
    for name in ("bad", "good"):
        await place.edit(name, model={"version": version})
    await scene.until(lambda: _has_been_in_canary(place, "bad", version), "it is in canary", PATIENCE)
    fault = place.api.behaviour = Faulty(cell)
    if place.status("bad")["stage"] == "RolledBack":
        place.api.behaviour = faithful
        await place.reached("good", "Completed", version, 2 * INTERVAL + PATIENCE)
        return None
    if cell.kind == "watch":
        place.api.cut_watches()
    length = SUSTAINED if cell.sustained else 0.0
    await asyncio.sleep(length)
    await scene.until(lambda: fault.hits, "the fault is met", PATIENCE)
    place.api.behaviour = faithful
    limit = 2 * INTERVAL + REQUEST
    if cell.fault.startswith("slow"):
        limit += 30  # one is still on its way
    after = await place.reached("bad", "RolledBack", version, limit)
    users = {revision("1"): 100}
    after += await scene.until(lambda: _weights(place, "bad") == users, "all users are on stable", limit - after)
    await place.reached("good", "Completed", version, limit + PATIENCE)
    await scene.until(lambda: _weights(place, "good") == {revision(version): 100}, "all users are on the new one", 20)
    assert place.operator.ended == ended or length >= RENEWAL, "the operator has ended"
    for name, forbidden in (("good", "RolledBack"), ("bad", "full")):
        stages = _stages_since(place, name, began, version)
        assert forbidden not in stages, f"{name} went through {stages}"
    await _said_once(place, began)
    assert place.operator.resident < max(MOST_MIB, resident), f"{place.operator.resident:.0f} MiB"
    return after


def _has_been_in_canary(place: Place, name: str, version: str) -> bool:
    candidate = place.status(name).get("candidate") or {}
    in_canary = place.status(name).get("stage") == "canary" and _weights(place, name).get(revision(version)) == 10
    return candidate.get("version") == version and (in_canary or place.status(name)["stage"] == "RolledBack")


def _weights(place: Place, name: str) -> dict[str, float]:
    return {it: weight for it, weight in place.flow(name).weights.items() if weight}


def _stages_since(place: Place, name: str, began: float, version: str) -> list[str]:
    states = [item["status"] for at, item in place.scene.seen[place.namespace, name] if at > began]
    return [it["stage"] for it in states if (it.get("candidate") or {}).get("version") == version]


async def _said_once(place: Place, began: float) -> None:
    """Check that what happened since *began* is told by one reason in the conditions, and by one event each."""
    conditions = {
        name: {it["type"]: (it["status"], it["reason"]) for it in place.status(name)["conditions"]} for name in TOLD
    }
    bad, good = conditions["bad"], conditions["good"]
    assert (bad["Ready"], bad["Stalled"]) == (("False", "RolledBack"), ("True", "RolledBack")), bad
    assert good["Ready"][0] == "True", good
    assert not {"Reconciling"} & bad.keys() | {"Reconciling", "Stalled"} & good.keys(), conditions
    for name, told in TOLD.items():
        await place.told(name, told, since=began)
