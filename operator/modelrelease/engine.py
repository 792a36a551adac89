"""
The queue that keeps every release moving: who is due next, never two at once for one release, never stopping.

    trigger ──► due now ──► running ──► due again, when the reconcile asked for it, or at the resync
                   ▲            │
                   │            ├─ triggered meanwhile ──► due now once more
                   └────────────┴─ raised ──► due after a backoff that doubles, up to a cap, with jitter

It knows nothing of releases: a key, a function, a clock. Nothing that the function does can stop it. A lost event costs
a delay until the next resync, never correctness, because a reconcile asks what is true and not what has happened.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf, nextafter
from typing import Final, Protocol

Key = tuple[str, str]
"""Namespace and name of a release."""

Reconcile = Callable[[Key], Awaitable[timedelta | None]]

RESYNC: Final = timedelta(minutes=5)
TIME_LIMIT: Final = timedelta(seconds=60)
FIRST_BACKOFF: Final = timedelta(milliseconds=250)
LONGEST_BACKOFF: Final = timedelta(seconds=5)
"""An ``analysis.interval`` is hardly ever shorter: two of them after a fault has ended, all is as it should be."""
HEARTBEAT: Final = timedelta(seconds=5)
LAST_WORDS: Final = timedelta(milliseconds=300)
"""How long reconciles under way may go on at the end: most are about to finish, and none is left half-done then."""


class Journal(Protocol):
    """Where the engine says what happened; its methods must not raise."""

    def reconciled(self, key: Key, seconds: float) -> None:
        """Note a reconcile that ended well."""

    def failed(self, key: Key, seconds: float, error: Exception, *, attempt: int) -> None:
        """Note a reconcile that raised, for the *attempt*-th time in a row."""


@dataclass(frozen=True, slots=True)
class Health:
    """
    What a probe wants to know.

    Attributes:
        heartbeat_age: Seconds since the loop last looked at the queue.
        overdue: Seconds that the longest-waiting release has been waiting for its turn; 0 when none waits.
        unserved: Seconds of them in which no reconcile has begun, of whichever release.
        known: Releases in the queue or running.
        running: Reconciles under way.
        failing: Releases whose last reconcile raised.
    """

    heartbeat_age: float
    overdue: float
    unserved: float
    known: int
    running: int
    failing: int


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    running: bool = False
    dirty: bool = False
    urgent: bool = False
    forgotten: bool = False
    failures: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Queue:
    """
    Who is due when; pure bookkeeping, all times in seconds of one monotonic clock that the caller reads.

    A failing release that is triggered again and again still waits for its first backoff, so that its own half-done
    writes, which come back as events, do not make it spin.
    """

    random: Callable[[], float]
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, Key]] = field(default_factory=list)
    _pushed: int = 0
    _taken: float = -inf

    def trigger(self, key: Key, now: float, *, urgent: bool = False) -> None:
        """Make *key* due now, or once more as soon as it has ended; an *urgent* one does not wait behind others."""
        entry = self._entries.setdefault(key, _Entry())
        entry.forgotten = False
        entry.urgent |= urgent
        if entry.running:
            entry.dirty = True
            return
        due = self._place(entry, now)
        if entry.due is None or entry.due > due:
            self._schedule(key, entry, due)

    def forget(self, key: Key) -> None:
        """
        Drop *key*; one that is running ends and does not come back, unless it was triggered since it began.

        It may have been made anew since the running look found it gone, and nothing would ever tell of that again.
        """
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.running:
            entry.forgotten = not entry.dirty
            return
        del self._entries[key]

    def take(self, now: float) -> Key | None:
        """Return a key that is due and mark it as running; None when none is."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        entry = self._entries[key]
        entry.due, entry.running, entry.dirty, entry.urgent = None, True, False, False
        self._taken = now
        return key

    def ended(self, key: Key, now: float, again_in: timedelta | None) -> None:
        """Note that *key* ended well; it is due again in *again_in*, and at the resync at the latest."""
        # The resync is spread by a tenth, so that releases that started together drift apart.
        resync = RESYNC.total_seconds() * (1 - 0.1 * self.random())
        wait = resync if again_in is None else min(again_in.total_seconds(), resync)
        self._release(key, failures=0, not_before=now, due=now + max(wait, 0.0), now=now)

    def failed(self, key: Key, now: float) -> int:
        """Note that *key* raised, and return how many times in a row it has."""
        failures = self._entries[key].failures + 1
        first, cap = FIRST_BACKOFF.total_seconds(), LONGEST_BACKOFF.total_seconds()
        backoff = min(first * 2.0 ** min(failures - 1, 30), cap) * (0.5 + 0.5 * self.random())
        self._release(key, failures=failures, not_before=now + first, due=now + backoff, now=now)
        return failures

    def next_due(self) -> float | None:
        """Return when the next key is due; None when none is waiting."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def health(self, now: float, heartbeat: float) -> Health:
        """Return what a probe wants to know; *heartbeat* is when the loop last looked."""
        due = self.next_due()
        overdue = max(0.0, now - due) if due is not None else 0.0
        entries = self._entries.values()
        return Health(
            heartbeat_age=now - heartbeat,
            overdue=overdue,
            unserved=min(overdue, now - self._taken),
            known=len(entries),
            running=sum(entry.running for entry in entries),
            failing=sum(entry.failures > 0 for entry in entries),
        )

    def _release(self, key: Key, *, failures: int, not_before: float, due: float, now: float) -> None:
        entry = self._entries[key]
        entry.running, entry.failures, entry.not_before = False, failures, not_before
        if entry.forgotten:
            del self._entries[key]
            return
        self._schedule(key, entry, min(due, self._place(entry, now)) if entry.dirty else due)

    def _place(self, entry: _Entry, now: float) -> float:
        """Return when *entry* is due if that is as soon as it may: an urgent one as if it had waited the longest."""
        due = max(now, entry.not_before)
        self._drop_stale()
        if not entry.urgent or due > now or not self._heap:
            return due
        longest_waiting, _, key = self._heap[0]
        # Several that are urgent come in their order.
        return min(due, longest_waiting if self._entries[key].urgent else nextafter(longest_waiting, -inf))

    def _schedule(self, key: Key, entry: _Entry, due: float) -> None:
        entry.due = due
        self._pushed += 1  # first come, first served among equals
        heapq.heappush(self._heap, (due, self._pushed, key))

    def _drop_stale(self) -> None:
        while self._heap:
            due, _, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                return
            heapq.heappop(self._heap)


class Engine:
    """
    Runs what is due, as many at once as allowed.

    Args:
        reconcile: Brings one release a step further and returns when to look again.
        journal: Where it is said what happened.
        clock: A monotonic clock, seconds.
        random: Returns numbers from [0, 1), for jitter.
        concurrency: Most reconciles at once.
    """

    def __init__(
        self,
        reconcile: Reconcile,
        journal: Journal,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        concurrency: int,
    ) -> None:
        """Start with nothing to do."""
        self._reconcile = reconcile
        self._journal = journal
        self._clock = clock
        self._concurrency = concurrency
        self._queue = Queue(random)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._heartbeat = clock()

    def trigger(self, key: Key) -> None:
        """Have *key* reconciled as soon as possible: something about it may have changed."""
        self._queue.trigger(key, self._clock())
        self._wake.set()

    def hurry(self, key: Key) -> None:
        """Have *key* reconciled before all others: a person waits for it."""
        self._queue.trigger(key, self._clock(), urgent=True)
        self._wake.set()

    def forget(self, key: Key) -> None:
        """Stop reconciling *key*: it is gone."""
        self._queue.forget(key)

    @property
    def health(self) -> Health:
        """What a probe wants to know."""
        return self._queue.health(self._clock(), self._heartbeat)

    async def run(self) -> None:
        """Run until cancelled; what is under way then may end, is cancelled if it does not, and is waited for."""
        try:
            while True:
                self._heartbeat = self._clock()
                self._wake.clear()
                self._start_due()
                await self._wait()
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=LAST_WORDS.total_seconds())
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_due(self) -> None:
        while len(self._tasks) < self._concurrency and (key := self._queue.take(self._clock())):
            task = asyncio.create_task(self._run_one(key), name=f"reconcile {key[0]}/{key[1]}")
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _wait(self) -> None:
        """Wait for a trigger, the end of a reconcile, the next one due, or the next heartbeat."""
        seconds = HEARTBEAT.total_seconds()
        due = self._queue.next_due()
        if due is not None and len(self._tasks) < self._concurrency:
            seconds = min(seconds, max(0.0, due - self._clock()))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _run_one(self, key: Key) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(TIME_LIMIT.total_seconds()):
                again_in = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - the outermost handler: one release must not stop the others
            ended = self._clock()
            attempt = self._queue.failed(key, ended)
            self._journal.failed(key, ended - began, error, attempt=attempt)
        else:
            ended = self._clock()
            self._queue.ended(key, ended, again_in)
            self._journal.reconciled(key, ended - began)
