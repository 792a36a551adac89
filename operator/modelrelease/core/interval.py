"""
Intervals of the change: every effect that the evidence has not refuted.

An interval holds at every look and for all slices of its clause at once, because it is made of the same evidence, at
the same level, as a slice's breach: a slice is named exactly when its interval lies beyond the limit. (A limit of
nothing at all is refuted by the first event: then the interval begins at the limit.)

Ends are found by dividing, on a scale that is fine near "no change" or near 0 and coarse far from it: a rate of one in
a million is told as exactly as one of a half. Two effects are known before, so that no rounding can tell otherwise: the
limit, which is refuted where a slice is named, and what was seen, which nothing refutes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import Arms, BoolArray, Engine, log_sum
from modelrelease.core.histograms import LARGEST_PSI
from modelrelease.core.question import Question, Side

_HALVINGS: Final = 16
"""What is left to be told apart: of an end's first range, one part in two to this power."""

_AT_ONCE: Final = 4
"""Halvings that one look replaces: asking about 15 effects takes hardly longer than asking about one, of few slices."""

_FEW: Final = 32
"""Slices up to which that is so; of more, the arithmetic is what takes long, and halving needs the least of it."""

_LARGEST_LOG_RATIO: Final = 6.0
_MOST_TIMES: Final = 1000.0
"""Frequencies are looked for up to so many times the limit, what was seen, or one event, whichever is most."""

_FINEST: Final = 1e-9
"""Of the widest interval: nothing finer is told apart."""


@dataclass(frozen=True, slots=True)
class _Range:
    """
    Effects that can be, and the scale on which they are halved.

    Attributes:
        floor, ceiling: Smallest and largest effect, ``(n,)`` each.
        origin: The effect near which the scale is finest: no change, or a rate of 0, or of 1.
    """

    floor: FloatArray
    ceiling: FloatArray
    origin: float

    def way(self, one: FloatArray, other: FloatArray) -> "_Way":
        """Return the way ``(n,)`` from *one* effect to the *other*."""
        unit = np.maximum(_FINEST * (self.ceiling - self.floor), np.finfo(float).tiny)
        begins, ends = (np.arcsinh((it - self.origin) / unit) for it in (one, other))
        return _Way(self.origin, unit, begins, ends - begins)


@dataclass(frozen=True, slots=True)
class _Way:
    """From one effect to another, by orders of magnitude, counted from the origin in units ``(n,)``."""

    origin: float
    unit: FloatArray
    begins: FloatArray
    length: FloatArray

    def at(self, share: FloatArray) -> FloatArray:
        """Return the effect after this share of the way, ``(n,)`` or ``(k, n)``."""
        return np.asarray(self.origin + self.unit * np.sinh(self.begins + self.length * share))


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
    if not level.size:  # a clause without slices as yet
        return level, level
    needed = np.log(max(len(question.sides), 1) / level)
    possible = _range(question, stages)
    limits = _limits(question, stages, level, budget)
    low = _end(question, stages, needed, budget, limits.get(1), possible, sign=1)
    high = _end(question, stages, needed, budget, limits.get(-1), possible, sign=-1)
    unbounded = np.where(high >= possible.ceiling, np.inf, high)
    match question.engine:
        case Engine.COUNTS | Engine.RATIO | Engine.QUANTILE_RATIO:
            return np.where(low <= possible.floor, -1.0, low - 1), unbounded - 1
        case Engine.DIFFERENCE:
            return low, high
        case Engine.QUANTILE_SHIFT:
            return np.where(low <= possible.floor, -np.inf, low), unbounded
        case Engine.LIMIT:
            limit = question.sides[0].bound
            return low - limit, high - limit
        case Engine.FREQUENCY | Engine.QUANTILE_LEVEL | Engine.DISTANCE:
            limit = question.sides[0].bound
            return low - limit, unbounded - limit


@dataclass(frozen=True, slots=True)
class _Limit:
    """A limit of the clause, and where ``(n,)`` all effects that keep it are refuted: where a slice is named."""

    bound: float
    refuted: BoolArray


def _limits(question: Question, stages: Sequence[Arms], level: FloatArray, budget: float) -> Mapping[int, _Limit]:
    """Return the limits by sign; two directions share the evidence, and the stronger one has been broken."""
    if not question.sides:
        return {}
    found = np.stack([question.evidence(stages, side.bound, side.sign, budget) for side in question.sides])
    evidence = found[0] if len(found) == 1 else log_sum(found)
    named = evidence >= np.log(len(found) / level)
    strongest = found.argmax(axis=0)

    def limit(index: int, side: Side) -> _Limit:
        return _Limit(side.bound, named & (strongest == index))

    return {side.sign: limit(index, side) for index, side in enumerate(question.sides)}


def _end(
    question: Question,
    stages: Sequence[Arms],
    needed: FloatArray,
    budget: float,
    limit: _Limit | None,
    possible: _Range,
    *,
    sign: int,
) -> FloatArray:
    """Return where refutation ends: with *sign* +1 all lower effects are refuted, with -1 all higher ones."""
    edge, open_ = (possible.floor, possible.ceiling) if sign > 0 else (possible.ceiling, possible.floor)
    refuted = edge
    if limit:
        bound = np.clip(limit.bound, possible.floor, possible.ceiling)
        refuted, open_ = np.where(limit.refuted, bound, refuted), np.where(limit.refuted, open_, bound)
    seen = np.clip(_seen(question, stages), np.minimum(refuted, open_), np.maximum(refuted, open_))
    open_ = np.where(np.isnan(seen), open_, seen)
    way = possible.way(refuted, open_)
    gone, finest = _refuted_share(question, stages, needed, budget, way, sign)
    end = np.where(gone + finest < 1, way.at(gone + finest), open_)
    return np.where((gone == 0) & (refuted == edge), edge, end)


def _refuted_share(
    question: Question, stages: Sequence[Arms], needed: FloatArray, budget: float, way: _Way, sign: int
) -> tuple[FloatArray, float]:
    """Return up to which share ``(n,)`` of the way effects are refuted, and the step to the next, which is not."""
    n = needed.size
    parts, looks = (2**_AT_ONCE, _HALVINGS // _AT_ONCE) if n <= _FEW else (2, _HALVINGS)
    repeated = [arms.take(np.tile(np.arange(n), parts - 1)) for arms in stages] if parts > 2 else stages
    gone, step = np.zeros(n), 1.0
    for _ in range(looks):
        step /= parts
        shares = gone + step * np.arange(1, parts)[:, None]
        evidence = question.evidence(repeated, way.at(shares).ravel(), sign, budget)
        gone += step * np.logical_and.accumulate(evidence.reshape(shares.shape) >= needed).sum(axis=0)
    return gone, step


def _seen(question: Question, stages: Sequence[Arms]) -> FloatArray:
    """
    Return the effect that was seen ``(n,)``; NaN where that is not known without more work.

    A comparison over several stages, and what a histogram shows, is not worked out: there halving is exact enough.
    """
    events, of = (np.add.reduce([getattr(arms, name) for arms in stages]) for name in ("events", "of"))
    with np.errstate(divide="ignore", invalid="ignore"):
        match question.engine:
            case Engine.LIMIT | Engine.FREQUENCY:
                return np.asarray(events / of)
            case Engine.COUNTS | Engine.RATIO if len(stages) == 1:
                return np.asarray(events / of / (stages[0].base_events / stages[0].base_of))
            case Engine.DIFFERENCE if len(stages) == 1:
                return np.asarray(events / of - stages[0].base_events / stages[0].base_of)
            case _:
                return np.full(of.shape, np.nan)


def _range(question: Question, stages: Sequence[Arms]) -> _Range:
    shape = stages[0].of.shape
    floor, ceiling, origin = _widest(question)
    lowest, highest = np.full(shape, floor), np.full(shape, ceiling)
    if question.engine is Engine.FREQUENCY:
        seconds = np.add.reduce([arms.of for arms in stages])
        one_event = np.divide(1.0, seconds, out=np.zeros(shape), where=seconds > 0)
        most = np.fmax(_seen(question, stages), np.maximum(one_event, question.sides[0].bound))
        highest = _MOST_TIMES * np.where(most > 0, most, 1.0)
    return _Range(lowest, highest, origin)


def _widest(question: Question) -> tuple[float, float, float]:
    """Return floor, ceiling and origin; of a frequency, whose ceiling is what was seen, the ceiling is none."""
    bounds = question.buckets.bounds if question.buckets else np.zeros(0)
    match question.engine:
        case Engine.COUNTS | Engine.RATIO | Engine.QUANTILE_RATIO:
            return float(np.exp(-_LARGEST_LOG_RATIO)), float(np.exp(_LARGEST_LOG_RATIO)), 1.0
        case Engine.DIFFERENCE:
            return -1.0, 1.0, 0.0
        case Engine.LIMIT:
            return 0.0, 1.0, float(question.sides[0].bound > 0.5)
        case Engine.FREQUENCY:
            return 0.0, np.inf, 0.0
        case Engine.QUANTILE_LEVEL:
            return (min(0.0, float(bounds[0])), float(bounds[-1]), 0.0) if len(bounds) else (0.0, 0.0, 0.0)
        case Engine.QUANTILE_SHIFT:
            widest = float(bounds[-1] - min(0.0, bounds[0])) if len(bounds) else 0.0
            return -widest, widest, 0.0
        case Engine.DISTANCE:
            return 0.0, LARGEST_PSI, 0.0
