"""
One clause in numbers: what speaks against it, and what a pass still has to exclude.

Arrays over its hypotheses in, arrays out; no words and no verdicts.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelrelease.api.contract import Clause, Contract
from modelrelease.core.coarseness import too_coarse
from modelrelease.core.counts import FloatArray, Slice
from modelrelease.core.evidence import Arms, BoolArray, Engine, log_sum
from modelrelease.core.histograms import quantiles, stability
from modelrelease.core.hypotheses import Hypotheses
from modelrelease.core.question import Question, exclusion, harm

PASS_LEVEL: Final = 0.05
"""Chance to pass a slice that is as bad as what a pass excludes."""

THIN_SHARE: Final = 0.01
"""Share of the baseline's events below which a slice cannot be assured as soon as all traffic is."""

SMALLEST_PART: Final = 0.001
"""Part of all traffic; a slice with less of it, or an expected one with none yet, has the weight of one that has it."""

_MOST_TRAFFIC: Final = 1e4

_PRECISION: Final = 0.01
"""Of the logarithm of a factor: enough to tell how much longer."""


@dataclass(frozen=True, slots=True)
class Shown:
    """
    Counts as people read them.

    Attributes:
        arms: Of all stages together, ``(n,)`` each.
        above: The bound above which observations of a histogram count as events; None for ratios and rates, and for
            distributions, whose events are all observations.
    """

    arms: Arms
    above: float | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """
    One clause in numbers, before words: arrays ``(n,)`` over its hypotheses, the first is all traffic.

    Attributes:
        clause: The clause.
        hyp: What it judges.
        questions: What breaks it: over all traffic, and in a slice.
        exclusions: What a pass excludes, likewise; None asks for no proof.
        weight: Share of the budget of its family, summing to *share* over the hypotheses.
        share: The clause's share of its family's budget.
        log_e: Evidence of harm.
        blamed: Harm is proved in this very slice.
        assured: The harm that a pass excludes is excluded, or no proof is asked for.
        traffic_needed: How many times the traffic so far assures it at the present rates; infinite when none does.
        seen: The current stage has counts in every arm that the clause needs.
        thin: The slice has so little of the traffic that it has to be assured only together with the other thin ones of
            its dimension.
        rest_assured: The thin slices of each dimension together are assured, or there are none.
        values: The metric in the baseline and in the candidate, for display; NaN without any observations. Of a
            distribution, the second is the distance between the two.
        shown: Counts of all stages together, for display: events are those above a bound of a histogram.
        coarse: The histogram's buckets are too wide there to prove what the clause asks; what is counted cannot tell.
        timed: Whether events are counted against time, as those of a rate are.
    """

    clause: Clause
    hyp: Hypotheses
    questions: tuple[Question, Question]
    exclusions: tuple[Question | None, Question | None]
    weight: FloatArray
    share: float
    log_e: FloatArray
    blamed: BoolArray
    assured: BoolArray
    traffic_needed: FloatArray
    seen: BoolArray
    thin: BoolArray
    rest_assured: bool
    values: tuple[FloatArray, FloatArray]
    shown: "Shown"
    coarse: BoolArray
    timed: bool

    @property
    def log_mean(self) -> float:
        """Log of the weighted mean of the clause's e-values, as part of its family's mean."""
        return float(log_sum(np.log(self.weight) + self.log_e))


def assess(contract: Contract, clause: Clause, hyp: Hypotheses, share: float, budget: float) -> Assessment:
    """Return what the counts in *hyp* say of *clause*, which has *share* of its family's *budget*."""
    metric = contract.metric(clause.metric)
    questions = (harm(clause, metric, hyp, overall=True), harm(clause, metric, hyp, overall=False))
    weight = share * slice_weights(hyp.traffic)
    log_e = np.concatenate([log_harm(q, stages, budget) for q, stages in zip(questions, split(hyp), strict=True)])
    seen = hyp.current.of > 0
    if clause.needs_baseline:
        seen &= hyp.current.base_of > 0
    overall, each = (exclusion(clause, metric, hyp, overall=whole) for whole in (True, False))
    whole, slices = hyp.current.take(slice(0, 1)), hyp.current.take(slice(1, None))
    thin = thin_slices(clause, hyp)
    rests = [hyp.current.take(which).summed() for which in _by_dimension(hyp.parts, thin)]
    assured = np.concatenate([excludes(overall, whole), excludes(each, slices)]) & seen
    return Assessment(
        clause=clause,
        hyp=hyp,
        questions=questions,
        exclusions=(overall, each),
        weight=weight,
        share=share,
        log_e=log_e,
        blamed=np.log(weight) + log_e >= np.log(1 / budget),
        assured=assured,
        traffic_needed=_traffic_needed(overall, each, hyp.current, seen & ~assured & ~thin),
        seen=seen,
        thin=thin,
        rest_assured=all(_small(clause, rest, hyp.current)[0] or excludes(each, rest)[0] for rest in rests),
        values=_values(questions[0], hyp, compared=clause.needs_baseline),
        shown=_shown(questions[0], hyp),
        coarse=_coarse(questions, (overall, each), hyp),
        timed=metric.rate is not None,
    )


def _values(question: Question, hyp: Hypotheses, *, compared: bool) -> tuple[FloatArray, FloatArray]:
    """Return the metric in both arms ``(n,)``, for display."""
    if question.buckets is None:
        return _rates(hyp, compared=compared)
    counted = hyp.counted
    if question.engine is Engine.DISTANCE:
        distance, _, usable = stability(counted, question.buckets)
        return np.full(distance.shape, np.nan), np.where(usable, distance, np.nan)
    return quantiles(counted.base_events, question.buckets), quantiles(counted.events, question.buckets)


def _rates(hyp: Hypotheses, *, compared: bool) -> tuple[FloatArray, FloatArray]:
    """
    Return the rates of both arms ``(n,)`` over all stages, so that their ratio is that within the stages.

    Pooled counts would show a change that is none when rate and split differ between the stages. Each stage has the
    weight that it has in the common ratio of Mantel and Haenszel (1959). Where nothing can be compared, the counts are
    taken as they are.
    """
    stages = hyp.stages
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = [np.nan_to_num(arms.of * arms.base_of / (arms.of + arms.base_of)) for arms in stages]
        total = np.add.reduce(shared)
        base = np.add.reduce(
            [w * np.nan_to_num(a.base_events / a.base_of) for w, a in zip(shared, stages, strict=True)]
        )
        mine = np.add.reduce([w * np.nan_to_num(a.events / a.of) for w, a in zip(shared, stages, strict=True)])
        comparable = (total > 0) & compared
        counted = hyp.counted
        return (
            np.where(comparable, base / total, counted.base_events / counted.base_of),
            np.where(comparable, mine / total, counted.events / counted.of),
        )


def _shown(question: Question, hyp: Hypotheses) -> Shown:
    counted = hyp.counted
    if question.buckets is None:
        return Shown(counted, None)
    if question.engine is Engine.DISTANCE or not len(question.buckets.bounds):
        return Shown(Arms(counted.of, counted.of, counted.base_of, counted.base_of), None)
    bounds = question.buckets.bounds
    limit = question.sides[0].bound if question.engine is Engine.QUANTILE_LEVEL else None
    near = quantiles(counted.base_events[:1], question.buckets)[0] if limit is None else limit
    index = min(int(np.searchsorted(bounds, near * (1 - 1e-9))), len(bounds) - 1) if near == near else 0
    above, base_above = (bins[:, index + 1 :].sum(axis=1) for bins in (counted.events, counted.base_events))
    return Shown(Arms(above, counted.of, base_above, counted.base_of), float(bounds[index]))


def _coarse(
    questions: tuple[Question, Question], exclusions: tuple[Question | None, Question | None], hyp: Hypotheses
) -> BoolArray:
    """Return where the buckets are too wide ``(n,)`` for the clause, over all traffic and in the slices."""
    pieces = [
        too_coarse(question, excluded, hyp.counted.take(which))
        for question, excluded, which in zip(questions, exclusions, (slice(0, 1), slice(1, None)), strict=True)
    ]
    return np.concatenate(pieces)


def split(hyp: Hypotheses) -> tuple[list[Arms], list[Arms]]:
    """Return the counts of all traffic, and those of the slices, by stage."""
    return [arms.take(slice(0, 1)) for arms in hyp.stages], [arms.take(slice(1, None)) for arms in hyp.stages]


def thin_slices(clause: Clause, hyp: Hypotheses) -> BoolArray:
    """
    Return which slices are thin ``(n,)``: unexpected ones with less than ``THIN_SHARE`` of what decides how soon
    something can be proved.

    A share, not a number: a gate that has seen little must not pass sooner than one that has seen more.
    """
    thin: BoolArray = ~hyp.expected & _small(clause, hyp.current, hyp.current)
    thin[0] = False
    return thin


def _by_dimension(parts: Sequence[Slice], which: BoolArray) -> list[NDArray[np.intp]]:
    """
    Return the indices of *which* slices, those of each dimension by themselves.

    One request is in one slice of every dimension: as if it were several, it would prove too much.
    """
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in np.flatnonzero(which).tolist():
        found[tuple(label for label, _ in parts[index])].append(index)
    return [np.array(indices, dtype=np.intp) for indices in found.values()]


def _small(clause: Clause, arms: Arms, all_arms: Arms) -> BoolArray:
    """
    Return whether *arms* have a small share of all traffic, whose counts come first in *all_arms*.

    In a comparison that is a small share of both arms: what only the candidate sees is no trifle.
    """
    if not clause.needs_baseline:
        return np.asarray(arms.of < THIN_SHARE * all_arms.of[0])
    base = _little(arms.base_events, arms.base_of, all_arms.base_events, all_arms.base_of)
    return base & _little(arms.events, arms.of, all_arms.events, all_arms.of)


def _little(events: FloatArray, of: FloatArray, all_events: FloatArray, all_of: FloatArray) -> BoolArray:
    """
    Return where one arm has a small share of its events ``(n,)``; of a histogram, of its observations.

    In an arm without any events it is a share of the requests, or the healthiest traffic had no thin slice at all.
    """
    if events.ndim > 1 or not all_events[0] > 0:
        return np.asarray(of < THIN_SHARE * all_of[0])
    return np.asarray(events < THIN_SHARE * all_events[0])


def slice_weights(traffic: FloatArray) -> FloatArray:
    """
    Return the weights ``(..., n)``: half for all traffic, half shared by the slices; all for all traffic without any.

    A slice's part grows with the square root of its traffic: where more is seen, more can be found, and nothing is to
    be found soon in a slice of a few requests. Equal parts, and others, were measured (docs/verdicts.md, "Tried").
    Traffic decides, never outcomes: whatever is fixed by how much was asked is as good as fixed beforehand.

    Args:
        traffic: How much was seen of each in both arms, all traffic first, ``(..., n)``; for a rate the time, which is
            the same for all.
    """
    whole, slices = traffic[..., :1], traffic[..., 1:]
    if not slices.shape[-1]:
        return np.ones(traffic.shape)
    part = np.divide(slices, whole, out=np.zeros(slices.shape), where=whole > 0)
    stake = np.sqrt(np.clip(part, SMALLEST_PART, 1.0))
    halves = [np.ones(whole.shape), stake / stake.sum(axis=-1, keepdims=True)]
    return np.asarray(np.concatenate(halves, axis=-1) / 2)


def log_harm(question: Question, stages: Sequence[Arms], budget: float) -> FloatArray:
    """Return the log e-values ``(n,)`` against "the clause holds"; two directions share the evidence in halves."""
    if not question.sides:
        return np.zeros(stages[-1].of.shape)
    sides = [question.evidence(stages, side.bound, side.sign, budget) for side in question.sides]
    return sides[0] if len(sides) == 1 else log_sum(np.stack(sides)) - np.log(2)


def excludes(question: Question | None, current: Arms) -> BoolArray:
    """Return whether the harm is excluded ``(n,)``, in every direction in its own right; None asks for no proof."""
    if question is None:
        return np.ones(current.of.shape, dtype=bool)
    open_ = np.arange(current.of.size)
    for side in question.sides:
        # What one direction has ruled out needs no look at the other.
        log_e = question.evidence((current.take(open_),), side.bound, -side.sign, PASS_LEVEL)
        open_ = open_[log_e >= np.log(1 / PASS_LEVEL)]
    excluded = np.zeros(current.of.shape, dtype=bool)
    excluded[open_] = True
    return excluded


def _traffic_needed(overall: Question | None, each: Question | None, current: Arms, doubtful: BoolArray) -> FloatArray:
    """
    Return how many times the traffic so far excludes the harm at the present rates ``(n,)``; 1 where it is not asked.

    Infinite when even ten thousand times as much would not do: the rates are too near to harm, or beyond it.
    """
    first = np.arange(doubtful.size) == 0
    needed = np.ones(doubtful.shape)
    for question, which in ((overall, doubtful & first), (each, doubtful & ~first)):
        if which.any():
            needed[which] = _times_needed(question, current.take(which))
    return needed


def _times_needed(question: Question | None, current: Arms) -> FloatArray:
    return smallest_factor(lambda factor: excludes(question, current.scaled(factor)), current.of.size, _MOST_TRAFFIC)


def smallest_factor(enough: Callable[[FloatArray], BoolArray], n: int, most: float) -> FloatArray:
    """Return the smallest factor in [1, *most*] that is *enough* ``(n,)``, to one percent; infinite where none is."""
    low, high = np.zeros(n), np.full(n, np.log(most))
    possible = enough(np.exp(high))
    while high.size and (high - low).max() > _PRECISION:
        middle = (low + high) / 2
        reached = enough(np.exp(middle))
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(possible, np.exp(high), np.inf)
