"""Proof that a shadow gets its copies."""

import numpy as np
import pytest

from modelrelease.core.arrival import arrival
from modelrelease.core.counts import SliceCounts, StageCounts


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
    assert want is arrival(stage, percent).flowing
