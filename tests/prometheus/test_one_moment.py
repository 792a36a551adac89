"""
A scrape that ends between two questions: its sample bears the time at which it began, and only later questions see it.

The questions go through a relay to a real Prometheus, one at a time; half-way through, the relay lets a scrape end that
has been open since before the moment that is asked about.
"""

import asyncio
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.status import StageRecord
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.queries import StageWindow, evidence_window
from tests.builders import a_release
from tests.prometheus.pods import Pod, pods

pytestmark = pytest.mark.prometheus

SCRAPE = 1.0
CONTRACT = {
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "few", "metric": "block-rate", "atMost": "50%"}],
}


@contextmanager
def relay(url: str, before: Callable[[str], str | None]) -> Iterator[str]:
    """Pass questions on to *url*, each after *before* has been called with it, or to the address that it returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = before(self.path) or url
            with urllib.request.urlopen(asked + self.path) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def until(met: Callable[[], bool]) -> None:
    """Wait for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def scraped(prometheus: PrometheusServer) -> float:
    """Return how much Prometheus knows to have been counted."""
    return sum(float(sample["value"][1]) for sample in prometheus.query("sum(d_total)"))


def count(pod: Pod) -> None:
    pod.count("FR", block=200, allow=800, latencies={})


def test_a_scrape_that_ends_between_two_questions():
    """All counts are those of before it, or all those of after it; a share of none or of all was never true."""
    with pods("new") as (pod,), PrometheusServer(binaries.ensure("prometheus"), scrape_interval=SCRAPE) as prometheus:
        prometheus.set_targets([pod.target])
        began = datetime.now(UTC)
        time.sleep(1.1)  # windows are whole seconds
        count(pod)
        until(lambda: scraped(prometheus) == 1000)
        pod.open.clear()
        until(lambda: pod.waiting)
        count(pod)
        moment = datetime.now(UTC)
        counters: list[str] = []

        def let_it_end(path: str) -> None:
            if "query=sum+by" not in path and "query=sum%20by" not in path:
                return
            counters.append(path)
            if len(counters) == 2:
                pod.open.set()
                until(lambda: scraped(prometheus) == 2000)

        with relay(prometheus.url, let_it_end) as url:
            settings = PrometheusSettings(url, scrape_interval=timedelta(seconds=SCRAPE), concurrency=1)
            reader = PrometheusReader(settings)
            window = StageWindow("full", "full", began, moment)
            evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, "new"))
            reader.close()
        assert not isinstance(evidence, MetricsUnavailable), evidence
        counts = evidence[-1].counts["block-rate", ""]
        assert (400, 2000) == (counts.events[0, 1], counts.of[0, 1])
        assert len(counters) == 4, "both counters were read twice"


def test_two_servers_that_answer_in_turn_are_no_evidence():
    """As two replicas behind one Service: each scrapes at moments of its own, and one is ahead of the other."""
    binary = binaries.ensure("prometheus")
    with (
        pods("new") as (pod,),
        PrometheusServer(binary, [pod.target], scrape_interval=SCRAPE / 2) as ahead,
        PrometheusServer(binary, [pod.target], scrape_interval=3 * SCRAPE) as behind,
    ):
        pod.count("FR", block=1, allow=0, latencies={})
        until(lambda: scraped(ahead) == scraped(behind) == 1)
        began = datetime.now(UTC)
        time.sleep(1.1)  # windows are whole seconds
        count(pod)
        until(lambda: scraped(ahead) == 1001)

        def numerators_of_the_one(path: str) -> str | None:
            return behind.url if path.startswith("/api/v1/query?query=sum") and "decision" not in path else None

        with relay(ahead.url, numerators_of_the_one) as url:
            reader = PrometheusReader(PrometheusSettings(url, scrape_interval=timedelta(seconds=3 * SCRAPE)))
            window = StageWindow("full", "full", began, datetime.now(UTC))
            evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, "new"))
            reader.close()
        assert isinstance(evidence, MetricsUnavailable), evidence[0].counts["block-rate", ""]
        assert "several servers with scrapes of their own answer in turn" in evidence.message


def test_what_was_counted_since_the_last_scrape_before_a_stage_is_no_evidence_of_it():
    """Those requests were shared as an earlier stage asked: all of them copies, say, where users come now."""
    with pods("new") as (pod,), PrometheusServer(binaries.ensure("prometheus"), scrape_interval=SCRAPE) as prometheus:
        prometheus.set_targets([pod.target])
        count(pod)
        until(lambda: scraped(prometheus) == 1000)
        count(pod)  # of the stage before, and not scraped when that ends
        began = datetime.now(UTC)
        stage = StageRecord(name="canary", kind="canary", start_time=began.replace(microsecond=0))
        time.sleep(2.5 * SCRAPE)
        count(pod)
        until(lambda: scraped(prometheus) == 3000)
        window = evidence_window(stage, datetime.now(UTC), timedelta(seconds=SCRAPE))
        reader = PrometheusReader(PrometheusSettings(prometheus.url, scrape_interval=timedelta(seconds=SCRAPE)))
        evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, "new"))
        reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    assert evidence[-1].counts["block-rate", ""].of[0, 1] == 1000
