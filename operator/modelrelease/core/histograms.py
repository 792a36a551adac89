"""
Evidence from histograms: whether a quantile has moved, and whether a distribution has.

A quantile is never computed to be judged: interpolation inside a bucket is a guess. What can be counted is how many
observations lie above a bucket's bound, and that says on which side of the bound the quantile lies. So "q1 > r * q0" is
proved by two proofs at once, for some pair of bounds b and c with c >= r * b:

    baseline's quantile  <= b      too few of its observations lie above b
    candidate's quantile >  c      too many of its observations lie above c

Each is a one-sample e-value (engine LIMIT at the tail 1 - q). While "q1 <= r * q0" holds, one of the two is false
whatever b is, so the smaller of the two e-values is fair, and so is the mean over all b. Nothing rests on an estimate
of the baseline's quantile; what is lost is the width of the buckets around it.

Two distributions are compared by the population stability index, PSI = sum (q - p) ln(q / p) over bins that hold about
a tenth of the baseline each, less its bias under no change, as a normal mixture over its estimate. It is asymptotic: a
slice is judged from 200 observations in each arm, and five in each bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import Arms, Bet, BoolArray, fair_mixture, limit_evidence

IntArray = NDArray[np.intp]

BINS: Final = 10
"""Bins of a PSI: the usual number."""

FEWEST_OBSERVATIONS: Final = 200
"""In each arm, for a PSI."""

FEWEST_IN_A_BIN: Final = 5

LARGEST_PSI: Final = 20.0
"""More cannot be told: arms that have nothing in common."""

_SMOOTHING: Final = 0.5
_NEVER: Final = -700.0
"""Log e-value where there is no bound to prove anything at."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """
    How a histogram answers a question.

    Attributes:
        bounds: ``(b,)``, rising: upper bounds of all bins but the last.
        tail: Share of observations above the quantile, 1 - q; 0 for a distribution.
        edges: For a distribution: index of the first bin of each group of bins that is compared as one, rising from 0.
    """

    bounds: FloatArray
    tail: float = 0.0
    edges: tuple[int, ...] = (0,)


# Quantiles.


def ratio_evidence(stages: Sequence[Arms], buckets: Buckets, ratio: FloatArray, sign: int, bet: Bet) -> FloatArray:
    """
    Return the log e-values ``(n,)`` against "q1 <= ratio * q0" (*sign* +1) or "q1 >= ratio * q0" (*sign* -1).

    Args:
        stages: Counts by stage; events are bins, ``(n, b + 1)``.
        buckets: Bounds and tail; at bounds of 0 or less there is no ratio, and nothing is proved.
        ratio: The effect still allowed, ``(n,)``.
        sign: Direction of the effect that is looked for.
        bet: Where to bet.
    """
    positive = buckets.bounds > 0
    proofs = _pair_evidence(stages, buckets, ratio[:, None] * buckets.bounds, sign, bet)[:, positive]
    return _mean(proofs) if positive.any() else np.zeros(ratio.shape)


def shift_evidence(stages: Sequence[Arms], buckets: Buckets, shift: FloatArray, sign: int, bet: Bet) -> FloatArray:
    """Return the log e-values ``(n,)`` against "q1 <= q0 + shift" (*sign* +1) or "q1 >= q0 + shift" (*sign* -1)."""
    if not len(buckets.bounds):
        return np.zeros(shift.shape)
    return _mean(_pair_evidence(stages, buckets, shift[:, None] + buckets.bounds, sign, bet))


def level_evidence(stages: Sequence[Arms], buckets: Buckets, level: FloatArray, sign: int, bet: Bet) -> FloatArray:
    """Return the log e-values ``(n,)`` against "q1 <= level" (*sign* +1) or "q1 > level" (*sign* -1)."""
    if not len(buckets.bounds):
        return np.zeros(level.shape)
    beyond = _above([(arms.events, arms.of) for arms in stages], buckets, sign, bet)
    return _at(beyond, _bound_beyond(buckets.bounds, level[:, None], sign))[:, 0]


def _pair_evidence(stages: Sequence[Arms], buckets: Buckets, reached: FloatArray, sign: int, bet: Bet) -> FloatArray:
    """Return log e-values ``(n, b)``; *reached* is where the limit would be if the baseline's quantile were at b."""
    mine = _above([(arms.events, arms.of) for arms in stages], buckets, sign, bet)
    theirs = _above([(arms.base_events, arms.base_of) for arms in stages], buckets, -sign, bet)
    return np.minimum(theirs, _at(mine, _bound_beyond(buckets.bounds, reached, sign)))


def _mean(log_e: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp.reduce(log_e, axis=1) - np.log(log_e.shape[1]))


def _above(arms: Sequence[tuple[FloatArray, FloatArray]], buckets: Buckets, sign: int, bet: Bet) -> FloatArray:
    """
    Return the log e-values ``(n, b)`` that the quantile lies above each bound (*sign* +1), or not above it (-1).

    Args:
        arms: Bins ``(n, b + 1)`` and totals ``(n,)`` of one arm by stage.
        buckets: Bounds and tail.
        sign: Direction.
        bet: Where to bet.
    """
    shape = (len(arms[0][0]), len(buckets.bounds))
    flat = []
    for bins, of in arms:
        above = of[:, None] - np.cumsum(bins, axis=1)[:, :-1]
        events = np.clip(above, 0.0, of[:, None]).ravel()
        flat.append((events, np.broadcast_to(of[:, None], shape).ravel()))
    return limit_evidence(flat, np.full(shape[0] * shape[1], buckets.tail), sign, bet).reshape(shape)


def _bound_beyond(bounds: FloatArray, reached: FloatArray, sign: int) -> IntArray:
    """Return the index of the first bound at or above *reached* (*sign* +1) or the last at or below it; -1 for none."""
    slack = 1e-9 * np.abs(reached)
    if sign > 0:
        index = np.searchsorted(bounds, reached - slack, side="left")
        return np.where(index < len(bounds), index, -1)
    return np.searchsorted(bounds, reached + slack, side="right") - 1


def _at(log_e: FloatArray, index: IntArray) -> FloatArray:
    """Return ``log_e[i, index[i, j]]``, and certainty of nothing where the index is -1."""
    picked = np.take_along_axis(log_e, np.maximum(index, 0), axis=1)
    return np.where(index >= 0, picked, _NEVER)


def quantiles(bins: FloatArray, buckets: Buckets) -> FloatArray:
    """
    Return the quantiles ``(n,)`` for display, interpolated inside their bucket; NaN without observations.

    A quantile in the last bin is shown as its lower bound, as Prometheus does.
    """
    bounds = buckets.bounds
    total = bins.sum(axis=1)
    rank = (1 - buckets.tail) * total
    cumulative = np.cumsum(bins, axis=1)
    place = quantile_bins(bins, buckets)
    low = _lower_bounds(bounds)[place]
    high = np.append(bounds, bounds[-1] if len(bounds) else np.nan)[place]
    rows = np.arange(len(bins))
    inside = np.where(bins[rows, place] > 0, bins[rows, place], 1.0)
    before = cumulative[rows, place] - bins[rows, place]
    value = low + (high - low) * np.clip((rank - before) / inside, 0.0, 1.0)
    return np.where(total > 0, np.where(place < len(bounds), value, high), np.nan)


def quantile_bins(bins: FloatArray, buckets: Buckets) -> IntArray:
    """Return in which bin ``(n,)`` the quantile lies; nothing useful without observations."""
    rank = (1 - buckets.tail) * bins.sum(axis=1)
    place = (np.cumsum(bins, axis=1) < rank[:, None] * (1 - 1e-12)).sum(axis=1)
    return np.asarray(np.minimum(place, len(buckets.bounds)))


def _lower_bounds(bounds: FloatArray) -> FloatArray:
    """Return the lower bounds of all bins; the first begins at 0 when its upper bound is positive."""
    if not len(bounds):
        return np.array([np.nan])
    return np.concatenate([[min(0.0, bounds[0])], bounds])


# Distributions.


def groups(base_bins: FloatArray, bins: int = BINS) -> tuple[int, ...]:
    """
    Return the first bin of each group of neighbouring bins that holds about ``1 / bins`` of *base_bins* ``(b + 1,)``.

    Coarse histograms give fewer groups; without observations there is one.
    """
    total = base_bins.sum()
    if total <= 0:
        return (0,)
    edges, held = [0], 0.0
    for index, share in enumerate(base_bins / total):
        if held >= 1 / bins - 1e-9:
            edges.append(index)
            held = 0.0
        held += share
    # A rest that is too small joins its neighbour.
    if held < 0.5 / bins and len(edges) > 1:
        edges.pop()
    return tuple(edges)


def distance_evidence(
    stages: Sequence[Arms], buckets: Buckets, limit: FloatArray, sign: int, bet: Bet, level: float
) -> FloatArray:
    """Return the log e-values ``(n,)`` against "PSI <= limit" (*sign* +1) or "PSI >= limit" (*sign* -1)."""
    parts = [(_score_above if sign > 0 else _score_below)(arms, buckets, limit) for arms in stages]
    score, information = (np.add.reduce(part) for part in zip(*parts, strict=True))
    return fair_mixture(score, information, sharpest_distance(bet, sign), level)


def sharpest_distance(bet: Bet, sign: int) -> float:
    """Return the information at which the bet on a distance above (*sign* +1) or below (-1) is sharpest."""
    return bet.information if sign > 0 else _SHARPEST_BELOW


def _score_above(arms: Arms, buckets: Buckets, limit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return score and information ``(n,)`` that the index is above *limit*."""
    distance, variance, usable = stability(arms, buckets)
    precision = np.where(usable, 1 / np.where(usable, np.maximum(variance, 1e-12), 1.0), 0.0)
    return np.where(usable, (distance - limit) * precision, 0.0), precision


_SHARPEST_BELOW: Final = 100.0
"""Observations, as if of one arm against a known other, that tell an index of 0.2 from one of 0.02 at 5 %."""


def _score_below(arms: Arms, buckets: Buckets, limit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return score and information ``(n,)`` that the index is below *limit*.

    On the scale of its root: there the estimate varies by ``1/n1 + 1/n0``, whatever the index is. By its own estimate,
    an index near 0 hardly varies, and two arms that happen to look alike would be certain to be.

    Source: the index times ``n1 n0 / (n1 + n0)`` is nearly a noncentral chi-squared of bins less one degrees.
    """
    distance, _, usable = stability(arms, buckets)
    freedom = len(buckets.edges) - 1
    size = np.where(usable, arms.of * arms.base_of / np.where(usable, arms.of + arms.base_of, 1.0), 0.0)
    seen, least = size * distance + freedom, size * limit + freedom - 1
    z = np.sqrt(np.maximum(least, 0.0)) - np.sqrt(np.maximum(seen, 0.0))
    return np.where(usable, z * np.sqrt(size), 0.0), size


def stability(arms: Arms, buckets: Buckets) -> tuple[FloatArray, FloatArray, BoolArray]:
    """
    Return the population stability index less its bias, its variance, and where both can be used, ``(n,)`` each.

    Source: the delta method; Yurdakul and Naranjo, Journal of Risk Model Validation 2020, have the same mean under no
    change, ``(B - 1) (1/n1 + 1/n0)``.
    """
    edges = list(buckets.edges)
    mine, theirs = (np.add.reduceat(bins, edges, axis=1) for bins in (arms.events, arms.base_events))
    n1, n0 = arms.of, arms.base_of
    pooled = (mine + theirs) / np.where(n1 + n0 > 0, n1 + n0, 1.0)[:, None]
    expected = pooled * np.minimum(n1, n0)[:, None]
    enough = (expected >= FEWEST_IN_A_BIN).all(axis=1)
    usable = enough & (np.minimum(n1, n0) >= FEWEST_OBSERVATIONS) & (len(edges) > 1)
    q, p = ((part + _SMOOTHING) / (part + _SMOOTHING).sum(axis=1, keepdims=True) for part in (mine, theirs))
    log_ratio = np.log(q / p)
    c1, c0 = np.where(usable, n1, 1.0), np.where(usable, n0, 1.0)
    bias = ((1 - q) * (1 + p / q)).sum(axis=1) / (2 * c1) + ((1 - p) * (1 + q / p)).sum(axis=1) / (2 * c0)
    variance = _variance(q, log_ratio + 1 - p / q) / c1 + _variance(p, -log_ratio + 1 - q / p) / c0
    return ((q - p) * log_ratio).sum(axis=1) - bias, variance, usable


def _variance(weights: FloatArray, values: FloatArray) -> FloatArray:
    mean = (weights * values).sum(axis=1, keepdims=True)
    return np.asarray((weights * (values - mean) ** 2).sum(axis=1))
