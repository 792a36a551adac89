"""
Series that nobody scraped for more than an hour, written into a Prometheus as blocks: hours of history in seconds.

A pod goes, and hours later another one gets its address; or Prometheus is down for long, and a container restarts
meanwhile. The series is the same one then, and goes on from 0.
"""

import asyncio
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.cluster import binaries, debian
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.reasons import Outcome
from modelrelease.api.selectors import Matcher, Selector
from modelrelease.core.counting import Frame, counter_rise
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.judge import judge
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import NAMESPACE, RELEASE

pytestmark = pytest.mark.prometheus

SCRAPE = 30
HOUR = 3600
NOW = int(datetime.now(UTC).timestamp()) // 60 * 60
BEGAN = NOW - 6 * HOUR
CONTRACT = {
    "metrics": [{"name": "error-rate", "ratio": {"events": 'd_total{code="500"}', "of": "d_total"}}],
    "clauses": [{"name": "few", "metric": "error-rate", "atMost": "0.5%"}],
}
Points = Sequence[tuple[float, int]]
"""Unix time and value of samples."""


def write(series: Mapping[tuple[str, str], Points], server: PrometheusServer, tmp_path: Path) -> None:
    """Write series of ``d_total`` by instance and code into the data of a server that has not started."""
    lines = ["# TYPE d counter"]
    for (instance, code), points in series.items():
        labels = f'namespace="{NAMESPACE}",release="{RELEASE}",revision="new",instance="{instance}",code="{code}"'
        lines += [f"d_total{{{labels}}} {value} {moment}" for moment, value in points]
    text = tmp_path / "series.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    promtool = binaries.ensure("promtool")
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", text, server.data], check=True)


@pytest.fixture(params=["3", "2"])
def server(request: pytest.FixtureRequest) -> Iterator[PrometheusServer]:
    binary = binaries.ensure("prometheus") if request.param == "3" else debian.prometheus()
    prepared = PrometheusServer(binary, scrape_interval=SCRAPE)
    yield prepared
    prepared.close()


def served(start: float, end: float, *, before: int, errors_of_1000: int) -> tuple[Points, Points]:
    """Return what a pod counts that had answered *before* requests well, then ten a second: good ones, and errors."""
    moments = range(int(start), int(end) + 1, SCRAPE)
    answered = [10 * (moment - int(start)) for moment in moments]
    failed = [of * errors_of_1000 // 1000 for of in answered]
    good = [before + of - events for of, events in zip(answered, failed, strict=True)]
    return list(zip(moments, good, strict=True)), list(zip(moments, failed, strict=True))


def test_a_pod_that_gets_the_address_of_one_long_gone_is_no_verdict(server, tmp_path):
    """0.3 % of errors are no breach of 0.5 %, whatever the pod that was there before had counted before the stage."""
    gone = served(BEGAN - 2 * SCRAPE, BEGAN + HOUR, before=250_000, errors_of_1000=3)
    later = served(BEGAN + 3 * HOUR, NOW, before=0, errors_of_1000=3)
    other = served(BEGAN - 2 * SCRAPE, NOW, before=0, errors_of_1000=3)
    series = {
        **{("10.0.0.1:80", code): [*gone[it], *later[it]] for it, code in enumerate(("200", "500"))},
        **{("10.0.0.2:80", code): other[it] for it, code in enumerate(("200", "500"))},
    }
    write(series, server, tmp_path)
    server.start()
    reader = PrometheusReader(PrometheusSettings(server.url, scrape_interval=timedelta(seconds=SCRAPE)))
    began, now = (datetime.fromtimestamp(moment, UTC) for moment in (BEGAN, NOW))
    release = a_release(contract=CONTRACT)
    evidence = asyncio.run(reader.read(release, [StageWindow("full", "full", began, now, 100)], None, "new"))
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    verdict = judge(release.contract, evidence, error_budget=0.01, has_baseline=False, compared=False)
    assert Outcome.BREACH != verdict.outcome, verdict.message
    counts = evidence[0].counts["error-rate", ""]
    assert [100 * HOUR, 0.3 * HOUR] == pytest.approx([counts.of[0, 1], counts.events[0, 1]], rel=0.01)


def test_every_rise_is_counted_whatever_the_gaps(server, tmp_path):
    """Births, restarts, and silences of minutes and hours, in windows of any length that end at any moment."""
    chance = random.Random(5)
    series = {f"i{number}": _any_points(chance) for number in range(100)}
    write({(name, "200"): points for name, points in series.items()}, server, tmp_path)
    server.start()
    selector = Selector("d_total", (Matcher("release", "=", RELEASE),))
    for longest in (400, 1500, 3590, 3600, 3610, 7000, 14000, 14000):
        end = NOW - chance.uniform(0, 2 * HOUR)
        span = [
            datetime.fromtimestamp(end - shift, UTC)
            for shift in (longest * chance.choice([1, chance.uniform(0.8, 1)]), 0)
        ]
        frame = Frame.of(*span)
        assert frame is not None
        found = server.query(f"sum by (instance) ({counter_rise(selector, frame)})", at=frame.at / 1000)
        read = {it["metric"]["instance"]: float(it["value"][1]) for it in found}
        last = (frame.at - frame.back) / 1000
        want = {name: _rise(points, last - frame.width / 1000, last) for name, points in series.items()}
        assert want == {name: read.get(name, 0) for name in series}


def _any_points(chance: random.Random) -> Points:
    moment, value = NOW - 9 * HOUR + chance.random() * chance.choice([SCRAPE, 5 * HOUR]), chance.randrange(1000)
    points = []
    while moment < NOW:
        points.append((round(moment, 3), value))
        match chance.randrange(300):
            case 0:
                moment += chance.choice([600, 3000, 3590, 3610, 4000, 7000, 12000]) * chance.uniform(0.9, 1.1)
                value = chance.choice([value + 50, chance.randrange(value + 1)])
            case 1:
                value = chance.randrange(value + 1)
        moment += SCRAPE + chance.uniform(-0.4, 0.4)
        value += chance.randrange(3)
    return points


def _rise(points: Points, start: float, end: float) -> int:
    """Return how far a counter has risen; one that was silent for an hour when the window began is newborn."""
    before = [value for moment, value in points if start - HOUR < moment <= start]
    inside = [value for moment, value in points if start < moment <= end]
    earlier = [*(before[-1:] or [0]), *inside]
    return sum(now - then if now >= then else now for then, now in zip(earlier, inside, strict=False))
