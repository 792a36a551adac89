"""The clock of the process: what it notices of its being set."""

from datetime import UTC, datetime, timedelta

from modelrelease.clock import Clock
from modelrelease.core.elapsed import Jump, elapsed

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Hands:
    """Two clocks that are moved by hand."""

    def __init__(self) -> None:
        self.time, self.seconds = NOON, 100.0

    def passes(self, seconds: float, *, drift: float = 0.0) -> None:
        self.time += timedelta(seconds=seconds + drift)
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.time, lambda: self.seconds)


def test_time_that_passes_is_no_jump():
    hands = Hands()
    clock = hands.clock()
    for _ in range(100):
        hands.passes(30, drift=0.005)
        assert clock.now() == hands.time
    assert clock.jumps == ()


def test_a_clock_that_is_set_is_noticed_once():
    """Forward, and back again: each is a jump, and the time that really passed is what remains."""
    hands = Hands()
    clock = hands.clock()
    began = clock.now()
    hands.passes(60)
    clock.now()
    hands.time += timedelta(hours=2)
    assert clock.now() == hands.time
    hands.passes(5)
    clock.now()
    assert clock.jumps == (Jump(NOON + timedelta(hours=2, seconds=60), timedelta(hours=2)),)
    hands.time -= timedelta(hours=2)
    clock.now()
    assert [jump.by for jump in clock.jumps] == [timedelta(hours=2), timedelta(hours=-2)]
    assert elapsed(began, clock.now(), clock.jumps) == 65 * SECOND


def test_a_machine_that_slept_has_skipped_that_time():
    """The clock that nobody sets does not run in sleep."""
    hands = Hands()
    clock = hands.clock()
    hands.passes(1, drift=3600.0)
    clock.now()
    assert [jump.by for jump in clock.jumps] == [timedelta(hours=1)]


def test_a_clock_that_is_slewed_stays_right():
    """What NTP corrects bit by bit adds up, and is then taken out at once."""
    hands = Hands()
    clock = hands.clock()
    began = clock.now()
    for _ in range(100):
        hands.passes(60, drift=0.03)
        clock.now()
    assert abs(elapsed(began, clock.now(), clock.jumps) - 6000 * SECOND) < SECOND + timedelta(milliseconds=50)
