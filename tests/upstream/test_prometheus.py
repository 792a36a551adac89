"""
Prometheus, as it is: why ``core/counting.py`` does not ask for ``increase()``.

A test that fails here is good news: it says which of our code may go.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.api.selectors import parse_selector
from modelrelease.core.counting import Frame, counter_rise
from tests.prometheus.pods import Pod, pods
from tests.upstream.conftest import until

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

SCRAPE = 0.5
WINDOW = timedelta(seconds=5)
BLOCKED = 'd_total{decision="block"}'


@pytest.fixture
def newborn() -> Iterator[tuple[PrometheusServer, Pod]]:
    """A pod that has blocked seven requests before it was first scraped, and none since: a rare event."""
    with pods("new") as [pod]:
        pod.count("FR", block=7, allow=0, latencies={})
        with PrometheusServer(binaries.ensure("prometheus"), [pod.target], scrape_interval=SCRAPE) as server:
            until(lambda: pod.scrapes >= 4)
            yield server, pod


def test_what_was_counted_before_the_first_scrape_is_lost(newborn: tuple[PrometheusServer, Pod]):
    """``increase()`` drops the first sample of a newborn series; the expression of ours reads it."""
    server, _ = newborn
    now = datetime.now(UTC)
    selector, frame = parse_selector(BLOCKED), Frame.of(now - WINDOW, now)
    assert frame is not None
    ours = server.query(f"sum({counter_rise(selector, frame)})", at=frame.at / 1000)
    theirs = server.query(f"sum(increase({BLOCKED}[{WINDOW.seconds}s]))", at=now.timestamp())
    assert [float(it["value"][1]) for it in ours] == [7]
    told = "fixed upstream: increase() counts what a newborn series begins with; counting.py may use it"
    assert [float(it["value"][1]) for it in theirs] in ([], [0]), told
