"""
Counts read back from a real Prometheus equal what the exporters truly counted: births, resets, gaps, restarts.

One story is told at once to two versions of Prometheus, and to one that keeps native histograms: exponential ones, or
its own of classic ones. Nothing is counted around the edges of a window, so that the truth does not depend on which
side of an edge a scrape falls.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from e2e.cluster import binaries, debian
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import BinCounts, MetricsUnavailable, StageCounts
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.exposition import BOUNDS
from tests.prometheus.pods import Pod, pods

pytestmark = pytest.mark.prometheus

SCRAPE = 0.5
OLD, NEW = "aaaaaaa", "bbbbbbb"
CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [
        {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
        {"name": "blocks", "rate": {"events": 'd_total{decision="block"}'}},
        {"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.99"}},
    ],
    "clauses": [
        {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"},
        {"name": "blocks", "metric": "blocks", "per": ["country"], "noWorse": "5%"},
        {"name": "fast", "metric": "latency", "per": ["country"], "noWorse": "100%"},
    ],
}
PERCENT = 10
Truth = Counter[tuple[str, str, str]]

SECONDS = {OLD: {"block": 1.9, "allow": 0.2}, NEW: {"block": 1.9, "allow": 0.5}}
"""How long a decision takes; 0.5 is a bound of the buckets."""


@dataclass
class Story:
    """What happened: the windows and, by stage, the true counts of (revision, country, decision)."""

    windows: list[StageWindow] = field(default_factory=list)
    truth: dict[str, Truth] = field(default_factory=dict)

    @property
    def now(self) -> Truth:
        return self.truth[next(reversed(self.truth))]

    def decide(self, pod: Pod, country: str, *, block: int, allow: int) -> None:
        takes = SECONDS[pod.revision]
        latencies = {takes["block"]: block, takes["allow"]: allow}
        pod.count(country, block=block, allow=allow, latencies={value: n for value, n in latencies.items() if n})
        if self.truth:
            self.now[pod.revision, country, "block"] += block
            self.now[pod.revision, country, "allow"] += allow

    def begin(self, stage: str) -> None:
        self._close()
        self.windows.append(StageWindow(stage, "canary", datetime.now(UTC), datetime.now(UTC), PERCENT))
        self.truth[stage] = Counter()

    def end(self) -> None:
        self._close()

    def _close(self) -> None:
        time.sleep(2.5 * SCRAPE)
        if self.windows:
            last = self.windows[-1]
            self.windows[-1] = StageWindow(last.name, last.kind, last.start, datetime.now(UTC), PERCENT)


class Servers:
    """Several Prometheus, told the same at the same time; *all* by name."""

    def __init__(self) -> None:
        newest = binaries.ensure("prometheus")
        self.all = {
            "3": PrometheusServer(newest, scrape_interval=SCRAPE),
            "2": PrometheusServer(debian.prometheus(), scrape_interval=SCRAPE),
            "3, native": PrometheusServer(newest, scrape_interval=SCRAPE, options={"scrape_native_histograms": True}),
            "3, converting": PrometheusServer(
                newest,
                scrape_interval=SCRAPE,
                options={"scrape_native_histograms": True, "scrape_protocols": ["PrometheusText0.0.4"]}
                | {"convert_classic_histograms_to_nhcb": True},
            ),
        }
        # The servers end with the thread that started them, so the threads live as long as this.
        self._pool = ThreadPoolExecutor(len(self.all))

    def each(self, what: str, *args: object) -> None:
        list(self._pool.map(lambda server: getattr(server, what)(*args), self.all.values()))


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Story, Servers]]:
    """Tell the story."""
    story, servers = Story(), Servers()
    with pods(OLD, OLD, NEW, NEW) as (old_1, old_2, new_1, new_2):
        try:
            for pod in (old_1, old_2):
                story.decide(pod, "FR", block=5_000, allow=50_000)
                story.decide(pod, "DE", block=70, allow=800)
            servers.each("start")
            servers.each("set_targets", [old_1.target, old_2.target])
            time.sleep(2 * SCRAPE)

            story.begin("shadow")
            for pod in (new_1, new_2):
                story.decide(pod, "FR", block=400, allow=3_600)
                story.decide(pod, "DE", block=3, allow=0)  # rare: happened before the first scrape, never again
            servers.each("set_targets", [pod.target for pod in (old_1, old_2, new_1, new_2)])
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=6)
            _gap(story, new_1)
            _crash(story, old_2)
            _crash(story, new_2, seen_down=False)
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=4)
            story.decide(new_2, "", block=2, allow=5)  # a series without the slice's label, born near the end

            story.begin("canary")
            servers.each("stop")
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=3)
            servers.each("start")
            _crash(story, old_1)
            _traffic(story, [old_1, new_1], rounds=3)
            story.decide(old_1, "US", block=1, allow=0)  # one event, one or two samples
            story.end()
            yield story, servers
        finally:
            servers.each("close")


def _traffic(story: Story, running: list[Pod], *, rounds: int) -> None:
    for number in range(rounds):
        for pod in running:
            story.decide(pod, "FR", block=11 + number, allow=97)
            story.decide(pod, "DE", block=number % 2, allow=5)
        time.sleep(0.7 * SCRAPE)


def _gap(story: Story, pod: Pod) -> None:
    """The pod serves, and cannot be scraped for a while."""
    pod.down = True
    _traffic(story, [pod], rounds=5)
    pod.down = False
    time.sleep(2 * SCRAPE)


def _crash(story: Story, pod: Pod, *, seen_down: bool = True) -> None:
    """The container restarts, with scrapes failing meanwhile or not; its last counts had been scraped."""
    time.sleep(2.2 * SCRAPE)
    pod.down = seen_down
    pod.restart()
    time.sleep(2.2 * SCRAPE)
    pod.down = False
    story.decide(pod, "FR", block=2, allow=20)
    story.decide(pod, "DE", block=0, allow=1)
    time.sleep(2.2 * SCRAPE)


@pytest.fixture(params=["3", "2", "3, native", "3, converting"])
def server(request: pytest.FixtureRequest, told: tuple[Story, Servers]) -> PrometheusServer:
    return told[1].all[request.param]


@pytest.fixture
def evidence(told: tuple[Story, Servers], server: PrometheusServer) -> tuple[StageCounts, ...]:
    reader = PrometheusReader(PrometheusSettings(url=server.url, scrape_interval=timedelta(seconds=SCRAPE)))
    evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), told[0].windows, OLD, NEW))
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    return evidence


def as_truth(stage: StageCounts) -> Truth:
    """Return the counts of slices as the story tells them."""
    counts = stage.counts["block-rate", "country"]
    read: Truth = Counter()
    for row, ((_, country),) in enumerate(counts.slices):
        for column, revision in enumerate((OLD, NEW)):
            key = "" if country == "(none)" else country
            read[revision, key, "block"] = counts.events[row, column]
            read[revision, key, "allow"] = counts.of[row, column] - counts.events[row, column]
    return read


def true_bins(truth: Truth, read: BinCounts) -> np.ndarray:
    """Return what the story tells in the bins that were *read*."""
    rows = {"" if country == "(none)" else country: row for row, ((_, country),) in enumerate(read.slices)}
    bins = np.zeros(read.bins.shape)
    for (revision, country, decision), n in truth.items():
        place = np.searchsorted(read.bounds, SECONDS[revision][decision], side="left")
        bins[rows[country], place, (OLD, NEW).index(revision)] += n
    return bins


each_stage = pytest.mark.parametrize("index", [0, 1], ids=["births, gaps, crashes", "Prometheus restarts"])


@each_stage
def test_every_event_is_counted_once(told, evidence, index):
    """Slice by slice and arm by arm, to the event."""
    truth = told[0].truth[told[0].windows[index].name]
    assert +truth == +as_truth(evidence[index])


@each_stage
def test_every_observation_is_in_its_bin(told, evidence, index):
    """Slice by slice and arm by arm, to the observation, in classic and in native histograms."""
    truth = told[0].truth[told[0].windows[index].name]
    read = evidence[index].histograms["latency", "country"]
    assert true_bins(truth, read).tolist() == read.bins.tolist()
    overall = evidence[index].histograms["latency", ""]
    assert overall.bins[0].tolist() == read.bins.sum(axis=0).tolist()


def test_classic_histograms_have_all_their_bounds(evidence, request):
    """Also where nobody has observed anything; a native histogram tells only of buckets with observations."""
    bounds = evidence[0].histograms["latency", ""].bounds
    native = any(name in request.node.callspec.id for name in ("native", "converting"))
    assert native or list(BOUNDS) == bounds.tolist()
    assert {1.0, 2.5} <= set(bounds) or "native" in request.node.callspec.id
    assert 0.5 in bounds


@each_stage
def test_a_rate_is_counted_against_its_share_of_the_time(told, evidence, index):
    """Nine tenths of the traffic went to the baseline."""
    rate, ratio = (evidence[index].counts[metric, "country"] for metric in ("blocks", "block-rate"))
    assert rate.events.sum(axis=0).tolist() == ratio.events.sum(axis=0).tolist()
    shares = [1 - PERCENT / 100, PERCENT / 100]
    assert rate.of[0] == pytest.approx([evidence[index].seconds * share for share in shares])


def test_only_time_with_samples_is_covered(told, server):
    """A minute in which the candidate's pods did not exist is no evidence of anything, whatever the window says."""
    shadow, canary = told[0].windows
    earlier = replace(shadow, start=shadow.start - timedelta(minutes=1), end=canary.end)
    reader = PrometheusReader(PrometheusSettings(url=server.url, scrape_interval=timedelta(seconds=SCRAPE)))
    evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [earlier], OLD, NEW))
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    (read,) = evidence
    existed = read.seconds - 60
    assert 0.5 * existed < read.covered <= existed + 2 * SCRAPE + 1


BAKED = [
    {"name": "canary", "canary": {"percent": PERCENT}, "bake": "8s", "deadline": "1h"},
    {"name": "full", "full": {}},
]
SILENCE = 2.0
"""Seconds without requests that count: a quarter of that bake."""


def test_only_time_with_requests_is_served(told, server):
    """Pods that are scraped while nobody asks them anything bake no longer than a short silence lasts."""
    canary = told[0].windows[1]
    quiet_since = canary.end
    time.sleep(max(0.0, 6 - (datetime.now(UTC) - quiet_since).total_seconds()))
    now = datetime.now(UTC)
    reader = PrometheusReader(PrometheusSettings(url=server.url, scrape_interval=timedelta(seconds=SCRAPE)))
    release = a_release(contract=CONTRACT, stages=BAKED)
    evidence = asyncio.run(reader.read(release, [replace(canary, end=now)], OLD, NEW))
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    (read,) = evidence
    silent = (now - quiet_since).total_seconds()
    assert read.covered > silent, "it was scraped all the time, but for the restart of Prometheus"
    assert SILENCE < read.served <= read.covered - silent + SILENCE + 2 * SCRAPE + 1


@pytest.mark.parametrize("index", [0, 1])
def test_all_traffic_is_the_sum_of_the_slices(evidence, index):
    """Also with slices whose label is missing."""
    counts = evidence[index].counts
    assert counts["block-rate", "country"].of.sum(axis=0).tolist() == counts["block-rate", ""].of[0].tolist()
    assert counts["block-rate", "country"].events.sum(axis=0).tolist() == counts["block-rate", ""].events[0].tolist()
