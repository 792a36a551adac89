"""
From "visible in Prometheus" to "route written", measured after the fact.

The operator's own reader and judge are asked again, from the rollback backwards, what they would have said at each
moment with no delay of their own: the evidence was there from the first moment after which they said nothing else.
Evidence that comes and goes between two scrapes (one arm is scraped before the other) is not what led to the rollback.
The route's change is timed by a watcher.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from e2e.watch import RouteLog
from e2e.world import Object, World
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.parse import Release, parse
from modelrelease.api.reasons import Outcome
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.counts import Evidence, MetricsUnavailable
from modelrelease.core.judge import judge
from modelrelease.core.queries import StageWindow

STEP = timedelta(seconds=0.5)
LOOK_BACK = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Delay:
    """
    How long a breach took to take effect.

    Attributes:
        visible: Since when Prometheus held enough for the breach, without a break.
        written: When the candidate left the route.
        interval: How often the gate was judged (analysis.interval).
    """

    visible: datetime
    written: datetime
    interval: timedelta

    @property
    def seconds(self) -> float:
        """The delay in seconds."""
        return (self.written - self.visible).total_seconds()


def seconds_to_route(world: World, body: Object, log: RouteLog) -> Delay:
    """
    Return the delay of the rollback that *body* has just gone through.

    Raises:
        LookupError: The rollback was not seen, or Prometheus does not show the breach.
    """
    release = parse(body)
    assert isinstance(release, Release), release
    status = ReleaseStatus.model_validate(body["status"])
    assert status.candidate is not None, "the candidate is kept in status after a rollback"
    began = status.candidate.stages[-1].start_time
    service = f"{release.name}-{status.candidate.revision}"
    entered = next((when for when, shares in log.seen if when >= began and shares.get(service)), None)
    written = log.emptied(service, after=entered) if entered else None
    if written is None:
        raise LookupError(f"the watcher of the route has not seen {service} come and go")
    visible = asyncio.run(_visible_since(world, release, status, until=written))
    return Delay(visible=visible, written=written, interval=release.spec.interval)


async def _visible_since(world: World, release: Release, status: ReleaseStatus, *, until: datetime) -> datetime:
    assert status.candidate is not None
    assert status.stable is not None
    *earlier, last = status.candidate.stages
    done = [StageWindow(s.name, s.kind, s.start_time, s.end_time or until) for s in earlier]
    reader = PrometheusReader(PrometheusSettings(url=world.prometheus_url(), lag=timedelta(0)))
    visible: datetime | None = None
    moment = until
    while moment > max(last.start_time, until - LOOK_BACK):
        windows = [*done, StageWindow(last.name, last.kind, last.start_time, moment)]
        evidence = await reader.read(release, windows, status.stable.revision, status.candidate.revision)
        if _breached(release, evidence):
            visible = moment.astimezone(UTC)
        elif visible:
            return visible
        moment -= STEP
    if visible is None:
        raise LookupError(f"Prometheus shows no breach before {until}")
    return visible


def _breached(release: Release, evidence: Evidence) -> bool:
    match evidence:
        case MetricsUnavailable(message=message):
            raise LookupError(f"Prometheus could not be read: {message}")
        case counts:
            budget = release.spec.error_budget
            verdict = judge(release.spec.contract, counts, error_budget=budget, has_baseline=True)
            return verdict.outcome is Outcome.BREACH
