"""
How far a counter has risen in a window, as PromQL: exact, for counters and for native histograms.

For a selector S, a window of w seconds that ends at the moment of evaluation, and steps of d seconds that divide it:

     part "now"     last_over_time(S[w]) or last_over_time(S[1h] offset w)
  or part "before"  -last_over_time(S[1h] offset w)
  or part "lost"    sum_over_time((V > last_over_time(S[d]))[w:d])

  with V the value a step before: the last one in the window, or else "before"

that is, for each series: where it is now, less where it was when the window began (nowhere, if it was born in the
window), plus what it lost at each reset (the value before a drop). To be summed. The parts are told apart by a label of
their own, so ``or`` keeps all of them and none has to exist: no series is lost, not even one with a single sample.

V reaches as far back as "before" does, however long nobody scraped: when another pod gets the address of one that is
long gone, the series goes on from 0, and a drop that is not seen would take away all that was counted before.

Why not ``increase()``: it drops the first sample of a newborn series (every candidate pod's series is one) and
extrapolates to the window's edges, percents of a window of a minute. Measured over 12-17 s with births, crashes, gaps
and a restart of Prometheus, on 3.x and 2.42: ``increase()`` is off by +3 to -76 %, with its newborns' least values
added by +5 to -64 %; this expression equals the exporters' own counts, slice by slice (tests/prometheus). It only reads
what was scraped: the last scrape in the window less the last one before it, whole numbers; what happened since comes
with the next scrape. 400 series over 12 h take 0.6 s, ``increase()`` alone 0.15 s.

What it cannot see: a counter that restarts and outgrows its old value between two samples (or within one step d, at
most 1/500 of the window and never less than a second), and a series that was silent for an hour when the window began
and had been counting before: it is taken for a newborn, as is one whose pod gets other labels in the window. When that
is true of all of an arm's series, as after a loss of Prometheus' data, nothing of it is believed (``answers``). Tried
for single pods: a new one that begins with as much as another had ended with was relabelled. But where counters do not
start from 0 before the first request, new pods with little traffic look the same, and two scrapes of doubt at each of
them cost more than an edit of scrape settings in mid-stage, which can wait.

Buckets of a classic histogram are counters, each counted by itself. A native histogram is one value that can be
negated, added and counted, not compared: so its drops are those of its number of observations (needs Prometheus 3).
Histograms are where a large fleet reaches the limits of a query first: 400 of them with 12 buckets each, over 1 h,
scraped every 15 s, take 0.9 s on an idle machine; 400 native ones over 140 s, scraped twice a second, 0.8 s.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelrelease.api.selectors import Selector

_LOOK_BACK: Final = "1h"
_HOUR: Final = 3_600_000
_MOST_STEPS: Final = 500
_PART_LABEL: Final = "modelrelease_part"


@dataclass(frozen=True, slots=True)
class Frame:
    """
    A window laid on a grid, in milliseconds.

    Prometheus aligns the steps of a subquery to multiples of the step since 1970. So the moment of evaluation is moved
    up to such a multiple, and every selector back again by *back*: the steps then end exactly with the window.

    Attributes:
        width: Length of the window, a multiple of the step.
        step: Length of a step.
        at: Moment of evaluation, Unix time.
        back: How far the end of the window is before it.
    """

    width: int
    step: int
    at: int
    back: int

    @classmethod
    def of(cls, start: datetime, end: datetime) -> "Frame | None":
        """Return the grid of the window; None if it is shorter than a second."""
        last = round(end.timestamp() * 1000)
        width = last - round(start.timestamp() * 1000)
        if width < 1000:
            return None
        step = 1000 * math.ceil(width / 1000 / _MOST_STEPS)
        at = math.ceil(last / step) * step
        # Up to one step at the beginning of the window is left out, so that steps divide it.
        return cls(width=width // step * step, step=step, at=at, back=at - last)

    @property
    def start(self) -> str:
        """When the window begins, Unix seconds."""
        return f"{(self.at - self.back - self.width) / 1000:.3f}"

    def last(self, selector: Selector, span: int | None = None, back: int = 0) -> str:
        """Return the last value in *span* (None: the last hour), *back* milliseconds before the end of the window."""
        shown = _LOOK_BACK if span is None else duration(span)
        return f"last_over_time({selector}[{shown}]{self.offset(back)})"

    def offset(self, back: int = 0) -> str:
        """Return the modifier that moves a selector to *back* milliseconds before the end of the window."""
        total = self.back + back
        return f" offset {duration(total)}" if total else ""


def duration(milliseconds: int) -> str:
    """Return it as PromQL."""
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def counter_rise(selector: Selector, frame: Frame) -> str:
    """Return the parts whose sum is how far the counters have risen."""
    return _parts(selector, frame, f"({_then(selector, frame)}) > {frame.last(selector, frame.step)}")


def histogram_rise(selector: Selector, frame: Frame) -> str:
    """Return the parts whose sum is what the native histograms have observed."""
    then, now = _then(selector, frame), frame.last(selector, frame.step)
    return _parts(selector, frame, f"({then}) and (histogram_count({then}) > histogram_count({now}))")


def _then(selector: Selector, frame: Frame) -> str:
    """Return the last value a step before, of the window or else of the hour before it."""
    earlier = f"last_over_time({selector}[{_LOOK_BACK}] @ {frame.start})"
    if frame.width <= _HOUR:
        # An hour before a step reaches to the beginning of the window, and never behind what "before" sees.
        return f"{frame.last(selector, back=frame.step)} or {earlier}"
    # The first step whose value is wholly of the window; an earlier one may be what "before" does not see.
    first = (frame.at - frame.width + frame.step) // 1000
    inside = f"{frame.last(selector, frame.step, frame.step)} and on () vector(time()) > {first}"
    steps = f"{duration(frame.width)}:{duration(frame.step)}"
    return f"last_over_time(({inside})[{steps}]) or {earlier}"


def _parts(selector: Selector, frame: Frame, drops: str) -> str:
    # A millisecond short: Prometheus 2 would take the step that ends at the window's beginning, Prometheus 3 would not.
    steps = f"{duration(frame.width - 1)}:{duration(frame.step)}"
    before = frame.last(selector, back=frame.width)
    parts = {
        "now": f"{frame.last(selector, frame.width)} or {before}",
        "before": f"-{before}",
        "lost": f"sum_over_time(({drops})[{steps}])",
    }
    return " or ".join(f'label_replace({part}, "{_PART_LABEL}", "{name}", "", "")' for name, part in parts.items())
