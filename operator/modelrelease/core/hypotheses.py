"""
From counts to arrays: one column of numbers per slice that a clause judges, aligned over all stages.

What cannot be a count (NaN, infinite, negative, more events than there is anything) is taken as not seen. Slices
beyond ``atMost`` are folded into one, ``other``; which ones depends on how much traffic they have, never on outcomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, Protocol

import numpy as np

from modelrelease.api.contract import Clause, Contract, Distribution, Quantile, Rate, Ratio, SliceDimension
from modelrelease.core.arrival import times_of_rates
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, FloatArray, Slice, StageCounts
from modelrelease.core.evidence import AS_ASKED, Arms, BoolArray

OTHER: Final = "other"
DEFAULT_AT_MOST: Final = 500

SMALLEST_COUNT: Final = 1e-6
"""Less than this is a rounding error of an extrapolation, not a request."""

LARGEST_COUNT: Final = 2.0**53
"""More than this, a float64 no longer counts one by one."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """
    What one clause judges, and what was counted of it.

    Attributes:
        parts: The n slices; the first is all traffic.
        expected: ``(n,)`` bool: slices that must be seen.
        counted: Counts of all stages together, for display only; ``(n,)`` each.
        stages: Counts by stage in which the clause is judged, the current one last; ``(n,)`` each, divided by the
            design effect.
        seconds: Length of the current stage's window.
        bounds: Upper bounds of a histogram's bins but the last, ``(b,)``; None for ratios and rates.
        names: Names of *stages*.
        raw: *stages* as they were counted, for display only.
    """

    parts: tuple[Slice, ...]
    expected: BoolArray
    counted: Arms
    stages: tuple[Arms, ...]
    seconds: float
    bounds: FloatArray | None = None
    names: tuple[str, ...] = ()
    raw: tuple[Arms, ...] = ()

    @property
    def current(self) -> Arms:
        """Counts of the current stage."""
        return self.stages[-1]

    @property
    def traffic(self) -> FloatArray:
        """How much was seen in both arms and all stages ``(n,)``; of a rate, the time."""
        return self.counted.of + self.counted.base_of

    def swapped(self) -> "Hypotheses":
        """Return the same with the arms exchanged."""
        stages, raw = (tuple(arms.swapped() for arms in told) for told in (self.stages, self.raw))
        return replace(self, counted=self.counted.swapped(), stages=stages, raw=raw)

    @property
    def base_rate(self) -> float:
        """The baseline's rate over all traffic and stages; 0 without any, and for histograms."""
        total = self.counted
        if self.bounds is not None or not total.base_of[0] > 0:
            return 0.0
        return float(total.base_events[0] / total.base_of[0])


def hypotheses(contract: Contract, clause: Clause, evidence: Sequence[StageCounts], design_effect: float) -> Hypotheses:
    """Return what *clause* judges; the last of *evidence* is the current stage, in which it is judged."""
    judged = [stage for stage in evidence if clause.judged_in(stage.kind)]
    read = _reader(contract, clause, judged)
    blocks = [_block(read, OVERALL_DIMENSION, judged, frozenset({OVERALL}))]
    expected = [np.zeros(1, dtype=bool)]
    for name in clause.per or []:
        dimension = contract.dimension(name)
        wanted = frozenset(expected_slices(dimension))
        parts, counts = _folded(*_block(read, name, judged, wanted), dimension, wanted, read)
        blocks.append((parts, counts))
        expected.append(np.array([part in wanted for part in parts], dtype=bool))
    columns = np.concatenate([counts for _, counts in blocks], axis=1)
    times = [_times(contract, clause, stage) for stage in judged]
    stages, raw = (
        tuple(replace(read.arms(table), times=its) for its, table in zip(times, tables, strict=True))
        for tables in (columns / design_effect, columns)
    )
    return Hypotheses(
        parts=tuple(part for parts, _ in blocks for part in parts),
        expected=np.concatenate(expected),
        counted=read.arms(columns.sum(axis=0)),
        stages=stages,
        seconds=evidence[-1].seconds,
        bounds=read.bounds,
        names=tuple(stage.stage for stage in judged),
        raw=raw,
    )


def _times(contract: Contract, clause: Clause, stage: StageCounts) -> tuple[float, float]:
    """Return by what the candidate's time in a stage may have to be multiplied, at least and at most."""
    # Where nothing at all may happen, it does not matter in how much time it happened.
    timeless = not clause.needs_baseline and not clause.margin.value
    if timeless or not contract.metric(clause.metric).rate:
        return AS_ASKED
    return times_of_rates(contract, stage, compared=clause.needs_baseline)


class _Reader(Protocol):
    """
    How the numbers of one kind of metric are read: tables ``(n, 2, k)``, baseline and candidate, k numbers each.

    Attributes:
        bounds: Of a histogram's bins, which are the k numbers; None for ratios and rates, k = 2, events and of.
    """

    @property
    def bounds(self) -> FloatArray | None: ...

    @property
    def width(self) -> int: ...

    def read(self, stage: StageCounts, dimension: str) -> tuple[tuple[Slice, ...], FloatArray]:
        """Return the slices of a stage and their table; an arm whose counts cannot be counts has none."""

    def sizes(self, table: FloatArray) -> FloatArray:
        """Return how much traffic there is: ``(..., 2, k) -> (...)``."""

    def together(self, table: FloatArray) -> FloatArray:
        """Return slices as one: ``(..., n, 2, k) -> (..., 1, 2, k)``."""

    def arms(self, table: FloatArray) -> Arms:
        """Return a table as arms."""


def _reader(contract: Contract, clause: Clause, judged: Sequence[StageCounts]) -> _Reader:
    match contract.metric(clause.metric).measured:
        case Ratio():
            return _Counters(clause.metric, bounded=True)
        case Rate():
            return _Counters(clause.metric, bounded=False)
        case Quantile() | Distribution():
            return _Bins(clause.metric, _common_bounds(clause.metric, judged))


@dataclass(frozen=True, slots=True)
class _Counters:
    """Ratios, *bounded* because there are no more events than there is anything, and rates."""

    metric: str
    bounded: bool
    bounds: None = None
    width: int = 2

    def read(self, stage: StageCounts, dimension: str) -> tuple[tuple[Slice, ...], FloatArray]:
        counts = stage.counts.get((self.metric, dimension))
        if counts is None:
            return (), np.zeros((0, 2, 2))
        table = np.stack([np.asarray(counts.events, dtype=float), np.asarray(counts.of, dtype=float)], axis=2)
        events, of = table[:, :, 0], table[:, :, 1]
        most = of if self.bounded else np.full(of.shape, LARGEST_COUNT)
        fine = np.asarray((events >= 0) & (events <= most) & (of >= SMALLEST_COUNT) & (of <= LARGEST_COUNT))
        return counts.slices, np.where(fine[:, :, None], table, 0.0)

    def sizes(self, table: FloatArray) -> FloatArray:
        # The exposure of a rate is the same for all slices; what tells them apart is how much happens.
        return np.asarray(table[..., 1 if self.bounded else 0].sum(axis=-1))

    def together(self, table: FloatArray) -> FloatArray:
        result = table.sum(axis=-3, keepdims=True)
        if not self.bounded:
            # What happens in several slices happens in the same time.
            result[..., 1] = table[..., 1].max(axis=-2, keepdims=True)
        return np.asarray(result)

    def arms(self, table: FloatArray) -> Arms:
        return Arms(table[:, 1, 0], table[:, 1, 1], table[:, 0, 0], table[:, 0, 1])


@dataclass(frozen=True, slots=True)
class _Bins:
    """Histograms, in the bins that all stages have."""

    metric: str
    bounds: FloatArray

    @property
    def width(self) -> int:
        return len(self.bounds) + 1

    def read(self, stage: StageCounts, dimension: str) -> tuple[tuple[Slice, ...], FloatArray]:
        counts = stage.histograms.get((self.metric, dimension))
        if counts is None or not len(counts.bounds):
            return (), np.zeros((0, 2, self.width))
        bins = np.asarray(counts.bins, dtype=float)
        fine = np.asarray(((bins >= 0) & (bins <= LARGEST_COUNT)).all(axis=1))
        table = np.where(fine[:, None, :], bins, 0.0).transpose(0, 2, 1)
        starts = np.searchsorted(counts.bounds, [-np.inf, *self.bounds], side="right")
        return counts.slices, np.add.reduceat(table, starts, axis=2)

    def sizes(self, table: FloatArray) -> FloatArray:
        return np.asarray(table.sum(axis=(-2, -1)))

    def together(self, table: FloatArray) -> FloatArray:
        return np.asarray(table.sum(axis=-3, keepdims=True))

    def arms(self, table: FloatArray) -> Arms:
        mine, theirs = table[:, 1], table[:, 0]
        return Arms(mine, mine.sum(axis=1), theirs, theirs.sum(axis=1))


def _common_bounds(metric: str, judged: Sequence[StageCounts]) -> FloatArray:
    """Return the bounds that the metric's histogram has in every stage and dimension in which it was counted."""
    found = [it.bounds for stage in judged for (name, _), it in stage.histograms.items() if name == metric]
    counted = [bounds for bounds in found if len(bounds)]
    return np.asarray(reduce(np.intersect1d, counted)) if counted else np.zeros(0)


def expected_slices(dimension: SliceDimension) -> tuple[Slice, ...]:
    """Return the slices of *dimension* that must be seen."""
    labels = dimension.labels
    # The value of a single label may have commas of its own, such as Korea, Republic of.
    values = (value.split(",", len(labels) - 1) for value in dimension.expected or [])
    return tuple(tuple(zip(labels, parts, strict=False)) for parts in values)


def _block(
    reader: _Reader, dimension: str, stages: Sequence[StageCounts], wanted: frozenset[Slice]
) -> tuple[tuple[Slice, ...], FloatArray]:
    """Return the slices that were seen or are wanted, sorted, and their tables ``(stages, n, 2, k)``."""
    tables = [reader.read(stage, dimension) for stage in stages]
    seen = {names[index] for names, table in tables for index in np.flatnonzero(reader.sizes(table) > 0).tolist()}
    parts = tuple(sorted(seen | wanted))
    place = {part: index for index, part in enumerate(parts)}
    result = np.zeros((len(stages), len(parts), 2, reader.width))
    for stage, (names, table) in enumerate(tables):
        rows = np.array([place.get(name, -1) for name in names], dtype=int)
        np.add.at(result[stage], rows[rows >= 0], table[rows >= 0])
    return parts, result


def _folded(
    parts: tuple[Slice, ...],
    counts: FloatArray,
    dimension: SliceDimension,
    wanted: frozenset[Slice],
    read: _Reader,
) -> tuple[tuple[Slice, ...], FloatArray]:
    """Return at most ``atMost`` slices beside the expected ones: the smallest are taken together as ``other``."""
    at_most = dimension.at_most or DEFAULT_AT_MOST
    if len(parts) <= at_most:
        return parts, counts
    other: Slice = tuple((label, OTHER) for label in dimension.labels)
    # A slice that is called so is one of them, also when it must be seen: no two slices have one name.
    must = np.array([part in wanted and part != other for part in parts], dtype=bool)
    size = np.where([part == other for part in parts], -1.0, read.sizes(counts).sum(axis=0))
    by_size = np.lexsort((np.arange(len(parts)), -size, ~must))
    room = max(at_most - 1, int(must.sum()))
    kept, rest = np.sort(by_size[:room]), by_size[room:]
    if not len(rest):
        return parts, counts
    together = np.concatenate([counts[:, kept], read.together(counts[:, rest])], axis=1)
    return (*(parts[index] for index in kept), other), together
