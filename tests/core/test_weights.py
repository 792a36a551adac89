"""How the stake is shared by all traffic and the slices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.core.assess import SMALLEST_PART, slice_weights

TRAFFIC = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


def weights(*slices: float) -> list[float]:
    return slice_weights(np.array([sum(slices), *slices], dtype=float)).tolist()


def test_all_traffic_alone_has_everything():
    """Without slices there is nothing to share."""
    assert slice_weights(np.array([1000.0])).tolist() == [1.0]


def test_a_part_grows_with_the_root_of_the_traffic():
    """Sixteen times the traffic is four times the stake."""
    assert weights(1600, 100) == pytest.approx([0.5, 0.4, 0.1])


def test_what_is_nearly_nothing_counts_as_a_thousandth():
    """A slice of one request, or an expected one that is silent, keeps a part that can be reached."""
    whole, large, tiny, silent = weights(1e9, 1, 0)
    assert whole == 0.5
    assert tiny == silent == pytest.approx(large * SMALLEST_PART**0.5)


def test_nothing_seen_yet_is_shared_equally():
    """No traffic: nothing tells the slices apart."""
    assert weights(0, 0) == [0.5, 0.25, 0.25]


def test_a_rate_shares_equally():
    """Its exposure is time, the same for all traffic and each slice."""
    assert slice_weights(np.array([3600.0, 3600.0, 3600.0])).tolist() == [0.5, 0.25, 0.25]


def test_many_gates_at_once():
    """Rows are gates of their own."""
    rows = np.array([[10.0, 9.0, 1.0], [1700.0, 1600.0, 100.0]])
    assert slice_weights(rows) == pytest.approx(np.array([slice_weights(row) for row in rows]))


@given(slices=TRAFFIC, factor=st.floats(1e-3, 1e3))
def test_they_are_shares_of_one_stake_whatever_the_scale(slices, factor):
    """They sum to 1, none is 0, more traffic never has less, and counting everything double changes nothing."""
    traffic = np.array([sum(slices), *slices])
    found = slice_weights(traffic)
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()
    assert (np.diff(found[1:][np.argsort(traffic[1:])]) >= 0).all()
    assert slice_weights(traffic * factor) == pytest.approx(found)
