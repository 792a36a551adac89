"""
Counts read back from a real Prometheus equal what the exporters truly counted: births, resets, gaps, restarts.

One story is told to both versions of Prometheus at once. Nothing is counted around the edges of a window, so that the
truth does not depend on which side of an edge a scrape falls.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster import binaries, debian
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import MetricsUnavailable, StageCounts
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import Pod, pods

pytestmark = pytest.mark.prometheus

SCRAPE = 0.5
OLD, NEW = "aaaaaaa", "bbbbbbb"
CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"}],
}
Truth = Counter[tuple[str, str, str]]


@dataclass
class Story:
    """What happened: the windows and, by stage, the true counts of (revision, country, decision)."""

    windows: list[StageWindow] = field(default_factory=list)
    truth: dict[str, Truth] = field(default_factory=dict)

    @property
    def now(self) -> Truth:
        return self.truth[next(reversed(self.truth))]

    def decide(self, pod: Pod, country: str, *, block: int, allow: int) -> None:
        pod.count(country, block=block, allow=allow)
        if self.truth:
            self.now[pod.revision, country, "block"] += block
            self.now[pod.revision, country, "allow"] += allow

    def begin(self, stage: str) -> None:
        self._close()
        self.windows.append(StageWindow(stage, "canary", datetime.now(UTC), datetime.now(UTC)))
        self.truth[stage] = Counter()

    def end(self) -> None:
        self._close()

    def _close(self) -> None:
        time.sleep(2.5 * SCRAPE)
        if self.windows:
            last = self.windows[-1]
            self.windows[-1] = StageWindow(last.name, last.kind, last.start, datetime.now(UTC))


class Both:
    """Both versions of Prometheus, told the same at the same time."""

    def __init__(self) -> None:
        self.servers = {
            "3": PrometheusServer(binaries.ensure("prometheus"), scrape_interval=SCRAPE),
            "2": PrometheusServer(debian.prometheus(), scrape_interval=SCRAPE),
        }
        # The servers end with the thread that started them, so the threads live as long as this.
        self._pool = ThreadPoolExecutor(len(self.servers))

    def each(self, what: str, *args: object) -> None:
        list(self._pool.map(lambda server: getattr(server, what)(*args), self.servers.values()))


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Story, Both]]:
    """Tell the story."""
    story, both = Story(), Both()
    with pods(OLD, OLD, NEW, NEW) as (old_1, old_2, new_1, new_2):
        try:
            for pod in (old_1, old_2):
                story.decide(pod, "FR", block=5_000, allow=50_000)
                story.decide(pod, "DE", block=70, allow=800)
            both.each("start")
            both.each("set_targets", [old_1.target, old_2.target])
            time.sleep(2 * SCRAPE)

            story.begin("shadow")
            for pod in (new_1, new_2):
                story.decide(pod, "FR", block=400, allow=3_600)
                story.decide(pod, "DE", block=3, allow=0)  # rare: happened before the first scrape, never again
            both.each("set_targets", [pod.target for pod in (old_1, old_2, new_1, new_2)])
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=6)
            _gap(story, new_1)
            _crash(story, old_2)
            _crash(story, new_2, seen_down=False)
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=4)
            story.decide(new_2, "", block=2, allow=5)  # a series without the slice's label, born near the end

            story.begin("canary")
            both.each("stop")
            _traffic(story, [old_1, old_2, new_1, new_2], rounds=3)
            both.each("start")
            _crash(story, old_1)
            _traffic(story, [old_1, new_1], rounds=3)
            story.decide(old_1, "US", block=1, allow=0)  # one event, one or two samples
            story.end()
            yield story, both
        finally:
            both.each("close")


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


@pytest.fixture(params=["3", "2"])
def server(request: pytest.FixtureRequest, told: tuple[Story, Both]) -> PrometheusServer:
    return told[1].servers[request.param]


@pytest.fixture
def evidence(told: tuple[Story, Both], server: PrometheusServer) -> tuple[StageCounts, ...]:
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


@pytest.mark.parametrize("index", [0, 1], ids=["births, gaps, crashes", "Prometheus restarts"])
def test_every_event_is_counted_once(told, evidence, index):
    """Slice by slice and arm by arm, to the event."""
    truth = told[0].truth[told[0].windows[index].name]
    assert +truth == +as_truth(evidence[index])


@pytest.mark.parametrize("index", [0, 1])
def test_all_traffic_is_the_sum_of_the_slices(evidence, index):
    """Also with slices whose label is missing."""
    counts = evidence[index].counts
    assert counts["block-rate", "country"].of.sum(axis=0).tolist() == counts["block-rate", ""].of[0].tolist()
    assert counts["block-rate", "country"].events.sum(axis=0).tolist() == counts["block-rate", ""].events[0].tolist()
