"""
The workings of a verdict, for whoever computes it again by hand: counts by stage, and what was asked of them.

In the words of docs/verdicts.md, as JSON: the page's formulas need nothing else. Counts are as they were read, before
the design effect; of a distribution, in the bins that are compared; whole numbers are written as such.
"""

from math import isfinite
from typing import Any

import numpy as np

from modelrelease.core.assess import PASS_LEVEL
from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import PRICE, Arms
from modelrelease.core.histograms import Buckets
from modelrelease.core.question import Question
from modelrelease.core.verdict import ClauseVerdict, Counted


def workings(clause: ClauseVerdict) -> dict[str, Any]:
    """Return what the counts of *clause* are asked."""
    it = clause.workings
    buckets = it.harm[0].buckets
    return {
        "stages": list(it.stages),
        **({"times": [_times(arms) for arms in it.counts]} if clause.words.counted is Counted.SECONDS else {}),
        **({"tail": buckets.tail, "bounds": _bounds(buckets).tolist()} if buckets else {}),
        "breach": {"overall": _asked(it.harm[0], 1, it.budget), "slices": _asked(it.harm[1], 1, it.budget)},
        "pass": {"overall": _excluded(it.excluded[0]), "slices": _excluded(it.excluded[1])},
    }


def counts(clause: ClauseVerdict, slices: int) -> list[list[Any]]:
    """
    Return the counts of all traffic, and then of the worst *slices*: by stage, the baseline's and the candidate's.

    Each is ``[events, of]``; of a rate ``[events, seconds]``; of a histogram, the observations in each bin.
    """
    it = clause.workings
    rows = list(it.rows[: 1 + slices])
    stages = [_arms(arms.take(np.array(rows, dtype=np.intp)), it.harm[0].buckets) for arms in it.counts]
    return [[[_plain(arm[row]) for arm in stage] for stage in stages] for row in range(len(rows))]


def how_many(clause: ClauseVerdict, slices: int) -> int:
    """Return how many numbers ``counts`` would return."""
    it = clause.workings
    buckets = it.harm[0].buckets
    width = len(_bounds(buckets)) + 1 if buckets else 2
    return min(1 + slices, len(it.rows)) * len(it.stages) * 2 * width


def _asked(question: Question, sign: int, level: float) -> dict[str, Any]:
    """
    Return where harm begins, and the bet that it is there (*sign* +1) or not there (-1).

    *level* is the chance of error for which mixtures are tuned.
    """
    rho = question.rho(sign, level)
    return {
        "engine": question.engine.value,
        "harm": [{"above" if side.sign > 0 else "below": side.bound} for side in question.sides],
        **({"bets": list(question.bet.multipliers)} if rho is None else {"rho": rho, "price": PRICE}),
    }


def _excluded(question: Question | None) -> dict[str, Any] | None:
    return _asked(question, -1, PASS_LEVEL) if question else None


def _times(arms: Arms) -> list[float | None]:
    """Return by what the candidate's time may have to be multiplied, at least and at most; null is infinity."""
    return [number if isfinite(number) else None for number in arms.times]


def _bounds(buckets: Buckets) -> FloatArray:
    """Return the upper bounds of all bins but the last, as they are compared."""
    return buckets.bounds if buckets.tail else buckets.bounds[np.array(buckets.edges[1:], dtype=int) - 1]


def _arms(arms: Arms, buckets: Buckets | None) -> tuple[FloatArray, FloatArray]:
    """Return the numbers of the baseline and of the candidate, ``(n, k)`` each."""
    if buckets is None:
        return np.column_stack([arms.base_events, arms.base_of]), np.column_stack([arms.events, arms.of])
    if buckets.tail:
        return arms.base_events, arms.events
    base, mine = (np.add.reduceat(bins, list(buckets.edges), axis=1) for bins in (arms.base_events, arms.events))
    return base, mine


def _plain(numbers: FloatArray) -> list[int | float]:
    """Return *numbers*; whole ones without a fraction."""
    return [int(number) if number.is_integer() else number for number in numbers.tolist()]
