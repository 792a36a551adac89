"""
What a clause asks, in numbers: which effect is harm, from where on, and what a pass has to exclude.

    within 5%       breach: ratio > 1.05 or ratio < 0.95      pass: both excluded, each in its own right
    noWorse 2%      breach: worse by more than 2 %            pass: that is excluded
    improves        breach: worse                             pass: better
    atMost 0.1%     breach: rate > 0.001                      pass: that is excluded
    similar psi 0.2 breach: the index > 0.2                   pass: that is excluded
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelrelease.api.contract import Better, Clause, Distribution, Metric, Quantile, Rate, Ratio
from modelrelease.api.quantities import Margin, Unit, parse_margin
from modelrelease.core.counts import FloatArray
from modelrelease.core.evidence import (
    ASSURANCE_MULTIPLIERS,
    HARM,
    SLICE_HARM,
    Arms,
    Bet,
    Engine,
    fair_rho,
    log_evidence,
)
from modelrelease.core.histograms import (
    Buckets,
    distance_evidence,
    groups,
    level_evidence,
    ratio_evidence,
    sharpest_distance,
    shift_evidence,
)
from modelrelease.core.hypotheses import Hypotheses

DISTANCE_BET: Final = Bet(multipliers=(), information=1 / 0.03**2)
"""Sharpest where a stability index is known to 0.03: a few hundred observations."""

SLICE_ASSURANCE: Final = Margin(value=0.5, unit=Unit.RELATIVE, text="50%")
"""Harm that a pass excludes in each slice when the clause does not say: thin slices can prove no less in a lifetime."""

HIGH_RATE: Final = 0.2
"""Baseline rate above which the counting engine wastes evidence, and the signed-root engine takes over."""


@dataclass(frozen=True, slots=True)
class Side:
    """Harm in one direction: an effect above *bound* (*sign* +1) or below it (*sign* -1)."""

    bound: float
    sign: int


@dataclass(frozen=True, slots=True)
class Question:
    """
    Effects that are harm, on the scale of an engine.

    Attributes:
        engine: Which e-process answers.
        sides: Directions of harm; empty when no effect can be harm (``noWorse: 200%`` of a metric that can only fall).
        bet: Where to bet when harm is looked for.
        text: The margin as written.
        buckets: Of a histogram: its bounds, and what is asked of them; None for ratios and rates.
    """

    engine: Engine
    sides: tuple[Side, ...]
    bet: Bet
    text: str
    buckets: Buckets | None = None

    @property
    def proportional(self) -> bool:
        """Whether effects are ratios, of which 1 is no change."""
        return self.engine in {Engine.COUNTS, Engine.RATIO, Engine.QUANTILE_RATIO}

    def rho(self, sign: int, level: float) -> float | None:
        """Return the precision of the normal mixture that ``evidence`` takes; None where it bets on a grid."""
        match self.engine:
            case Engine.RATIO | Engine.DIFFERENCE:
                return fair_rho(self.bet.information, level)
            case Engine.DISTANCE:
                return fair_rho(sharpest_distance(self.bet, sign), level)
            case _:
                return None

    def evidence(self, stages: Sequence[Arms], bound: float | FloatArray, sign: int, level: float) -> FloatArray:
        """
        Return the log e-values ``(n,)`` against "effect <= bound" (*sign* +1) or "effect >= bound" (*sign* -1).

        Args:
            stages: Counts by stage, all of the same n.
            bound: The effect still allowed, one for all or ``(n,)``.
            sign: Direction of the effect that is looked for.
            level: Chance of error for which mixtures are tuned.
        """
        if self.buckets is None:
            toward = [arms.toward(sign) for arms in stages]
            return log_evidence(self.engine, toward, bound, sign, self.bet, level)
        bounds = np.broadcast_to(np.asarray(bound, dtype=float), stages[0].of.shape)
        match self.engine:
            case Engine.QUANTILE_RATIO:
                return ratio_evidence(stages, self.buckets, bounds, sign, self.bet)
            case Engine.QUANTILE_SHIFT:
                return shift_evidence(stages, self.buckets, bounds, sign, self.bet)
            case Engine.QUANTILE_LEVEL:
                return level_evidence(stages, self.buckets, bounds, sign, self.bet)
            case _:
                return distance_evidence(stages, self.buckets, bounds, sign, self.bet, level)


def harm(clause: Clause, metric: Metric, hyp: Hypotheses, *, overall: bool) -> Question:
    """
    Return what breaks *clause* over all traffic or in a slice.

    The two differ only in where the bet is placed; the baseline's rate over all traffic chooses the engine.
    """
    return _question(clause, metric, clause.margin, hyp, HARM if overall else SLICE_HARM)


def exclusion(clause: Clause, metric: Metric, hyp: Hypotheses, *, overall: bool) -> Question | None:
    """Return the harm that a pass of *clause* must exclude over all traffic or in a slice; None asks for no proof."""
    margin = _assured(clause, overall=overall)
    if margin is None:
        return None
    # Where nothing may be worse, a pass is proof of something better, as large as a breach would be bad.
    bet = Bet(ASSURANCE_MULTIPLIERS, _information(margin.value)) if margin.value else HARM
    return _question(clause, metric, margin, hyp, bet)


def _assured(clause: Clause, *, overall: bool) -> Margin | None:
    own = clause.margin
    text = clause.assure and (clause.assure.overall if overall else clause.assure.slices)
    if text:
        return None if text == "none" else parse_margin(text)
    if overall or not clause.needs_baseline or clause.similar:
        return own
    return own if own.unit is Unit.RELATIVE and own.value > SLICE_ASSURANCE.value else SLICE_ASSURANCE


def _question(clause: Clause, metric: Metric, margin: Margin, hyp: Hypotheses, bet: Bet) -> Question:
    signs = _signs(clause, metric)
    bounds = hyp.bounds if hyp.bounds is not None else np.zeros(0)
    match metric.measured:
        case Ratio():
            return _about_ratio(clause, signs, margin, hyp, bet)
        case Rate():
            return _about_rate(clause, signs, margin, bet)
        case Quantile(q=q):
            return _about_quantile(clause, signs, margin, Buckets(bounds, tail=1 - float(q)))
        case Distribution():
            edges = groups(hyp.counted.base_events[0])
            sides = (Side(margin.value, 1),)
            return Question(Engine.DISTANCE, sides, DISTANCE_BET, margin.text, Buckets(bounds, edges=edges))


def _about_ratio(clause: Clause, signs: tuple[int, ...], margin: Margin, hyp: Hypotheses, bet: Bet) -> Question:
    if not clause.needs_baseline:
        return Question(Engine.LIMIT, tuple(Side(margin.value, sign) for sign in signs), HARM, margin.text)
    if margin.unit is not Unit.RELATIVE:
        # An effect of twice the margin is to be found soon.
        wide = Bet(HARM.multipliers, _information(margin.value))
        return Question(Engine.DIFFERENCE, _shifts(signs, margin), wide, margin.text)
    engine = Engine.RATIO if hyp.base_rate > HIGH_RATE else Engine.COUNTS
    return Question(engine, _ratios(signs, margin), bet, margin.text)


def _about_rate(clause: Clause, signs: tuple[int, ...], margin: Margin, bet: Bet) -> Question:
    if not clause.needs_baseline:
        return Question(Engine.FREQUENCY, tuple(Side(margin.value, sign) for sign in signs), HARM, margin.text)
    return Question(Engine.COUNTS, _ratios(signs, margin), bet, margin.text)


def _about_quantile(clause: Clause, signs: tuple[int, ...], margin: Margin, buckets: Buckets) -> Question:
    # The bets are about how many lie beyond a bound, whatever the margin is.
    if not clause.needs_baseline:
        sides = tuple(Side(margin.value, sign) for sign in signs)
        return Question(Engine.QUANTILE_LEVEL, sides, HARM, margin.text, buckets)
    if margin.unit is Unit.RELATIVE:
        return Question(Engine.QUANTILE_RATIO, _ratios(signs, margin), HARM, margin.text, buckets)
    return Question(Engine.QUANTILE_SHIFT, _shifts(signs, margin), HARM, margin.text, buckets)


def _ratios(signs: tuple[int, ...], margin: Margin) -> tuple[Side, ...]:
    return tuple(Side(1 + sign * margin.value, sign) for sign in signs if 1 + sign * margin.value > 0)


def _shifts(signs: tuple[int, ...], margin: Margin) -> tuple[Side, ...]:
    return tuple(Side(sign * margin.value, sign) for sign in signs)


def _signs(clause: Clause, metric: Metric) -> tuple[int, ...]:
    if clause.within is not None:
        return (1, -1)
    if clause.no_worse is not None or clause.improves:
        return (-1,) if metric.better is Better.HIGHER else (1,)
    return (-1,) if clause.at_least is not None else (1,)


_SMALL_DIFFERENCE: Final = 0.01
"""Difference of rates that is looked for where any is harm."""


def _information(effect: float) -> float:
    """Return the information at which an effect of this size is proved at 5 %, the scale of most looks."""
    return 6.0 / (max(effect, 0.001) if effect else _SMALL_DIFFERENCE) ** 2
