"""
From "visible in Prometheus" to "route written", measured after the fact.

The operator's own reader and gate are asked again, from the rollback backwards, what they would have said at each
moment with no delay of their own. Each moment gets a reader that remembers nothing: what the baseline tells of noise
later on, when it may have calmed down, was not known then. Two readings of "visible" are told: since when they would
have said nothing else, which is what the operator is held to, and the first moment at which they would ever have said
it. Between the two, evidence came and went: one arm is scraped before the other. The route's change is timed by a
watcher. It is told, not judged: how long it takes on a busy machine proves nothing (bench/bench_latency.py does).
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from e2e.watch import RouteLog
from e2e.world import Object, World
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.api.parse import Release, parse
from modelrelease.api.reasons import Outcome
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.gate import evaluate
from modelrelease.core.queries import StageWindow, evidence_window
from modelrelease.core.verdict import Finding

STEP = timedelta(seconds=0.5)
LOOK_BACK = timedelta(seconds=30)
SCRAPE = timedelta(seconds=5)
"""As often as the cluster's Prometheus scrapes, and as the operator is told."""


@dataclass(frozen=True, slots=True)
class Delay:
    """
    How long a breach took to take effect.

    Attributes:
        visible: Since when Prometheus held enough for the breach, without a break.
        first_shown: When it held enough for the first time, within ``LOOK_BACK`` before the rollback.
        written: When the candidate left the route.
        interval: How often the gate was judged (analysis.interval).
    """

    visible: datetime
    first_shown: datetime
    written: datetime
    interval: timedelta

    @property
    def seconds(self) -> float:
        """The delay in seconds, since the breach was there to stay."""
        return (self.written - self.visible).total_seconds()

    @property
    def seconds_since_first(self) -> float:
        """The delay in seconds, since the breach was there for a moment at least."""
        return (self.written - self.first_shown).total_seconds()


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
    shown = asyncio.run(_shown(world, release, status, until=written))
    moments = sorted(shown)
    breached = [moment for moment in moments if shown[moment]]
    if not breached:
        raise LookupError(f"Prometheus shows no breach before {written}")
    healthy = [moment for moment in moments if not shown[moment] and moment < breached[-1]]
    visible = next(moment for moment in breached if not healthy or moment > healthy[-1])
    return Delay(visible=visible, first_shown=breached[0], written=written, interval=release.spec.interval)


async def _shown(world: World, release: Release, status: ReleaseStatus, *, until: datetime) -> dict[datetime, bool]:
    """Return whether Prometheus showed a breach, for the moments before *until* in the open stage."""
    assert status.candidate is not None
    assert status.stable is not None
    trial = status.candidate
    trial.stages[-1] = last = trial.stages[-1].model_copy(update={"end_time": None})
    shown: dict[datetime, bool] = {}
    moment = until
    while moment > max(last.start_time, until - LOOK_BACK):
        windows = [evidence_window(it, moment, SCRAPE, first=it is trial.stages[0]) for it in trial.evidence_stages]
        finding = await _found(world, release, status, windows)
        if isinstance(finding, MetricsUnavailable):
            if not shown:
                raise LookupError(f"Prometheus could not be read: {finding.message}")
            return shown  # so early in the stage that nothing was counted yet
        shown[moment.astimezone(UTC)] = finding is not None and finding.outcome is Outcome.BREACH
        moment -= STEP
    return shown


async def _found(world: World, release: Release, status: ReleaseStatus, windows: list[StageWindow]) -> Finding | None:
    """Return what the gate would have said at the end of the last window."""
    assert status.candidate is not None
    assert status.stable is not None
    with closing(PrometheusReader(PrometheusSettings(url=world.prometheus_url(), scrape_interval=SCRAPE))) as reader:
        evidence = await reader.read(release, windows, status.stable.revision, status.candidate.revision)
    return evaluate(release, status, evidence, windows[-1].end)
