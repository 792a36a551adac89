"""Builders with honest defaults: a release in mid-canary of a healthy candidate, unless a test says otherwise."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import Verb
from modelrelease.api.parse import Asked, Release, parse
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.revision import Revision
from modelrelease.api.status import (
    COMPLETED,
    PENDING,
    ROLLED_BACK,
    CandidateStatus,
    DecisionRecord,
    Rejected,
    ReleaseStatus,
    StableStatus,
    StageRecord,
)
from modelrelease.core.counts import Evidence, MetricsUnavailable
from modelrelease.core.decide import Situation
from modelrelease.core.observation import GatewayProblem, Observation, Route, Workload
from modelrelease.core.verdict import Blame, Finding, GateVerdict

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def a_body(version: str = "2", **spec: Any) -> dict[str, Any]:
    """Return a ModelRelease as kubectl would send it; *spec* replaces whole fields of the spec."""
    base = {
        "model": {"version": version},
        "server": {
            "replicas": 3,
            "port": 3000,
            "progressDeadline": "10m",
            "shadowReplicas": 1,
            "template": {"spec": {"containers": [{"name": "server", "image": "radar:1"}]}},
        },
        "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
        "contract": {
            "slices": [{"name": "country", "labels": ["country"]}],
            "metrics": [
                {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
                {"name": "error-rate", "ratio": {"events": 'r_total{code="500"}', "of": "r_total"}},
            ],
            "clauses": [
                {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"},
                {"name": "errors", "metric": "error-rate", "atMost": "0.1%"},
            ],
        },
        "stages": [
            {"name": "shadow", "shadow": {"percent": 100}, "bake": "10m", "deadline": "1h"},
            {"name": "canary-10", "canary": {"percent": 10}, "bake": "10m", "deadline": "1h"},
            {"name": "canary-50", "canary": {"percent": 50}, "bake": "10m", "deadline": "1h"},
            {"name": "full", "full": {}, "bake": "1h", "deadline": "3h"},
        ],
    }
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": "radar", "namespace": "fraud", "uid": "u-1", "generation": 3, "resourceVersion": "7"},
        "spec": {**base, **spec},
    }


def a_contract(name: str = "promise", **spec: Any) -> dict[str, Any]:
    """Return a ModelContract that says what the contract of ``a_body`` says; *spec* replaces whole fields of it."""
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelContract",
        "metadata": {"name": name, "namespace": "fraud", "uid": "u-c", "generation": 1, "resourceVersion": "1"},
        "spec": {**a_body()["spec"]["contract"], **spec},
    }


def a_body_that_refers(version: str = "2", contract: str = "promise", **spec: Any) -> dict[str, Any]:
    """Return ``a_body`` with a reference to a ModelContract in place of its contract."""
    body = a_body(version, contractRef={"name": contract}, **spec)
    del body["spec"]["contract"]
    return body


def a_decision(
    decision: str = "Approve", version: str = "2", stage: str | None = None, *, name: str = "radar-1", **spec: Any
) -> dict[str, Any]:
    """Return a ReleaseDecision of ana's about a version of ``a_body``; *spec* replaces whole fields of it."""
    about = {"release": "radar", "revision": revision_of(version).name, "decision": decision}
    given = {**about, "approvedBy": "ana", "reason": "checked by hand", **({"stage": stage} if stage else {}), **spec}
    meta = {"name": name, "namespace": "fraud", "uid": f"u-{name}", "resourceVersion": "1"}
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ReleaseDecision",
        "metadata": {**meta, "creationTimestamp": "2026-11-23T11:00:00Z"},
        "spec": given,
    }


def decided(decision: Verb, stage: str, version: str = "2", **record: Any) -> DecisionRecord:
    """Return a decision of ana's that was taken up a minute ago."""
    record = {"name": "radar-1", "uid": "u-1", "time": NOW - timedelta(minutes=1), "reason": "checked", **record}
    who = {"approved_by": "ana", "revision": revision_of(version).name}
    return DecisionRecord(decision=decision, stage=stage, **who, **record)


def a_release(version: str = "2", **spec: Any) -> Release:
    """Return the parsed release of ``a_body``."""
    release = parse(a_body(version, **spec))
    assert isinstance(release, Release), release
    return release


@cache
def revision_of(version: str) -> Revision:
    """Return the revision that ``a_release(version)`` asks for."""
    return a_release(version).desired


def a_status(
    stage: str = "canary-10",
    *,
    stable: str | None = "1",
    candidate: str | None = "2",
    replicas: int | None = None,
    entered: timedelta = timedelta(minutes=20),
    unavailable: timedelta | None = None,
    silent: timedelta | None = None,
    metrics_missing: timedelta | None = None,
    rejected: Sequence[str] = (),
    contract: str | None = None,
    decisions: Sequence[DecisionRecord] = (),
) -> ReleaseStatus:
    """Return the status of a rollout in *stage*, entered that long ago; revisions by version, *contract* by digest."""
    kinds = {
        "shadow": ("shadow", 0, 100),
        "canary-10": ("canary", 10, 0),
        "canary-50": ("canary", 50, 0),
        "full": ("full", 100, 0),
    }
    kind, weight, mirror = kinds.get(stage, ("", 0, 0))
    start = NOW - entered
    trial = None
    if candidate is not None:
        record = [StageRecord(name=stage, kind=kind, contract=contract, start_time=start)] if kind else []
        trial = CandidateStatus(
            revision=revision_of(candidate).name,
            version=candidate,
            weight=weight,
            mirror_percent=mirror,
            since=start - timedelta(minutes=5),
            replicas=replicas if replicas is not None else (3 if weight else 1),
            unavailable_since=NOW - unavailable if unavailable is not None else None,
            silent_since=NOW - silent if silent is not None else None,
            stages=record,
        )
    return ReleaseStatus(
        observed_generation=3,
        stage=stage,
        stage_start_time=start,
        stable=stable
        and StableStatus(revision=revision_of(stable).name, version=stable, weight=100 - weight, since=start),
        candidate=trial,
        decisions=list(decisions),
        metrics_missing_since=NOW - metrics_missing if metrics_missing is not None else None,
        rejected=[
            Rejected(
                revision=revision_of(version).name,
                version=version,
                stage="shadow",
                reason=Reason.CONTRACT_BREACHED,
                message="country=FR +41 %",
                time=NOW - timedelta(hours=1),
            )
            for version in rejected
        ],
    )


def a_verdict(
    outcome: Outcome = Outcome.PASS,
    reason: Reason | None = None,
    *,
    on_breach: OnBreach | None = None,
    message: str = "",
) -> GateVerdict:
    """Return a gate's verdict without details; a breach asks for a rollback unless told otherwise."""
    reasons = {
        Outcome.PASS: Reason.WITHIN_CONTRACT,
        Outcome.INCONCLUSIVE: Reason.LOW_TRAFFIC,
        Outcome.BREACH: Reason.CONTRACT_BREACHED,
    }
    breach = outcome is Outcome.BREACH
    return GateVerdict(
        outcome=outcome,
        on_breach=on_breach or (OnBreach.ROLLBACK if breach else None),
        reason=reason or reasons[outcome],
        message=message or f"{outcome} of the test",
        clauses=(),
        blame=(Blame("steady", (("country", "FR"),)),) if breach else (),
        worst="",
    )


NO_METRICS = MetricsUnavailable("Prometheus refused the connection")


def a_route(*, in_sync: bool = True, accepted: bool | None = True, weights: Mapping[str, float] | None = None) -> Route:
    """Return a live route that is as it should be."""
    return Route(weights=weights or {}, mirror_percent={}, in_sync=in_sync, accepted=accepted, message="")


def seen(
    *,
    available: Mapping[str, int] | None = None,
    route: Route | None = None,
    gateway_problem: GatewayProblem | None = None,
    conflict: str | None = None,
    leftover: str | None = None,
    evidence: Evidence | None = None,
    revisions: Sequence[str] = (),
    asked: Sequence[Asked] = (),
) -> Observation:
    """Return what was read this tick; *available* pods are given by version, three each by default."""
    pods = {"1": 3, "2": 3} if available is None else available
    names = {version: revision_of(version).name for version in {*pods, *revisions}}
    return Observation(
        workloads={names[v]: Workload(names[v], 3, available=n, serving=n, message="") for v, n in pods.items()},
        revisions={names[v]: revision_of(v) for v in {*pods, *revisions}},
        services=frozenset(names[v] for v in pods),
        route=route or a_route(),
        gateway_problem=gateway_problem,
        conflict=conflict,
        leftover=leftover,
        evidence=evidence,
        asked=tuple(asked),
    )


def a_situation(
    status: ReleaseStatus | None = None,
    finding: Finding | None = None,
    *,
    release: Release | None = None,
    observation: Observation | None = None,
    now: datetime = NOW,
) -> Situation:
    """Return a healthy candidate in mid-canary whose gate passes and is baked, unless told otherwise."""
    status = status or a_status()
    open_stage = status.stage not in {"", PENDING, ROLLED_BACK, COMPLETED}
    return Situation(
        release=release or a_release(),
        status=status,
        seen=observation or seen(),
        finding=finding or (a_verdict() if open_stage else None),
        now=now,
    )
