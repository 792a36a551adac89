"""
Counts: what a gate is judged on.

A metric is read as two counters, so the judge knows how much it has seen. Counts of different stages are kept apart
for ever: the split of the traffic differs between them, and pooling over a ramp turns a daily rhythm into a breach.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

Slice = tuple[tuple[str, str], ...]
"""Label names and values, such as ``(("country", "FR"),)``; ``()`` is all traffic."""

SHOWN_VALUE = 63
"""Characters of a label value that are shown."""

OVERALL: Slice = ()
OVERALL_DIMENSION = ""


def slice_name(part: Slice) -> str:
    """
    Return the slice as people read it: ``country=FR,channel=web``, or the empty string for all traffic.

    A label value may be of any length; a status holds hundreds of them and has to fit into the API server's storage.
    """
    return ",".join(f"{label}={_cut(value)}" for label, value in part)


def _cut(value: str) -> str:
    return value if len(value) <= SHOWN_VALUE else f"{value[: SHOWN_VALUE - 1]}…"


@dataclass(frozen=True, slots=True)
class SliceCounts:
    """
    Counts of one ratio metric over the slices of one dimension.

    Attributes:
        slices: The n slices, each once; just ``OVERALL`` for the dimension of all traffic.
        events: ``(n, 2)`` float64, columns baseline and candidate; not always whole numbers (Prometheus extrapolates).
        of: ``(n, 2)`` float64, likewise; ``0 <= events <= of``.
    """

    slices: tuple[Slice, ...]
    events: FloatArray
    of: FloatArray


@dataclass(frozen=True, slots=True)
class StageCounts:
    """
    Everything counted in one stage.

    Attributes:
        stage: Name of the stage.
        kind: ``shadow``, ``canary`` or ``full``.
        seconds: Length of the window that was read.
        counts: By (metric name, dimension name); dimension ``""`` is all traffic. An absent key was not asked for.
    """

    stage: str
    kind: str
    seconds: float
    counts: Mapping[tuple[str, str], SliceCounts]


@dataclass(frozen=True, slots=True)
class MetricsUnavailable:
    """Prometheus could not be read, or its answer cannot be trusted: the tick has no evidence."""

    message: str


Evidence = tuple[StageCounts, ...] | MetricsUnavailable
"""Counts of every stage so far, the current one last; or why there are none."""
