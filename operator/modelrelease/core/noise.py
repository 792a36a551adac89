"""
What the baseline alone tells of how noisy the traffic is. Pure: which questions to ask, and what the answers tell.

Bursts. One card or merchant brings several requests with the same outcome, and n requests tell no more than n / phi
would. The design effect phi is how much more a slice's rate jumps from one step of time to the next than independent
requests would make it (von Neumann's ratio): in one step r of n requests are events, and with p over all steps

    phi = mean over slices and steps of (r_t - r_{t-1})^2 / (p (1 - p) (1 / n_t + 1 / n_{t-1}))

Only neighbours are compared, so a rate that drifts over the day is no noise. Of independent requests, the mean of c
terms is 1, give or take sqrt(3 / c) (simulated: 0.22 of 59 terms, 0.18 of 89, whether 2 or 300 events are expected in a
step). An estimate counts only when it exceeds 1 by twice that, or a healthy baseline would seem noisy at every second
look; now at 3 of 100. So phi below 1.45 goes unseen in ten minutes of a single series, below 1.1 in those of twenty
slices. Terms of slices and of all traffic depend on each other: the doubt is that of the dimension with most terms.

Pods. What lasts, such as one merchant's requests going to one pod, does not show from step to step. So the baseline's
pods are counted in two halves, which the judge compares as if one were a candidate.

Both are read from ten minutes before the stage on. Steps are read as plain differences of counters: a counter that is
born or restarts in a step is left out of it, numerator and denominator alike. Quantiles, distributions and rates get no
design effect yet.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from modelrelease.api.contract import Contract
from modelrelease.api.parse import Release
from modelrelease.api.selectors import Matcher, Selector, parse_selector
from modelrelease.core.answers import Vector
from modelrelease.core.counting import Frame
from modelrelease.core.counts import FloatArray
from modelrelease.core.queries import (
    Query,
    StageQueries,
    StageWindow,
    arms,
    comparable,
    half_queries,
    judged,
    witnesses,
)

BEFORE: Final = timedelta(minutes=10)
"""How much of the time before a stage is read."""

FEWEST_TERMS: Final = 30
"""Pairs of neighbouring steps below which nothing is told."""

DOUBT: Final = 2.0
"""Standard errors by which a design effect must exceed 1."""

MOST_STEPS: Final = 90
MOST_SLICES: Final = 200
MOST_PODS: Final = 100

_SHORTEST_STEP: Final = timedelta(seconds=10)
_LONGEST_STEP: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """
    A query of many moments.

    Attributes:
        text: PromQL.
        start, end: First and last moment, Unix seconds.
        step: Seconds between moments.
    """

    text: str
    start: int
    end: int
    step: int


@dataclass(frozen=True, slots=True)
class Series:
    """One element of a matrix: labels, and values by Unix second."""

    labels: Mapping[str, str]
    values: Mapping[int, float]


Matrix = tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class StepQueries:
    """
    The two counters of a ratio by slice and step.

    Attributes:
        metric: Name of the metric.
        labels: Labels that name the slices of a dimension; none is all traffic.
        events, of: The questions.
    """

    metric: str
    labels: tuple[str, ...]
    events: RangeQuery
    of: RangeQuery


@dataclass(frozen=True, slots=True)
class NoiseQueries:
    """
    All questions about the noise of a stage's baseline, but those that depend on which pods there are.

    Attributes:
        about: What it is about, whenever it is asked.
        until: The moment, Unix seconds.
        steps: Questions by metric and dimension.
        pods: Asks for the baseline's pods.
    """

    about: tuple[str, ...]
    until: float
    steps: tuple[StepQueries, ...]
    pods: Query | None

    @property
    def ranges(self) -> frozenset[RangeQuery]:
        """The questions of many moments, each once."""
        return frozenset(query for it in self.steps for query in (it.events, it.of))


# Asking.


def noise_queries(
    release: Release, window: StageWindow, baseline: str, *, lag: timedelta, interval: timedelta
) -> NoiseQueries:
    """
    Return what to ask about the noise of *baseline*, scraped every *interval*, in the stage of *window*.

    At full the baseline has no traffic: what counts is how it was before, and its pods are compared no more.
    """
    contract = release.contract
    until = window.end - lag
    matchers = arms(release, baseline)
    times = _times(window.start - BEFORE, window.start if window.kind == "full" else until, interval)
    pairs = judged(contract.clauses, window.kind)
    steps = [_steps(contract, metric, dimension, matchers, times) for metric, dimension in pairs if times]
    return NoiseQueries(
        about=(release.namespace, release.name, window.name, str(window.start), baseline, contract.model_dump_json()),
        until=until.timestamp(),
        steps=tuple(it for it in steps if it),
        pods=_pods(contract, window, matchers, until),
    )


def half_stage_queries(
    release: Release, window: StageWindow, baseline: str, pods: Vector, *, lag: timedelta
) -> StageQueries | None:
    """Return what to ask about two halves of the *pods* that were found; None when there is nothing to compare."""
    names = sorted({name for sample in pods if (name := sample.labels.get("instance"))})[:MOST_PODS]
    if len(names) < 2:
        return None
    # In turn, because pods that started together are neighbours.
    halves = (names[::2], names[1::2])
    return half_queries(release, replace(window, start=window.start - BEFORE), baseline, halves, lag=lag)


def _times(start: datetime, end: datetime, interval: timedelta) -> tuple[int, int, int] | None:
    """Return first and last moment and step, all in seconds; None when there would be no two steps."""
    span = (end - start).total_seconds()
    shortest = max(2 * interval, _SHORTEST_STEP).total_seconds()
    longest = max(shortest, _LONGEST_STEP.total_seconds())
    step = math.ceil(min(max(span / MOST_STEPS, shortest), longest))
    count = min(MOST_STEPS, int(span // step))
    last = math.floor(end.timestamp())
    return (last - (count - 1) * step, last, step) if count >= 2 else None


def _steps(
    contract: Contract, metric: str, dimension: str, matchers: tuple[Matcher, ...], times: tuple[int, int, int]
) -> StepQueries | None:
    """Return the questions about one metric and dimension; None for what is no ratio."""
    ratio = contract.metric(metric).ratio
    if ratio is None:
        return None
    labels = tuple(contract.dimension(dimension).labels) if dimension else ()
    events, of = (parse_selector(text).narrowed(*matchers) for text in (ratio.events, ratio.of))
    first, last, step = times

    def counted(counter: Selector) -> RangeQuery:
        by = f"sum by ({', '.join(labels)})"
        text = f"{by} (({counter} - {counter} offset {step}s) >= 0)"
        # Thousands of slices would make an answer too large; those with few requests have nothing to tell.
        largest = f" and topk({MOST_SLICES}, {by} ({of} @ end()))" if labels else ""
        return RangeQuery(f"{text}{largest}", first, last, step)

    return StepQueries(metric=metric, labels=labels, events=counted(events), of=counted(of))


def _pods(contract: Contract, window: StageWindow, matchers: tuple[Matcher, ...], until: datetime) -> Query | None:
    frame = Frame.of(window.start - BEFORE, until)
    metrics = {metric for metric, _ in comparable(contract, window.kind)}
    if frame is None or not metrics:
        return None
    series = (frame.last(it, frame.width) for it in witnesses(contract, metrics, matchers))
    return Query(f"group by (instance) ({' or '.join(series)})", frame.at)


# Understanding.


def design_effects(asked: NoiseQueries, answers: Mapping[RangeQuery, Matrix]) -> Mapping[str, float]:
    """Return the design effect by metric; a metric with too little history has none."""
    tables: dict[str, list[tuple[FloatArray, FloatArray]]] = defaultdict(list)
    for it in asked.steps:
        tables[it.metric].append(_table(it, answers))
    effects = {metric: design_effect(dimensions) for metric, dimensions in tables.items()}
    return {metric: effect for metric, effect in effects.items() if effect is not None}


def design_effect(dimensions: Sequence[tuple[FloatArray, FloatArray]]) -> float | None:
    """
    Return how many requests tell no more than one, at least 1; None when there is too little history to tell.

    Args:
        dimensions: By dimension, events and requests ``(n, t)`` of n slices in t steps; NaN where nothing is known.
    """
    terms = [_terms(events, of) for events, of in dimensions]
    together = np.concatenate(terms) if terms else np.zeros(0)
    if len(together) < FEWEST_TERMS:
        return None
    mean = float(together.mean())
    doubt = math.sqrt(3 / max(map(len, terms)))
    return mean if mean > 1 + DOUBT * doubt else 1.0


def _terms(events: FloatArray, of: FloatArray) -> FloatArray:
    """Return the terms whose mean is the design effect, of all slices together."""
    known = np.isfinite(events) & (of > 0) & (events <= of)
    events, of = np.where(known, events, 0.0), np.where(known, of, 0.0)
    total = of.sum(axis=1, keepdims=True)
    p = events.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    # With less than one event (or one miss) to be expected in a step, the terms have no useful distribution.
    enough = of * np.minimum(p, 1 - p) > 1
    pairs = enough[:, 1:] & enough[:, :-1]
    n = np.where(enough, of, 1.0)
    rate = events / n
    spread = p * (1 - p) * (1 / n[:, 1:] + 1 / n[:, :-1])
    return np.asarray((np.diff(rate, axis=1) ** 2 / np.where(pairs, spread, 1.0))[pairs])


def _table(it: StepQueries, answers: Mapping[RangeQuery, Matrix]) -> tuple[FloatArray, FloatArray]:
    """Return events and requests ``(n, t)`` by slice and step; without requests nothing is known."""
    of = _by_slice(it, answers[it.of])
    events = _by_slice(it, answers[it.events])
    moments = range(it.of.start, it.of.end + 1, it.of.step)
    shape = (len(of), len(moments))
    requests = np.array([[values.get(moment, math.nan) for moment in moments] for values in of.values()])
    counted = np.array([[events.get(part, {}).get(moment, 0.0) for moment in moments] for part in of])
    return counted.reshape(shape), requests.reshape(shape)


def _by_slice(it: StepQueries, matrix: Matrix) -> Mapping[tuple[str, ...], Mapping[int, float]]:
    return {tuple(series.labels.get(label, "") for label in it.labels): series.values for series in matrix}
