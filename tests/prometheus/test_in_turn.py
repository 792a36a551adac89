"""
Several processes that answer one scrape target in turn, each with its own counts: workers that are not merged, or pods
that are scraped through their Service. Each other scrape is then a fall, which would be counted as a restart.
"""

import asyncio
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import Evidence, MetricsUnavailable
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import Pod

pytestmark = pytest.mark.prometheus

SCRAPE = 1.0
CONTRACT = {
    "metrics": [
        {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
        {"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.9"}},
    ],
    "clauses": [
        {"name": "few", "metric": "block-rate", "atMost": "50%"},
        {"name": "fast", "metric": "latency", "atMost": "0.5"},
    ],
}


class Workers(Pod):
    """A pod whose two workers answer scrapes in turn; requests go to the one that answers next."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.counters = Counter({("FR", "block"): 0, ("FR", "allow"): 0})
        self._others = (Counter(self.counters), defaultdict(Counter))

    def _page(self, accepted: str) -> tuple[str, bytes]:
        mine, self._others = (self.counters, self.latencies), (self._others)
        page = super()._page(accepted)
        (self.counters, self.latencies), self._others = self._others, mine
        return page


class Crashing(Pod):
    """A pod whose process ends at every fifth scrape."""

    def _page(self, accepted: str) -> tuple[str, bytes]:
        page = super()._page(accepted)
        if not self.scrapes % 5:
            self.restart()
            self.count("FR", block=0, allow=0, latencies={0.2: 0})
        elif self.scrapes % 5 == 1:
            self.count("FR", block=75, allow=150, latencies={0.2: 225})
        return page


def read(prometheus: PrometheusServer, pod: Pod, began: datetime) -> Evidence:
    """Return what *pod* is said to have counted since *began*."""
    window = StageWindow("canary", "canary", began, datetime.now(UTC), 10)
    reader = PrometheusReader(PrometheusSettings(prometheus.url, scrape_interval=timedelta(seconds=SCRAPE)))
    evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, pod.revision))
    reader.close()
    return evidence


def test_workers_that_are_not_merged_are_no_evidence():
    """Without that, 100 requests were counted as some thousands, enough for any verdict."""
    pod = Workers("new")
    pod.count("FR", block=300, allow=600, latencies={0.2: 900})
    with PrometheusServer(binaries.ensure("prometheus"), [pod.target], scrape_interval=SCRAPE) as prometheus:
        time.sleep(2.5 * SCRAPE)
        began = datetime.now(UTC)
        pod.count("FR", block=10, allow=90, latencies={0.2: 100})
        time.sleep(7 * SCRAPE)
        evidence = read(prometheus, pod, began)
    pod.close()
    assert isinstance(evidence, MetricsUnavailable), evidence[0].counts["block-rate", ""].of
    assert "of revision new swing from scrape to scrape" in evidence.message
    assert "PROMETHEUS_MULTIPROC_DIR" in evidence.message


def test_a_pod_that_crashes_is_evidence():
    """Four falls within twenty scrapes are restarts, and counted as such."""
    pod = Crashing("new")
    binary = binaries.ensure("prometheus")
    with PrometheusServer(binary, [pod.target], scrape_interval=SCRAPE / 4) as prometheus:
        began = datetime.now(UTC)
        while pod.scrapes < 5 * 4 + 2:
            time.sleep(0.05)
        evidence = read(prometheus, pod, began)
    pod.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    assert evidence[0].counts["block-rate", ""].of[0, 1] > 0


@pytest.mark.parametrize("seconds_down", [2 * SCRAPE, 0.0], ids=["seen down", "back at once"])
def test_a_pod_that_crashes_again_and_again_is_evidence(seconds_down):
    """
    A new version that crashes after a few scrapes is no misconfigured target: were its counts no evidence, its users
    would stay with it.
    """
    pod = Pod("new")
    binary = binaries.ensure("prometheus")
    with PrometheusServer(binary, [pod.target], scrape_interval=SCRAPE) as prometheus:
        began = datetime.now(UTC)
        for _ in range(5):
            for _ in range(3):
                pod.count("FR", block=5, allow=10, latencies={0.2: 15})
                await_scrape(pod)
            pod.restart()
            pod.count("FR", block=0, allow=0, latencies={0.2: 0})
            pod.down = seconds_down > 0
            time.sleep(seconds_down)
            pod.down = False
        await_scrape(pod)
        time.sleep(SCRAPE / 2)
        evidence = read(prometheus, pod, began)
    pod.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    assert evidence[0].counts["block-rate", ""].of[0, 1] > 0


def await_scrape(pod: Pod) -> None:
    before = pod.scrapes
    while pod.scrapes == before:
        time.sleep(0.02)
