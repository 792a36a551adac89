"""Native histograms as a real client library writes them: Prometheus counts its own requests, and we know how many."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer, Target
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import BinCounts, MetricsUnavailable
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import NAMESPACE, RELEASE

pytestmark = pytest.mark.prometheus

SCRAPE = 0.5
REQUESTS = 37
HANDLER = "/api/v1/query"
CONTRACT = {
    "slices": [{"name": "handler", "labels": ["handler"]}],
    "metrics": [
        {
            "name": "latency",
            "quantile": {"histogram": "prometheus_http_request_duration_seconds", "q": "0.9"},
        }
    ],
    "clauses": [{"name": "fast", "metric": "latency", "per": ["handler"], "noWorse": "100%"}],
}


@pytest.fixture(scope="module")
def read() -> BinCounts:
    """Make requests, and read how long they took."""
    options = {"scrape_native_histograms": True}
    labels = {"namespace": NAMESPACE, "release": RELEASE, "revision": "new"}
    with PrometheusServer(binaries.ensure("prometheus"), scrape_interval=SCRAPE, options=options) as server:
        server.set_targets([Target(server.url.removeprefix("http://"), labels)])
        time.sleep(2.5 * SCRAPE)
        began = datetime.now(UTC)
        time.sleep(2.5 * SCRAPE)
        for _ in range(REQUESTS):
            server.query("up")
        time.sleep(2.5 * SCRAPE)
        window = StageWindow("canary", "canary", began, datetime.now(UTC), 10)
        reader = PrometheusReader(PrometheusSettings(server.url, scrape_interval=timedelta(seconds=SCRAPE)))
        evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, "new"))
        reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    return evidence[0].histograms["latency", "handler"]


def test_every_request_is_counted(read):
    row = read.slices.index((("handler", HANDLER),))
    assert [0, REQUESTS] == read.of[row].tolist()


def test_bins_are_as_fine_as_the_histogram(read):
    """A factor of about 1.1 from bound to bound."""
    bounds = read.bounds[read.bounds > 1e-6]
    steps = bounds[1:] / bounds[:-1]
    assert 1.08 < steps.min() < 1.1
    assert len(bounds) > 5
