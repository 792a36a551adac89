"""The gate of the open stage: the judge's verdict on its evidence, and the proof that there is any."""

from dataclasses import replace

from modelrelease.api.parse import Release
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.arrival import arrival
from modelrelease.core.counts import Evidence, MetricsUnavailable
from modelrelease.core.judge import judge
from modelrelease.core.verdict import Finding


def evaluate(release: Release, status: ReleaseStatus, evidence: Evidence | None) -> Finding | None:
    """
    Return what *evidence* says of the open stage's gate; None when no stage is open or nothing was read.

    Evidence that does not end with the open stage says nothing of it.
    """
    trial = status.candidate
    record = trial.current_stage if trial else None
    if trial is None or record is None or evidence is None:
        return None
    if isinstance(evidence, MetricsUnavailable):
        return evidence
    if not evidence or evidence[-1].stage != record.name:
        return MetricsUnavailable(f"no counts of stage {record.name} were read")
    verdict = judge(
        release.spec.contract,
        evidence,
        error_budget=release.spec.error_budget,
        has_baseline=status.stable is not None,
        # At full, nobody is left on the old revision: a comparison would be one with the past.
        compared=status.stable is not None and status.stable.weight > 0,
    )
    if record.kind != "shadow" or verdict.outcome is Outcome.BREACH:
        return verdict
    copies = arrival(evidence[-1], trial.mirror_percent)
    if copies.flowing is not False:
        return verdict
    message = (
        f"{copies.arrived:.0f} of about {copies.due:.0f} copied requests reached the candidate: "
        "the Gateway does not mirror as asked, or the candidate does not count its requests"
    )
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=Reason.SHADOW_NOT_FLOWING, message=message)
