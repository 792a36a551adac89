"""
The clock of this process: the time of day, and by how much it was set since the process began.

A second clock, which nobody sets, runs beside it. When the two drift apart by more than a second, the time of day has
jumped: somebody set it, NTP stepped it, or the machine was asleep.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from modelrelease.core.elapsed import Jump

NOTICED: Final = timedelta(seconds=1)
"""What the two clocks may drift apart; NTP slews by less than two seconds an hour."""

_JUMPS_KEPT: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger(__name__)


class Clock:
    """
    Tells the time.

    Args:
        wall: The time of day, UTC.
        monotonic: Seconds on a clock that is never set and does not run while the machine sleeps.
    """

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        """Believe the time of day as it is now."""
        self._wall = wall
        self._monotonic = monotonic
        self._jumps: deque[Jump] = deque(maxlen=_JUMPS_KEPT)
        _, self._ahead = self._look()

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """The jumps that were noticed so far, the oldest first."""
        return tuple(self._jumps)

    def now(self) -> datetime:
        """Return the time of day; notice when it has jumped since the last look."""
        moment, ahead = self._look()
        by = ahead - self._ahead
        if abs(by) >= NOTICED:
            self._ahead = ahead
            self._jumps.append(Jump(at=moment, by=by))
            _log.warning("the clock has jumped", seconds=by.total_seconds(), now=moment.isoformat())
        return moment

    def _look(self) -> tuple[datetime, timedelta]:
        """Return the time of day, and how far it is ahead of the other clock, from an arbitrary beginning."""
        moment = self._wall()
        return moment, moment - _EPOCH - timedelta(seconds=self._monotonic())
