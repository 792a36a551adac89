"""
What a clause asks, in numbers: which effect is harm, from where on, and what a pass has to exclude.

    within 5%       breach: ratio > 1.05 or ratio < 0.95      pass: both excluded, each in its own right
    noWorse 2%      breach: worse by more than 2 %            pass: that is excluded
    improves        breach: worse                             pass: better
    atMost 0.1%     breach: rate > 0.001                      pass: that is excluded
"""

from dataclasses import dataclass
from typing import Final

from modelrelease.api.contract import Better, Clause, Metric
from modelrelease.api.quantities import Margin, Unit, parse_margin
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, SLICE_HARM, Bet, Engine

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
    """

    engine: Engine
    sides: tuple[Side, ...]
    bet: Bet
    text: str


def harm(clause: Clause, metric: Metric, base_rate: float, *, overall: bool) -> Question:
    """
    Return what breaks *clause* over all traffic or in a slice.

    The two differ only in where the bet is placed; *base_rate*, the baseline's over all traffic, chooses the engine.
    """
    return _question(clause, metric, clause.margin, base_rate, HARM if overall else SLICE_HARM)


def exclusion(clause: Clause, metric: Metric, base_rate: float, *, overall: bool) -> Question | None:
    """Return the harm that a pass of *clause* must exclude over all traffic or in a slice; None asks for no proof."""
    margin = _assured(clause, overall=overall)
    if margin is None:
        return None
    # Where nothing may be worse, a pass is proof of something better, as large as a breach would be bad.
    bet = Bet(ASSURANCE_MULTIPLIERS, _information(margin.value)) if margin.value else HARM
    return _question(clause, metric, margin, base_rate, bet)


def _assured(clause: Clause, *, overall: bool) -> Margin | None:
    own = clause.margin
    text = clause.assure and (clause.assure.overall if overall else clause.assure.slices)
    if text:
        return None if text == "none" else parse_margin(text)
    if overall or not clause.needs_baseline:
        return own
    return own if own.unit is Unit.RELATIVE and own.value > SLICE_ASSURANCE.value else SLICE_ASSURANCE


def _question(clause: Clause, metric: Metric, margin: Margin, base_rate: float, bet: Bet) -> Question:
    signs = _signs(clause, metric)
    if not clause.needs_baseline:
        sides = tuple(Side(margin.value, sign) for sign in signs)
        return Question(Engine.LIMIT, sides, HARM, margin.text)
    if margin.unit is not Unit.RELATIVE:
        sides = tuple(Side(sign * margin.value, sign) for sign in signs)
        # An effect of twice the margin is to be found soon.
        return Question(Engine.DIFFERENCE, sides, Bet(HARM.multipliers, _information(margin.value)), margin.text)
    sides = tuple(Side(1 + sign * margin.value, sign) for sign in signs if 1 + sign * margin.value > 0)
    engine = Engine.RATIO if base_rate > HIGH_RATE else Engine.COUNTS
    return Question(engine, sides, bet, margin.text)


def _signs(clause: Clause, metric: Metric) -> tuple[int, ...]:
    if clause.within is not None:
        return (1, -1)
    if clause.no_worse is not None or clause.improves:
        return (-1,) if metric.better is Better.HIGHER else (1,)
    return (1,) if clause.at_most is not None else (-1,)


_SMALL_DIFFERENCE: Final = 0.01
"""Difference of rates that is looked for where any is harm."""


def _information(effect: float) -> float:
    """Return the information at which an effect of this size is proved at 5 %, the scale of most looks."""
    return 6.0 / (max(effect, 0.001) if effect else _SMALL_DIFFERENCE) ** 2
