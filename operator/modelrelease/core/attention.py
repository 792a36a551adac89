"""
When to look again: how soon something may have changed that nobody will tell us of.

Verdicts are valid at any time, so looking often costs questions to Prometheus, never errors. It is worth them while a
stage is fresh, when a bad candidate is found within seconds, and while the evidence is on its way to a breach.
"""

from datetime import datetime, timedelta
from math import log
from typing import Final

from modelrelease.api.parse import Release
from modelrelease.api.reasons import Reason
from modelrelease.api.status import PENDING, ReleaseStatus
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.decide import Decision, Hold, on_trial
from modelrelease.core.plan import Plan
from modelrelease.core.queries import begins_after
from modelrelease.core.verdict import Finding

SOON: Final = timedelta(seconds=1)
"""After a step: the next one may be possible at once."""

PENDING_TICK: Final = timedelta(seconds=5)
"""While pods start or are missing; they are watched too, but no watch tells that they have been missing too long."""

STALLED_TICK: Final = timedelta(seconds=30)
"""While something outside has to change that is not watched, such as a Gateway."""

FRESH: Final = timedelta(minutes=3)
"""How long a stage counts as fresh."""

SUSPICIOUS_SHARE: Final = 0.5
"""Share of the evidence for a breach, on the logarithmic scale, from which on it is on its way."""


def look_again(
    release: Release,
    after: ReleaseStatus,
    decision: Decision,
    finding: Finding | None,
    planned: Plan,
    now: datetime,
    *,
    shortest: timedelta,
) -> timedelta | None:
    """
    Return how long to wait; None when only a change of the object or of its children can matter.

    Args:
        release: What is ordered.
        after: The status that was just recorded.
        decision: What was decided.
        finding: What the gate says.
        planned: What was applied; tells what still drains.
        now: The one time of this tick.
        shortest: Time between two scrapes of one pod: what looks are measured by.
    """
    drifted = after.condition("TrafficInSync")
    if not isinstance(decision, Hold) or (drifted is not None and drifted.reason == Reason.DRIFTED):
        return SOON
    waits = [wait for wait in (_gate(release, after, finding, now, shortest), planned.prune_after) if wait is not None]
    if decision.reason is Reason.PENDING:
        waits.append(PENDING_TICK)
    if decision.stalled and decision.reason is not Reason.ROLLED_BACK:  # which nothing ends but another order
        waits.append(STALLED_TICK)
    return max(min(waits), timedelta(0)) if waits else None


def _gate(
    release: Release, after: ReleaseStatus, finding: Finding | None, now: datetime, shortest: timedelta
) -> timedelta | None:
    interval = release.spec.interval
    if after.stage == PENDING:
        return min(PENDING_TICK, interval)
    trial = on_trial(after)
    record = trial.current_stage if trial else None
    if record is None:
        return None
    age = now - record.start_time
    if age < FRESH:
        interval = min(interval, shortest)
    if _suspicious(release, finding):
        # The arms are scraped at different moments: half an interval sees the second one sooner.
        interval = min(interval, shortest / 2)
    if trial and trial.unavailable_since:
        interval = min(interval, PENDING_TICK)
    planned = {stage.name: stage for stage in release.spec.plan_stages}.get(record.name)
    left = planned.bake_time + begins_after(shortest) - age if planned else timedelta(0)
    return min(interval, left) if left > timedelta(0) else interval


def _suspicious(release: Release, finding: Finding | None) -> bool:
    if finding is None or isinstance(finding, MetricsUnavailable):
        return False
    needed = log(1 / release.spec.error_budget)
    return any(clause.log_e >= SUSPICIOUS_SHARE * needed for clause in finding.clauses)
