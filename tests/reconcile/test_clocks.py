"""Rollouts under a clock that jumps: no stage gets shorter, nobody is blamed, and a breach is heard at any time."""

import copy
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelrelease.adapters.errors import Unreachable
from modelrelease.core.elapsed import Jump
from modelrelease.reconcile import reconcile
from tests.builders import NO_METRICS, a_body, revision_of
from tests.reconcile.fakes import FakeMetrics, Lab
from tests.reconcile.test_reconcile import ONE, a_lab, reasons, release

MINUTE = timedelta(minutes=1)
JUMPS = [timedelta(hours=2), timedelta(hours=-2), timedelta(days=400)]


class Scraped(FakeMetrics):
    """A Prometheus that has scraped the candidate for as long as it says, whatever the clock says."""

    covered = 0.0
    served: float | None = None

    async def read(self, release, windows, baseline, candidate):
        evidence = await super().read(release, windows, baseline, candidate)
        return (*evidence[:-1], replace(evidence[-1], covered=self.covered, served=self.served))


async def look(lab: Lab, *jumps: Jump) -> str:
    """Reconcile once at the time as it is, and return the stage."""
    await reconcile("fraud", "radar", lab.world, lab.now, jumps)
    return lab.kube.status["stage"]


async def entered(lab: Lab, stage: str) -> None:
    """Run until *stage* has begun: its route has been found in place."""
    await lab.run(until=stage)
    assert await look(lab) == stage


async def set_clock(lab: Lab, by: timedelta) -> Jump:
    lab.now += by
    return Jump(lab.now, by)


@pytest.mark.parametrize("by", JUMPS, ids=str)
async def test_a_jump_in_a_stage_bakes_nothing(by):
    """Two hours at once are not the ten minutes that users were to be watched for."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.now += 2 * MINUTE
    jump = await set_clock(lab, by)
    lab.now += MINUTE
    assert await look(lab, jump) == "canary-10"
    lab.now += 8 * MINUTE
    if by > timedelta(0):
        assert await look(lab, jump) == "canary-50", "the ten minutes are over, by any clock"


async def test_a_jump_that_nobody_noticed_bakes_nothing():
    """The operator was restarted meanwhile: Prometheus' samples tell how long the candidate was looked at."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.metrics = Scraped(lab.kube)
    lab.now += timedelta(hours=2)
    lab.metrics.covered = 60.0
    assert await look(lab) == "canary-10"
    (baking,) = (it["message"] for it in lab.kube.status["conditions"] if it["type"] == "Reconciling")
    assert "7140 s of it have no samples and do not count" in baking
    lab.metrics.covered = 600.0
    assert await look(lab) == "canary-50"


async def test_time_without_samples_is_no_time_of_a_bake():
    """Prometheus was down for most of the stage: what it has not seen proves nothing."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "shadow")
    lab.metrics = Scraped(lab.kube)
    lab.metrics.covered = 120.0
    lab.now += 30 * MINUTE
    assert await look(lab) == "shadow"


async def test_silence_is_no_time_of_a_bake():
    """The Gateway was down for most of the stage: pods that nobody asks have proved nothing, and it says so."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.metrics = Scraped(lab.kube)
    lab.now += 30 * MINUTE
    lab.metrics.covered, lab.metrics.served = 1799.0, 240.0
    assert await look(lab) == "canary-10"
    (baking,) = (it["message"] for it in lab.kube.status["conditions"] if it["type"] == "Reconciling")
    assert "no request reached the candidate for 1559 s of it: they do not count" in baking
    lab.metrics.served = 600.0
    assert await look(lab) == "canary-50"


async def test_a_candidate_that_nobody_asks_is_never_baked():
    """What earlier stages and a minute of this one have proved is a pass, and no bake."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.metrics = Scraped(lab.kube)
    for _ in range(10):
        lab.now += timedelta(hours=1)
        lab.metrics.covered, lab.metrics.served = lab.metrics.covered + 3600, 60.0
        assert await look(lab) == "canary-10"


@pytest.mark.parametrize("by", JUMPS, ids=str)
async def test_a_jump_while_pods_start_blames_nobody(by):
    """A candidate that was pending for a minute is not rolled back for the two hours that never were."""
    lab = await a_lab()
    lab.kube.broken.add(revision_of("2").name)
    release(lab, "2")
    await lab.run(until="Pending")
    jump = await set_clock(lab, by)
    assert await look(lab, jump) == "Pending"
    lab.now += 9 * MINUTE
    assert await look(lab, jump) == "Pending"
    lab.now += 2 * MINUTE
    assert await look(lab, jump) == "RolledBack", "ten minutes are over, by any clock"


@pytest.mark.parametrize("trouble", ["no metrics", "no traffic"])
async def test_a_jump_passes_no_deadline(trouble):
    """Neither the silence of Prometheus nor an inconclusive gate lasts longer for it."""
    lab = await a_lab(analysis={"interval": "1m", "onInconclusive": "Rollback", "onNoMetrics": "Rollback"})
    release(lab, "2")
    await entered(lab, "shadow")
    if trouble == "no metrics":
        lab.metrics.outage = NO_METRICS
    else:
        lab.metrics.per_second = 0.0001
    assert await look(lab) == "shadow"
    lab.now += MINUTE
    jump = await set_clock(lab, timedelta(hours=5))
    assert await look(lab, jump) == "shadow"
    lab.now += timedelta(hours=2)
    assert await look(lab, jump) == "RolledBack"


@pytest.mark.parametrize("verb", ["Approve", "Promote"])
async def test_people_are_heard_on_a_clock_that_was_set_back(verb):
    """What they decide has a time before the stage's beginning; it is about the stage all the same."""
    stages = copy.deepcopy(a_body()["spec"]["stages"])
    stages[1]["approval"] = "Required"
    lab = await a_lab(stages=stages)
    release(lab, "2")
    await entered(lab, "canary-10")
    await look(lab)
    jump = await set_clock(lab, timedelta(hours=-1))
    first, second = (lab.kube.decide(verb, "2", "canary-10" if verb == "Approve" else None) for _ in range(2))
    await look(lab, jump)
    assert [lab.kube.outcome(name) for name in (first, second)] == ["Applied", "Stale"]
    lab.now += timedelta(hours=1, minutes=11)
    await look(lab, jump)
    assert lab.kube.status["stage"] == ("canary-50" if verb == "Approve" else "full")


async def test_a_breach_is_heard_after_a_jump():
    """Time is one thing, harm is another."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.now += MINUTE
    lab.metrics.rates["2"] = 0.4
    jump = await set_clock(lab, timedelta(hours=2))
    assert await look(lab, jump) == "RolledBack"
    assert lab.kube.weights == {ONE: 100}


@pytest.mark.parametrize("by", JUMPS, ids=str)
async def test_a_jump_does_not_make_news_old(by):
    """What could not be told at once is told after the clock was set, or the machine has slept."""
    lab = await a_lab()
    release(lab, "2")
    await entered(lab, "canary-10")
    lab.kube.decide("Rollback", "2")
    lab.kube.down = {"event RolledBack"}
    with suppress(Unreachable):
        await look(lab)
    assert lab.kube.status["stage"] == "RolledBack"
    lab.kube.down = set()
    jump = await set_clock(lab, by)
    lab.now += MINUTE
    await look(lab, jump)
    assert {"RolledBack", "RevisionRejected"} <= set(reasons(lab))


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
CHANGES = {
    "to summer time": datetime(2026, 3, 29, 0, 50, tzinfo=UTC),
    "and back": datetime(2026, 10, 25, 0, 50, tzinfo=UTC),
}


@pytest.fixture
def in_zone(monkeypatch):
    """Put this process into a time zone, until the end of the test."""

    def put(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("change", CHANGES)
async def test_the_zone_of_the_machine_and_its_summer_time_change_nothing(change, in_zone):
    """A rollout over the night in which clocks are turned is the same, to the second, wherever the operator runs."""
    told = {}
    for zone in ZONES:
        in_zone(zone)
        lab = await a_lab()
        began = lab.now = CHANGES[change]
        release(lab, "2")
        stages = []
        while lab.kube.status["stage"] != "full" and lab.now < began + timedelta(hours=3):
            stages.append((lab.now - began, await look(lab)))
            lab.now += MINUTE
        told[zone] = (stages, lab.kube.status)
    assert told["UTC"][0][-1][1] == "full"
    assert [zone for zone in ZONES if told[zone] != told["UTC"]] == []
