"""
Proof that requests arrive where the route sends them: without it, silence would look like health.

Routers that cannot mirror drop the filter without a word, and a route of somebody else can send one country to the
candidate alone. So neither the copies of a shadow nor the split of a canary are believed: both are counted.
"""

from dataclasses import dataclass
from math import inf, log
from typing import Final

import numpy as np

from modelrelease.api.contract import Contract
from modelrelease.core.counts import OVERALL_DIMENSION, StageCounts
from modelrelease.core.evidence import AS_ASKED, HARM, limit_evidence

ENOUGH_REQUESTS: Final = 50
"""Copies that must be due before their absence means anything."""

ARRIVING_FRACTION: Final = 0.7
"""Copies that must arrive, of those due. The rest is slack: copies are sent without waiting, a busy shadow drops."""

SETTLING_SECONDS: Final = 15.0
"""What the Gateway may take to begin, and the scrapes to see it: requests of this time may be anywhere."""

SPLIT_SLACK: Final = 0.1
"""How much more or less than its share the candidate may get, relative to it: a Gateway rounds, clients retry."""

SPLIT_LEVEL: Final = 0.001
"""Chance to doubt a split that is as it should be."""


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


def arrival(contract: Contract, stage: StageCounts, mirror_percent: int) -> Arrival:
    """Return the arrival of copies in a shadow stage."""
    baseline, candidate = requests(contract, stage)
    return Arrival(due=baseline * (1 - _settling(stage)) * mirror_percent / 100, arrived=candidate)


@dataclass(frozen=True, slots=True)
class Split:
    """
    How the requests of a canary stage are shared, as fractions.

    Attributes:
        asked: The candidate's share by the route.
        arrived: Its share of the requests that were counted.
    """

    asked: float
    arrived: float


def wrong_split(contract: Contract, stage: StageCounts) -> Split | None:
    """
    Return the split of a canary stage when it is proved to be another one than the route's, else None.

    Proved is more than ``SPLIT_SLACK`` and the requests of the first seconds can explain.
    """
    baseline, candidate = requests(contract, stage)
    total = baseline + candidate
    if stage.kind != "canary" or not stage.percent or not total:
        return None
    asked = stage.percent / 100
    settling = _settling(stage)
    least = asked * (1 - SPLIT_SLACK) * (1 - settling)
    most = min(asked * (1 + SPLIT_SLACK) * (1 - settling) + settling, 1.0)
    counts = [(np.array([candidate]), np.array([total]))]
    against = [limit_evidence(counts, np.array([bound]), sign, HARM)[0] for bound, sign in ((least, -1), (most, 1))]
    if max(against) < log(2 / SPLIT_LEVEL):
        return None
    return Split(asked=asked, arrived=candidate / total)


def times_of_rates(contract: Contract, stage: StageCounts, *, compared: bool) -> tuple[float, float]:
    """
    Return by what the candidate's time of a rate may have to be multiplied, at least and at most.

    Events per second are counted against the share of the requests that the route asks for. The requests themselves may
    tell another share, long before that is proved: the Gateway has not settled, or an arm does not count all of them.
    Events go with the one or with the other. When the route's share is proved wrong, nobody can tell: 0 and infinity.

    Args:
        contract: Which metrics count requests.
        stage: The stage; at full, all requests are the candidate's.
        compared: Whether the time matters in proportion to the baseline's, or in itself.
    """
    baseline, candidate = requests(contract, stage)
    if stage.kind == "full" or not stage.percent or not baseline + candidate:
        return AS_ASKED
    copied = stage.kind == "shadow"
    if arrival(contract, stage, stage.percent).flowing is False if copied else wrong_split(contract, stage):
        return 0.0, inf
    # Copies are counted apart from their originals; a canary's requests against the rest of them, or among all.
    if copied:
        others, asked_of_others = baseline, 100
    elif compared:
        others, asked_of_others = baseline, 100 - stage.percent
    else:
        others, asked_of_others = baseline + candidate, 100
    told = candidate * asked_of_others / (others * stage.percent) if others else inf
    return min(1.0, told), max(1.0, told)


def requests(contract: Contract, stage: StageCounts) -> tuple[float, float]:
    """Return the requests of baseline and candidate, counted by the metric that has seen most of them."""
    totals = [
        counts.of[0]
        for table in (stage.counts, stage.histograms)
        for (metric, dimension), counts in table.items()
        # A rate counts against time: it does not know of requests in which nothing happened.
        if dimension == OVERALL_DIMENSION and len(counts.of) and not contract.metric(metric).rate
    ]
    baseline, candidate = max(totals, key=lambda pair: float(pair[0]), default=(0.0, 0.0))
    return float(baseline), float(candidate)


def _settling(stage: StageCounts) -> float:
    """Return the share of the stage's time that is not counted on."""
    return min(1.0, SETTLING_SECONDS / stage.seconds) if stage.seconds > 0 else 1.0
