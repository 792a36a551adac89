"""Whatever spec can be parsed can be carried out: nothing in the operator raises on it, and nothing is unbounded."""

import copy
import json
import os
import random
from datetime import timedelta

import pytest

from modelrelease.api.parse import MOST_BYTES, InvalidSpec, Release, parse
from modelrelease.core.answers import stage_counts
from modelrelease.core.bins import aligned
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
