"""
How long ago something was, on a clock that people and NTP set.

Status keeps moments, as read from the wall clock; deadlines ask for the time that has really passed since. Whoever
reads the clock also knows when it was set and how far, and that is taken out here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Jump:
    """
    The clock was set, or the machine slept.

    Attributes:
        at: What the clock said just after it.
        by: How far it went; negative: back.
    """

    at: datetime
    by: timedelta


def elapsed(moment: datetime, now: datetime, jumps: Sequence[Jump]) -> timedelta:
    """
    Return how much time has really passed since *moment*, never less than none.

    After a jump back, moments that the clock says for the second time count as those after the jump: rather too short.
    """
    skipped = sum((jump.by for jump in jumps if moment < jump.at or moment > now), timedelta(0))
    return max(now - moment - skipped, timedelta(0))
