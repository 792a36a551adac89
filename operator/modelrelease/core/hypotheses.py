"""
From counts to arrays: one column of numbers per slice that a clause judges, aligned over all stages.

What cannot be a count (NaN, infinite, negative, more events than there is anything) is taken as not seen. Slices
beyond ``atMost`` are folded into one, ``other``; which ones depends on how much traffic they have, never on outcomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelrelease.api.contract import Clause, Contract, SliceDimension
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, FloatArray, Slice, SliceCounts, StageCounts
from modelrelease.core.evidence import Arms, BoolArray

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
    """

    parts: tuple[Slice, ...]
    expected: BoolArray
    counted: Arms
    stages: tuple[Arms, ...]
    seconds: float

    @property
    def current(self) -> Arms:
        """Counts of the current stage."""
        return self.stages[-1]


def hypotheses(contract: Contract, clause: Clause, evidence: Sequence[StageCounts], design_effect: float) -> Hypotheses:
    """Return what *clause* judges; the last of *evidence* is the current stage, in which it is judged."""
    judged = [stage for stage in evidence if clause.judged_in(stage.kind)]
    blocks = [_block(clause.metric, OVERALL_DIMENSION, judged, frozenset({OVERALL}))]
    expected = [np.zeros(1, dtype=bool)]
    for name in clause.per or []:
        dimension = contract.dimension(name)
        wanted = frozenset(expected_slices(dimension))
        parts, counts = _folded(*_block(clause.metric, name, judged, wanted), dimension, wanted)
        blocks.append((parts, counts))
        expected.append(np.array([part in wanted for part in parts], dtype=bool))
    columns = np.concatenate([counts for _, counts in blocks], axis=1)
    return Hypotheses(
        parts=tuple(part for parts, _ in blocks for part in parts),
        expected=np.concatenate(expected),
        counted=Arms(*columns.sum(axis=0).T),
        stages=tuple(Arms(*stage.T) for stage in columns / design_effect),
        seconds=evidence[-1].seconds,
    )


def expected_slices(dimension: SliceDimension) -> tuple[Slice, ...]:
    """Return the slices of *dimension* that must be seen."""
    return tuple(tuple(zip(dimension.labels, value.split(","), strict=False)) for value in dimension.expected or [])


def _block(
    metric: str, dimension: str, stages: Sequence[StageCounts], wanted: frozenset[Slice]
) -> tuple[tuple[Slice, ...], FloatArray]:
    """Return the slices that were seen or are wanted, sorted, and their counts ``(stages, n, 4)``, ordered as Arms."""
    counted = [stage.counts.get((metric, dimension)) for stage in stages]
    cleaned = [(counts.slices, _cleaned(counts)) if counts else ((), np.zeros((0, 4))) for counts in counted]
    seen = {part for parts, table in cleaned for part in _with_traffic(parts, table)}
    parts = tuple(sorted(seen | wanted))
    place = {part: index for index, part in enumerate(parts)}
    result = np.zeros((len(stages), len(parts), 4))
    for stage, (names, table) in enumerate(cleaned):
        rows = np.array([place.get(name, -1) for name in names], dtype=int)
        np.add.at(result[stage], rows[rows >= 0], table[rows >= 0])
    return parts, result


def _cleaned(counts: SliceCounts) -> FloatArray:
    """Return ``(n, 4)`` counts as ``Arms`` has them; an arm whose counts cannot be counts has none."""
    events, of = np.asarray(counts.events, dtype=float), np.asarray(counts.of, dtype=float)
    fine = (events >= 0) & (events <= of) & (of >= SMALLEST_COUNT) & (of <= LARGEST_COUNT)
    events, of = np.where(fine, events, 0.0), np.where(fine, of, 0.0)
    return np.column_stack([events[:, 1], of[:, 1], events[:, 0], of[:, 0]])


def _with_traffic(parts: Sequence[Slice], table: FloatArray) -> list[Slice]:
    return [parts[index] for index in np.flatnonzero(table[:, 1] + table[:, 3] > 0).tolist()]


def _folded(
    parts: tuple[Slice, ...], counts: FloatArray, dimension: SliceDimension, wanted: frozenset[Slice]
) -> tuple[tuple[Slice, ...], FloatArray]:
    """Return at most ``atMost`` slices beside the expected ones: the smallest are summed into ``other``."""
    at_most = dimension.at_most or DEFAULT_AT_MOST
    if len(parts) <= at_most:
        return parts, counts
    other: Slice = tuple((label, OTHER) for label in dimension.labels)
    must = np.array([part in wanted for part in parts], dtype=bool)
    size = np.where([part == other for part in parts], -1.0, counts[:, :, [1, 3]].sum(axis=(0, 2)))
    by_size = np.lexsort((np.arange(len(parts)), -size, ~must))
    room = max(at_most - 1, int(must.sum()))
    kept, rest = np.sort(by_size[:room]), by_size[room:]
    if not len(rest):
        return parts, counts
    together = np.concatenate([counts[:, kept], counts[:, rest].sum(axis=1, keepdims=True)], axis=1)
    return (*(parts[index] for index in kept), other), together
