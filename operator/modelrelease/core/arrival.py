"""
Proof that a shadow gets its copies: without it, silence would look like health.

Routers that cannot mirror drop the filter without a word, so the configuration proves nothing. What proves it is the
candidate's own count of requests against the baseline's.
"""

from dataclasses import dataclass
from typing import Final

from modelrelease.core.counts import OVERALL_DIMENSION, StageCounts

ENOUGH_REQUESTS: Final = 50
"""Copies that must be due before their absence means anything."""

ARRIVING_FRACTION: Final = 0.7
"""Copies that must arrive, of those due. The rest is slack: copies are sent without waiting, a busy shadow drops."""

SETTLING_SECONDS: Final = 15.0
"""What the Gateway may take to begin, and the scrapes to see it: copies of this time are not due."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    How many copies of requests reached the candidate.

    Attributes:
        due: Copies that the stage asks for, from the baseline's count of requests.
        arrived: Requests that the candidate counted.
    """

    due: float
    arrived: float

    @property
    def flowing(self) -> bool | None:
        """Whether the copies arrive; None while too few are due to tell."""
        if self.due < ENOUGH_REQUESTS:
            return None
        return self.arrived >= ARRIVING_FRACTION * self.due


def arrival(stage: StageCounts, mirror_percent: int) -> Arrival:
    """Return the arrival of copies in a shadow stage, counted by the metric that has seen most requests."""
    totals = [
        counts.of[0]
        for (_, dimension), counts in stage.counts.items()
        if dimension == OVERALL_DIMENSION and len(counts.of)
    ]
    if not totals:
        return Arrival(due=0.0, arrived=0.0)
    baseline, candidate = max(totals, key=lambda pair: float(pair[0]))
    settled = max(0.0, 1 - SETTLING_SECONDS / stage.seconds) if stage.seconds > 0 else 0.0
    return Arrival(due=float(baseline) * settled * mirror_percent / 100, arrived=float(candidate))
