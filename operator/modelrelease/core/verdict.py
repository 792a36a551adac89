"""
Verdicts: what the judge says of slices, clauses and gates.

Three outcomes and a reason. The order is total: a breach outweighs anything, and doubt outweighs a pass. The worst of
nothing is Inconclusive, because nothing was seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from modelrelease.api.contract import OnBreach
from modelrelease.api.quantities import Unit
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.counts import MetricsUnavailable, Slice
from modelrelease.core.evidence import Arms
from modelrelease.core.question import Question

_ORDER = {Outcome.PASS: 0, Outcome.INCONCLUSIVE: 1, Outcome.BREACH: 2}


def worst_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome; of nothing, Inconclusive."""
    return max(outcomes, key=_ORDER.__getitem__, default=Outcome.INCONCLUSIVE)


class Counted(StrEnum):
    """What the counts behind a value are."""

    REQUESTS = "requests"
    OBSERVATIONS = "observations"
    DISTANCE = "distance"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class Words:
    """
    How the numbers of a clause are told.

    Attributes:
        unit: Unit of changes: relative, percentage points, or the metric's own.
        alone: Whether the candidate is judged alone; changes are then distances from the limit.
        counted: What is counted.
        above: The bound above which observations count as events, for quantiles.
    """

    unit: Unit
    alone: bool
    counted: Counted = Counted.REQUESTS
    above: float | None = None


@dataclass(frozen=True, slots=True)
class SliceVerdict:
    """
    What one clause found in one slice.

    Attributes:
        part: The slice; ``()`` is all traffic.
        outcome: Pass, Inconclusive or Breach.
        reason: Why.
        baseline, candidate: Value of the metric in each arm, shares as fractions; None without observations. Of a
            distribution, *candidate* is its distance from the baseline.
        change: Relative change or difference (when arms are compared), else value minus limit; None when undefined.
        low, high: Interval of *change* that holds at every look, at the clause's level.
        events, of: Counts (baseline, candidate), summed over the stages for display only. Of a quantile, events are
            the observations above a bound near it; of a rate, *of* is seconds.
        log_e: Natural logarithm of the e-value against "the clause holds here", summed over stages.
        level: Share of the error budget; the slice is proved broken when its e-value reaches 1/level.
        eta: How much longer until it is assured, at the present rates and traffic; None when that is not in sight.
        thin: The slice has so little of the traffic that it is assured only together with the other thin ones: alone,
            its doubt keeps no clause from passing.
    """

    part: Slice
    outcome: Outcome
    reason: Reason
    baseline: float | None
    candidate: float | None
    change: float | None
    low: float | None
    high: float | None
    events: tuple[float, float]
    of: tuple[float, float]
    log_e: float
    level: float
    eta: timedelta | None
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Workings:
    """
    What the e-values of a clause are computed from; docs/verdicts.md has the formulas.

    Attributes:
        harm: What breaks the clause: over all traffic, and in a slice.
        excluded: What a pass excludes, likewise; None asks for no proof.
        budget: Chance of error for which bets on harm are tuned.
        stages: Names of the stages in which the clause is judged, the current one last.
        counts: Their counts before they are divided by the design effect, ``(n,)`` each.
        rows: Where in *counts* all traffic and then the slices are, in the order of the verdict.
    """

    harm: tuple[Question, Question]
    excluded: tuple[Question | None, Question | None]
    budget: float
    stages: tuple[str, ...]
    counts: tuple[Arms, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClauseVerdict:
    """
    What one clause found: over all traffic, and in each slice, worst first.

    Attributes:
        clause, metric: Names.
        outcome, reason, message: The clause's own verdict; a message for people.
        limit: The clause's margin as written, such as ``5%``.
        words: How its numbers are told.
        on_breach: What a breach does.
        engine: Name of the e-process that judged it.
        overall: All traffic.
        slices: Every slice judged, worst first (breaches, then by evidence).
        log_e: Weighted mean of the clause's e-values, as a logarithm.
        level: The clause's share of the error budget.
        design_effect: How many requests were taken to tell no more than one.
        eta: How much longer until everything that must be assured is; None when that is not to be expected.
        workings: What the e-values are computed from.
    """

    clause: str
    metric: str
    outcome: Outcome
    reason: Reason
    message: str
    limit: str
    words: Words
    on_breach: OnBreach
    engine: str
    overall: SliceVerdict | None
    slices: tuple[SliceVerdict, ...]
    log_e: float
    level: float
    design_effect: float
    eta: timedelta | None
    # Arrays are not compared; verdicts are equal when all that follows from them is.
    workings: Workings = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Blame:
    """A clause and a slice that are proved to break the contract (strong family-wise control)."""

    clause: str
    part: Slice


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """
    What the gate says.

    Attributes:
        outcome: Breach only through clauses with onBreach Rollback or Hold; a broken Warn clause is only shown.
        on_breach: The most severe action that broken clauses ask for (Rollback, then Hold, then Warn); None if none is.
        reason, message: Why, for conditions and for people; a breach names clause, slice, both values and the limit.
        clauses: One verdict per judged clause, in the contract's order.
        blame: What is proved broken, worst first.
        worst: The worst slice in one line, with the numbers of both arms; "" if nothing is known.
        eta: How much longer an inconclusive gate takes; None when that is not to be expected.
        log_e: Weighted mean of all e-values as a logarithm, by what a breach does; clauses whose traffic is noisy, or
            that are not judged in the stage, count as nothing.
    """

    outcome: Outcome
    on_breach: OnBreach | None
    reason: Reason
    message: str
    clauses: tuple[ClauseVerdict, ...]
    blame: tuple[Blame, ...]
    worst: str
    eta: timedelta | None = None
    log_e: Mapping[OnBreach, float] = field(default_factory=dict)

    @property
    def held(self) -> tuple[ClauseVerdict, ...]:
        """The broken clauses that a person decides about."""
        broken = (it for it in self.clauses if it.outcome is Outcome.BREACH)
        return tuple(it for it in broken if it.on_breach is OnBreach.HOLD)


Finding = GateVerdict | MetricsUnavailable
"""What is known of a gate: a verdict, or why there cannot be one."""
