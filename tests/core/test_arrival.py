"""Proof that requests arrive where the route sends them."""

import numpy as np
import pytest

from modelrelease.core.arrival import arrival, wrong_split
from modelrelease.core.counts import SliceCounts, StageCounts
from tests.core.judging import a_contract
from tests.core.test_metric_kinds import a_contract as of_every_kind

CONTRACT = a_contract()


def _stage(baseline: float, candidate: float, seconds: float = 150.0) -> StageCounts:
    counts = SliceCounts(slices=((),), events=np.zeros((1, 2)), of=np.array([[baseline, candidate]]))
    return StageCounts("shadow", "shadow", seconds, {("block-rate", ""): counts})


@pytest.mark.parametrize(
    ("stage", "percent", "want"),
    [
        pytest.param(_stage(1000, 1000), 100, True, id="every copy arrives"),
        pytest.param(_stage(1000, 0), 100, False, id="a router that drops the filter in silence"),
        pytest.param(_stage(1000, 480), 50, True, id="half is copied, as asked"),
        pytest.param(_stage(1000, 480), 100, False, id="half arrives where all is asked for"),
        pytest.param(_stage(40, 0), 100, None, id="too few requests to tell"),
        pytest.param(_stage(750, 369, seconds=5), 100, None, id="the Gateway is still taking up the route"),
        pytest.param(_stage(2250, 1500, seconds=15), 100, None, id="nothing is due before it has settled"),
        pytest.param(StageCounts("shadow", "shadow", 60.0, {}), 100, None, id="nothing was counted"),
    ],
)
def test_copies_arrive_or_do_not_or_cannot_be_told(stage, percent, want):
    """The candidate's own count proves the shadow; a filter in a route proves nothing."""
    assert want is arrival(CONTRACT, stage, percent).flowing


def _canary(baseline: float, candidate: float, percent: int | None = 10, seconds: float = 600.0) -> StageCounts:
    counts = _stage(baseline, candidate).counts
    return StageCounts("canary-10", "canary", seconds, counts, percent=percent)


@pytest.mark.parametrize(
    ("stage", "want"),
    [
        pytest.param(_canary(9000, 1000), None, id="as the route asks"),
        pytest.param(_canary(9050, 950), None, id="a little less, as Gateways round"),
        pytest.param(_canary(8000, 2000), 0.2, id="twice the share"),
        pytest.param(_canary(9800, 200), 0.02, id="a fifth of it"),
        pytest.param(_canary(10_000, 0), 0.0, id="nothing arrives"),
        pytest.param(_canary(8, 3), None, id="too few requests to tell"),
        pytest.param(_canary(800, 200, seconds=10), None, id="the Gateway is still taking up the route"),
        pytest.param(_canary(8000, 2000, percent=None), None, id="an old record that does not know the share"),
        pytest.param(_stage(8000, 2000), None, id="a shadow has no split"),
    ],
)
def test_a_split_that_is_not_the_routes_is_told_with_what_arrives(stage, want):
    """A tenth more or less than asked, and the first seconds, are let pass."""
    split = wrong_split(CONTRACT, stage)
    assert want == (split and split.arrived)


def test_a_canary_that_is_judged_early_and_late_is_not_doubted_for_its_first_seconds():
    """The Gateway took up the route ten seconds late: at no look does that make a wrong split."""
    for seconds in (15, 30, 60, 300, 3600):
        late = 100 * 10 * 0.5
        stage = _canary(100 * seconds * 0.5 + late, 100 * seconds * 0.5 - late, percent=50, seconds=seconds)
        assert wrong_split(CONTRACT, stage) is None


def test_events_per_second_are_no_requests():
    """The time of a rate is larger than the count of a quiet service."""
    time = SliceCounts(slices=((),), events=np.zeros((1, 2)), of=np.array([[540.0, 60.0]]))
    stage = StageCounts("canary-10", "canary", 600.0, {("fallbacks", ""): time}, percent=50)
    assert wrong_split(of_every_kind({"name": "few", "metric": "fallbacks", "atMost": "1"}), stage) is None
