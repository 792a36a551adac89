"""How long ago something was, whatever has been done to the clock since."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from modelrelease.core.elapsed import Jump, elapsed

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("moment", "now", "jumps", "want"),
    [
        pytest.param(NOON, NOON + MINUTE, (), MINUTE, id="nothing happened"),
        pytest.param(NOON, NOON + 2 * HOUR + MINUTE, (Jump(NOON + 2 * HOUR, 2 * HOUR),), MINUTE, id="forward since"),
        pytest.param(NOON, NOON + MINUTE, (Jump(NOON - HOUR, 2 * HOUR),), MINUTE, id="forward before"),
        pytest.param(NOON, NOON - HOUR + MINUTE, (Jump(NOON - HOUR, -HOUR),), MINUTE, id="back, behind the moment"),
        pytest.param(
            NOON,
            NOON + 21 * MINUTE,
            (Jump(NOON + 20 * MINUTE, -10 * MINUTE),),
            31 * MINUTE,
            id="back, not as far as the moment",
        ),
        pytest.param(
            NOON,
            NOON + 3 * MINUTE,
            (Jump(NOON + HOUR + MINUTE, HOUR), Jump(NOON + 2 * MINUTE, -HOUR)),
            3 * MINUTE,
            id="there and back",
        ),
        pytest.param(NOON, NOON - MINUTE, (), timedelta(0), id="ahead of us, nobody knows why"),
    ],
)
def test_only_time_that_has_passed_counts(moment, now, jumps, want):
    """A jump is no time."""
    assert want == elapsed(moment, now, jumps)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_zones_and_summer_time_are_no_jumps(zone):
    """Moments are points in time; how a zone writes them, and when it turns its clocks, changes nothing."""
    there = ZoneInfo(zone)
    for change in (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)):
        before, after = (change - MINUTE).astimezone(there), (change + MINUTE).astimezone(there)
        assert elapsed(before, after.astimezone(UTC), ()) == 2 * MINUTE
