"""
Durations and margins as users write them, and as numbers.

Durations are Prometheus-style strings (``30s``, ``10m``, ``7d``). A margin is ``5%`` (relative to the baseline, or a
percentage where nothing is compared), ``0.5pp`` (percentage points) or a bare decimal in the metric's own unit.
Specs hold no floats: the Kubernetes API conventions ask for strings, because floats do not survive every client.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

import durationpy
from pydantic import Field, StringConstraints

DURATION_PATTERN: Final = r"^([0-9]+(ms|s|m|h|d|w))+$"
MARGIN_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(%|pp)?$"
PERCENT_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?%$"

Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN, max_length=32), Field(examples=["30s", "10m"])]
MarginText = Annotated[str, StringConstraints(pattern=MARGIN_PATTERN, max_length=16), Field(examples=["5%", "0.5pp"])]
PercentText = Annotated[str, StringConstraints(pattern=PERCENT_PATTERN, max_length=16), Field(examples=["1%"])]


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
    if not re.match(DURATION_PATTERN, text):
        msg = f"{text!r} is not a duration: write a number and a unit, such as 30s, 10m, 2h or 7d"
        raise ValueError(msg)
    length: timedelta = durationpy.from_str(text)
    return length


def parse_margin(text: str) -> Margin:
    """
    Return the margin that *text* stands for.

    Raises:
        ValueError: *text* is not a margin.
    """
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)(%|pp)?$", text)
    if match is None:
        msg = f"{text!r} is not a margin: write 5% (relative), 0.5pp (percentage points) or a bare decimal, no spaces"
        raise ValueError(msg)
    unit = Unit(match[2] or "")
    scale = 1.0 if unit is Unit.ABSOLUTE else 0.01
    return Margin(value=float(match[1]) * scale, unit=unit, text=text)


def parse_fraction(text: str) -> float:
    """Return a percentage such as ``1%`` as a fraction, 0.01."""
    return parse_margin(text).value
