"""
A release in every state that others look at, brought there by the operator's own code.

Nothing of a status is written by hand: the real reconcile and the real judge lead a release there, on a cluster in
memory. ``place`` then makes the same object, edit by edit, on a real API server.
"""

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import numpy as np
import requests

from modelrelease.adapters.errors import Refused
from modelrelease.api.base import API_VERSION
from modelrelease.core.announce import Announcement
from modelrelease.core.counts import BinCounts, Noise, StageCounts
from tests.apiserver import Cluster
from tests.builders import NO_METRICS, a_body, a_contract, revision_of
from tests.reconcile.fakes import FakeKube, Lab

Object = dict[str, Any]

STAGES: Final = [
    {"name": "shadow", "shadow": {"percent": 100}, "bake": "2m", "deadline": "15m"},
    {"name": "canary-10", "canary": {"percent": 10}, "bake": "2m", "deadline": "15m"},
    {"name": "full", "full": {}, "bake": "5m", "deadline": "15m"},
]

OLD, NEW, NEWER = "2026-11-05", "2026-11-20", "2026-11-21"


@dataclass
class RecordingKube(FakeKube):
    """A cluster that remembers every spec and every event of its release."""

    specs: list[Object] = field(default_factory=list)
    said: list[Announcement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body["metadata"]["generation"] = 1
        self.specs.append(copy.deepcopy(self.body["spec"]))

    def edit(self, **spec: Any) -> None:
        """Edit the spec as a user would."""
        super().edit(**spec)
        self.specs.append(copy.deepcopy(self.body["spec"]))

    async def emit(self, body: Object, announcement: Announcement) -> None:
        """Keep the whole event."""
        if not self.emitted(body, announcement):
            self.said.append(announcement)
        await super().emit(body, announcement)


@dataclass(frozen=True, slots=True)
class State:
    """
    One state, and what others are to make of it.

    Attributes:
        reach: Brings a laboratory there whose release runs version ``OLD``, unless *first*.
        kstatus: What kstatus computes, by the table of the API.
        argo: What Argo CD's health check says.
        first: Begin with nothing released yet.
    """

    reach: Callable[[Lab], Awaitable[None]]
    kstatus: str
    argo: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    A release in a state.

    Attributes:
        specs: What was ordered, in order; the last one is the body's.
        body: The whole object.
        said: The events on the way.
        decisions: What people decided, with what became of it.
    """

    specs: list[Object]
    body: Object
    said: list[Announcement]
    decisions: list[Object]


FIRST_COUNTS: Final = 3
"""Looks at a stage until something is counted: its route comes into place, a scrape follows, requests come."""


async def _nothing(lab: Lab) -> None:
    """Nobody has looked at it yet."""


async def _pending(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(NEW).name)
    release(lab, NEW)
    await lab.run(until="Pending")
    await lab.tick()


def _in(stage: str) -> Callable[[Lab], Awaitable[None]]:
    async def reach(lab: Lab) -> None:
        release(lab, NEW)
        await lab.run(until=stage)
        await _ticks(lab, FIRST_COUNTS)

    return reach


async def _canary(lab: Lab) -> None:
    lineage = {"code": "git@4be1c0d", "data": "s3://datasets/radar/2026-11-15", "run": "mlflow:/8812"}
    lab.kube.edit(model={"version": NEW, "lineage": lineage})
    await lab.run(until="canary-10")
    await _ticks(lab, FIRST_COUNTS)


async def _too_little_traffic(lab: Lab) -> None:
    lab.metrics.per_second = 2
    await _in("shadow")(lab)


async def _deadline_over(lab: Lab) -> None:
    lab.metrics.per_second = 2
    await _in("shadow")(lab)
    await _ticks(lab, 25)


async def _no_metrics(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.metrics.outage = NO_METRICS
    await _ticks(lab, 3)


async def _metrics_back(lab: Lab) -> None:
    await _no_metrics(lab)
    lab.metrics.outage = None
    await lab.tick()


async def _fewer_users(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.edit(stages=_with_share(4))
    await lab.tick()


async def _more_users(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.edit(stages=_with_share(30))
    await lab.tick()


def _with_share(percent: int) -> list[Object]:
    """Return the plan with another share of the requests in its canary."""
    return [{**stage, "canary": {"percent": percent}} if "canary" in stage else stage for stage in STAGES]


async def _evidence_lost(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.metrics.seen_as = lambda stage: replace(stage, forgotten=(True, True))
    await lab.tick()


async def _forecast_late(lab: Lab) -> None:
    lab.now += timedelta(hours=1)
    lab.metrics.per_second = 50
    lab.kube.broken.add(revision_of(NEW).name)
    contract = copy.deepcopy(lab.kube.body["spec"]["contract"])
    contract["clauses"] = [{**contract["clauses"][0], "within": "1.5%"}]
    release(lab, NEW, contract=contract)
    await _ticks(lab, 2)


async def _drifted(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.objects["HTTPRoute", "radar"]["spec"]["rules"][0]["backendRefs"][1]["weight"] = 90
    await lab.tick()


async def _breach_held(lab: Lab) -> None:
    contract = copy.deepcopy(lab.kube.body["spec"]["contract"])
    contract["clauses"][0]["onBreach"] = "Hold"
    lab.metrics.rates[NEW] = 0.4
    release(lab, NEW, contract=contract)
    await lab.run(until="shadow")
    await _ticks(lab, 12)


async def _suspended(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.edit(suspend=True)
    await lab.tick()


async def _resumed(lab: Lab) -> None:
    await _suspended(lab)
    lab.kube.edit(suspend=False)
    await lab.tick()


async def _suspended_at_rest(lab: Lab) -> None:
    lab.kube.edit(suspend=True)
    await lab.tick()


async def _edited(lab: Lab) -> None:
    await lab.run()
    release(lab, NEW)


def _waiting(version: str = NEW) -> Callable[[Lab], Awaitable[None]]:
    async def reach(lab: Lab) -> None:
        release(lab, version, approval={"mode": "Suggest", "automateAfter": 1})
        await lab.run(until="shadow")
        await _ticks(lab, 12)

    return reach


async def _approved(lab: Lab) -> None:
    await _waiting()(lab)
    lab.kube.decide("Approve", NEW, "shadow", approvedBy="ana@example.com", reason="looked at the podcast slice")
    await lab.run(until="canary-10")


async def _approved_ahead(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(NEW).name)
    release(lab, NEW, approval={"mode": "Manual"})
    await lab.run(until="Pending")
    lab.kube.decide("Approve", NEW, "shadow", approvedBy="ci@example.com", reason="offline evaluation passed")
    await lab.tick()


async def _approval_void(lab: Lab) -> None:
    release(lab, NEW, approval={"mode": "Manual"})
    await lab.run(until="shadow")
    lab.kube.decide("Approve", NEW, "shadow", approvedBy="ana@example.com", reason="looked at the podcast slice")
    await lab.tick()
    lab.kube.edit(contract=_contract(clauses=[{**_STEADY, "within": "10%"}]))
    await lab.tick()


async def _automation_lost(lab: Lab) -> None:
    await _approved(lab)
    await _waiting(NEWER)(lab)
    lab.kube.decide("Rollback", NEWER, approvedBy="ana@example.com", reason="the podcast slice looks odd")
    await _ticks(lab, 3)


async def _breach_approved(lab: Lab) -> None:
    await _breach_held(lab)
    lab.kube.decide("Approve", NEW, "shadow", approvedBy="ana@example.com", reason="the old labels were wrong")
    await lab.run(until="canary-10")


async def _decided_too_late(lab: Lab) -> None:
    await _cancelled(lab)
    lab.kube.decide("Rollback", NEW, approvedBy="ana@example.com", reason="complaints from support")
    await lab.tick()


async def _refused(lab: Lab) -> None:
    await _waiting()(lab)
    lab.kube.decide("Approve", NEW, "canary-50", approvedBy="ana@example.com", reason="looked at it")
    await lab.tick()


async def _taken_back(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.decide("Rollback", NEW, approvedBy="ana@example.com", reason="complaints from support")
    await _ticks(lab, 3)


async def _retried(lab: Lab) -> None:
    await _rolled_back(lab)
    lab.metrics.rates.clear()
    lab.kube.decide("Retry", NEW, approvedBy="ana@example.com", reason="the label bug is fixed")
    await _ticks(lab, 2)


async def _promoted(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.decide("Promote", NEW, approvedBy="ana@example.com", reason="the old model is on fire")
    await _ticks(lab, 2)


async def _no_contract(lab: Lab) -> None:
    lab.kube.body["spec"].pop("contract")
    release(lab, NEW, contractRef={"name": "promise"})
    await lab.tick()


async def _contract_edited(lab: Lab) -> None:
    lab.kube.contracts["promise"] = a_contract()
    lab.kube.body["spec"].pop("contract")
    release(lab, NEW, contractRef={"name": "promise"})
    await lab.run(until="canary-10")
    clauses = [{**a_contract()["spec"]["clauses"][0], "within": "10%"}]
    lab.kube.contracts["promise"] = a_contract(clauses=clauses)
    await lab.tick()


def _until(reason: str, stage: str = "shadow", **spec: Any) -> Callable[[Lab], Awaitable[None]]:
    """Go on in a stage until ``Ready`` has that reason."""

    async def reach(lab: Lab) -> None:
        release(lab, NEW, **spec)
        await lab.run(until=stage)
        await _ticks_until(reason, lab)

    return reach


async def _ticks_until(reason: str, lab: Lab) -> None:
    for _ in range(60):
        await lab.tick()
        found = next(c["reason"] for c in lab.kube.status["conditions"] if c["type"] == "Ready")
        # A stage whose route has just come into place has the reason Baking too, and nothing judged yet.
        if reason == found and lab.kube.status.get("gate"):
            return
    raise AssertionError(f"{reason} was not reached: {lab.kube.status}")


def _counting(
    seen_as: Callable[[StageCounts], StageCounts], reach: Callable[[Lab], Awaitable[None]]
) -> Callable[[Lab], Awaitable[None]]:
    """Go there while Prometheus counts in that way."""

    async def so(lab: Lab) -> None:
        lab.metrics.seen_as = seen_as
        await reach(lab)

    return so


def _contract(**changes: Any) -> Object:
    """Return the usual contract; *changes* replace whole fields of it."""
    return {**a_body()["spec"]["contract"], **changes}


def _arriving(share: float) -> Callable[[StageCounts], StageCounts]:
    """Return what lets only a share of the requests reach the candidate."""

    def seen_as(stage: StageCounts) -> StageCounts:
        fewer = {
            key: replace(it, events=it.events * (1, share), of=it.of * (1, share)) for key, it in stage.counts.items()
        }
        return replace(stage, counts=fewer)

    return seen_as


def _without_decisions(stage: StageCounts) -> StageCounts:
    """Forget the candidate's decisions: it counts errors alone."""
    nothing = np.array([1.0, 0.0])
    counts = {
        key: replace(it, events=it.events * nothing, of=it.of * nothing) if key[0] == "block-rate" else it
        for key, it in stage.counts.items()
    }
    return replace(stage, counts=counts)


def _uneven(stage: StageCounts) -> StageCounts:
    """Let the pods of the baseline differ as much as no candidate may."""
    halves = {
        key: replace(it, events=it.of * (0.1, 0.4), of=it.of) if key[0] == "block-rate" else it
        for key, it in stage.counts.items()
    }
    return replace(stage, noise=Noise({}, replace(stage, counts=halves)))


def _coarse(stage: StageCounts) -> StageCounts:
    """Add a histogram of latencies that has one bucket up to ten seconds."""
    n = stage.counts["error-rate", ""].of[0]
    bins = np.stack([n * 0.98, n * 0.02])[None, :, :]
    return replace(stage, histograms={("latency", ""): BinCounts(((),), np.array([10.0]), bins)})


async def _not_accepted(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.objects["HTTPRoute", "radar"]["status"] = {"parents": []}
    await lab.tick()


async def _gateway_silent(lab: Lab) -> None:
    await _in("shadow")(lab)
    lab.kube.gateway_answers = False
    await lab.run(until="canary-10")
    await lab.tick()


async def _route_rejected(lab: Lab) -> None:
    await _in("canary-10")(lab)
    (parent,) = lab.kube.objects["HTTPRoute", "radar"]["status"]["parents"]
    accepted = next(c for c in parent["conditions"] if c["type"] == "Accepted")
    accepted |= {"status": "False", "reason": "NoMatchingListenerHostname", "message": "no listener has this hostname"}
    await lab.tick()


async def _name_conflict(lab: Lab) -> None:
    name = f"radar-{revision_of(NEW).name}"
    lab.kube.objects["Service", name] = {"metadata": {"name": name, "ownerReferences": [{"uid": "somebody else's"}]}}
    release(lab, NEW)
    await _ticks(lab, 2)


async def _no_mirror(lab: Lab) -> None:
    lab.kube.gateway_class = {"status": {"supportedFeatures": [{"name": "HTTPRoute"}]}}
    release(lab, NEW)
    await lab.tick()


async def _bad_contract(lab: Lab) -> None:
    metrics = [{"name": "block-rate", "ratio": {"events": "sum(d_total)", "of": "d_total"}}]
    clauses = [{"name": "steady", "metric": "block-rate", "within": "5%"}]
    lab.kube.contracts["promise"] = a_contract(metrics=metrics, clauses=clauses)
    lab.kube.body["spec"].pop("contract")
    release(lab, NEW, contractRef={"name": "promise"})
    await lab.tick()


async def _not_kept(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.says_no["keep"] = 'configmaps "radar" is forbidden: exceeded quota: objects, used: count/configmaps=50'
    with suppress(Refused):
        await _ticks(lab, 60)


async def _pods_gone(lab: Lab) -> None:
    await _in("canary-10")(lab)
    lab.kube.broken.add(revision_of(NEW).name)
    await _ticks(lab, 6)


async def _pods_missing(lab: Lab) -> None:
    await _in("full")(lab)
    lab.kube.restarting.add(revision_of(NEW).name)
    await _ticks_until("CandidateUnavailable", lab)


async def _completed(lab: Lab) -> None:
    release(lab, NEW)
    await lab.run(until="Completed")
    await lab.run()


async def _without_pods(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(OLD).name)
    await lab.tick()


async def _cancelled(lab: Lab) -> None:
    await _in("canary-10")(lab)
    release(lab, OLD)
    await lab.run()


async def _rolled_back(lab: Lab) -> None:
    lab.metrics.rates[NEW] = 0.4
    release(lab, NEW)
    await lab.run(until="RolledBack")
    await _ticks(lab, 3)


async def _superseded(lab: Lab) -> None:
    await _in("canary-10")(lab)
    release(lab, NEWER)
    await lab.tick()


async def _reverted(lab: Lab) -> None:
    await _rolled_back(lab)
    release(lab, OLD)
    await lab.run()


async def _rejected_again(lab: Lab) -> None:
    await _reverted(lab)
    release(lab, NEW)
    await _ticks(lab, 2)


async def _never_available(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(NEW).name)
    release(lab, NEW)
    await lab.run(until="RolledBack")
    await lab.tick()


async def _invalid(lab: Lab) -> None:
    contract = copy.deepcopy(lab.kube.body["spec"]["contract"])
    contract["metrics"][0]["ratio"]["events"] = 'sum(d_total{decision="block"})'
    release(lab, NEW, contract=contract)
    await lab.tick()


async def _no_gateway(lab: Lab) -> None:
    lab.kube.gateway = None
    release(lab, NEW)
    await lab.tick()


async def _first_is_bad(lab: Lab) -> None:
    lab.metrics.error_rate = 0.05
    await lab.run(until="full")
    await _ticks(lab, 12)


async def _first_is_replaced(lab: Lab) -> None:
    await _first_is_bad(lab)
    await _pending(lab)


async def _first_never_available(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(OLD).name)
    await lab.run(until="Pending")
    await _ticks(lab, 130)


_STEADY, _ERRORS = a_body()["spec"]["contract"]["clauses"]
_SILENT: Final = _contract(slices=[{"name": "country", "labels": ["country"], "expected": ["FR", "MT"]}])
_RELATIVE: Final = _contract(clauses=[_STEADY])
_NOT_IN_SHADOW: Final = _contract(clauses=[{**_STEADY, "stages": ["canary"]}, _ERRORS | {"stages": ["canary", "full"]}])
_LATENCY: Final = _contract(
    metrics=[
        *_contract()["metrics"],
        {"name": "latency", "better": "Lower", "quantile": {"histogram": "latency_seconds", "q": "0.99"}},
    ],
    clauses=[_ERRORS, {"name": "fast", "metric": "latency", "noWorse": "10%"}],
)

STATES: Final[dict[str, State]] = {
    "not-seen": State(_nothing, "InProgress", "Progressing", first=True),
    "first-release": State(lambda lab: lab.run(until="full"), "InProgress", "Progressing", first=True),
    "edited-not-seen": State(_edited, "InProgress", "Progressing"),
    "pending": State(_pending, "InProgress", "Progressing"),
    "shadow": State(_in("shadow"), "InProgress", "Progressing"),
    "too-little-traffic": State(_too_little_traffic, "InProgress", "Progressing"),
    "undecided": State(_until("Undecided"), "InProgress", "Progressing"),
    "baking": State(_until("Baking", "canary-10"), "InProgress", "Progressing"),
    "no-data": State(_counting(_without_decisions, _until("NoData")), "InProgress", "Progressing"),
    "silent-slice": State(_until("SilentSlice", contract=_SILENT), "InProgress", "Progressing"),
    "no-copies": State(_counting(_arriving(0.1), _until("ShadowNotFlowing")), "InProgress", "Progressing"),
    "wrong-split": State(
        _counting(
            lambda stage: replace(stage, percent=10) if stage.kind == "canary" else stage,
            _until("SplitMismatch", "canary-10"),
        ),
        "InProgress",
        "Progressing",
    ),
    "noisy": State(_counting(_uneven, _until("Noisy")), "InProgress", "Progressing"),
    "too-coarse": State(
        _counting(_coarse, _until("HistogramTooCoarse", contract=_LATENCY)), "InProgress", "Progressing"
    ),
    "no-baseline": State(_until("Baking", "full", contract=_RELATIVE), "InProgress", "Progressing"),
    "nothing-judged": State(_until("Baking", contract=_NOT_IN_SHADOW), "InProgress", "Progressing"),
    "not-accepted": State(_not_accepted, "InProgress", "Progressing"),
    "gateway-silent": State(_gateway_silent, "InProgress", "Progressing"),
    "pods-missing": State(_pods_missing, "InProgress", "Progressing"),
    "deadline-over": State(_deadline_over, "InProgress", "Progressing"),
    "canary": State(_canary, "InProgress", "Progressing"),
    "drifted": State(_drifted, "InProgress", "Progressing"),
    "no-metrics": State(_no_metrics, "InProgress", "Progressing"),
    "metrics-back": State(_metrics_back, "InProgress", "Progressing"),
    "fewer-users": State(_fewer_users, "InProgress", "Progressing"),
    "more-users": State(_more_users, "InProgress", "Progressing"),
    "evidence-lost": State(_evidence_lost, "InProgress", "Progressing"),
    "forecast-late": State(_forecast_late, "InProgress", "Progressing"),
    "watch": State(_in("full"), "InProgress", "Progressing"),
    "superseded": State(_superseded, "InProgress", "Progressing"),
    "suspended": State(_suspended, "InProgress", "Suspended"),
    "resumed": State(_resumed, "InProgress", "Progressing"),
    "suspended-at-rest": State(_suspended_at_rest, "InProgress", "Suspended"),
    "breach-held": State(_breach_held, "InProgress", "Suspended"),
    "awaiting-approval": State(_waiting(), "InProgress", "Suspended"),
    "refused": State(_refused, "InProgress", "Suspended"),
    "approved-ahead": State(_approved_ahead, "InProgress", "Progressing"),
    "approval-void": State(_approval_void, "InProgress", "Progressing"),
    "breach-approved": State(_breach_approved, "InProgress", "Progressing"),
    "approved": State(_approved, "InProgress", "Progressing"),
    "promoted": State(_promoted, "InProgress", "Progressing"),
    "retried": State(_retried, "InProgress", "Progressing"),
    "contract-edited": State(_contract_edited, "InProgress", "Progressing"),
    "decided-too-late": State(_decided_too_late, "Current", "Healthy"),
    "completed": State(_completed, "Current", "Healthy"),
    "cancelled": State(_cancelled, "Current", "Healthy"),
    "reverted": State(_reverted, "Current", "Healthy"),
    "without-pods": State(_without_pods, "Current", "Degraded"),
    "rolled-back": State(_rolled_back, "Failed", "Degraded"),
    "rejected-again": State(_rejected_again, "Failed", "Degraded"),
    "never-available": State(_never_available, "Failed", "Degraded"),
    "first-never-available": State(_first_never_available, "Failed", "Degraded", first=True),
    "first-is-replaced": State(_first_is_replaced, "InProgress", "Progressing", first=True),
    "first-is-bad": State(_first_is_bad, "Failed", "Degraded", first=True),
    "invalid-spec": State(_invalid, "Failed", "Degraded"),
    "automation-lost": State(_automation_lost, "Failed", "Degraded"),
    "taken-back": State(_taken_back, "Failed", "Degraded"),
    "no-contract": State(_no_contract, "Failed", "Degraded"),
    "no-gateway": State(_no_gateway, "Failed", "Degraded"),
    "bad-contract": State(_bad_contract, "Failed", "Degraded"),
    "no-mirror": State(_no_mirror, "Failed", "Degraded"),
    "route-rejected": State(_route_rejected, "Failed", "Degraded"),
    "not-kept": State(_not_kept, "Failed", "Degraded"),
    "name-conflict": State(_name_conflict, "Failed", "Degraded"),
    "pods-gone": State(_pods_gone, "Failed", "Degraded"),
}
"""Every state by a name that can be an object's, grouped by what kstatus makes of it."""


def release(lab: Lab, version: str, **spec: Any) -> None:
    """Order another version."""
    lab.kube.edit(model={"version": version}, **spec)


async def _ticks(lab: Lab, number: int) -> None:
    for _ in range(number):
        await lab.tick()


@functools.cache
def recorded(name: str) -> Recorded:
    """Return the release in the state called *name*."""
    state = STATES[name]
    lab = _new_laboratory() if state.first else copy.deepcopy(_at_rest())
    asyncio.run(state.reach(lab))
    kube = _kube(lab)
    return Recorded(kube.specs, kube.body, kube.said, list(kube.decisions.values()))


def _new_laboratory() -> Lab:
    return Lab(RecordingKube(body=a_body(OLD, stages=STAGES, analysis={"interval": "1m"})))


def _kube(lab: Lab) -> RecordingKube:
    assert isinstance(lab.kube, RecordingKube)
    return lab.kube


@functools.cache
def _at_rest() -> Lab:
    """Return a laboratory on which the first release is over."""
    lab = _new_laboratory()
    asyncio.run(lab.run(until="Completed"))
    asyncio.run(lab.run())
    _kube(lab).said.clear()
    return lab


def place(cluster: Cluster, namespace: str, name: str, release: Recorded) -> Object:
    """Make *release* an object of the API server: each edit of the spec, then the status; return what is stored."""
    with _session(cluster) as session:
        releases = f"{cluster.server.url}/apis/{API_VERSION}/namespaces/{namespace}/modelreleases"
        first, *edits = release.specs
        created = {**release.body, "metadata": {"name": name, "namespace": namespace}, "spec": first}
        created.pop("status", None)
        stored = _asked(session, "POST", releases, json=created)
        for spec in edits:
            stored = _patched(session, f"{releases}/{name}", [{"op": "replace", "path": "/spec", "value": spec}])
        if status := release.body.get("status"):
            change = [{"op": "replace", "path": "/status", "value": status}]
            stored = _patched(session, f"{releases}/{name}/status", change)
        assert stored["metadata"]["generation"] == release.body["metadata"]["generation"]
        return stored


def decide(cluster: Cluster, namespace: str, name: str, decision: Object) -> Object:
    """Make *decision*, about the release called *name*, an object of the API server; return what is stored."""
    with _session(cluster) as session:
        decisions = f"{cluster.server.url}/apis/{API_VERSION}/namespaces/{namespace}/releasedecisions"
        own = f"{name}-{decision['metadata']['name']}"
        metadata = {"name": own, "namespace": namespace}
        spec = {**decision["spec"], "release": name}
        _asked(session, "POST", decisions, json={**decision, "metadata": metadata, "spec": spec})
        change = [{"op": "add", "path": "/status", "value": decision["status"]}]
        return _patched(session, f"{decisions}/{own}/status", change)


def _session(cluster: Cluster) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(cluster.server.ca_file)
    session.headers["Authorization"] = f"Bearer {cluster.server.token}"
    return session


def _patched(session: requests.Session, url: str, changes: list[Object]) -> Object:
    return _asked(session, "PATCH", url, json=changes, headers={"Content-Type": "application/json-patch+json"})


def _asked(session: requests.Session, method: str, url: str, **request: Any) -> Object:
    answer = session.request(method, url, timeout=30, **request)
    assert answer.ok, answer.text
    body: Object = answer.json()
    return body
