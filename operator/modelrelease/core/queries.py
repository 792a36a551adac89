"""
Counts from Prometheus: which questions to ask, and what the answers mean. Pure; an adapter does the asking.

One question per counter and set of slice labels, whatever the number of slices, for both arms at one moment. For a
selector S, a window of w seconds that ends at the moment of evaluation, and steps of d seconds that divide it:

    sum by (revision, <slice labels>) (
        part "now"     last_over_time(S[w]) or last_over_time(S[1h] offset w)
     or part "before"  -last_over_time(S[1h] offset w)
     or part "lost"    sum_over_time((last_over_time(S[1h] offset d) > last_over_time(S[d]))[w:d])
    )

that is, for each series: where it is now, less where it was when the window began (nowhere, if it was born in the
window), plus what it lost at each reset (the value before a drop). The parts are told apart by a label of their own,
so ``or`` keeps all of them and none has to exist: no series is lost, not even one with a single sample.

Why not ``increase()``: it drops the first sample of a newborn series (every candidate pod's series is one) and
extrapolates to the window's edges, percents of a window of a minute. Measured over 12-17 s with births, crashes, gaps
and a restart of Prometheus, on 3.x and 2.42: ``increase()`` is off by +3 to -76 %, with its newborns' least values
added by +5 to -64 %; this expression equals the exporters' own counts, slice by slice (tests/prometheus). It only reads
what was scraped: the last scrape in the window less the last one before it, whole numbers; what happened since comes
with the next scrape. 400 series over 12 h take 0.5 s, ``increase()`` alone 0.15 s.

What it cannot see: a counter that restarts and outgrows its old value between two samples (or within one step d, at
most 1/500 of the window and never less than a second), and a series that was silent for an hour when the window began
and had been counting before: it is taken for a newborn. The same goes for all series of a Prometheus that has lost its
data: an arm is then counted since its pods started, both counters of a ratio alike.

An answer without a slice label is the slice ``(none)``. An absent numerator is 0 events; an absent denominator is no
traffic. A value that is no count (NaN, infinite, negative) takes its arm of that slice out; more events than there
can be are cut; both are counted as bad samples.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from modelrelease.api.contract import Contract
from modelrelease.api.parse import Release
from modelrelease.api.selectors import Matcher, Selector, parse_selector
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, MetricsUnavailable, Slice, SliceCounts, StageCounts

NO_VALUE: Final = "(none)"
"""Value of a slice label that a series does not have."""

STALE_INTERVALS: Final = 2
"""Scrape intervals after which the newest sample is too old to judge on."""

_LOOK_BACK: Final = "1h"
_MOST_STEPS: Final = 500
_PART_LABEL: Final = "modelrelease_part"


@dataclass(frozen=True, slots=True)
class StageWindow:
    """
    The time of a stage.

    Attributes:
        name: Name of the stage.
        kind: ``shadow``, ``canary`` or ``full``.
        start, end: When it began, and when it ended or now; UTC.
        percent: Share of the requests, or of their copies, that the candidate is to get; None when it is not known.
    """

    name: str
    kind: str
    start: datetime
    end: datetime
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """
    An instant query.

    Attributes:
        text: PromQL.
        at: Moment of evaluation in Unix milliseconds.
    """

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


Vector = tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class RatioQueries:
    """
    The two counters of a metric, cut by one dimension.

    Attributes:
        metric: Name of the metric.
        dimension: Name of the dimension; ``""`` is all traffic.
        labels: Labels that name its slices.
        events, of: The questions.
    """

    metric: str
    dimension: str
    labels: tuple[str, ...]
    events: Query
    of: Query


@dataclass(frozen=True, slots=True)
class StageQueries:
    """
    All questions about one stage.

    Attributes:
        stage, kind: The stage.
        seconds: Length of the window.
        until: End of the window, Unix seconds.
        baseline: Revision of the first column; None leaves it 0.
        candidate: Revision of the second column.
        ratios: Questions by metric and dimension; none when the window is still empty.
        newest: Asks for the Unix time of the newest sample; None when the window is still empty.
    """

    stage: str
    kind: str
    seconds: float
    until: float
    baseline: str | None
    candidate: str
    ratios: tuple[RatioQueries, ...]
    newest: Query | None

    @property
    def queries(self) -> frozenset[Query]:
        """The questions about counts, each once."""
        return frozenset(query for ratio in self.ratios for query in (ratio.events, ratio.of))


# Asking.


def stage_queries(
    release: Release, window: StageWindow, baseline: str | None, candidate: str, *, lag: timedelta
) -> StageQueries:
    """Return what to ask about *window*, read *lag* before its end so that scrapes under way are in."""
    until = window.end - lag
    frame = _Frame.of(window.start, until)
    contract = release.spec.contract
    arms = _arms(release, baseline, candidate)
    pairs = needed(contract, window.kind) if frame else ()
    ratios = tuple(_ratio_queries(contract, metric, dimension, arms, frame) for metric, dimension in pairs if frame)
    return StageQueries(
        stage=window.name,
        kind=window.kind,
        seconds=frame.width / 1000 if frame else 0.0,
        until=until.timestamp(),
        baseline=baseline,
        candidate=candidate,
        ratios=ratios,
        newest=_newest(contract, {metric for metric, _ in pairs}, arms, frame) if frame else None,
    )


def needed(contract: Contract, kind: str) -> tuple[tuple[str, str], ...]:
    """
    Return the (metric, dimension) pairs that stages of this *kind* are judged on, each once; ``""`` is all traffic.

    A stage in which nothing is judged still counts its traffic, by the first metric: it has to be seen to flow.
    """
    judged = [clause for clause in contract.clauses if clause.judged_in(kind)]
    pairs = [(c.metric, dimension) for c in judged for dimension in (OVERALL_DIMENSION, *(c.per or ()))]
    return tuple(dict.fromkeys(pairs)) or ((contract.metrics[0].name, OVERALL_DIMENSION),)


@dataclass(frozen=True, slots=True)
class _Frame:
    """
    A window laid on a grid, in milliseconds.

    Prometheus aligns the steps of a subquery to multiples of the step since 1970. So the moment of evaluation is moved
    up to such a multiple, and every selector back again by *back*: the steps then end exactly with the window.
    """

    width: int
    step: int
    at: int
    back: int

    @classmethod
    def of(cls, start: datetime, end: datetime) -> "_Frame | None":
        """Return the grid of the window; None if it is shorter than a second."""
        last = round(end.timestamp() * 1000)
        width = last - round(start.timestamp() * 1000)
        if width < 1000:
            return None
        step = 1000 * math.ceil(width / 1000 / _MOST_STEPS)
        at = math.ceil(last / step) * step
        # Up to one step at the beginning of the window is left out, so that steps divide it.
        return cls(width=width // step * step, step=step, at=at, back=at - last)

    def past(self, selector: Selector, span: str, back: int = 0) -> str:
        """Return the last value in *span*, *back* milliseconds before the end of the window."""
        total = self.back + back
        return f"last_over_time({selector}[{span}]{f' offset {_duration(total)}' if total else ''})"


def _duration(milliseconds: int) -> str:
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _count(selector: Selector, labels: Sequence[str], frame: _Frame) -> Query:
    """Return the question how far a counter has risen in the window; see the module's docstring."""
    width, step = _duration(frame.width), _duration(frame.step)
    # A millisecond short: Prometheus 2 would take the step that ends at the window's beginning, Prometheus 3 would not.
    steps = f"{_duration(frame.width - 1)}:{step}"
    now = frame.past(selector, width)
    before = frame.past(selector, _LOOK_BACK, frame.width)
    drops = f"{frame.past(selector, _LOOK_BACK, frame.step)} > {frame.past(selector, step)}"
    parts = {"now": f"{now} or {before}", "before": f"-{before}", "lost": f"sum_over_time(({drops})[{steps}])"}
    told_apart = (f'label_replace({part}, "{_PART_LABEL}", "{name}", "", "")' for name, part in parts.items())
    return Query(f"sum by ({', '.join(('revision', *labels))}) ({' or '.join(told_apart)})", frame.at)


def _arms(release: Release, baseline: str | None, candidate: str) -> tuple[Matcher, ...]:
    revisions = [name for name in (baseline, candidate) if name is not None]
    return (
        Matcher("namespace", "=", release.namespace),
        Matcher("release", "=", release.name),
        Matcher("revision", "=~", "|".join(map(re.escape, revisions))),
    )


def _ratio_queries(
    contract: Contract, metric: str, dimension: str, arms: tuple[Matcher, ...], frame: _Frame
) -> RatioQueries:
    labels = tuple(contract.dimension(dimension).labels) if dimension else ()
    ratio = contract.metric(metric).ratio
    assert ratio, "the other kinds are not asked for yet"
    events, of = (_count(parse_selector(text).narrowed(*arms), labels, frame) for text in (ratio.events, ratio.of))
    return RatioQueries(metric=metric, dimension=dimension, labels=labels, events=events, of=of)


def _newest(contract: Contract, metrics: set[str], arms: tuple[Matcher, ...], frame: _Frame) -> Query:
    """Return the question when the newest sample of any denominator was scraped."""
    ratios = [ratio for name in metrics if (ratio := contract.metric(name).ratio)]
    texts = {parse_selector(ratio.of).narrowed(*arms) for ratio in ratios}
    offset = f" offset {_duration(frame.back)}" if frame.back else ""
    return Query(f"max({' or '.join(sorted(f'timestamp({text}{offset})' for text in texts))})", frame.at)


# Understanding.


def stale(asked: StageQueries, counts: StageCounts, answer: Vector, interval: timedelta) -> MetricsUnavailable | None:
    """
    Return why the newest sample is too old, given scrapes every *interval*; None when all is well.

    A stage without any counts is not stale: nothing has been seen of it yet.
    """
    if asked.newest is None or not any(it.of.any() for it in counts.counts.values()):
        return None
    if not answer:
        return MetricsUnavailable(f"Prometheus has no fresh samples of stage {asked.stage}: are the pods scraped?")
    age = asked.until - max(sample.value for sample in answer)
    if age <= STALE_INTERVALS * interval.total_seconds():
        return None
    return MetricsUnavailable(
        f"the newest sample of stage {asked.stage} in Prometheus is {age:.0f} s old, "
        f"with a scrape every {interval.total_seconds():g} s: is Prometheus behind, or are the pods not scraped?"
    )


def stage_counts(asked: StageQueries, answers: Mapping[Query, Vector]) -> tuple[StageCounts, int] | MetricsUnavailable:
    """Return the counts of a stage and how many samples were bad, or why the answers cannot be understood."""
    counts = {}
    bad = 0
    for ratio in asked.ratios:
        tables = []
        for query in (ratio.events, ratio.of):
            table = _by_arm_and_slice(ratio, answers[query])
            if isinstance(table, MetricsUnavailable):
                return table
            tables.append(table)
        counts[ratio.metric, ratio.dimension], dropped = _slice_counts(asked, ratio.labels, *tables)
        bad += dropped
    return StageCounts(stage=asked.stage, kind=asked.kind, seconds=asked.seconds, counts=counts), bad


_Table = Mapping[tuple[str, Slice], float]


def _by_arm_and_slice(ratio: RatioQueries, vector: Vector) -> _Table | MetricsUnavailable:
    table: dict[tuple[str, Slice], float] = {}
    for sample in vector:
        part = tuple((label, sample.labels.get(label) or NO_VALUE) for label in ratio.labels)
        key = (sample.labels.get("revision", ""), part)
        if key in table:
            labels = ", ".join(f"{name}={value!r}" for name, value in sorted(sample.labels.items()))
            return MetricsUnavailable(
                f"metric {ratio.metric}: Prometheus gave several series for one revision and slice: {labels}"
            )
        table[key] = sample.value
    return table


def _slice_counts(asked: StageQueries, labels: tuple[str, ...], events: _Table, of: _Table) -> tuple[SliceCounts, int]:
    parts = tuple(sorted({part for _, part in (*events, *of)})) if labels else (OVERALL,)
    place = {part: row for row, part in enumerate(parts)}
    columns = {asked.baseline: 0, asked.candidate: 1}
    grids = np.zeros((2, len(parts), 2))
    for grid, table in zip(grids, (events, of), strict=True):
        for (revision, part), value in table.items():
            if revision in columns:
                grid[place[part], columns[revision]] = value
    wrong = ~np.isfinite(grids) | (grids < 0)
    # One bad counter takes out the other: without its numerator a denominator would count as no events.
    grids[:, wrong.any(axis=0)] = 0.0
    excess = grids[0] > grids[1]
    grids[0] = np.minimum(grids[0], grids[1])
    return SliceCounts(slices=parts, events=grids[0], of=grids[1]), int(wrong.sum() + excess.sum())
