"""The forecast in a running release: read while the candidate's pods start, told once, and never in the way."""

import asyncio
from datetime import timedelta

import pytest

from modelrelease import reconcile as module
from tests.builders import NO_METRICS, a_body, revision_of
from tests.reconcile.test_reconcile import a_lab, condition, reasons, release

SLOW = {**a_body()["spec"]["contract"]}
SLOW["clauses"] = [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "1.5%"}]


async def a_starting(version: str = "2", *, contract=SLOW, after: timedelta = timedelta(hours=1)):
    """Return a cluster that ran version 1 for a while, where pods of *version* are about to start."""
    lab = await a_lab(contract=contract)
    lab.now += after
    lab.metrics.per_second = 50.0
    lab.kube.broken.add(revision_of(version).name)
    release(lab, version)
    await lab.tick()
    return lab


async def test_the_forecast_is_told_while_the_pods_start():
    """From half an hour of the baseline; one event, and nobody waits."""
    lab = await a_starting()
    assert "forecast" not in lab.kube.status or not lab.kube.status["forecast"]
    await lab.tick()
    ((name, start, end),) = lab.metrics.asked[-1]
    assert (name, end - start) == ("history", timedelta(minutes=30))
    shadow, canary, *_ = lab.kube.status["forecast"]
    assert (shadow["stage"], canary["stage"]) == ("shadow", "canary-10")
    assert canary["inTime"] is False
    assert canary["slowest"].startswith("clause steady ")
    (message,) = [message for reason, message in lab.kube.events if reason == "StageMayNotConclude"]
    assert message.startswith("stage shadow: clause steady needs about ")
    assert "; nor may canary-10" in message
    assert condition(lab, "Ready")["reason"] == "Pending"


async def test_it_is_asked_once_and_kept():
    lab = await a_starting()
    await lab.tick()
    told, asked = lab.kube.status["forecast"], len(lab.metrics.asked)
    await lab.tick()
    assert len(lab.metrics.asked) == asked
    lab.kube.broken.clear()
    await lab.run(until="canary-10")
    assert lab.kube.status["forecast"] == told
    assert reasons(lab).count("StageMayNotConclude") == 1
    release(lab, "3")
    await lab.tick()
    assert lab.kube.status["forecast"] == []


async def test_pods_that_are_there_do_not_wait_for_it():
    lab = await a_starting()
    lab.kube.broken.clear()
    asked = len(lab.metrics.asked)
    await lab.tick()
    assert lab.kube.status["stage"] == "shadow"
    assert (len(lab.metrics.asked), lab.kube.status["forecast"]) == (asked, [])


async def test_a_young_baseline_is_asked_when_it_is_a_minute_old():
    lab = await a_lab(contract=SLOW)
    lab.kube.broken.add(revision_of("2").name)
    stable_since = lab.now
    lab.kube.body["status"]["stable"]["since"] = stable_since.strftime("%Y-%m-%dT%H:%M:%SZ")
    release(lab, "2")
    while not lab.kube.status.get("forecast"):
        await lab.tick()
    ((_, start, end),) = lab.metrics.asked[-1]
    assert start == stable_since
    assert timedelta(seconds=60) <= end - start < timedelta(seconds=70)


async def test_without_prometheus_there_is_no_forecast_until_it_answers():
    lab = await a_starting()
    lab.metrics.outage = NO_METRICS
    await lab.tick()
    assert lab.kube.status["forecast"] == []
    assert condition(lab, "MetricsAvailable") is None
    lab.metrics.outage = None
    await lab.tick()
    assert lab.kube.status["forecast"]


async def test_a_prometheus_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    lab = await a_starting()
    monkeypatch.setattr(module, "HISTORY_LIMIT", timedelta(milliseconds=10))

    async def hang(*_args):
        await asyncio.Event().wait()

    monkeypatch.setattr(lab.metrics, "read", hang)
    await lab.tick()
    assert (lab.kube.status["stage"], lab.kube.status["forecast"]) == ("Pending", [])


async def test_a_first_release_has_no_forecast():
    lab = await a_lab()
    assert lab.kube.status["forecast"] == []
