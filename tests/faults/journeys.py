"""What a release can go through, as steps that a person takes, and where each step leads."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.scene import Object, Place, a_spec, revision, stages
from tests.faults.traffic import Moment

NAME = "radar"
LONG = "1h"
"""A bake that does not end: the release is still there when the next step comes."""


@dataclass(frozen=True)
class Journey:
    """
    A story with a known end.

    Attributes:
        name: What it is about.
        plan: The stages.
        bad: What version 2 does to users, in which stage; None for a good one.
        walk: The steps, from version 1 being the release; each waits until it has arrived.
        fresh: Whether there is no version 1 yet.
    """

    name: str
    plan: list[Object]
    walk: Callable[[Place], Awaitable[None]]
    bad: Moment | None = None
    fresh: bool = False

    async def prepare(self, place: Place) -> None:
        """Make version 1 the release."""
        if self.bad is not None:
            # At full nobody is left to compare with: the absolute clause has to see it.
            place.flow(NAME).spoiled[revision("2"), self.bad] = 0.8 if self.bad == "full" else 0.2
        place.operator.start()
        if not self.fresh:
            await place.create(NAME, a_spec("1", self.plan))
            await place.reached(NAME, "Completed", "1", 180)


async def _first(place: Place) -> None:
    await place.create(NAME, a_spec("1", stages()))
    await place.reached(NAME, "Completed", "1", 180)


async def _second(place: Place) -> None:
    await place.edit(NAME, model={"version": "2"})


async def _completes(place: Place) -> None:
    await _second(place)
    await place.reached(NAME, "Completed", "2", 240)


async def _rolls_back(place: Place) -> None:
    await _second(place)
    await place.reached(NAME, "RolledBack", "2", 240)


async def _is_replaced(place: Place) -> None:
    await _second(place)
    await place.reached(NAME, "canary", "2", 180)
    await place.edit(NAME, model={"version": "3"})
    await place.reached(NAME, "canary", "3", 180)
    await _bakes(place)


async def _is_taken_back(place: Place) -> None:
    await _second(place)
    await place.reached(NAME, "canary", "2", 180)
    await place.edit(NAME, model={"version": "1"})
    await place.reached(NAME, "Completed", "1", 180)


async def _is_suspended(place: Place) -> None:
    await _second(place)
    await place.reached(NAME, "shadow", "2", 180)
    await place.edit(NAME, suspend=True)
    await place.scene.until(lambda: reconciling(place) == "Suspended", "suspended", 180)
    await place.edit(NAME, suspend=False)
    await _bakes(place)


async def _bakes(place: Place) -> None:
    """Wait for the state in which it stays: what is said before depends on when the first counts come."""
    await place.scene.until(lambda: _verdict(place) == "Pass" and reconciling(place) == "Baking", "bakes", 180)


def _verdict(place: Place) -> str:
    return str((place.status(NAME).get("gate") or {}).get("verdict"))


def reconciling(place: Place) -> str:
    """Return why a release is being worked on."""
    conditions = place.status(NAME).get("conditions", [])
    return next((str(it["reason"]) for it in conditions if it["type"] == "Reconciling"), "")


JOURNEYS = [
    Journey("first release", stages(), _first, fresh=True),
    Journey("second release", stages(), _completes),
    Journey("breach in shadow", stages(shadow="5s"), _rolls_back, bad="shadow"),
    Journey("breach in canary", stages(canary="5s"), _rolls_back, bad="canary"),
    Journey("breach in the watch", stages(full="20s"), _rolls_back, bad="full"),
    Journey("edited in canary", stages(canary=LONG), _is_replaced),
    Journey("reverted in canary", stages(canary=LONG), _is_taken_back),
    Journey("suspended in shadow", stages(shadow=LONG), _is_suspended),
]
