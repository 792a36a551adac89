"""
Whether a histogram's buckets are fine enough for a clause about a quantile.

Nothing can be told of a quantile but between which bounds it lies. So a limit that is no bound cannot be judged, a
change of 10 % cannot be excluded when the bucket that holds the quantile is 50 % wide, and one cannot be proved when
the next bound is twice as high. Waiting does not help; another bound does.
"""

from typing import Final

import numpy as np

from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import Arms, BoolArray, Engine
from modelrelease.core.histograms import Buckets, quantile_bins
from modelrelease.core.question import Question, Side

SLACK: Final = 0.2
"""How far beyond the place where a clause needs a bound the next one may lie, relative to it."""

_ENOUGH_IN_TAIL: Final = 10
"""Observations beyond the baseline's quantile from which on the bucket that holds it is known."""

_ROUNDING: Final = 1e-9


def too_coarse(question: Question, excluded: Question | None, counted: Arms) -> BoolArray:
    """
    Return where the buckets are too wide ``(n,)`` to prove harm, or to exclude it.

    Args:
        question: What breaks the clause.
        excluded: What a pass excludes; None when it asks for no proof.
        counted: Counts of all stages together; the baseline's tell which bucket holds its quantile.
    """
    buckets = question.buckets
    if buckets is None or question.engine is Engine.DISTANCE:
        return np.zeros(counted.of.shape, dtype=bool)
    if question.engine is Engine.QUANTILE_LEVEL:
        return np.full(counted.of.shape, not _near_a_bound(buckets.bounds, question.sides[0].bound))
    known = counted.base_of * min(buckets.tail, 1 - buckets.tail) >= _ENOUGH_IN_TAIL
    if not len(buckets.bounds):
        return known
    low, high = bucket_of_quantile(buckets, counted.base_events)
    fine = np.isfinite(high)
    for side in question.sides:
        fine &= _can_be_proved(question.engine, buckets.bounds, low, high, side)
    for side in excluded.sides if excluded else ():
        fine &= _can_be_excluded(question.engine, low, high, side)
    return known & ~fine


def bucket_of_quantile(buckets: Buckets, bins: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper bound ``(n,)`` of the bucket that holds the quantile; NaN where it has none."""
    place = quantile_bins(bins, buckets)
    bounds = buckets.bounds
    return np.concatenate([[np.nan], bounds])[place], np.append(bounds, np.nan)[place]


def _near_a_bound(bounds: FloatArray, limit: float) -> bool:
    return bool((np.abs(bounds - limit) <= SLACK * abs(limit)).any())


def _can_be_proved(engine: Engine, bounds: FloatArray, low: FloatArray, high: FloatArray, side: Side) -> BoolArray:
    """Return whether there is a bound a little beyond where harm begins."""
    edge = high if side.sign > 0 else low
    reached = edge * side.bound if engine is Engine.QUANTILE_RATIO else edge + side.bound
    slack = SLACK * np.abs(reached)
    lowest, highest = (reached, reached + slack) if side.sign > 0 else (reached - slack, reached)
    first = np.searchsorted(bounds, lowest - _ROUNDING * np.abs(lowest))
    found = np.append(bounds, np.inf)[first] <= highest + _ROUNDING * np.abs(highest)
    # Below the first bound nothing can be told, and nothing is asked: a quantile there has become smaller than any.
    return np.asarray(found | ((side.sign < 0) & ~np.isfinite(low)))


def _can_be_excluded(engine: Engine, low: FloatArray, high: FloatArray, side: Side) -> BoolArray:
    """Return whether the bucket is no wider than the change that has to be excluded."""
    if side.bound == (1.0 if engine is Engine.QUANTILE_RATIO else 0.0):
        return np.ones(high.shape, dtype=bool)  # better is proved at a single bound
    if engine is Engine.QUANTILE_RATIO:
        width = np.where(low > 0, high / np.where(low > 0, low, 1.0), np.inf)
        return np.asarray(width <= max(side.bound, 1 / side.bound) * (1 + _ROUNDING))
    return np.asarray(high - low <= abs(side.bound) * (1 + _ROUNDING))
