"""Whatever spec can be parsed can be carried out: nothing in the operator raises on it, and nothing is unbounded."""

import copy
import itertools
import json
import os
import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from modelrelease.api.parse import MOST_BYTES, InvalidSpec, Release, parse
from modelrelease.core.announce import MESSAGE_KEPT
from modelrelease.core.answers import stage_counts
from modelrelease.core.bins import aligned
from modelrelease.core.counts import SliceCounts, StageCounts
from modelrelease.core.dossier import LARGEST
from modelrelease.core.queries import stage_queries
from tests.api.test_fuzz import SEED, mutated
from tests.builders import NO_METRICS, a_body
from tests.reconcile.fakes import FakeKube, Lab

pytestmark = pytest.mark.slow

RELEASES = int(os.environ.get("FUZZ_SPECS", "300")) // 20
TICKS = 8


class Silent:
    """A Prometheus that answers every question with nothing, or not at all."""

    def __init__(self) -> None:
        self.down = False

    async def read(self, release, windows, baseline, candidate):
        if self.down:
            return NO_METRICS
        asked = [stage_queries(release, it, baseline, candidate, lag=timedelta(0)) for it in windows]
        return aligned([stage_counts(it, dict.fromkeys(it.queries, ()))[0] for it in asked])


def parsed_specs() -> list[dict[str, object]]:
    """Return as many mutated specs as wanted that can be parsed."""
    chance = random.Random(SEED)
    found: list[dict[str, object]] = []
    while len(found) < RELEASES:
        body = mutated(chance)
        body["metadata"] = {**a_body()["metadata"], "name": "radar"}
        if isinstance(parse(body), Release):
            found.append(body)
    return found


async def test_a_spec_that_can_be_parsed_never_raises():
    """As a first release and as the successor of a usual one, with an hour between two looks."""
    usual = Lab(FakeKube(body=a_body("1")))
    await usual.run(until="full")
    usual.now += timedelta(hours=1)
    await usual.run(until="Completed")
    for body in parsed_specs():
        successor = copy.deepcopy(usual.kube)
        successor.edit(**body["spec"])
        for kube in (FakeKube(body=body), successor):
            lab = Lab(kube, now=usual.now)
            lab.metrics = Silent()
            for tick in range(TICKS):
                lab.metrics.down = tick % 4 == 3
                await lab.tick()
                lab.now += timedelta(hours=1)
            assert kube.status["conditions"]
            assert len(json.dumps(kube.status)) < MOST_BYTES


def test_a_spec_of_a_megabyte_is_refused():
    """It says how much is allowed; whatever is recorded about it has to fit beside it."""
    server = a_body()["spec"]["server"]
    server["template"]["spec"]["containers"][0]["env"] = [{"name": "BLOB", "value": "x" * 1_000_000}]
    refused = parse(a_body(server=server))
    assert isinstance(refused, InvalidSpec)
    assert refused.message.startswith("spec: has 10")
    assert f"allowed are {MOST_BYTES}" in refused.message


@pytest.mark.parametrize(
    ("where", "items"),
    [
        ("spec.contract.slices", [{"name": f"s{n}", "labels": [f"l{n}"]} for n in range(1000)]),
        ("spec.contract.metrics", [{"name": f"m{n}", "ratio": {"events": "x", "of": "y"}} for n in range(1000)]),
        ("spec.contract.clauses", [{"name": f"c{n}", "metric": "error-rate", "atMost": "1%"} for n in range(1000)]),
        ("spec.stages", [{"name": f"s{n}", "shadow": {"percent": 5}} for n in range(1000)]),
    ],
)
def test_nothing_can_be_had_a_thousand_times(where, items):
    """Questions to Prometheus and the size of a status are bounded by the spec."""
    _, *path, last = where.split(".")
    spec = a_body()["spec"]
    part = spec[path[0]] if path else spec
    part[last] = items
    refused = parse(a_body(**spec))
    assert isinstance(refused, InvalidSpec)
    assert f"{where}: 1000 items are too many, at most " in refused.message


def test_history_is_bounded():
    refused = parse(a_body(history=1000))
    assert isinstance(refused, InvalidSpec)
    assert "spec.history: " in refused.message


DIMENSIONS, METRICS, CLAUSES, STAGES = 16, 32, 64, 16
"""As many as a spec may have."""

VALUES = 20
"""Values of each slice label that Prometheus tells of."""


NAMES = [f"{'n' * 50}-{number}" for number in range(CLAUSES)]


def crowded(stage: StageCounts) -> StageCounts:
    """Return the counts of a stage as those of every metric, in each of many slices of every dimension."""
    told = stage.counts["block-rate", ""]
    counts = {}
    for metric, dimension in itertools.product(NAMES[:METRICS], ["", *NAMES[:DIMENSIONS]]):
        values = range(VALUES if dimension else 1)
        slices = tuple(((dimension, f"value-{value}"),) if dimension else () for value in values)
        events, of = (np.repeat(it, len(values), axis=0) for it in (told.events, told.of))
        counts[metric, dimension] = SliceCounts(slices, events, of)
    return replace(stage, counts=counts)


def the_largest_spec() -> dict[str, object]:
    """Return a spec with as much of everything as is allowed."""
    contract = {
        "slices": [{"name": NAMES[n], "labels": [f"l{n}"]} for n in range(DIMENSIONS)],
        "metrics": [
            {"name": NAMES[n], "ratio": {"events": f'm{n}_total{{a="bad"}}', "of": f"m{n}_total"}}
            for n in range(METRICS)
        ],
        "clauses": [
            {"name": NAMES[n], "metric": NAMES[n % METRICS], "per": [NAMES[(n + k) % DIMENSIONS] for k in range(8)],
             "within": "100%"}
            for n in range(CLAUSES)
        ],
    }  # fmt: skip
    canaries = [
        {"name": f"c{n}", "canary": {"percent": 1 + 6 * n}, "bake": "1m", "deadline": "9h"} for n in range(STAGES - 1)
    ]
    full = {"name": "full", "full": {}, "bake": "1m", "deadline": "9h"}
    return {"contract": contract, "stages": [*canaries, full], "history": 50, "analysis": {"interval": "1m"}}


async def test_the_largest_spec_is_carried_out_within_bounds():
    """As large as itself, with many slices: status, evidence and events stay small, through stages and a rollback."""
    lab = Lab(FakeKube(body=a_body("1", **the_largest_spec())))
    lab.metrics.seen_as = crowded
    await lab.run(until="Completed")
    lab.kube.edit(model={"version": "2"})
    for _ in range(20):
        lab.metrics.rates["2"] = 0.5 if lab.kube.status["stage"] == "c1" else 0.2
        await lab.tick()
        lab.now += timedelta(minutes=1)
        # With a spec beside it, that is half of what the API server stores.
        assert len(json.dumps(lab.kube.status)) < 2 * MOST_BYTES
    assert (lab.kube.status["stage"], lab.kube.status["rejected"][0]["stage"]) == ("RolledBack", "c1")
    assert max(len(message) for _, message in lab.kube.events) <= MESSAGE_KEPT
    assert lab.kube.dossiers
    assert all(len(json.dumps(it)) < 2 * LARGEST for it in lab.kube.dossiers.values())
