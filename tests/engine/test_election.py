"""Who acts: the rules, and whole terms in a time of their own, through outages, lost answers and stopped processes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrelease.adapters.errors import Conflict, NotFound, Unreachable
from modelrelease.election import (
    Create,
    Elector,
    LeadershipLost,
    Lease,
    Sighting,
    StandBy,
    Take,
    Terms,
    look,
    next_move,
)
from tests.engine.test_engine import FastLoop

NAME = "modelrelease-operator"
FIFTEEN = timedelta(seconds=15)


def a_lease(holder="a", version="1", duration=FIFTEEN):
    return Lease(holder=holder, duration=duration, transitions=3, acquired="", version=version)


def seen_at(moment, lease, before=None):
    return look(before, lease, moment)


class TestRules:
    @pytest.mark.parametrize(
        ("seen", "now", "want"),
        [
            pytest.param(seen_at(0, None), 0, Create(), id="there is none"),
            pytest.param(seen_at(0, a_lease("")), 0, Take(a_lease("")), id="it was released"),
            pytest.param(seen_at(0, a_lease()), 14.9, StandBy("a"), id="it is held"),
            pytest.param(seen_at(0, a_lease()), 15, Take(a_lease()), id="its holder is silent"),
            pytest.param(
                seen_at(14, a_lease(version="2"), seen_at(0, a_lease())), 28.9, StandBy("a"), id="it was renewed"
            ),
            pytest.param(
                seen_at(14, a_lease(), seen_at(0, a_lease())), 15, Take(a_lease()), id="looking renews nothing"
            ),
            pytest.param(seen_at(9, None, seen_at(0, a_lease())), 23.9, StandBy(""), id="deleted: its holder may act"),
            pytest.param(seen_at(9, None, seen_at(0, a_lease())), 24, Create(), id="deleted long ago"),
            pytest.param(seen_at(9, None, seen_at(0, a_lease(""))), 9, Create(), id="released, then deleted"),
        ],
    )
    def test_a_standby_takes_what_nobody_can_hold_any_more(self, seen: Sighting, now, want):
        """Every wait is a span of one's own clock."""
        assert want == next_move(seen, now)

    @pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseDurationSeconds": None}])
    def test_a_lease_without_content_is_free(self, spec):
        """Somebody may have made it by hand."""
        lease = Lease.of({"metadata": {"resourceVersion": "1"}, "spec": spec})
        assert next_move(seen_at(0, lease), 0) == Take(lease)


class Store:
    """The Leases of an API server, with outages and lost answers."""

    def __init__(self) -> None:
        self.body = None
        self.version = 0
        self.away = set()  # identities that cannot reach it
        self.deaf = set()  # identities whose answers are lost

    def seen_by(self, identity):
        return _View(self, identity)


class _View:
    def __init__(self, store, identity) -> None:
        self._store, self._identity = store, identity

    async def get_lease(self, namespace, name):
        await self._travel()
        return self._store.body

    async def create_lease(self, body):
        await self._travel()
        if self._store.body:
            raise Conflict("exists")
        return await self._put(body)

    async def replace_lease(self, body):
        await self._travel()
        if not self._store.body:
            raise NotFound("gone")
        if body["metadata"]["resourceVersion"] != self._store.body["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return await self._put(body)

    async def _travel(self):
        await asyncio.sleep(0.05)
        if self._identity in self._store.away:
            raise Unreachable("away")

    async def _put(self, body):
        self._store.version += 1
        meta = {**body["metadata"], "resourceVersion": str(self._store.version)}
        written = self._store.body = {**body, "metadata": meta}
        await asyncio.sleep(0.05)
        if self._identity in self._store.deaf:
            raise Unreachable("the answer was lost")
        return written  # whatever has become of it on the way


def an_elector(store, identity, now=datetime(2026, 11, 23, tzinfo=UTC), clock=None):
    terms = Terms("system", NAME, FIFTEEN, timedelta(seconds=10), timedelta(seconds=2))
    clock = clock or asyncio.get_running_loop().time
    return Elector(store.seen_by(identity), identity, terms, clock=clock, now=lambda: now)


async def term(elector):
    """One life of a replica: wait, lead, lose."""
    await elector.acquire()
    await elector.hold()


def fast(scenario):
    """Run *scenario* in a time of its own."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(scenario())


class TestTerms:
    def test_an_outage_ends_the_term_before_a_standby_can_take_over(self):
        """The leader stops at the renew deadline; the lease runs out later; and never do two act."""

        async def scenario():
            store = Store()
            first, second = an_elector(store, "a"), an_elector(store, "b")
            life = asyncio.create_task(term(first))
            await asyncio.sleep(1)
            standby = asyncio.create_task(second.acquire())
            await asyncio.sleep(20)
            store.away.add("a")
            began = asyncio.get_running_loop().time()
            with pytest.raises(LeadershipLost, match=r"was not renewed for 10 s: away"):
                await life
            stopped = asyncio.get_running_loop().time() - began
            await standby
            took_over = asyncio.get_running_loop().time() - began
            assert 7.9 <= stopped <= 10.1
            assert 12.9 <= took_over <= 15.6

        fast(scenario)

    def test_a_renewal_whose_answer_was_lost_is_no_loss(self):
        """The Lease says that it is ours: the term goes on."""

        async def scenario():
            store = Store()
            elector = an_elector(store, "a")
            life = asyncio.create_task(term(elector))
            await asyncio.sleep(1)
            store.deaf.add("a")
            await asyncio.sleep(5)
            store.deaf.clear()
            await asyncio.sleep(30)
            assert not life.done()
            assert elector.seconds_left > 0
            life.cancel()

        fast(scenario)

    def test_a_lease_that_somebody_took_ends_the_term_at_the_next_renewal(self):
        """By hand, or by a program that does not keep the rules."""

        async def scenario():
            store = Store()
            elector = an_elector(store, "a")
            life = asyncio.create_task(term(elector))
            await asyncio.sleep(1)
            store.version += 1
            store.body = {
                "metadata": {"resourceVersion": "taken"},
                "spec": {**store.body["spec"], "holderIdentity": "thief"},
            }
            with pytest.raises(LeadershipLost, match="was taken by thief"):
                await life
            assert elector.seconds_left <= 0

        fast(scenario)

    def test_a_lease_that_somebody_deleted_is_made_anew(self):
        """The standby waits, because the leader does not know yet; the leader makes it again."""

        async def scenario():
            store = Store()
            first, second = an_elector(store, "a"), an_elector(store, "b")
            life = asyncio.create_task(term(first))
            await asyncio.sleep(1)
            standby = asyncio.create_task(second.acquire())
            await asyncio.sleep(5)
            store.body = None
            await asyncio.sleep(60)
            assert (first.seconds_left > 0, standby.done()) == (True, False)
            life.cancel()
            standby.cancel()

        fast(scenario)

    def test_a_machine_that_slept_wakes_up_as_nobody(self):
        """The clock has gone on: not one renewal more, although nobody has taken the lease."""

        async def scenario():
            store = Store()
            loop = asyncio.get_running_loop()
            slept = [0.0]
            elector = an_elector(store, "a", clock=lambda: loop.time() + slept[0])
            life = asyncio.create_task(term(elector))
            await asyncio.sleep(1)
            version = store.version
            slept[0] = 11.0
            assert elector.seconds_left <= 0
            with pytest.raises(LeadershipLost, match="stood still"):
                await life
            assert store.version == version

        fast(scenario)

    def test_a_released_lease_is_taken_at_the_next_look(self):
        """Nobody waits for its end."""

        async def scenario():
            store = Store()
            first, second = an_elector(store, "a"), an_elector(store, "b")
            await first.acquire()
            standby = asyncio.create_task(second.acquire())
            await asyncio.sleep(3)
            began = asyncio.get_running_loop().time()
            await first.release()
            await standby
            assert asyncio.get_running_loop().time() - began < 0.8
            assert first.seconds_left <= 0

        fast(scenario)

    @pytest.mark.parametrize("moment", [2.01, 2.07, 2.12], ids=["on its way", "written, not answered", "over"])
    def test_a_stop_in_the_middle_of_a_renewal_releases_the_lease_too(self, moment):
        """Whatever became of the renewal, a standby leads at its next look."""

        async def scenario():
            store = Store()
            first, second = an_elector(store, "a"), an_elector(store, "b")
            await first.acquire()
            holding, standby = asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())
            await asyncio.sleep(moment)
            holding.cancel()
            began = asyncio.get_running_loop().time()
            await first.release()
            assert store.body["spec"]["holderIdentity"] == ""
            await standby
            assert asyncio.get_running_loop().time() - began < 0.8
            assert second.seconds_left > 0

        fast(scenario)

    def test_a_stop_does_not_take_the_lease_from_somebody_else(self):
        """Who has taken it meanwhile keeps it."""

        async def scenario():
            store = Store()
            first = an_elector(store, "a")
            await first.acquire()
            other = {**store.body, "spec": {**store.body["spec"], "holderIdentity": "b"}}
            await store.seen_by("b").replace_lease(other)
            await first.release()
            assert store.body["spec"]["holderIdentity"] == "b"

        fast(scenario)

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.sampled_from(["cut", "heal", "deafen", "freeze", "delete"]),
                st.floats(0.1, 12.0),
            ),
            max_size=25,
        )
    )
    def test_never_two_at_once(self, faults):
        """
        Three replicas with wall clocks hours apart; outages, lost answers, stopped processes, a deleted Lease.

        A replica that starts while the Lease is deleted cannot know that there was one: docs/reliability.md.
        """

        async def scenario():
            replicas = Replicas()
            for name, fault, seconds in faults:
                replicas.suffer(name, fault)
                until = asyncio.get_running_loop().time() + seconds
                while asyncio.get_running_loop().time() < until:
                    assert len(replicas.leaders()) <= 1
                    await asyncio.sleep(0.1)
                replicas.restart()
            await replicas.end()

        fast(scenario)


class Replicas:
    """Three of them at any time; whoever has lost its term is started again."""

    def __init__(self) -> None:
        self.store = Store()
        self.started = 0
        self.alive = {name: self._start(name) for name in "abc"}

    def _start(self, name):
        self.started += 1
        wall = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=7 * self.started)
        elector = an_elector(self.store, f"{name}-{self.started}", now=wall)
        return elector, asyncio.create_task(term(elector))

    def leaders(self):
        return [name for name, (elector, _) in self.alive.items() if elector.seconds_left > 0]

    def suffer(self, name, fault):
        elector, life = self.alive[name]
        identity = elector._identity
        match fault:
            case "cut":
                self.store.away.add(identity)
            case "deafen":
                self.store.deaf.add(identity)
            case "heal":
                self.store.away.discard(identity)
                self.store.deaf.discard(identity)
            case "freeze":
                life.cancel()  # as good as stopped: it renews no more and knows nothing of it
            case "delete" if all(self._knows(*each) for each in self.alive.values()):
                self.store.body = None

    @staticmethod
    def _knows(elector, life):
        """Return whether a replica has seen the Lease, or can do nothing any more."""
        return elector.seconds_left > 0 or "leads" in elector.standing_by or life.done()

    def restart(self):
        for name, (elector, life) in self.alive.items():
            if self.store.body and life.done() and elector.seconds_left <= 0:
                assert life.cancelled() or isinstance(life.exception(), LeadershipLost)
                self.alive[name] = self._start(name)

    async def end(self):
        for _, life in self.alive.values():
            life.cancel()
        await asyncio.gather(*(life for _, life in self.alive.values()), return_exceptions=True)
