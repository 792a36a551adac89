"""Looks at a gate begin an interval apart, however long each takes: the delay of a rollback is bounded by it."""

from datetime import timedelta

import pytest

from modelrelease.__main__ import paced

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("again_in", "took", "want"),
    [
        pytest.param(5 * SECOND, 0.5 * SECOND, 4.5 * SECOND, id="the time it took is part of the interval"),
        pytest.param(5 * SECOND, 9 * SECOND, 1.25 * SECOND, id="a slow look leaves a break"),
        pytest.param(0 * SECOND, 1 * SECOND, 0 * SECOND, id="at once stays at once"),
    ],
)
def test_looks_begin_an_interval_apart(again_in, took, want):
    """From the start of one to the start of the next."""
    assert want == paced(again_in, took)
