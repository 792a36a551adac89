"""
What Prometheus' answers mean: counts of a stage.

An answer without a slice label is the slice ``(none)``, with those of which the label says that. An absent numerator is
0 events; an absent denominator is no traffic. A value that is no count (NaN, infinite, negative) takes its arm of that
slice out; more events than there can be are cut; both are counted as bad samples.

A column of which nothing is known from when its window began, although it served then, has no counts at all: Prometheus
has lost its data, or did not scrape, and what a counter first seen now has counted since, nobody can tell.

Counters that swing up and down count nothing: several processes answer one target in turn. What a restart is counted
as would then be counted at each of the falls.

A classic histogram comes as cumulative counts by bound. They may fall by a rounding error, which is repaired silently;
if they fall by more, they are repaired and counted as bad. Without the bound +Inf nobody knows how many observations
there were: that arm of the slice is out. An arm that has both classic and native histograms is read by the classic.

No events of a rate may mean that all is well or that nobody counts. So an arm has time in which events could happen
only when it is seen to have traffic by another metric, or when events did happen.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.bins import Buckets, bin_counts
from modelrelease.core.counts import (
    OVERALL,
    OVERALL_DIMENSION,
    BinCounts,
    FloatArray,
    MetricsUnavailable,
    Slice,
    SliceCounts,
    StageCounts,
)
from modelrelease.core.queries import (
    BOUND,
    REVISION,
    SCRAPED,
    HistogramQueries,
    MetricQueries,
    Query,
    RateQueries,
    RatioQueries,
    StageQueries,
)

NO_VALUE: Final = "(none)"
"""Value of a slice label that a series does not have."""

STALE_INTERVALS: Final = 2
"""Scrape intervals after which the newest sample is too old to judge on."""

_ROUNDING: Final = 1e-9
"""Fall of a cumulative count, relative to all observations, that is a rounding error."""

BoolArray = NDArray[np.bool_]

Bucket = tuple[float, float, float]
"""Left edge, right edge and observations of one bucket of a histogram."""


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One element of an instant vector.

    Attributes:
        labels: Names and values.
        value: The number; of a native histogram, all observations.
        buckets: Of a native histogram, those that are not empty; None of a plain number.
    """

    labels: Mapping[str, str]
    value: float
    buckets: tuple[Bucket, ...] | None = None


Vector = tuple[Sample, ...]
Answers = Mapping[Query, Vector]


def stale(asked: StageQueries, counts: StageCounts, answer: Vector, interval: timedelta) -> MetricsUnavailable | None:
    """
    Return why the newest sample is too old, given scrapes every *interval*; None when all is well.

    A stage without any counts is not stale: nothing has been seen of it yet.
    """
    counted = [it.of for it in counts.counts.values()] + [it.of for it in counts.histograms.values()]
    if asked.newest is None or not any(of.any() for of in counted):
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


def same_samples(before: Vector, after: Vector) -> bool:
    """
    Return whether no pod got a newer sample between two answers to ``StageQueries.newest``.

    A sample bears the time at which its scrape began and can be seen only when the scrape has ended. What is asked in
    between, for one and the same moment, is answered partly without it and partly with it.
    """
    return _moments(before) == _moments(after)


def torn(asked: StageQueries, answers: Answers) -> bool:
    """
    Return whether the two counters of a ratio were not counted from the same samples.

    That is so when a scrape ended between the two questions, or when several servers with scrapes of their own answer
    in turn: a share of events of the one among requests of the other was never true.
    """
    ratios = [it for it in asked.metrics if isinstance(it, RatioQueries)]
    return any(_scraped(answers[it.events]) != _scraped(answers[it.of]) for it in ratios)


def _scraped(vector: Vector) -> set[tuple[frozenset[tuple[str, str]], float]]:
    return _moments(tuple(sample for sample in vector if SCRAPED in sample.labels))


def _moments(vector: Vector) -> set[tuple[frozenset[tuple[str, str]], float]]:
    return {(frozenset(sample.labels.items()), sample.value) for sample in vector}


def observed(asked: StageQueries, counts: StageCounts, answers: Answers) -> StageCounts:
    """Return *counts* with how much of the window the candidate was scraped in, and had requests; None if not asked."""
    covered, served = (
        asked.step * sum(sample.value for sample in answers[query]) if query else None
        for query in (asked.coverage, asked.service)
    )
    return replace(counts, covered=covered, served=served)


def stage_counts(asked: StageQueries, answers: Answers) -> tuple[StageCounts, int] | MetricsUnavailable:
    """Return the counts of a stage and how many samples were bad, or why the answers cannot be understood."""
    try:
        return _stage_counts(asked, answers)
    except _Unclear as problem:
        return MetricsUnavailable(str(problem))


class _Unclear(Exception):  # noqa: N818 - reads as what it is
    """An answer that cannot be understood, and why."""


def _stage_counts(asked: StageQueries, answers: Answers) -> tuple[StageCounts, int]:
    if asked.swings and (swinging := answers[asked.swings]):
        raise _Unclear(_in_turn(swinging))
    stage, bad = _counted(asked, answers)
    if not any(forgotten := _forgotten(asked, stage, answers)):
        return stage, bad
    baseline, candidate = (None if gone else name for name, gone in zip(asked.columns, forgotten, strict=True))
    stage, bad = _counted(replace(asked, columns=(baseline, candidate)), answers)
    return replace(stage, forgotten=forgotten), bad


def _forgotten(asked: StageQueries, stage: StageCounts, answers: Answers) -> tuple[bool, bool]:
    """Return of which columns there are counts although nothing is known of them from when they began."""
    if asked.known is None:
        return False, False
    known = {sample.labels.get(asked.label) for sample in answers[asked.known]}
    busy = _busy([*stage.counts.items(), *stage.histograms.items()])
    baseline, candidate = (
        bool(old and counts and name not in known)
        for old, counts, name in zip(asked.served_before, busy, asked.columns, strict=True)
    )
    return baseline, candidate


def _counted(asked: StageQueries, answers: Answers) -> tuple[StageCounts, int]:
    counts: dict[tuple[str, str], SliceCounts] = {}
    rates: dict[tuple[str, str], SliceCounts] = {}
    histograms: dict[tuple[str, str], BinCounts] = {}
    bad = 0
    for it in asked.metrics:
        key = (it.metric, it.dimension)
        match it:
            case RatioQueries():
                counts[key], worse = _ratio(asked, it, answers)
            case RateQueries():
                rates[key], worse = _rate(asked, it, answers)
            case HistogramQueries():
                histograms[key], worse = _histogram(asked, it, answers)
        bad += worse
    busy = _busy([*counts.items(), *histograms.items()])
    stage = StageCounts(
        stage=asked.stage,
        kind=asked.kind,
        seconds=asked.seconds,
        counts=counts | {key: _where_busy(it, busy) for key, it in rates.items()},
        histograms=histograms,
        percent=asked.percent,
    )
    return stage, bad


def _in_turn(swinging: Vector) -> str:
    targets = sorted(f"{it.labels.get('instance', '?')} of revision {it.labels.get(REVISION, '?')}" for it in swinging)
    more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
    return (
        f"the counters of {targets[0]}{more} swing from scrape to scrape: several processes, or several pods behind a "
        "Service, answer one scrape target in turn, and nobody can tell what they counted. Merge the processes "
        "(PROMETHEUS_MULTIPROC_DIR of prometheus_client), and scrape each pod by itself"
    )


# Ratios and rates.

_Table = Mapping[tuple[int, Slice], float]
"""Values by column and slice."""


def _ratio(asked: StageQueries, it: RatioQueries, answers: Answers) -> tuple[SliceCounts, int]:
    parts, grids = _grids(it, [_counters(asked, it, answers[query]) for query in it.queries])
    wrong = _no_count(grids)
    # One bad counter takes out the other: without its numerator a denominator would count as no events.
    events, of = np.where(wrong.any(axis=0), 0.0, grids)
    excess = events > of
    return SliceCounts(slices=parts, events=np.minimum(events, of), of=of), int(wrong.sum() + excess.sum())


def _rate(asked: StageQueries, it: RateQueries, answers: Answers) -> tuple[SliceCounts, int]:
    parts, (events,) = _grids(it, [_counters(asked, it, answers[it.events])])
    wrong = _no_count(events)
    possible = ~wrong & (np.array(it.seconds) > 0)
    of = np.where(possible, it.seconds, 0.0)
    return SliceCounts(slices=parts, events=np.where(possible, events, 0.0), of=of), int(wrong.sum())


def _busy(counted: Iterable[tuple[tuple[str, str], SliceCounts | BinCounts]]) -> BoolArray:
    """Return which columns have traffic, ``(2,)``, by what was counted by metric and dimension."""
    overall = [it.of.sum(axis=0) > 0 for (_, dimension), it in counted if dimension == OVERALL_DIMENSION]
    return np.asarray(np.any([np.zeros(2, dtype=bool), *overall], axis=0))


def _where_busy(rate: SliceCounts, busy: BoolArray) -> SliceCounts:
    there = busy | (rate.events.sum(axis=0) > 0)
    return SliceCounts(slices=rate.slices, events=rate.events, of=np.where(there, rate.of, 0.0))


def _counters(asked: StageQueries, it: MetricQueries, vector: Vector) -> _Table:
    table: dict[tuple[int, Slice], float] = defaultdict(float)
    for column, part, sample in _known(asked, it, vector):
        if sample.buckets is not None:
            raise _Unclear(f"metric {it.metric}: Prometheus gave native histograms where a counter is wanted")
        table[column, part] += sample.value
    return table


def _grids(it: MetricQueries, tables: Sequence[_Table]) -> tuple[tuple[Slice, ...], FloatArray]:
    """Return the slices of any of *tables*, and each as a grid ``(n, 2)``."""
    parts = _parts(it, (part for table in tables for _, part in table))
    place = {part: row for row, part in enumerate(parts)}
    grids = np.zeros((len(tables), len(parts), 2))
    for grid, table in zip(grids, tables, strict=True):
        for (column, part), value in table.items():
            grid[place[part], column] = value
    return parts, grids


def _no_count(values: FloatArray) -> BoolArray:
    return ~np.isfinite(values) | (values < 0)


# Histograms.

_Rows = dict[tuple[int, Slice], list[Bucket]]
"""Buckets by column and slice."""


def _histogram(asked: StageQueries, it: HistogramQueries, answers: Answers) -> tuple[BinCounts, int]:
    classic, bad = _classic(asked, it, answers[it.classic])
    served = {column for (column, _), buckets in classic.items() if any(count > 0 for *_, count in buckets)}
    others = [sample for sample in _known(asked, it, answers[it.native]) if sample[0] not in served]
    native, worse = _native(it, others)
    rows = classic | native
    parts = _parts(it, (part for _, part in rows))
    place = {part: row for row, part in enumerate(parts)}
    flat = [(place[part], column, *bucket) for (column, part), buckets in rows.items() for bucket in buckets]
    row, column, left, right, count = np.array(flat, dtype=float).reshape(-1, 5).T
    buckets = Buckets(row.astype(np.intp), column.astype(np.intp), left, right, count)
    return bin_counts(parts, buckets), bad + worse


def _classic(asked: StageQueries, it: HistogramQueries, vector: Vector) -> tuple[_Rows, int]:
    """Return the buckets of classic histograms and how many samples were bad."""
    cumulative: dict[tuple[int, Slice], dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for column, part, sample in _known(asked, it, vector, BOUND):
        # One bound may be written in several ways ("1", "1.0") by pods of several versions.
        cumulative[column, part][_bound(it, sample)] += sample.value
    rows: _Rows = {}
    bad = 0
    for key, counts in cumulative.items():
        rows[key], worse = _apart(counts)
        bad += worse
    return rows, bad


def _bound(it: HistogramQueries, sample: Sample) -> float:
    text = sample.labels.get(BOUND, "")
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        raise _Unclear(f"metric {it.metric}: Prometheus gave a bucket with the bound {BOUND}={text!r}, which is none")
    return bound


def _apart(cumulative: Mapping[float, float]) -> tuple[list[Bucket], int]:
    """Return the buckets of one histogram, given by bound how much lies at or below it, and how much of it is bad."""
    bounds = sorted(cumulative)
    values = np.array([cumulative[bound] for bound in bounds])
    wrong = int(_no_count(values).sum())
    if wrong or not math.isinf(bounds[-1]):
        return [], max(wrong, 1)
    rising = np.maximum.accumulate(values)
    fell = bool((rising - values > _ROUNDING * rising[-1]).any())
    counts = np.diff(rising, prepend=0.0).tolist()
    return list(zip([-math.inf, *bounds[:-1]], bounds, counts, strict=True)), int(fell)


def _native(it: HistogramQueries, samples: Iterable[tuple[int, Slice, Sample]]) -> tuple[_Rows, int]:
    """Return the buckets of native histograms and how many samples were bad."""
    rows: _Rows = defaultdict(list)
    broken = []
    for column, part, sample in samples:
        if sample.buckets is None:
            raise _Unclear(f"metric {it.metric}: Prometheus gave plain numbers where a histogram is wanted")
        rows[column, part] += sample.buckets
        if any(not math.isfinite(count) or count < 0 for *_, count in sample.buckets):
            broken.append((column, part))
    return {key: [] if key in broken else buckets for key, buckets in rows.items()}, len(broken)


# Columns and slices.


def _known(asked: StageQueries, it: MetricQueries, vector: Vector, *more: str) -> Iterator[tuple[int, Slice, Sample]]:
    """
    Yield column, slice and sample of every series of *vector* that belongs to a column.

    A slice may come twice: ``(none)`` is a label that is not there, and the value that somebody has called so. *more*
    are labels that may tell several series of one column and slice apart.
    """
    columns = {name: column for column, name in enumerate(asked.columns) if name is not None}
    seen = set()
    for sample in vector:
        column = columns.get(sample.labels.get(asked.label, ""))
        if column is None or SCRAPED in sample.labels:
            continue
        part = tuple((label, sample.labels.get(label) or NO_VALUE) for label in it.labels)
        key = (column, *(sample.labels.get(label) or "" for label in (*it.labels, *more)))
        if key in seen:
            labels = ", ".join(f"{name}={value!r}" for name, value in sorted(sample.labels.items()))
            raise _Unclear(f"metric {it.metric}: Prometheus gave several series for one revision and slice: {labels}")
        seen.add(key)
        yield column, part, sample


def _parts(it: MetricQueries, seen: Iterable[Slice]) -> tuple[Slice, ...]:
    """Return the slices of a dimension, sorted; all traffic is there even when there is none."""
    return tuple(sorted(set(seen))) if it.labels else (OVERALL,)
