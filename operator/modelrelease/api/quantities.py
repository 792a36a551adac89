"""
Durations and margins as users write them, and as numbers.

Durations are Prometheus-style strings (``30s``, ``10m``, ``7d``). A margin is ``5%`` (relative to the baseline, or a
percentage where nothing is compared), ``0.5pp`` (percentage points) or a bare decimal in the metric's own unit.
Specs hold no floats: the Kubernetes API conventions ask for strings, because floats do not survive every client.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

import durationpy
from pydantic import StringConstraints

from modelrelease.api.constraints import Spelling

# Prometheus' order, each unit once. Five digits keep every date that is computed from it inside the calendar.
_UNITS_IN_ORDER: Final = ("w", "d", "h", "m", "s", "ms")
DURATION: Final = Spelling(
    pattern="".join(f"([0-9]{{1,5}}{unit})?" for unit in _UNITS_IN_ORDER),
    wanted="a duration: write whole numbers and units from large to small, such as 30s, 10m, 1h30m or 7d, no spaces",
)
MARGIN: Final = Spelling(
    pattern=r"[0-9]+(\.[0-9]+)?(%|pp)?",
    wanted="a margin: write 5% (relative), 0.5pp (percentage points) or a decimal such as 0.05, no spaces",
)
MARGIN_OR_NONE: Final = Spelling(
    pattern=rf"none|{MARGIN.pattern}",
    wanted="none or a margin: write none, 5% (relative), 0.5pp (points) or a decimal such as 0.05, no spaces",
)
PERCENT: Final = Spelling(
    pattern=r"[0-9]+(\.[0-9]+)?%", wanted="a percentage: write a number and %, such as 1%, no spaces"
)

Duration = Annotated[str, StringConstraints(min_length=1, max_length=32), DURATION]
PositiveDuration = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32),
    DURATION,
    Spelling(pattern=r".*[1-9].*", wanted="longer than 0: write such as 30s, 10m, 1h30m or 7d"),
]
MarginText = Annotated[str, StringConstraints(max_length=16), MARGIN]
MarginOrNoneText = Annotated[str, StringConstraints(max_length=16), MARGIN_OR_NONE]
PercentText = Annotated[str, StringConstraints(max_length=16), PERCENT]


class Unit(StrEnum):
    """What a margin's number means."""

    RELATIVE = "%"
    POINTS = "pp"
    ABSOLUTE = ""


@dataclass(frozen=True, slots=True)
class Margin:
    """
    A distance or a limit, as a fraction.

    Attributes:
        value: ``5%`` is 0.05, ``0.5pp`` is 0.005, ``0.2`` is 0.2.
        unit: Whether *value* is relative to the baseline, in percentage points, or in the metric's own unit.
        text: As the user wrote it, for messages.
    """

    value: float
    unit: Unit
    text: str


def parse_duration(text: str) -> timedelta:
    """
    Return the length of a duration such as ``1h30m``.

    Raises:
        ValueError: *text* is not such a duration.
    """
    if problem := DURATION.problem(text) or (None if text else "a duration is empty"):
        raise ValueError(problem)
    length: timedelta = durationpy.from_str(text)
    return length


def parse_margin(text: str) -> Margin:
    """
    Return the margin that *text* stands for.

    Raises:
        ValueError: *text* is not a margin.
    """
    if problem := MARGIN.problem(text):
        raise ValueError(problem)
    number = text.rstrip("%p")
    unit = Unit(text.removeprefix(number))
    scale = 1.0 if unit is Unit.ABSOLUTE else 0.01
    return Margin(value=float(number) * scale, unit=unit, text=text)


def parse_fraction(text: str) -> float:
    """Return a percentage such as ``1%`` as a fraction, 0.01."""
    return parse_margin(text).value
