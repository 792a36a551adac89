"""
Counts: what a gate is judged on.

A metric is read as two counters, so the judge knows how much it has seen. Counts of different stages are kept apart
for ever: the split of the traffic differs between them, and pooling over a ramp turns a daily rhythm into a breach.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    Nor may it end a line or command a terminal: it is whatever somebody has sent to the model server.
    """
    return ",".join(f"{label}={_cut(printable(value))}" for label, value in part)


def whole_slice_name(part: Slice) -> str:
    """Return the slice with its label values in full, for programs: no two are equal."""
    return ",".join(f"{label}={value}" for label, value in part)


def printable(text: str) -> str:
    """Return *text* with what cannot be seen written as Python would, such as ``\\x1b``."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _cut(value: str) -> str:
    return value if len(value) <= SHOWN_VALUE else f"{value[: SHOWN_VALUE - 1]}…"


@dataclass(frozen=True, slots=True)
class SliceCounts:
    """
    Counts of one ratio or rate over the slices of one dimension.

    Attributes:
        slices: The n slices, each once; just ``OVERALL`` for the dimension of all traffic.
        events: ``(n, 2)`` float64, columns baseline and candidate.
        of: ``(n, 2)`` float64: for a ratio what can be an event, ``0 <= events <= of``; for a rate the seconds in which
            the arm would have seen all of the traffic, that is its share of it times the length of the window.
    """

    slices: tuple[Slice, ...]
    events: FloatArray
    of: FloatArray


@dataclass(frozen=True, slots=True)
class BinCounts:
    """
    Observations of one histogram over the slices of one dimension.

    Attributes:
        slices: The n slices, each once; just ``OVERALL`` for the dimension of all traffic.
        bounds: ``(b,)`` float64, finite and rising: where one bin ends and the next begins; a value on a bound belongs
            to the lower bin.
        bins: ``(n, b + 1, 2)`` float64, columns baseline and candidate: observations in each bin; the last has no end.
    """

    slices: tuple[Slice, ...]
    bounds: FloatArray
    bins: FloatArray

    @property
    def of(self) -> FloatArray:
        """All observations, ``(n, 2)``."""
        return np.asarray(self.bins.sum(axis=1))


@dataclass(frozen=True, slots=True)
class StageCounts:
    """
    Everything counted in one stage.

    Attributes:
        stage: Name of the stage.
        kind: ``shadow``, ``canary`` or ``full``.
        seconds: Length of the window that was read.
        counts: Ratios and rates by (metric name, dimension name); dimension ``""`` is all traffic. An absent key was
            not asked for.
        histograms: Quantiles and distributions, likewise.
        percent: Share of the requests that the candidate is to get, or copies of them; None when it is not known.
        noise: What the baseline tells of the noise; None when it was not asked. Known of the current stage only.
        covered: Seconds of the window in which the candidate was scraped, by Prometheus' own samples; None when nobody
            knows. Known of the current stage only.
        served: Seconds of them in which requests reached it, a short silence between two requests included; None
            likewise.
        forgotten: Whether Prometheus knows nothing of the baseline, of the candidate, from when the window began,
            although they served then and are counted now. What they have counted since is unknown, and none is here.
    """

    stage: str
    kind: str
    seconds: float
    counts: Mapping[tuple[str, str], SliceCounts]
    histograms: Mapping[tuple[str, str], BinCounts] = field(default_factory=dict)
    percent: int | None = None
    noise: "Noise | None" = None
    covered: float | None = None
    served: float | None = None
    forgotten: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class Noise:
    """
    What the baseline alone tells of how noisy the traffic is.

    Attributes:
        design_effects: How many requests tell no more than one, at least 1, by metric name; an absent metric has too
            little history to tell.
        halves: Counts of two halves of the baseline's pods, as if the second half were a candidate; None when the
            baseline has a single pod, or nothing is compared with it.
    """

    design_effects: Mapping[str, float]
    halves: StageCounts | None


@dataclass(frozen=True, slots=True)
class MetricsUnavailable:
    """Prometheus could not be read, or its answer cannot be trusted: the tick has no evidence."""

    message: str


Evidence = tuple[StageCounts, ...] | MetricsUnavailable
"""Counts of every stage so far, the current one last; or why there are none."""
