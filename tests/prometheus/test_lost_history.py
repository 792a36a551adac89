"""
A Prometheus that has lost its data in mid-stage is no witness of what was counted before: its counts are no verdict.

The baseline is old and used to block far more; the candidate's pods are young. Both block alike now, so whoever takes
the counters that are seen for the first time after the loss for events of the stage finds a breach that is none.
"""

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster import binaries, debian
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.reasons import Outcome
from modelrelease.core.counts import MetricsUnavailable, StageCounts
from modelrelease.core.judge import judge
from modelrelease.core.queries import StageWindow
from modelrelease.core.verdict import GateVerdict
from tests.builders import a_release
from tests.prometheus.pods import Pod, pods

pytestmark = pytest.mark.prometheus

SCRAPE = 0.5
OLD, NEW = "aaaaaaa", "bbbbbbb"
BLOCKS, REQUESTS = 20, 400
"""What each pod decides in the stage, each time."""

CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [
        {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
        {"name": "blocks", "rate": {"events": 'd_total{decision="block"}'}},
        {"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.99"}},
    ],
    "clauses": [
        {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "10%"},
        {"name": "few-blocks", "metric": "blocks", "atMost": "100"},
        {"name": "fast", "metric": "latency", "noWorse": "100%"},
    ],
}
RELEASE = a_release(contract=CONTRACT)


def _decide(running: Sequence[Pod], times: int = 1) -> None:
    for pod in running:
        pod.count("FR", block=times * BLOCKS, allow=times * (REQUESTS - BLOCKS), latencies={0.2: times * REQUESTS})


def _counted() -> None:
    time.sleep(2.5 * SCRAPE)


def _read(server: PrometheusServer, window: StageWindow) -> StageCounts:
    reader = PrometheusReader(PrometheusSettings(url=server.url, scrape_interval=timedelta(seconds=SCRAPE)))
    evidence = asyncio.run(reader.read(RELEASE, [window], OLD, NEW))
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    return evidence[0]


def _window(began: datetime) -> StageWindow:
    return StageWindow("canary", "canary", began, datetime.now(UTC), 50, served_before=(True, True))


@pytest.fixture(scope="module", params=["3", "2"])
def evidence(request: pytest.FixtureRequest) -> Iterator[dict[str, StageCounts]]:
    """Tell the story to one Prometheus, and read it: before the loss, across it, and from after it on."""
    binary = binaries.ensure("prometheus") if request.param == "3" else debian.prometheus()
    with pods(OLD, OLD, NEW, NEW) as running:
        for pod in running:
            past = 40 if pod.revision == OLD else 1
            pod.count("FR", block=past * 300, allow=past * 100, latencies={1.9: past * 400})
        with PrometheusServer(binary, [pod.target for pod in running], scrape_interval=SCRAPE) as server:
            _counted()
            began = datetime.now(UTC)
            _counted()
            _decide(running)
            _counted()
            before = _read(server, _window(began))
            server.stop()
            shutil.rmtree(server.data)
            _decide(running)
            server.start()
            _counted()
            _decide(running)
            _counted()
            across = _read(server, _window(began))
            anew = datetime.now(UTC)
            _counted()
            _decide(running, times=3)
            _counted()
            yield {"before": before, "across": across, "after": _read(server, _window(anew))}


def _of(counts: StageCounts) -> list[float]:
    return [float(it) for it in counts.counts["block-rate", ""].of[0]]


def _verdict(counts: StageCounts) -> GateVerdict:
    return judge(RELEASE.contract, (counts,), error_budget=0.01, has_baseline=True, compared=True)


def test_before_the_loss_all_is_counted(evidence):
    assert [2 * REQUESTS] * 2 == _of(evidence["before"])
    assert (False, False) == evidence["before"].forgotten


def test_what_was_counted_before_the_stage_is_not_counted_in_it(evidence):
    """Two pods decided three times at most; what they had counted before is nobody's evidence."""
    assert all(count <= 3 * 2 * REQUESTS for count in _of(evidence["across"])), _of(evidence["across"])


def test_a_loss_is_no_verdict(evidence):
    """Neither of the ratio, nor of the events per second, nor of the latencies."""
    verdict = _verdict(evidence["across"])
    assert Outcome.INCONCLUSIVE == verdict.outcome, verdict.message


def test_a_loss_is_known(evidence):
    """Of both arms there are samples now, and none from when the stage began."""
    assert (True, True) == evidence["across"].forgotten


def test_a_stage_that_begins_after_it_is_counted_whole(evidence):
    assert [3 * 2 * REQUESTS] * 2 == _of(evidence["after"])
    assert (False, False) == evidence["after"].forgotten
