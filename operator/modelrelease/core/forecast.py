"""
What each stage can prove, and how soon: from the baseline's own rates and traffic, before anything is released.

Two questions for every slice that a gate waits for: when would a candidate that changes nothing pass, and when would
one that does twice the harm be found? Answers are for expected counts; luck makes half of all releases take longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np

from modelrelease.api.contract import Better, Clause, Contract, Metric
from modelrelease.api.release import Stage, StageKind
from modelrelease.core.assess import (
    excludes,
    log_harm,
    slice_weights,
    smallest_factor,
    thin_slices,
)
from modelrelease.core.coarseness import too_coarse
from modelrelease.core.counts import FloatArray, Slice, StageCounts
from modelrelease.core.evidence import Arms, BoolArray
from modelrelease.core.hypotheses import Hypotheses, hypotheses
from modelrelease.core.judge import clause_shares
from modelrelease.core.question import Question, exclusion, harm

_HORIZON_SECONDS: Final = timedelta(days=90).total_seconds()
"""Later than this is never."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    What a stage can prove of one clause in one slice.

    Attributes:
        stage, clause: Names.
        part: The slice; ``()`` is all traffic.
        candidate_per_second: Requests per second that the candidate sees; of a rate, events.
        passes_after: When a candidate that changes nothing passes; None for never.
        found_after: When one that harms twice as much as is bearable is named: twice the rate (half, where higher is
            better), or twice the limit; None for never.
        thin: Whether the slice is too small for the gate to wait for it.
        too_coarse: Whether the histogram's buckets are too wide for the clause, so that it never passes.
        deadline: The stage's.
    """

    stage: str
    clause: str
    part: Slice
    candidate_per_second: float
    passes_after: timedelta | None
    found_after: timedelta | None
    thin: bool
    too_coarse: bool
    deadline: timedelta

    @property
    def in_time(self) -> bool:
        """Whether the gate can pass before the stage's deadline, as far as this slice goes."""
        return self.thin or (self.passes_after is not None and self.passes_after <= self.deadline)


def forecast(
    contract: Contract,
    history: StageCounts,
    stages: Sequence[Stage],
    *,
    error_budget: float,
    design_effect: float,
    gates_only: bool = False,
) -> tuple[Outlook, ...]:
    """
    Return what every stage can prove, in order; within a clause all traffic first, then by traffic.

    Args:
        contract: What must hold.
        history: Counts of the baseline under all of the traffic; its length must be known.
        stages: The plan.
        error_budget: Chance of one false breach in the whole release.
        design_effect: How many requests tell no more than one.
        gates_only: Tell only what a gate waits for: no thin slices, and not when harm is found. Half of the work.
    """
    shares = clause_shares(contract, has_baseline=True)
    outlooks: list[Outlook] = []
    for stage in stages:
        seen = replace(history, kind=stage.kind.value)
        for clause in contract.clauses:
            if not _judged(clause, stage):
                continue
            hyp = hypotheses(contract, clause, (seen,), design_effect)
            level = shares[clause.name] * error_budget
            found = _outlooks(contract, clause, hyp, stage, None if gates_only else level, error_budget)
            outlooks += [outlook for outlook in found if not (gates_only and outlook.thin)]
    return tuple(outlooks)


def _judged(clause: Clause, stage: Stage) -> bool:
    """Return whether *clause* is judged in *stage*: at full nobody is left on the old revision to compare with."""
    return clause.judged_in(stage.kind) and not (clause.needs_baseline and stage.kind is StageKind.FULL)


@dataclass(frozen=True, slots=True)
class Gap:
    """
    Something of which a forecast tells nothing.

    Attributes:
        message: What, and why.
        passes: Whether a gate passes all the same.
    """

    message: str
    passes: bool


def gaps(contract: Contract, history: StageCounts, stages: Sequence[Stage]) -> tuple[Gap, ...]:
    """Return the stages that judge nothing, and the clauses of which no slice was counted; as for ``forecast``."""
    silent = [
        _silent_stage(contract, stage) for stage in stages if not any(_judged(it, stage) for it in contract.clauses)
    ]
    judged = [clause for clause in contract.clauses if any(_judged(clause, stage) for stage in stages)]
    return (*silent, *(gap for clause in judged if (gap := _uncounted(clause, history))))


def _silent_stage(contract: Contract, stage: Stage) -> Gap:
    if any(clause.judged_in(stage.kind) for clause in contract.clauses):
        why = "its clauses compare with the baseline, and nobody is left there: its watch sees nothing"
        return Gap(f"nothing is judged in stage {stage.name}: {why}", passes=True)
    why = f"no clause is judged in {stage.kind} stages: its gate never passes"
    return Gap(f"nothing is judged in stage {stage.name}: {why}", passes=False)


def _uncounted(clause: Clause, history: StageCounts) -> Gap | None:
    """Return that no slice of *clause* was counted: with none at all, its gate has no data."""
    asked = clause.per or []
    missing = [
        it for it in asked if not any((clause.metric, it) in kind for kind in (history.counts, history.histograms))
    ]
    if not missing:
        return None
    what = f"clause {clause.name}: {clause.metric} was counted in no slice of {', '.join(missing)}"
    return Gap(f"{what}: what it can prove there is not told", passes=len(missing) < len(asked))


def _outlooks(
    contract: Contract, clause: Clause, hyp: Hypotheses, stage: Stage, level: float | None, budget: float
) -> list[Outlook]:
    """Return the outlooks of one clause; without its *level*, only those of what a gate waits for are worked out."""
    metric = contract.metric(clause.metric)
    healthy = _a_second(hyp, stage, hyp.current.base_events)
    harmed = _a_second(hyp, stage, _harmed(hyp.current, clause, metric, hyp))
    thin = thin_slices(clause, replace(hyp, stages=(healthy,)))
    first = np.arange(thin.size) == 0
    passes_after, found_after = np.full(thin.shape, np.inf), np.full(thin.shape, np.inf)
    coarse = np.zeros(thin.shape, dtype=bool)
    for overall, which in ((True, first), (False, ~first)):
        asked = which & ~thin if level is None else which
        question = harm(clause, metric, hyp, overall=overall)
        excluded = exclusion(clause, metric, hyp, overall=overall)
        passes_after[asked] = _seconds_to_pass(excluded, healthy.take(asked))
        coarse[which] = too_coarse(question, excluded, hyp.counted.take(which))
        if level is not None:
            needed = np.log(1 / (level * slice_weights(hyp.traffic)[which]))
            found_after[which] = _seconds_to_find(question, harmed.take(which), needed, budget)
    seen = hyp.counted.base_events if metric.rate else hyp.counted.base_of
    per_second = seen / hyp.seconds * _shares_of_requests(stage)[0]
    order = sorted(range(len(hyp.parts)), key=lambda index: (index > 0, -per_second[index], str(hyp.parts[index])))
    return [
        Outlook(
            stage=stage.name,
            clause=clause.name,
            part=hyp.parts[index],
            candidate_per_second=float(per_second[index]),
            passes_after=_duration(passes_after[index]),
            found_after=_duration(found_after[index]),
            thin=bool(thin[index]),
            too_coarse=bool(coarse[index]),
            deadline=stage.deadline_time,
        )
        for index in order
    ]


def _shares_of_requests(stage: Stage) -> tuple[float, float]:
    """Return the share of all requests that the candidate and the baseline see."""
    if stage.kind is StageKind.SHADOW:
        return stage.mirror_percent / 100, 1.0
    return stage.weight / 100, 1 - stage.weight / 100


def _a_second(hyp: Hypotheses, stage: Stage, events: FloatArray) -> Arms:
    """Return the counts of one second in *stage*, when the candidate has *events* of the history's requests."""
    mine, theirs = (share / hyp.seconds for share in _shares_of_requests(stage))
    history = hyp.current
    return Arms(events * mine, history.base_of * mine, history.base_events * theirs, history.base_of * theirs)


def _harmed(history: Arms, clause: Clause, metric: Metric, hyp: Hypotheses) -> FloatArray:
    """
    Return the events that a harmful candidate would have had: twice the rate, or half, or twice the limit.

    Values of a histogram are twice what they were, or half.
    """
    if hyp.bounds is not None:
        falls = clause.at_least is not None or (metric.better is Better.HIGHER and clause.needs_baseline)
        return _stretched(history.base_events, hyp.bounds, 0.5 if falls else 2.0)
    if clause.at_most is not None and metric.rate:
        return history.base_of * 2 * clause.margin.value
    if metric.rate:
        return history.base_events * (0.5 if clause.at_least is not None or metric.better is Better.HIGHER else 2.0)
    if clause.at_most is not None:
        return history.base_of * min(2 * clause.margin.value, 1.0)
    if clause.at_least is not None:
        return history.base_of * max(1 - 2 * (1 - clause.margin.value), 0.0)
    if metric.better is Better.HIGHER and clause.within is None:
        return history.base_events / 2
    return np.minimum(2 * history.base_events, history.base_of)


def _stretched(bins: FloatArray, bounds: FloatArray, factor: float) -> FloatArray:
    """Return the bins ``(n, b + 1)`` when every value is *factor* times what it was; even inside a bin."""
    if not len(bounds):
        return bins
    ends = np.concatenate([[min(0.0, bounds[0])], bounds])
    cumulative = np.concatenate([np.zeros((len(bins), 1)), np.cumsum(bins, axis=1)[:, :-1]], axis=1)
    # What lies beyond the last bound is taken to lie there still.
    below = np.stack([np.interp(bounds / factor, ends, row) for row in cumulative])
    return np.diff(below, axis=1, prepend=0.0, append=bins.sum(axis=1, keepdims=True))


def _seconds_to_pass(question: Question | None, second: Arms) -> FloatArray:
    return smallest_factor(lambda seconds: excludes(question, second.scaled(seconds)), second.of.size, _HORIZON_SECONDS)


def _seconds_to_find(question: Question, second: Arms, needed: FloatArray, budget: float) -> FloatArray:
    def enough(seconds: FloatArray) -> BoolArray:
        return log_harm(question, [second.scaled(seconds)], budget) >= needed

    return smallest_factor(enough, second.of.size, _HORIZON_SECONDS)


def _duration(seconds: float) -> timedelta | None:
    return timedelta(seconds=round(float(seconds))) if np.isfinite(seconds) else None
