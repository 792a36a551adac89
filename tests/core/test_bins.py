"""Bins that many histograms have in common: no observation is split, none is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.core.bins import MOST_BOUNDS, Buckets, aligned, bin_counts
from modelrelease.core.counts import OVERALL, BinCounts, StageCounts

INF = np.inf


def of_buckets(*buckets: tuple[int, int, float, float, float], slices: int = 1) -> BinCounts:
    """Return the bins of buckets given as row, column, left, right, count."""
    row, column, left, right, count = np.array(buckets, dtype=float).reshape(-1, 5).T
    parts = tuple((("country", str(number)),) for number in range(slices))
    return bin_counts(parts, Buckets(row.astype(int), column.astype(int), left, right, count))


def bins_of(counts: BinCounts, column: int = 0) -> list[float]:
    """Return the bins of one column of the first slice."""
    return counts.bins[0, :, column].tolist()


def a_stage(name: str, **metrics: BinCounts) -> StageCounts:
    return StageCounts(
        stage=name, kind="canary", seconds=60, counts={}, histograms={(key, ""): it for key, it in metrics.items()}
    )


def some_bins(bounds: list[float], bins: list[float]) -> BinCounts:
    """Return bins of the baseline; the candidate has none."""
    return BinCounts((OVERALL,), np.array(bounds), np.stack([bins, np.zeros(len(bins))], axis=1)[None])


def test_bounds_that_all_have_stay():
    counts = of_buckets((0, 0, -INF, 1, 5), (0, 0, 1, INF, 2), (0, 1, -INF, 1, 3), (0, 1, 1, INF, 4))
    assert (counts.bounds.tolist(), bins_of(counts), bins_of(counts, 1)) == ([1], [5, 2], [3, 4])


def test_a_bound_inside_a_bucket_with_observations_is_left_out():
    """Nobody knows on which side of 2 the candidate's observations between 1 and 4 lie."""
    counts = of_buckets((0, 0, 1, 2, 5), (0, 0, 2, 4, 6), (0, 1, 1, 4, 7))
    assert (counts.bounds.tolist(), bins_of(counts), bins_of(counts, 1)) == ([1, 4], [0, 11, 0], [0, 7, 0])


def test_a_bucket_without_observations_restricts_nobody():
    """Neither does an arm without data."""
    counts = of_buckets((0, 0, 1, 2, 5), (0, 0, 2, 4, 6), (0, 1, 1, 4, 0))
    assert (counts.bounds.tolist(), bins_of(counts)) == ([1, 2, 4], [0, 5, 6, 0])


def test_native_histograms_of_two_resolutions_meet_at_the_coarser():
    """Edges between buckets with observations are bounds, too: nothing is there."""
    fine = [(0, 0, 2 ** (i / 8), 2 ** ((i + 1) / 8), i + 1) for i in range(16)]
    coarse = [(0, 1, 1, 2, 40), (0, 1, 4, 8, 2)]
    counts = of_buckets(*fine, *coarse)
    assert [1, 2, 4, 8] == [bound for bound in counts.bounds if bound in (1, 2, 4, 8)]
    assert not [bound for bound in counts.bounds if 1 < bound < 2]
    assert 10 == len(counts.bounds) - 1
    assert counts.of.tolist() == [[136, 42]]


def test_the_bucket_around_zero_is_one_bin():
    """Zero is no bound: observations on either side of it are in one bucket."""
    counts = of_buckets((0, 0, -0.001, 0.001, 7), (0, 0, -2, -1, 3), (0, 0, 1, 2, 4))
    assert (counts.bounds.tolist(), bins_of(counts)) == ([-2, -1, -0.001, 0.001, 1, 2], [0, 3, 0, 7, 0, 4, 0])


def test_a_bucket_without_an_end_keeps_what_it_has():
    """Infinite observations, and those below the first bound of a classic histogram."""
    counts = of_buckets((0, 0, -INF, 1, 5), (0, 0, 2, INF, 1), (0, 1, 8, INF, 2))
    assert (counts.bounds.tolist(), bins_of(counts), bins_of(counts, 1)) == ([1, 2], [5, 0, 1], [0, 0, 2])


def test_nothing_observed_has_no_bounds():
    counts = of_buckets(slices=2)
    assert (counts.bounds.tolist(), counts.bins.tolist()) == ([], [[[0, 0]], [[0, 0]]])


class TestStages:
    def test_every_stage_and_dimension_gets_the_same_bounds(self):
        """A bound is missing in a stage only if there it would split a bin with observations."""
        first = some_bins([1, 2, 3], [0, 5, 0, 6])
        second = some_bins([1, 1.5, 3, 8], [1, 2, 3, 4, 5])
        one, two = aligned([a_stage("shadow", latency=first), a_stage("canary", latency=second)])
        assert [1, 3] == one.histograms["latency", ""].bounds.tolist()
        assert [0, 5, 6] == bins_of(one.histograms["latency", ""])
        assert [1, 5, 9] == bins_of(two.histograms["latency", ""])

    def test_a_stage_without_observations_restricts_nobody(self):
        empty = some_bins([], [0])
        full = some_bins([1, 2], [3, 4, 5])
        one, two = aligned([a_stage("shadow", latency=empty), a_stage("canary", latency=full)])
        assert [0, 0, 0] == bins_of(one.histograms["latency", ""])
        assert [3, 4, 5] == bins_of(two.histograms["latency", ""])

    def test_metrics_keep_their_own_bounds(self):
        stage = a_stage("canary", latency=some_bins([1], [1, 2]), score=some_bins([0.5], [3, 4]))
        assert stage is aligned([stage])[0]

    def test_too_many_bounds_are_thinned(self):
        bounds = np.arange(1.0, 2 * MOST_BOUNDS)
        many = some_bins(bounds.tolist(), np.ones(len(bounds) + 1).tolist())
        (stage,) = aligned([a_stage("canary", latency=many)])
        thinned = stage.histograms["latency", ""]
        assert bounds[::2].tolist() == thinned.bounds.tolist()
        assert [1, *[2] * (len(bounds) // 2), 1] == bins_of(thinned)


EDGES = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted)


@given(
    histograms=st.lists(
        EDGES.flatmap(
            lambda edges: st.tuples(
                st.just(edges), st.lists(st.integers(0, 5), min_size=len(edges) - 1, max_size=len(edges) - 1)
            )
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_observation_is_split_or_lost(histograms):
    """Each row keeps its total, and what lies below every bound is exactly what its own buckets say."""
    flat = [
        (row, 0, left, right, count)
        for row, (edges, counts) in enumerate(histograms)
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    found = of_buckets(*flat, slices=len(histograms))
    for index, bound in enumerate(found.bounds):
        below = found.bins[:, : index + 1, 0].sum(axis=1)
        for row, (edges, counts) in enumerate(histograms):
            pairs = list(zip(edges[:-1], edges[1:], counts, strict=True))
            assert below[row] == sum(count for _, right, count in pairs if right <= bound)
            assert not any(left < bound < right and count for left, right, count in pairs)
    assert found.of[:, 0].tolist() == [sum(counts) for _, counts in histograms]


@pytest.mark.parametrize("column", [0, 1])
def test_slices_keep_their_rows_and_columns(column):
    counts = of_buckets((0, column, 1, 2, 5), (1, column, 2, 4, 6), slices=2)
    assert (counts.bins[0, :, column].tolist(), counts.bins[1, :, column].tolist()) == ([0, 5, 0, 0], [0, 0, 6, 0])
    assert not counts.bins[:, :, 1 - column].any()
