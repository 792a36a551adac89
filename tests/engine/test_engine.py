"""The engine, in a time of its own: an hour passes in a second, and every run is the same."""

import asyncio
import contextlib
import random
import selectors
from collections import defaultdict
from datetime import timedelta

import pytest

from modelrelease.engine import LONGEST_BACKOFF, RESYNC, TIME_LIMIT, Engine
from modelrelease.probes import dead

A, B = ("fraud", "radar"), ("fraud", "other")


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: when nothing can run, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(_FastSelector(self))
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class _FastSelector(selectors.DefaultSelector):
    def __init__(self, loop: FastLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout:
            self._loop.now += timeout
        return super().select(0)


class Recorder:
    """A reconcile that keeps a diary of itself, and does what a test tells it to."""

    def __init__(self, behave=None) -> None:
        self._behave = behave
        self.began = defaultdict(list)
        self.ended = defaultdict(list)
        self.running = set()
        self.most_at_once = 0
        self.errors = []
        self.attempts = []

    async def __call__(self, key):
        assert key not in self.running, "two reconciles of one release at once"
        self.running.add(key)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.began[key].append(self._now())
        try:
            return await self._behave(key) if self._behave else None
        finally:
            self.running.discard(key)
            self.ended[key].append(self._now())

    def reconciled(self, key, seconds):
        assert seconds >= 0

    def failed(self, key, seconds, error, *, attempt):
        self.errors.append(error)
        self.attempts.append(attempt)

    @staticmethod
    def _now():
        return asyncio.get_running_loop().time() - 1000.0


def live(scenario, behave=None, *, concurrency=10, seed=1):
    """Run *scenario* (given the engine) beside an engine, and return what was recorded."""
    recorder = Recorder(behave)

    async def body():
        clock = asyncio.get_running_loop().time
        engine = Engine(recorder, recorder, clock=clock, random=random.Random(seed).random, concurrency=concurrency)
        running = asyncio.create_task(engine.run())
        await scenario(engine)
        assert not running.done(), "the engine never ends by itself"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(body())
    return recorder


def test_a_trigger_is_followed_at_once():
    """Nothing waits for a tick."""

    async def scenario(engine):
        await asyncio.sleep(3)
        engine.trigger(A)
        await asyncio.sleep(1)

    assert live(scenario).began[A] == [3.0]


def test_a_release_comes_back_when_it_asked_to():
    """The returned wait is kept, again and again."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(35)

    async def behave(_):
        return timedelta(seconds=10)

    assert live(scenario, behave).began[A] == pytest.approx([0, 10, 20, 30])


def test_a_release_that_asks_for_nothing_comes_back_at_the_resync():
    """Lost events cost at most one resync."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(RESYNC.total_seconds() + 1)

    began = live(scenario).began[A]
    assert len(began) == 2
    assert 0.9 * RESYNC.total_seconds() <= began[1] <= RESYNC.total_seconds()


def test_a_long_wait_ends_at_the_resync():
    """A release that asks for a day is looked at earlier."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(RESYNC.total_seconds() + 1)

    async def behave(_):
        return timedelta(days=1)

    assert len(live(scenario, behave).began[A]) == 2


def test_triggers_during_a_reconcile_lead_to_exactly_one_more():
    """What happened meanwhile is seen, once."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(1)
        for _ in range(50):
            engine.trigger(A)
        await asyncio.sleep(30)

    async def behave(_):
        await asyncio.sleep(5)

    assert live(scenario, behave).began[A] == pytest.approx([0, 5])


def test_concurrency_is_bounded_and_used():
    """200 releases of one second each, ten at once, take twenty seconds."""
    keys = [("team", f"r{number}") for number in range(200)]

    async def scenario(engine):
        for key in keys:
            engine.trigger(key)
        await asyncio.sleep(25)

    async def behave(_):
        await asyncio.sleep(1)

    recorder = live(scenario, behave, concurrency=10)
    assert recorder.most_at_once == 10
    assert max(recorder.ended[key][0] for key in keys) == pytest.approx(20)
    assert all(len(recorder.began[key]) == 1 for key in keys)


def test_failures_back_off_up_to_a_cap_for_ever():
    """Waits double from a quarter of a second to five seconds, with jitter, and never end."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(600)

    async def behave(_):
        raise RuntimeError("broken")

    recorder = live(scenario, behave)
    waits = [after - before for before, after in zip(recorder.began[A], recorder.began[A][1:], strict=False)]
    cap = LONGEST_BACKOFF.total_seconds()
    for number, wait in enumerate(waits):
        longest = min(0.25 * 2**number, cap)
        assert 0.5 * longest - 1e-6 <= wait <= longest + 1e-6
    assert len(waits) > 20
    assert recorder.attempts == list(range(1, len(recorder.attempts) + 1))


def test_a_success_resets_the_backoff():
    """After a good reconcile the next failure waits little again."""
    calls = []

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(100)

    async def behave(_):
        calls.append(1)
        if len(calls) in {1, 2, 3, 5}:
            raise RuntimeError("broken")
        return timedelta(seconds=5)

    assert live(scenario, behave).attempts == [1, 2, 3, 1]


def test_events_do_not_make_a_failing_release_spin():
    """Its own half-done writes come back as events; they are no reason to try at once, again and again."""

    async def scenario(engine):
        engine.trigger(A)
        for _ in range(1000):
            engine.trigger(A)
            await asyncio.sleep(0.01)

    async def behave(_):
        raise RuntimeError("broken")

    assert len(live(scenario, behave).began[A]) <= 41


def test_a_trigger_shortens_a_long_backoff():
    """A user who repairs the spec does not wait for the backoff."""
    broken = [True]

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(300)
        broken.clear()
        engine.trigger(A)
        await asyncio.sleep(0.1)

    async def behave(_):
        if broken:
            raise RuntimeError("broken")

    assert live(scenario, behave).ended[A][-1] == pytest.approx(300, abs=0.1)


def test_a_hanging_release_is_ended_and_harms_no_other():
    """The time limit frees its place."""

    async def scenario(engine):
        engine.trigger(A)
        engine.trigger(B)
        await asyncio.sleep(TIME_LIMIT.total_seconds() + 1)

    async def behave(key):
        if key == A:
            await asyncio.Event().wait()

    recorder = live(scenario, behave, concurrency=2)
    assert recorder.ended[B][0] == 0
    assert recorder.ended[A][0] == pytest.approx(TIME_LIMIT.total_seconds())
    assert isinstance(recorder.errors[0], TimeoutError)


@pytest.mark.parametrize("moment", [pytest.param(1, id="while it runs"), pytest.param(7, id="while it waits")])
def test_a_forgotten_release_does_not_come_back(moment):
    """Deleted is deleted."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(moment)
        engine.forget(A)
        await asyncio.sleep(1000)
        assert engine.health.known == 0

    async def behave(_):
        await asyncio.sleep(5)
        return timedelta(seconds=10)

    assert live(scenario, behave).began[A] == [0]


def test_a_namesake_of_a_forgotten_release_is_reconciled():
    """Deleted and made anew while the old one was still being reconciled."""

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(1)
        engine.forget(A)
        engine.trigger(A)
        await asyncio.sleep(20)

    async def behave(_):
        await asyncio.sleep(5)

    assert live(scenario, behave).began[A] == pytest.approx([0, 5])


def test_a_namesake_that_is_made_while_a_look_finds_nothing_is_reconciled():
    """It is triggered after the look and before it is forgotten, by the look itself: that is heard."""
    engines, looks = [], []

    async def scenario(engine):
        engines.append(engine)
        engine.trigger(A)
        await asyncio.sleep(1000)
        assert engine.health.known == 0

    async def behave(key):
        await asyncio.sleep(5)
        looks.append(key)
        if len(looks) == 1:
            engines[0].trigger(key)
        engines[0].forget(key)

    assert live(scenario, behave).began[A] == pytest.approx([0, 5])


def test_health_tells_of_a_release_that_waits_too_long():
    """One place, taken: whoever waits becomes overdue, while the loop still looks."""
    seen = []

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(1)
        engine.trigger(B)
        await asyncio.sleep(40)
        seen.append(engine.health)

    async def behave(_):
        await asyncio.Event().wait()

    live(scenario, behave, concurrency=1)
    assert seen[0].overdue == pytest.approx(40)
    assert seen[0].heartbeat_age <= 5
    assert (seen[0].known, seen[0].running) == (2, 1)


def test_what_a_person_decided_does_not_wait_behind_others():
    """Neither when the release waits for its turn, nor when it is being looked at while the decision comes."""

    async def scenario(engine):
        for number in range(50):
            engine.trigger(("fraud", f"radar-{number}"))
        await asyncio.sleep(1)
        engine.hurry(A)
        engine.hurry(("fraud", "radar-0"))
        await asyncio.sleep(100)

    async def behave(_):
        await asyncio.sleep(10)

    recorder = live(scenario, behave, concurrency=1)
    assert recorder.began["fraud", "radar-0"] == pytest.approx([0, 20])
    assert recorder.began[A] == pytest.approx([10])


def test_a_long_queue_that_is_served_is_not_dead():
    """Three hundred releases at once, as when a standby takes over, and a Prometheus that lets each wait for 30 s."""
    said = []
    overdue = []

    async def scenario(engine):
        for number in range(300):
            engine.trigger(("fraud", f"radar-{number}"))
        for _ in range(80):
            await asyncio.sleep(10)
            said.append(dead(engine.health))
            overdue.append(engine.health.overdue)

    async def behave(_):
        await asyncio.sleep(30)

    live(scenario, behave, concurrency=10)
    assert max(overdue) > 600
    assert {None} == set(said), "a restart would only make the queue longer"


def test_a_queue_that_nobody_serves_is_dead():
    """Its only place is taken by something that does not end when it is told to."""
    said = []

    async def scenario(engine):
        engine.trigger(A)
        await asyncio.sleep(1)
        engine.trigger(B)
        for _ in range(20):
            await asyncio.sleep(10)
            said.append(dead(engine.health))

    async def behave(_):
        while len(said) < 20:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    live(scenario, behave, concurrency=1)
    assert said[16] is None
    assert said[-1] == "a release has been due for 200 s, and none was looked at for 200 s"


def test_at_the_end_what_is_almost_done_is_done():
    """A reconcile that writes may end, so that nothing is left half-done; one that waits for long is cancelled."""
    ended = []

    async def scenario(engine):
        engine.trigger(A)
        engine.trigger(B)
        await asyncio.sleep(0.01)

    async def behave(key):
        await asyncio.sleep(0.2 if key == A else 20)
        ended.append(key)

    recorder = live(scenario, behave)
    assert ended == [A]
    assert recorder.ended[B][0] == pytest.approx(0.31)
    assert not recorder.running


@pytest.mark.parametrize("seed", range(3))
def test_under_load_nothing_is_lost_and_nothing_overlaps(seed):
    """Twenty minutes of 150 releases that are slow, fail, are triggered and forgotten at random."""
    chance = random.Random(seed)
    keys = [("team", f"r{number}") for number in range(150)]
    last_trigger = {}

    async def scenario(engine):
        clock = asyncio.get_running_loop().time
        for _ in range(1200):
            for key in chance.sample(keys, chance.randrange(5)):
                engine.trigger(key)
                last_trigger[key] = clock() - 1000.0
            if chance.random() < 0.05:
                gone = chance.choice(keys)
                engine.forget(gone)
                last_trigger.pop(gone, None)
            await asyncio.sleep(1)
        await asyncio.sleep(2 * LONGEST_BACKOFF.total_seconds())

    async def behave(_):
        await asyncio.sleep(chance.expovariate(2))
        if chance.random() < 0.1:
            raise RuntimeError("broken")
        return chance.choice([None, timedelta(seconds=30), timedelta(0), timedelta(seconds=1)])

    recorder = live(scenario, behave, concurrency=40, seed=seed)
    missed = [key for key, moment in last_trigger.items() if recorder.began[key][-1] < moment]
    assert missed == []
    assert recorder.most_at_once <= 40
    assert sum(map(len, recorder.began.values())) > 3_000
