"""
E-values: how strongly counts speak against "the effect is no larger than allowed".

An e-value is the payoff of a fair bet against a hypothesis: while the hypothesis holds, nobody turns 1 into 100 with a
chance above 1 %, however often they look (Ville 1939). So a verdict may be taken at every poll, for ever. Everything
here works on logarithms, on arrays of hypotheses, and knows nothing of contracts.

Engines, each against "effect <= bound" (sign +1) or "effect >= bound" (sign -1):

    COUNTS      ratio of two rates; conditional grid mixture; exact; for rates up to about 0.2
    RATIO       ratio of two rates; signed-root likelihood ratio, normal mixture at a price; for higher rates
    DIFFERENCE  difference of two rates; the same
    LIMIT       the candidate's rate alone; grid mixture; exact
    FREQUENCY   the candidate's events per second alone; grid mixture; exact for independent events

and, in ``histograms``, made of LIMIT and of the normal mixture:

    QUANTILE_RATIO, QUANTILE_SHIFT, QUANTILE_LEVEL    ratio or difference of two quantiles, one quantile alone
    DISTANCE                                          population stability index

Counts of several stages are summed as evidence, inside the mixture; they are never pooled as counts, because the split
of the traffic differs between stages and a daily rhythm would look like a breach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.counts import FloatArray

BoolArray = NDArray[np.bool_]


class Engine(StrEnum):
    """Which e-process judges, named for the effect that it measures."""

    COUNTS = "counts"
    RATIO = "ratio"
    DIFFERENCE = "difference"
    LIMIT = "limit"
    FREQUENCY = "frequency"
    QUANTILE_RATIO = "quantile ratio"
    QUANTILE_SHIFT = "quantile shift"
    QUANTILE_LEVEL = "quantile level"
    DISTANCE = "distance"


AS_ASKED: Final = (1.0, 1.0)
"""The time of a rate is as the route's share of the requests makes it."""


@dataclass(frozen=True, slots=True)
class Arms:
    """
    Counts of n hypotheses in one stage, each ``(n,)`` float64, not always whole numbers.

    Attributes:
        events, of: The candidate's; ``0 <= events <= of`` for a ratio. Of a histogram, *events* are its bins,
            ``(n, b + 1)``, and *of* their sum. Of a rate, *of* is time.
        base_events, base_of: The baseline's.
        times: Of a rate, by what the candidate's time may have to be multiplied, at least and at most, for all n alike:
            it is known no better than who gets how many requests. 0 and infinity when nobody can tell.
    """

    events: FloatArray
    of: FloatArray
    base_events: FloatArray
    base_of: FloatArray
    times: tuple[float, float] = AS_ASKED

    def scaled(self, factor: float | FloatArray) -> "Arms":
        """Return all counts multiplied by *factor*: the same rates, seen more or less often."""
        wide = np.asarray(factor)[..., None] if self.events.ndim > 1 else factor
        return Arms(self.events * wide, self.of * factor, self.base_events * wide, self.base_of * factor, self.times)

    def take(self, index: BoolArray | NDArray[np.intp] | slice) -> "Arms":
        """Return the hypotheses at *index*."""
        return Arms(self.events[index], self.of[index], self.base_events[index], self.base_of[index], self.times)

    def swapped(self) -> "Arms":
        """Return them with the arms exchanged."""
        least, most = self.times
        return Arms(self.base_events, self.base_of, self.events, self.of, (1 / most, 1 / least if least else np.inf))

    def summed(self) -> "Arms":
        """Return all hypotheses of this one stage as one; of a rate, its times mean something in proportion only."""
        return Arms(
            self.events.sum(axis=0, keepdims=True),
            self.of.sum(keepdims=True),
            self.base_events.sum(axis=0, keepdims=True),
            self.base_of.sum(keepdims=True),
            self.times,
        )

    def toward(self, sign: int) -> "Arms":
        """
        Return them with the time that speaks least for an effect in this direction, above (*sign* +1) or below (-1).

        Whichever time is the true one, a bet on this one pays no more: it is fair, or worse. Nothing is counted where
        nobody knows the time.
        """
        factor = self.times[sign > 0]
        if factor == 1:
            return self
        if not 0 < factor < np.inf:
            return self.scaled(0.0)
        return Arms(self.events, self.of * factor, self.base_events, self.base_of)


@dataclass(frozen=True, slots=True)
class Bet:
    """
    Where the bet is placed; it decides how soon an effect is found, never whether the verdict is valid.

    Attributes:
        multipliers: Effects that the grid engines bet on, as multiples of the bound; above 1.
        information: Inverse variance of the estimate at which the normal mixture is sharpest.
    """

    multipliers: tuple[float, ...]
    information: float


HARM: Final = Bet(multipliers=(1.03, 1.06, 1.10, 1.20, 1.35, 1.6, 2.0, 3.0, 5.0, 10.0), information=100.0)
"""Bets of a breach over all traffic: from barely beyond the margin to ten times it."""

SLICE_HARM: Final = Bet(multipliers=(1.10, 1.35, 1.6, 2.0, 2.0, 2.0, 2.0, 3.0, 6.0), information=100.0)
"""
Bets of a breach in a slice: what ruins one slice is seldom small, so nearly half of the stake is on double the rate.

Finds a doubled rate in a slice of 1 % with a tenth fewer requests than the even bets of HARM.
"""

ASSURANCE_MULTIPLIERS: Final = tuple(1 / m for m in (0.98, 0.96, 0.94, 0.9, 0.85, 0.8, 0.7, 0.5))
"""Bets of a pass: the truth is no change, a little inside the margin."""


def log_evidence(
    engine: Engine, stages: Sequence[Arms], bound: float | FloatArray, sign: int, bet: Bet, level: float
) -> FloatArray:
    """
    Return the log e-values ``(n,)`` against "effect <= bound" (*sign* +1) or "effect >= bound" (*sign* -1).

    Args:
        engine: Which e-process; it fixes the scale of *bound* (a ratio, a difference, or a rate).
        stages: Counts by stage, all of the same n.
        bound: The effect still allowed, one for all or ``(n,)``.
        sign: Direction of the effect that is looked for.
        bet: Where to bet.
        level: Chance of error for which the normal mixture is tuned; the grids do not need it.
    """
    bounds = np.asarray(bound, dtype=float)

    def of_piece(piece: slice) -> FloatArray:
        its_bounds = bounds[piece] if bounds.ndim else bounds
        return _log_evidence(engine, [arms.take(piece) for arms in stages], its_bounds, sign, bet, level)

    # Piece by piece, so that what is computed on the way stays in the processor's cache.
    starts = range(0, max(stages[0].of.size, 1), _PIECE)
    return np.concatenate([of_piece(slice(start, start + _PIECE)) for start in starts])


_PIECE: Final = 8192


def _log_evidence(
    engine: Engine, stages: Sequence[Arms], bound: FloatArray, sign: int, bet: Bet, level: float
) -> FloatArray:
    match engine:
        case Engine.COUNTS:
            factors = np.array(bet.multipliers) ** sign
            return mixture(_sum([conditional_grid(arms, bound, factors) for arms in stages]))
        case Engine.LIMIT:
            bounds = np.broadcast_to(bound, stages[0].of.shape)
            return limit_evidence([(arms.events, arms.of) for arms in stages], bounds, sign, bet)
        case Engine.FREQUENCY:
            return _frequency(stages, bound, sign, bet)
        case Engine.RATIO:
            parts = [signed_root_ratio(arms, bound) for arms in stages]
        case Engine.DIFFERENCE:
            parts = [signed_root_difference(arms, bound) for arms in stages]
        case _:
            raise ValueError(f"engine {engine} needs a histogram's bounds")
    score, information = _sum([s for s, _ in parts]), _sum([v for _, v in parts])
    return fair_mixture(sign * score, information, bet.information, level)


def mixture(log_likelihoods: FloatArray) -> FloatArray:
    """
    Return the log of the mean likelihood ratio over a grid: ``(g, n) -> (n,)``, equal weights.

    The largest term is exact; the others, relative to it, are summed in float32, which is wrong by less than 1e-6 and
    four times as fast.
    """
    top = log_likelihoods.max(axis=0)
    shares = np.empty(log_likelihoods.shape, dtype=np.float32)
    np.subtract(log_likelihoods, top, out=shares, casting="same_kind")
    np.exp(shares, out=shares)
    return np.asarray(top + np.log(shares.mean(axis=0, dtype=np.float64)))


def log_sum(logarithms: FloatArray) -> FloatArray:
    """Return the log of the sum along the first axis, ``(k, ...) -> (...)``; several times as fast as logaddexp."""
    top = logarithms.max(axis=0)
    # Boundless evidence stays boundless, and none stays none: infinity less infinity would be neither.
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(shift + np.log(np.exp(logarithms - shift).sum(axis=0)))


def _sum(stages: Sequence[FloatArray]) -> FloatArray:
    """Return the evidence of all stages together: logarithms add, counts do not."""
    return stages[0] if len(stages) == 1 else np.asarray(np.add.reduce(stages))


# Engine COUNTS.


def conditional_grid(arms: Arms, ratio: float | FloatArray, factors: FloatArray) -> FloatArray:
    """
    Return log-likelihood ratios ``(g, n)`` of "rate ratio = factor * ratio" against "rate ratio = ratio".

    Given that an event happened, it is the candidate's with a chance that depends on the rate ratio and on the split
    that really arrived, not on the base rate: so neither a daily rhythm nor the base rate matters. At the ratio it is a
    martingale for Poisson counts, a supermartingale for binomial counts and on the allowed side of the ratio.
    Without counts in both arms it is 0: nothing was seen.

    Source: Lindon and Malek, NeurIPS 2022 (arXiv 2011.03567), with a discrete prior on the rate ratio.
    """
    both = (arms.of > 0) & (arms.base_of > 0)
    odds = np.where(both, arms.of * ratio / np.where(both, arms.base_of, 1.0), 0.0)
    events = np.where(both, arms.events, 0.0)
    total = events + np.where(both, arms.base_events, 0.0)
    column = factors[:, None]
    grid = column * odds
    grid += 1
    np.log(grid, out=grid)
    np.subtract(np.log(1 + odds), grid, out=grid)
    grid *= total
    grid += np.log(column) * events
    return grid


# Engine LIMIT.


def one_sample_grid(events: FloatArray, of: FloatArray, limit: float | FloatArray, factors: FloatArray) -> FloatArray:
    """
    Return log-likelihood ratios ``(g, n)`` of "rate = factor * limit" against "rate = limit", binomial.

    Rates beyond 0.999 are cut to it. *limit* lies inside (0, 1); *factors* are ``(g, n)``, or ``(g, 1)`` for all n.
    """
    rates = np.minimum(factors * limit, 0.999)
    misses = (of - events) * (np.log1p(-rates) - np.log1p(-np.asarray(limit)))
    return np.asarray(events * np.log(rates / limit) + misses)


_CERTAIN: Final = 700.0
"""Log e-value of what cannot happen under the hypothesis; finite, so that it can be averaged."""


def limit_evidence(
    stages: Sequence[tuple[FloatArray, FloatArray]], bound: FloatArray, sign: int, bet: Bet
) -> FloatArray:
    """
    Return the log e-values ``(n,)`` against "rate <= bound" (*sign* +1) or "rate >= bound" (*sign* -1).

    *stages* are events and of, ``(n,)`` each, by stage. Above one half the complement is judged: there, the misses are
    what is rare.
    """
    n = stages[0][0].shape
    rare = bound <= 0.5
    beyond = rare == (sign > 0)
    rare_bound = np.where(rare, bound, 1 - bound)
    inside = np.clip(rare_bound, 1e-12, 0.5)
    up = np.array(bet.multipliers)[:, None]
    factors = np.where(beyond, up, 1 / up)
    likelihoods = []
    rare_events = np.zeros(n)
    for counted, of in stages:
        events = np.where(rare, counted, of - counted)
        likelihoods.append(one_sample_grid(events, of, inside, factors))
        rare_events += events
    inner = mixture(_sum(likelihoods))
    # At a bound of 0 (or 1) one event beyond it is proof, and nothing proves the other side.
    edge = np.where(beyond & (rare_events > 0), _CERTAIN, 0.0)
    return np.where(rare_bound > 0, inner, edge)


# Engine FREQUENCY.


def _frequency(stages: Sequence[Arms], bound: FloatArray, sign: int, bet: Bet) -> FloatArray:
    """Return the log e-values against "events per second <= bound" or ">= bound"; *of* is seconds."""
    events = _sum([arms.events for arms in stages])
    seconds = _sum([arms.of for arms in stages])
    inside = np.maximum(bound, 1e-12)
    inner = mixture(poisson_grid(events, seconds, inside, np.array(bet.multipliers) ** sign))
    # At a bound of 0 one event is proof that there are some, and nothing proves that there are fewer.
    edge = np.where((sign > 0) & (events > 0), _CERTAIN, 0.0)
    return np.where(bound > 0, inner, edge)


def poisson_grid(
    events: FloatArray, exposure: FloatArray, limit: float | FloatArray, factors: FloatArray
) -> FloatArray:
    """Return log-likelihood ratios ``(g, n)`` of "frequency = factor * limit" against "frequency = limit", Poisson."""
    column = factors[:, None]
    return np.asarray(events * np.log(column) - exposure * limit * (column - 1))


# Engines RATIO and DIFFERENCE.


def best_rho(information: float, level: float) -> float:
    """
    Return the mixture's precision that is sharpest at this *information*, for a two-sided *level*.

    Source: Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 2021, section 3.5, as confseq approximates it.
    """
    evidence = 2 * np.log(1 / level)
    return float(information / (evidence + np.log1p(evidence)))


def normal_mixture(score: FloatArray, information: FloatArray, rho: float) -> FloatArray:
    """
    Return the log e-values ``(n,)`` of the one-sided normal mixture.

    Args:
        score: Sum of information times estimated effect beyond the bound; positive speaks against the hypothesis.
        information: Inverse variance of the estimate; 0 gives 0.
        rho: Precision of the mixing half-normal.

    Source: Howard and others 2021, proposition 6; tested against confseq's constants.
    """
    total = information + rho
    z = score / np.sqrt(total)
    return np.asarray(0.5 * (np.log(4 * rho / total) + z * z) + _log_normal(z))


def _log_normal(z: FloatArray) -> FloatArray:
    """Return the log of the normal distribution function; scipy's own logarithm takes half as long again."""
    from scipy.special import log_ndtr, ndtr

    far = z < -30
    result = np.log(ndtr(np.maximum(z, -30.0)))
    if far.any():
        result[far] = log_ndtr(z[far])
    return np.asarray(result)


PRICE: Final = 1.6
"""
What a bet by the normal mixture costs, as a factor of its e-value: with it, the bet is fair.

The mixture is exact for normal estimates only. Of binomial counts it was seen to give away up to 1.35 at one look and
1.56 to one who stops at the best moment: found by enumeration of all outcomes (tests/core/test_fair_bets.py).
"""

SMALLEST_RHO: Final = 10.0
"""Wider mixtures bet on effects that are too large for a normal estimate; they gave away more than the price."""


def fair_rho(sharpest: float, level: float) -> float:
    """Return the precision of a mixture that is to be sharpest at an information, for a one-sided *level*."""
    return max(best_rho(sharpest, 2 * level), SMALLEST_RHO)


def fair_mixture(score: FloatArray, information: FloatArray, sharpest: float, level: float) -> FloatArray:
    """
    Return the log e-values ``(n,)`` of the normal mixture less its price; 0 where nothing was seen.

    Args:
        score: As for ``normal_mixture``.
        information: Likewise.
        sharpest: The information at which the mixture is to be sharpest.
        level: Chance of error, one-sided, at which it is.
    """
    rho = fair_rho(sharpest, level)
    return normal_mixture(score, information, rho) - np.where(information > 0, np.log(PRICE), 0.0)


def signed_root_ratio(arms: Arms, ratio: float | FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return score and information, ``(n,)`` each, about the log rate ratio at *ratio*.

    The score is the signed root of the likelihood ratio times the root of the information: a Wald statistic would be
    up to 31 times too eager.
    """
    counts, seen = _both(arms)
    base = ratio_mle(counts, ratio)
    rate = ratio * base
    variance = (1 - rate) / np.maximum(counts.of * rate, _TINY) + (1 - base) / np.maximum(counts.base_of * base, _TINY)
    return _signed_root(counts, rate, base, variance, seen & (base > 0) & (variance > 0))


def signed_root_difference(arms: Arms, difference: float | FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return score and information, ``(n,)`` each, about the difference of the rates at *difference*."""
    counts, seen = _both(arms)
    base = difference_mle(counts, difference)
    rate = np.clip(base + difference, 0.0, 1.0)
    variance = rate * (1 - rate) / counts.of + base * (1 - base) / counts.base_of
    return _signed_root(counts, rate, base, variance, seen & (variance > 0))


def ratio_mle(arms: Arms, ratio: float | FloatArray) -> FloatArray:
    """Return the likeliest baseline rate ``(n,)`` when the candidate's is *ratio* times it; counts of both arms > 0."""
    square = (arms.of + arms.base_of) * ratio
    linear = arms.base_of + arms.events + ratio * (arms.of + arms.base_events)
    constant = arms.events + arms.base_events
    root = np.sqrt(np.maximum(linear**2 - 4 * square * constant, 0.0))
    # The smaller root, written so that nothing cancels; it keeps both rates at or below 1.
    return np.minimum(2 * constant / (linear + root), np.minimum(1.0, 1 / np.asarray(ratio)))


def difference_mle(arms: Arms, difference: float | FloatArray) -> FloatArray:
    """
    Return the likeliest baseline rate ``(n,)`` when the candidate's is *difference* more; counts of both arms > 0.

    Source: Miettinen and Nurminen, Statistics in Medicine 1985, appendix: the cubic in closed form.
    """
    d = np.asarray(difference)
    n1, n0, x1, x0 = arms.of, arms.base_of, arms.events, arms.base_events
    l3 = n1 + n0
    l2 = (n1 + 2 * n0) * d - l3 - (x1 + x0)
    l1 = (n0 * d - l3 - 2 * x0) * d + x1 + x0
    l0 = x0 * d * (1 - d)
    third = l2 / (3 * l3)
    q = third**3 - l1 * l2 / (6 * l3**2) + l0 / (2 * l3)
    p = np.copysign(np.sqrt(np.maximum(third**2 - l1 / (3 * l3), 0.0)), q)
    cube = np.where(p == 0, 1.0, p**3)
    angle = (np.pi + np.arccos(np.clip(q / cube, -1.0, 1.0))) / 3
    low, high = np.maximum(0.0, -d), np.minimum(1.0, 1.0 - d)
    return np.asarray(np.clip(2 * p * np.cos(angle) - third, low, high))


def _both(arms: Arms) -> tuple[Arms, BoolArray]:
    """Return the counts with a harmless 1 where an arm saw nothing, and where both saw something."""
    seen = (arms.of > 0) & (arms.base_of > 0)
    if seen.all():
        return arms, seen
    return Arms(
        np.where(seen, arms.events, 0.0),
        np.where(seen, arms.of, 1.0),
        np.where(seen, arms.base_events, 0.0),
        np.where(seen, arms.base_of, 1.0),
    ), seen


def _signed_root(
    arms: Arms, rate: FloatArray, base: FloatArray, variance: FloatArray, usable: BoolArray
) -> tuple[FloatArray, FloatArray]:
    observed, base_observed = arms.events / arms.of, arms.base_events / arms.base_of
    gain = _log_likelihood_gain(arms.events, arms.of, observed, rate)
    gain += _log_likelihood_gain(arms.base_events, arms.base_of, base_observed, base)
    # An estimate of unknown variance informs of nothing, and so has no score.
    information = 1 / np.where(usable, variance, np.inf)
    direction = np.sign(observed - rate - (base_observed - base))
    return direction * np.sqrt(2 * np.maximum(gain, 0.0) * information), information


_TINY: Final = 1e-300
"""Stands for 0 where it is divided by, or where a logarithm of it is taken 0 times."""


def _log_likelihood_gain(events: FloatArray, of: FloatArray, observed: FloatArray, rate: FloatArray) -> FloatArray:
    """Return how much likelier the *observed* rate is than *rate*, as a logarithm."""
    hits = np.maximum(observed, _TINY) / np.maximum(rate, _TINY)
    misses = np.maximum(1 - observed, _TINY) / np.maximum(1 - rate, _TINY)
    return np.asarray(events * np.log(hits, out=hits) + (of - events) * np.log(misses, out=misses))
