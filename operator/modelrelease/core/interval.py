"""
Intervals of the change: every effect that the evidence has not refuted.

An interval holds at every look and for all slices of its clause at once, because it is made of the same evidence, at
the same level, as a slice's breach: a slice is named exactly when its interval lies beyond the limit.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import Arms, Engine
from modelrelease.core.histograms import LARGEST_PSI
from modelrelease.core.question import Question

_HALVINGS: Final = 18
_LARGEST_LOG_RATIO: Final = 6.0
_MOST_TIMES_THE_LIMIT: Final = 1000.0


def interval(
    question: Question, stages: Sequence[Arms], level: FloatArray, budget: float
) -> tuple[FloatArray, FloatArray]:
    """
    Return the lowest and highest change ``(n,)`` that is not refuted; infinite where nothing bounds it.

    Args:
        question: The clause's; the change is on its scale: relative, a difference, or the distance from the limit.
        stages: Counts by stage, all of the same n.
        level: Chance of error ``(n,)``; each end has it for itself, two-sided clauses in halves.
        budget: The family's, for which the evidence is tuned.
    """
    needed = np.log(max(len(question.sides), 1) / level)
    low = _end(question, stages, needed, budget, sign=1)
    high = _end(question, stages, needed, budget, sign=-1)
    floor, ceiling = _range(question)
    unbounded = np.where(high >= ceiling, np.inf, high)
    match question.engine:
        case Engine.COUNTS | Engine.RATIO | Engine.QUANTILE_RATIO:
            return np.where(low <= floor, -1.0, np.expm1(low)), np.expm1(unbounded)
        case Engine.DIFFERENCE:
            return low, high
        case Engine.QUANTILE_SHIFT:
            return np.where(low <= floor, -np.inf, low), unbounded
        case Engine.LIMIT:
            limit = question.sides[0].bound
            return low - limit, high - limit
        case Engine.FREQUENCY | Engine.QUANTILE_LEVEL | Engine.DISTANCE:
            limit = question.sides[0].bound
            return low - limit, unbounded - limit


def _end(question: Question, stages: Sequence[Arms], needed: FloatArray, budget: float, *, sign: int) -> FloatArray:
    """Return where refutation ends: with *sign* +1 all lower effects are refuted, with -1 all higher ones."""
    floor, ceiling = _range(question)
    tolerance = 1e-4 * min(1.0, ceiling - floor)
    refuted = np.full(needed.shape, floor if sign > 0 else ceiling)
    open_ = np.full(needed.shape, ceiling if sign > 0 else floor)
    for _ in range(_HALVINGS):
        middle = (refuted + open_) / 2
        bound = np.exp(middle) if question.proportional else middle
        beyond = question.evidence(stages, bound, sign, budget) >= needed
        refuted, open_ = np.where(beyond, middle, refuted), np.where(beyond, open_, middle)
    edge = floor if sign > 0 else ceiling
    return np.where(np.abs(open_ - edge) < tolerance, edge, open_)


def _range(question: Question) -> tuple[float, float]:
    bounds = question.buckets.bounds if question.buckets else np.zeros(0)
    match question.engine:
        case Engine.COUNTS | Engine.RATIO | Engine.QUANTILE_RATIO:
            return -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO
        case Engine.DIFFERENCE:
            return -1.0, 1.0
        case Engine.LIMIT:
            return 0.0, 1.0
        case Engine.FREQUENCY:
            return 0.0, _MOST_TIMES_THE_LIMIT * max(question.sides[0].bound, 1.0)
        case Engine.QUANTILE_LEVEL:
            return (min(0.0, float(bounds[0])), float(bounds[-1])) if len(bounds) else (0.0, 0.0)
        case Engine.QUANTILE_SHIFT:
            widest = float(bounds[-1] - min(0.0, bounds[0])) if len(bounds) else 0.0
            return -widest, widest
        case Engine.DISTANCE:
            return 0.0, LARGEST_PSI
