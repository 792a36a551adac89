"""
Bins that many histograms have in common.

Histograms of two arms, of slices and of stages need not have the same buckets: a library changes its bounds, a native
histogram has buckets only where something was observed. A bound can be used by all of them when none has observations
on both sides of it in one bucket: so the bounds are all edges that anybody has, less those strictly inside a bucket
with observations. No observation is ever split or guessed.

Of the edges of a bucket nothing is kept but where they are. In buckets below zero an observation exactly on an edge may
belong to the upper bin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.counts import BinCounts, FloatArray, Slice, StageCounts

MOST_BOUNDS: Final = 160
"""Bounds of one histogram that are judged; of more, every second is left out."""

IntArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Buckets:
    """
    Buckets of the histograms of many slices and both columns, each ``(k,)``.

    Attributes:
        row: Index of the slice.
        column: 0 baseline, 1 candidate.
        left, right: Where the bucket begins and ends; may be infinite.
        count: Observations in it, at least 0.
    """

    row: IntArray
    column: IntArray
    left: FloatArray
    right: FloatArray
    count: FloatArray


def bin_counts(slices: tuple[Slice, ...], buckets: Buckets) -> BinCounts:
    """Return *buckets* in the finest bins that all of them have."""
    return _binned(slices, buckets, _usable_bounds([buckets]))


def aligned(stages: Sequence[StageCounts]) -> tuple[StageCounts, ...]:
    """Return *stages* with the same bins wherever they count the same histogram metric."""
    metrics = {metric for stage in stages for metric, _ in stage.histograms}
    bounds = {metric: _common_bounds(metric, stages) for metric in metrics}
    return tuple(_at_bounds(stage, bounds) for stage in stages)


def _common_bounds(metric: str, stages: Sequence[StageCounts]) -> FloatArray:
    counted = [counts for stage in stages for (name, _), counts in stage.histograms.items() if name == metric]
    bounds = _usable_bounds([_as_buckets(counts) for counts in counted])
    while len(bounds) > MOST_BOUNDS:
        bounds = bounds[::2]
    return bounds


def _at_bounds(stage: StageCounts, bounds: Mapping[str, FloatArray]) -> StageCounts:
    if all(np.array_equal(it.bounds, bounds[metric]) for (metric, _), it in stage.histograms.items()):
        return stage
    histograms = {key: _binned(it.slices, _as_buckets(it), bounds[key[0]]) for key, it in stage.histograms.items()}
    return replace(stage, histograms=histograms)


def _as_buckets(counts: BinCounts) -> Buckets:
    edges = np.concatenate([[-np.inf], counts.bounds, [np.inf]])
    row, place, column = (index.ravel() for index in np.indices(counts.bins.shape))
    return Buckets(row, column, edges[place], edges[place + 1], counts.bins.ravel())


def _usable_bounds(tables: Sequence[Buckets]) -> FloatArray:
    """Return the finite edges that lie strictly inside no bucket with observations."""
    left, right, count = (np.concatenate([getattr(it, name) for it in tables]) for name in ("left", "right", "count"))
    edges = np.unique(np.concatenate([left, right]))
    edges = edges[np.isfinite(edges)]
    held = count > 0
    inside = np.zeros(len(edges) + 1, dtype=int)
    np.add.at(inside, np.searchsorted(edges, left[held], side="right"), 1)
    np.add.at(inside, np.searchsorted(edges, right[held], side="left"), -1)
    return np.asarray(edges[np.cumsum(inside)[:-1] == 0])


def _binned(slices: tuple[Slice, ...], buckets: Buckets, bounds: FloatArray) -> BinCounts:
    bins = np.zeros((len(slices), len(bounds) + 1, 2))
    place = np.searchsorted(bounds, buckets.right, side="left")
    np.add.at(bins, (buckets.row, place, buckets.column), buckets.count)
    return BinCounts(slices=slices, bounds=bounds, bins=bins)
