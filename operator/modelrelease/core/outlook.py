"""
Whether the stages of a rollout can conclude: told once, while the candidate's pods start.

    baseline's counts of the last half hour -> forecast of every stage -> its slowest clause and slice -> status

It is advice. A rollout never waits for it, and it changes no decision.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from modelrelease.api.contract import Clause
from modelrelease.api.parse import Release
from modelrelease.api.status import PENDING, ReleaseStatus, StageForecast
from modelrelease.core.counts import OVERALL_DIMENSION, StageCounts, slice_name
from modelrelease.core.decide import pods_of
from modelrelease.core.forecast import Outlook, forecast
from modelrelease.core.observation import Workload
from modelrelease.core.queries import StageWindow
from modelrelease.core.report import span

HISTORY: Final = timedelta(minutes=30)
"""How far back the baseline's rates and traffic are read."""

SHORTEST_HISTORY: Final = timedelta(seconds=60)


def history_window(
    release: Release, status: ReleaseStatus, workloads: Mapping[str, Workload], now: datetime
) -> StageWindow | None:
    """
    Return the time of the baseline whose counts are needed now; None when a forecast is there, or would be in the way.

    Args:
        release: What is ordered.
        status: What we have committed to.
        workloads: Live Deployments by revision: once the candidate's pods are there, the rollout goes on.
        now: The end of the window.
    """
    stable, trial = status.stable, status.candidate
    if status.stage != PENDING or stable is None or trial is None or status.forecast:
        return None
    workload = workloads.get(trial.revision)
    if trial.revision != release.desired.name or (workload and workload.available >= pods_of(release, trial)):
        return None
    start = max(now - HISTORY, stable.since)
    # The kind only says which metrics are counted; those of clauses for other kinds alone are not forecast.
    return StageWindow("history", "canary", start, now) if now - start >= SHORTEST_HISTORY else None


def stage_forecasts(release: Release, history: StageCounts) -> list[StageForecast]:
    """Return what every stage can prove, in order; only those that judge something of which *history* tells."""
    contract = release.contract
    told = [clause for clause in contract.clauses if _tells(history, clause)]
    if not any(_counted(history, clause) for clause in told):
        return []
    outlooks = forecast(
        contract.model_copy(update={"clauses": told}),
        history,
        release.spec.plan_stages,
        error_budget=release.spec.error_budget,
        design_effect=1.0,  # how bursty the traffic is, is not known yet
        gates_only=True,
    )
    return [_stage(list(parts)) for _, parts in groupby(outlooks, key=lambda outlook: outlook.stage)]


def _tells(history: StageCounts, clause: Clause) -> bool:
    """Return whether *history* tells anything of a clause; an absolute one needs nothing of the baseline."""
    key = (clause.metric, OVERALL_DIMENSION)
    asked = key in history.counts or key in history.histograms
    return asked and (clause.needs_baseline or _counted(history, clause))


def _counted(history: StageCounts, clause: Clause) -> bool:
    key = (clause.metric, OVERALL_DIMENSION)
    counts = history.counts.get(key) or history.histograms.get(key)
    return counts is not None and bool((counts.of[:, 0] > 0).any())


def _stage(outlooks: Sequence[Outlook]) -> StageForecast:
    slowest = max(outlooks, key=lambda outlook: outlook.passes_after or timedelta.max)
    return StageForecast(
        stage=slowest.stage,
        in_time=slowest.in_time,
        passes_after=None if slowest.passes_after is None else span(slowest.passes_after),
        slowest=f"clause {slowest.clause} {_place(slowest)}",
        deadline=span(slowest.deadline),
        message=_message(slowest, too_slow=sum(not outlook.in_time for outlook in outlooks)),
    )


def _message(slowest: Outlook, *, too_slow: int) -> str:
    """Return what a stage can prove, for people; *too_slow* clauses and slices do not pass before its deadline."""
    more = f" (and {too_slow - 1} more)" if too_slow > 1 else ""
    where = f"in {_place(slowest)}{more}"
    return f"clause {slowest.clause} {_pace(slowest, where)}; the deadline is {span(slowest.deadline)}"


def _pace(slowest: Outlook, where: str) -> str:
    if slowest.passes_after is not None:
        return f"needs about {span(slowest.passes_after)} {where}"
    if slowest.too_coarse:
        return f"cannot pass {where}: the histogram's buckets are too wide"
    if not slowest.candidate_per_second:
        return f"has nothing to judge {where}"
    return f"cannot pass {where} at the baseline's rates and traffic"


def _place(outlook: Outlook) -> str:
    return slice_name(outlook.part) or "all traffic"
