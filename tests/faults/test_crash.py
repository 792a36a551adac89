"""
Killed with -9 at any write, the operator ends where it would have ended, by the same way.

``make faults`` tries every write of every journey, before and after. Here a few are tried, the same
ones each time; others by ``FAULTS_SEED``.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator

import pytest

from tests.faults.crash import Outcome, When, crashed, undisturbed
from tests.faults.journeys import JOURNEYS, Journey
from tests.faults.scene import Scene, a_scene
from tests.faults.tables import FULL, Table

pytestmark = [pytest.mark.faults, pytest.mark.apiserver, pytest.mark.prometheus, pytest.mark.slow]

SEED = int(os.environ.get("FAULTS_SEED") or 0)
ONLY = os.environ.get("FAULTS_JOURNEY", "")
AT_ONCE = int(os.environ.get("FAULTS_AT_ONCE", "2"))
_numbers = itertools.count(1)


def chosen(journey: Journey, expected: Outcome) -> list[tuple[int, When]]:
    """Return where to kill: everywhere, or at two kinds of writes."""
    if FULL:
        # A few more than were counted: a slow run may write more, and one that does not is undisturbed.
        return [(at, when) for at in range(1, len(expected.writes) + 1) for when in ("before", "after")]
    firsts = {kind: number for number, kind in reversed(list(enumerate(expected.writes, 1)))}
    kinds = sorted(firsts)
    return [(firsts[kinds[SEED % len(kinds)]], "before"), (firsts[kinds[(SEED + 3) % len(kinds)]], "after")]


def to_try() -> Iterator[Journey]:
    if ONLY:
        yield from (it for it in JOURNEYS if it.name == ONLY)
    elif FULL:
        yield from JOURNEYS
    else:
        yield from (JOURNEYS[(SEED + 3 * number) % len(JOURNEYS)] for number in range(2))


async def test_killed_at_any_write_it_ends_as_if_undisturbed(cluster, tmp_path):
    """Same status, same objects, the same stages in the same order, nothing said twice."""
    table = Table(f"Killed at every write (seed {SEED})" if not FULL else "Killed at every write", "journey", "write")
    failures: list[str] = []
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(scene: Scene, journey: Journey, expected: Outcome, at: int, when: When) -> None:
        async with gate:
            namespace = f"crash-{next(_numbers)}"
            try:
                kind = await crashed(scene, journey, expected, at, when, namespace, tmp_path)
            except AssertionError as error:
                failures.append(str(error))
                table.add(journey.name, expected.writes[at - 1], f"killed {when}", "FAILED")
                print(f"FAILED {error}", flush=True)
            else:
                if kind is not None:
                    table.add(journey.name, kind, f"killed {when}", "same")

    async def walk(scene: Scene, journey: Journey) -> None:
        async with gate:
            expected = await undisturbed(scene, journey, f"calm-{next(_numbers)}", tmp_path)
        print(f"{journey.name}: {len(expected.writes)} writes", flush=True)
        await asyncio.gather(*(one(scene, journey, expected, at, when) for at, when in chosen(journey, expected)))

    async with a_scene(cluster) as scene:
        await asyncio.gather(*(walk(scene, journey) for journey in to_try()))
    print(table)
    assert not failures, "\n\n".join(failures)
    assert table.rows, "nothing was killed"
