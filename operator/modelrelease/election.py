"""
Which of the replicas acts: whoever holds the Lease, and nobody for longer than is sure.

    absent, released, or unchanged for its whole duration ──► take ──► lead ──► renew ... ──► release
                                                                         │
                        another holder, or no renewal in time ◄──────────┘  lost: the process ends

Time is only ever measured on one's own clock, as spans: the times written into the Lease are for people. A standby
counts from the moment at which it saw the Lease change, which is later than the renewal was sent; a leader counts from
the moment at which it sent the renewal, and stops after a shorter span. So a wall clock may be wrong by any amount, and
jump. What is left are writes that were sent in time and arrive late: ``adapters/kube.py`` has the API server refuse
them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, Protocol, assert_never

import structlog

from modelrelease.adapters.errors import AdapterError, Conflict, NotFound

LOOK: Final = timedelta(milliseconds=400)
"""Between two looks of a standby: a release of the Lease is seen within this."""

RELEASE_LIMIT: Final = timedelta(seconds=2)

_log = structlog.get_logger(__name__)


class LeadershipLost(Exception):  # noqa: N818 - reads as what happened
    """Another replica leads, or may soon: this process must end."""


# Pure: what a Lease says, and what follows.


@dataclass(frozen=True, slots=True)
class Lease:
    """
    What a coordination.k8s.io Lease says.

    Attributes:
        holder: Identity of the process that leads; empty when the last one has released it.
        duration: How long it counts as held after it was last written.
        transitions: How many times it went from one process to another.
        acquired: When the holder took it, as written; for people.
        version: Its resourceVersion, which changes with every renewal.
    """

    holder: str
    duration: timedelta
    transitions: int
    acquired: str
    version: str

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Lease":
        """Return what the object says; what others have left out counts as released."""
        spec = body.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration=timedelta(seconds=spec.get("leaseDurationSeconds") or 0),
            transitions=spec.get("leaseTransitions") or 0,
            acquired=spec.get("acquireTime") or "",
            version=body["metadata"]["resourceVersion"],
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    A Lease, or its absence, and how long it has been seen like that.

    Attributes:
        lease: None when there is none.
        since: When it was first seen in this version, seconds of the observer's own clock.
        free_after: How long it must stay like that before somebody else may take it. A Lease that was held and is gone
            is as good as held: whoever held it does not know yet.
    """

    lease: Lease | None
    since: float
    free_after: timedelta


def look(before: Sighting | None, lease: Lease | None, now: float) -> Sighting:
    """Return what is known after *lease* was read at *now*."""
    if before and (before.lease and before.lease.version) == (lease and lease.version):
        return before
    if lease is None:
        return Sighting(None, now, before.free_after if before else timedelta(0))
    return Sighting(lease, now, lease.duration if lease.holder else timedelta(0))


@dataclass(frozen=True, slots=True)
class Create:
    """There is no Lease: make one."""


@dataclass(frozen=True, slots=True)
class Take:
    """Nobody holds it any more: write oneself into exactly this version."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class StandBy:
    """Somebody leads, or led a moment ago."""

    holder: str


Move = Create | Take | StandBy


def next_move(seen: Sighting, now: float) -> Move:
    """Return what a process that does not lead does next."""
    if now - seen.since < seen.free_after.total_seconds():
        return StandBy(seen.lease.holder if seen.lease else "")
    return Take(seen.lease) if seen.lease else Create()


# Shell: talk to the API server.


@dataclass(frozen=True, slots=True)
class Terms:
    """
    How a Lease is held.

    Attributes:
        namespace, name: The Lease.
        duration: How long a standby waits after the last sign of life.
        renew_deadline: How long a leader acts after it sent the last renewal that succeeded; shorter than *duration*.
        retry: Between two renewals.
    """

    namespace: str
    name: str
    duration: timedelta
    renew_deadline: timedelta
    retry: timedelta


class Leases(Protocol):
    """The API of Leases; every method raises AdapterError when it fails."""

    async def get_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read a Lease; None when there is none."""

    async def create_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Lease; raise Conflict when there is one."""

    async def replace_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace exactly the version that the body names; raise Conflict when it has changed since."""


class Elector:
    """
    Takes, keeps and gives back the Lease, for one term: whoever has lost it ends.

    Args:
        leases: The API of Leases.
        identity: This process, and no other at any time.
        terms: How the Lease is held.
        clock: Seconds that never jump, and go on while the machine sleeps.
        now: The wall clock, for people who read the Lease.
    """

    def __init__(
        self,
        leases: Leases,
        identity: str,
        terms: Terms,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        """Lead nothing yet."""
        self._leases = leases
        self._identity = identity
        self._terms = terms
        self._clock = clock
        self._now = now
        self._lease: Lease | None = None
        self._sure_until = float("-inf")
        self._problem = "has not looked at the Lease yet"

    @property
    def seconds_left(self) -> float:
        """For how long this process is sure to be the only one that acts, seconds; 0 or less when it must not."""
        return self._sure_until - self._clock()

    @property
    def standing_by(self) -> str | None:
        """Why this process does not act; None when it leads."""
        return None if self.seconds_left > 0 else self._problem

    async def acquire(self) -> None:
        """Return when this process leads; trouble with the API server only makes it wait."""
        seen: Sighting | None = None
        while self._lease is None:
            try:
                async with asyncio.timeout(self._terms.renew_deadline.total_seconds()):
                    seen = await self._try(seen)
            except Conflict:
                self._stand_by("another replica was faster")
            except (AdapterError, TimeoutError) as error:
                self._stand_by(f"cannot read or write the Lease: {str(error) or 'no answer in time'}")
            if self._lease is None:
                await asyncio.sleep(LOOK.total_seconds())
        _log.info("leads", lease=self._full_name, identity=self._identity, term=self._lease.transitions)

    async def _try(self, before: Sighting | None) -> Sighting:
        """Look at the Lease once, and take it if it is free."""
        body = await self._leases.get_lease(self._terms.namespace, self._terms.name)
        seen = look(before, Lease.of(body) if body else None, self._clock())
        match next_move(seen, self._clock()):
            case StandBy(holder):
                self._stand_by(f"{holder or 'nobody'} leads")
            case Create():
                await self._write(None)
            case Take(lease):
                await self._write(lease)
            case other:
                assert_never(other)
        return seen

    def _stand_by(self, problem: str) -> None:
        if problem != self._problem:
            _log.info("stands by", lease=self._full_name, reason=problem)
        self._problem = problem

    async def hold(self) -> None:
        """
        Renew the Lease until it is lost.

        Raises:
            LeadershipLost: Another process holds it, or the last renewal is too long ago to be sure that none does.
        """
        trouble = ""
        deadline = self._terms.renew_deadline.total_seconds()
        while True:
            await asyncio.sleep(min(self._terms.retry.total_seconds(), max(self.seconds_left, 0)))
            if (left := self.seconds_left) <= 0:
                why = trouble or "this process, or its machine, stood still"
                raise self._lost(f"was not renewed for {deadline:g} s: {why}")
            try:
                async with asyncio.timeout(min(left, deadline / 2)):  # half: one that hangs leaves time for another
                    await self._renew()
                trouble = ""
            except AdapterError as error:
                trouble = str(error)
            except TimeoutError:
                trouble = trouble or "no answer in time"

    async def _renew(self) -> None:
        assert self._lease is not None, "only a leader renews"
        try:
            await self._write(self._lease)
        except NotFound:
            await self._write(None)
        except Conflict:
            # A renewal whose answer was lost counts; anybody else's write is the end.
            body = await self._leases.get_lease(self._terms.namespace, self._terms.name)
            found = Lease.of(body) if body else None
            if found and found.holder != self._identity:
                raise self._lost(f"was taken by {found.holder or 'nobody: somebody cleared it'}") from None
            await self._write(found)

    def _lost(self, how: str) -> LeadershipLost:
        self._sure_until = float("-inf")
        return LeadershipLost(f"Lease {self._full_name} {how}")

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end; best effort, once nothing is under way."""
        if self._lease is None or self.seconds_left <= 0:
            return
        self._sure_until = float("-inf")
        try:
            async with asyncio.timeout(RELEASE_LIMIT.total_seconds()):
                await self._give_back(self._lease)
        except (AdapterError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            _log.warning("has not released the lease: a standby waits for its end", lease=self._full_name, reason=why)
            return
        _log.info("has released the lease", lease=self._full_name)

    async def _give_back(self, lease: Lease) -> None:
        """Write nobody into *lease*, or into what our last renewal made of it, whose answer was not waited for."""
        try:
            await self._leases.replace_lease(self._body(lease, holder=""))
        except Conflict:
            body = await self._leases.get_lease(self._terms.namespace, self._terms.name)
            found = Lease.of(body) if body else None
            if found is None or found.holder != self._identity:
                raise
            await self._leases.replace_lease(self._body(found, holder=""))

    async def _write(self, lease: Lease | None) -> None:
        """Write this process into exactly *lease*, or a new one; the term is counted from before the request."""
        sent = self._clock()
        if lease is None:
            written = await self._leases.create_lease(self._body(None, holder=self._identity))
        else:
            written = await self._leases.replace_lease(self._body(lease, holder=self._identity))
        self._lease = Lease.of(written)
        self._sure_until = sent + self._terms.renew_deadline.total_seconds()

    def _body(self, lease: Lease | None, *, holder: str) -> dict[str, Any]:
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # six digits, or the API server refuses it
        ours = lease is not None and lease.holder == self._identity
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": ceil(self._terms.duration.total_seconds()),
            "acquireTime": lease.acquired if lease and ours else now,
            "renewTime": now,
            "leaseTransitions": (lease.transitions + (not ours)) if lease else 0,
        }
        version = {"resourceVersion": lease.version} if lease else {}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._terms.namespace, "name": self._terms.name, **version},
            "spec": spec,
        }

    @property
    def _full_name(self) -> str:
        return f"{self._terms.namespace}/{self._terms.name}"
