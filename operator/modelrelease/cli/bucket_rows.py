"""
Histograms in a counts file: one row for each bucket, as Prometheus has them.

    stage,metric,arm,slice,le,events,of
    canary-10,latency,baseline,,0.25,31000,32400
    canary-10,latency,baseline,,0.5,32200,32400
    canary-10,latency,baseline,,+Inf,32400,32400

``events`` are the observations at or below ``le``, ``of`` are all of them; so the row of +Inf may be left out.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

import numpy as np

from modelrelease.cli.problems import RowProblem
from modelrelease.core.counts import BinCounts, FloatArray, Slice


@dataclass(slots=True)
class Histogram:
    """
    One arm of one slice while the file is read.

    Attributes:
        of: All observations.
        line: Number of its first line.
        below: By bound, +Inf among them: observations at or below it, and the number of the line that says so.
    """

    of: float
    line: int
    below: dict[float, tuple[float, int]] = field(default_factory=dict)

    def add(self, bound: float, events: float, of: float, line: int) -> None:
        """
        Take in one row.

        Raises:
            RowProblem: It contradicts an earlier one.
        """
        if of != self.of:
            other = f"{of:.12g} is not {self.of:.12g}, as in line {self.line}"
            raise RowProblem("of", f"{other}; all rows of a stage, metric, arm and slice have the same")
        if bound in self.below:
            raise RowProblem("le", f"{bound:g} is in line {self.below[bound][1]} already; each bound is allowed once")
        if math.isinf(bound) and events != of:
            raise RowProblem("events", f"{events:.12g} at +Inf is not of, {of:.12g}; both are all observations")
        self.below[bound] = (events, line)

    @property
    def bounds(self) -> frozenset[float]:
        """The finite bounds."""
        return frozenset(bound for bound in self.below if math.isfinite(bound))

    def bins(self, bounds: Sequence[float]) -> FloatArray:
        """Return the observations between *bounds*, which it all has, ``(len(bounds) + 1,)``."""
        return np.diff([0.0, *(self.below[bound][0] for bound in bounds), self.of])


Parts = Mapping[Slice, Mapping[str, Histogram]]
"""Histograms by slice and arm."""


INFINITE: Final = frozenset({"+inf", "inf"})
"""How the bound of the last bucket is written, in small letters."""

_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def decimal(text: str) -> float:
    """Return the number that a cell says; NaN where there is none: ``1_0`` and the digits of other scripts are none."""
    return float(text) if _DECIMAL.fullmatch(text) else math.nan


def bound_of(text: str) -> float:
    """
    Return the bound that a cell says.

    Raises:
        RowProblem: It is none.
    """
    if text.lower() in INFINITE:
        return math.inf
    bound = decimal(text)
    if not math.isfinite(bound):
        raise RowProblem("le", f"{text!r} is not a bound of a histogram; a decimal or +Inf is allowed")
    return bound


def problems_of(histograms: Sequence[Histogram]) -> Iterator[tuple[int, str, str]]:
    """Yield line, column and words of what is wrong with the histograms of one stage and metric, taken together."""
    for histogram in histograms:
        rows = sorted(histogram.below.items())
        for (lower, (fewer, _)), (bound, (events, line)) in pairwise(rows):
            if events < fewer:
                less = f"{events:.12g} at or below {bound:g} are fewer than {fewer:.12g} at or below {lower:g}"
                yield line, "events", f"{less}; as many or more are allowed"
    strangers = [it for it, common in _common_so_far(histograms) if not common]
    for stranger in strangers[:1]:
        none = "no bound is in all histograms of this stage and metric so far"
        yield stranger.line, "le", f"{none}; at least one, other than +Inf, is needed"


def common_bounds(histograms: Sequence[Histogram]) -> tuple[float, ...]:
    """Return the bounds that all *histograms* have, rising; none when there are no observations."""
    steps = [common for _, common in _common_so_far(histograms)]
    return tuple(sorted(steps[-1])) if steps else ()


def _common_so_far(histograms: Sequence[Histogram]) -> Iterator[tuple[Histogram, frozenset[float]]]:
    """Yield each histogram with the bounds that it and all before it have; an empty one tells nothing."""
    counted = [it for it in histograms if it.of]
    return zip(counted, accumulate((it.bounds for it in counted), frozenset.intersection), strict=True)


def bin_counts(parts: Parts, bounds: Sequence[float], arms: Sequence[str]) -> BinCounts:
    """Return the histograms of the slices of one dimension at *bounds*; a missing arm has no observations."""
    empty = np.zeros(len(bounds) + 1)
    bins = [
        np.column_stack([mine[arm].bins(bounds) if arm in mine and mine[arm].of else empty for arm in arms])
        for mine in parts.values()
    ]
    return BinCounts(slices=tuple(parts), bounds=np.array(bounds, dtype=float), bins=np.stack(bins))
