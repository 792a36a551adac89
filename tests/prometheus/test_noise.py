"""
What a real Prometheus tells of the baseline's noise is what happened: bursts, a birth, a crash, two halves of the pods.

The history is written into Prometheus as blocks, so that an hour of it takes no hour.
"""

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import FloatArray, MetricsUnavailable, Noise
from modelrelease.core.noise import design_effect
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import NAMESPACE, RELEASE

pytestmark = pytest.mark.prometheus

SCRAPE = 5
STEP = 10
BURST = 4
PODS = ("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")
COUNTRIES = {"FR": (0.3, 40), "DE": (0.1, 90), "MT": (0.1, 0.01)}
"""Rate of blocks, and bursts in a scrape of one pod."""

BORN, CRASHED = 3, 1
"""The last pod is born in mid-history, the second crashes."""

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
BEGAN = NOW - timedelta(minutes=5)
WINDOW = StageWindow("canary", "canary", BEGAN, NOW, 10)
SCRAPES = 20 * 60 // SCRAPE
"""Twenty minutes of them; 90 steps and the ten minutes before the stage are the last fifteen."""

CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"}],
}


class History:
    """
    What the pods counted.

    Attributes:
        counted: Increments by pod, country, decision (block, allow) and scrape, ``(4, 3, 2, SCRAPES)``.
        counters: What was scraped, likewise; NaN before a birth.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        shape = (len(PODS), SCRAPES)
        parts = []
        for rate, bursts in COUNTRIES.values():
            number = rng.poisson(bursts, shape)
            blocks = rng.binomial(number, rate)
            parts.append(np.stack([blocks, number - blocks], axis=1) * BURST)
        self.counted: FloatArray = np.stack(parts, axis=1).astype(float)
        self.counted[BORN, ..., : SCRAPES // 2] = 0
        self.counters = np.cumsum(self.counted, axis=-1)
        self.counters[CRASHED, ..., SCRAPES * 2 // 3 :] -= self.counters[CRASHED, ..., SCRAPES * 2 // 3 - 1][..., None]
        self.counters[BORN, ..., : SCRAPES // 2] = np.nan

    def write(self, folder: Path) -> Path:
        """Write it as OpenMetrics; return the file."""
        began = NOW.timestamp() - SCRAPE * (SCRAPES - 1)
        lines = ["# TYPE d counter"]
        for pod, country, decision in np.ndindex(self.counters.shape[:3]):
            where = {"namespace": NAMESPACE, "release": RELEASE, "revision": "old", "instance": PODS[pod]}
            labels = where | {"country": list(COUNTRIES)[country], "decision": ("block", "allow")[decision]}
            name = "d_total{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
            values = self.counters[pod, country, decision]
            lines += [f"{name} {v:.0f} {began + SCRAPE * i:.0f}" for i, v in enumerate(values) if np.isfinite(v)]
        file = folder / "history.txt"
        file.write_text("\n".join([*lines, "# EOF", ""]))
        return file

    def steps(self) -> FloatArray:
        """Return blocks and all requests by country in the last 90 steps, ``(2, 3, 90)``."""
        per_step = STEP // SCRAPE
        ends = SCRAPES - 1 - per_step * np.arange(90)[::-1]
        rise = self.counters[..., ends] - self.counters[..., ends - per_step]
        blocks = rise[:, :, 0]
        alone = np.stack([blocks, rise[:, :, 1]])
        known = np.where(np.isfinite(alone) & (alone >= 0), alone, 0.0)
        return np.stack([known[0].sum(axis=0), known.sum(axis=(0, 1))])


@pytest.fixture(scope="module")
def history() -> History:
    return History()


@pytest.fixture(scope="module")
def noise(history: History, tmp_path_factory: pytest.TempPathFactory) -> Noise:
    """Read it through the reader."""
    server = PrometheusServer(binaries.ensure("prometheus"))
    file = history.write(tmp_path_factory.mktemp("history"))
    subprocess.run(
        [binaries.ensure("promtool"), "tsdb", "create-blocks-from", "openmetrics", file, server.data],
        check=True,
        capture_output=True,
    )
    with server:
        reader = PrometheusReader(PrometheusSettings(server.url, scrape_interval=timedelta(seconds=SCRAPE)))
        evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [WINDOW], "old", "new"))
        reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    found = evidence[-1].noise
    assert found is not None
    return found


def test_bursts_are_found(history, noise):
    """Step by step what happened, but for a pod's birth and crash; a country with hardly any requests is silent."""
    blocks, requests = history.steps()
    by_country = (blocks, requests)
    overall = (blocks.sum(axis=0, keepdims=True), requests.sum(axis=0, keepdims=True))
    assert noise.design_effects["block-rate"] == pytest.approx(design_effect([overall, by_country]))
    assert noise.design_effects["block-rate"] == pytest.approx(BURST, rel=0.3)


def test_halves_of_the_pods_are_counted_to_the_event(history, noise):
    """Since ten minutes before the stage; a pod's birth and crash lose nothing."""
    assert noise.halves is not None
    since = SCRAPES - int((NOW - BEGAN + timedelta(minutes=10)).total_seconds()) // SCRAPE
    counted = history.counted[..., since:].sum(axis=-1)
    for column, half in enumerate(([0, 2], [1, 3])):
        blocks, allows = np.moveaxis(counted[half].sum(axis=0), -1, 0)
        read = noise.halves.counts["block-rate", "country"]
        rows = {part[0][1]: row for row, part in enumerate(read.slices)}
        for country, name in enumerate(COUNTRIES):
            assert read.events[rows[name], column] == blocks[country]
            assert read.of[rows[name], column] == blocks[country] + allows[country]
        overall = noise.halves.counts["block-rate", ""]
        assert overall.of[0, column] == (blocks + allows).sum()
