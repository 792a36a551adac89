"""
A release in every state that others look at, brought there by the operator's own code.

Nothing of a status is written by hand: the real reconcile and the real judge lead a release there, on a cluster in
memory. ``place`` then makes the same object, edit by edit, on a real API server.
"""

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import requests

from modelrelease.api.base import API_VERSION
from modelrelease.core.announce import Announcement
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
        await super().emit(body, announcement)
        self.said.append(announcement)


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
        await lab.tick()

    return reach


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


async def _first_never_available(lab: Lab) -> None:
    lab.kube.broken.add(revision_of(OLD).name)
    await lab.run(until="Pending")
    await _ticks(lab, 130)


STATES: Final[dict[str, State]] = {
    "not-seen": State(_nothing, "InProgress", "Progressing", first=True),
    "first-release": State(lambda lab: lab.run(until="full"), "InProgress", "Progressing", first=True),
    "edited-not-seen": State(_edited, "InProgress", "Progressing"),
    "pending": State(_pending, "InProgress", "Progressing"),
    "shadow": State(_in("shadow"), "InProgress", "Progressing"),
    "too-little-traffic": State(_too_little_traffic, "InProgress", "Progressing"),
    "deadline-over": State(_deadline_over, "InProgress", "Progressing"),
    "canary": State(_in("canary-10"), "InProgress", "Progressing"),
    "drifted": State(_drifted, "InProgress", "Progressing"),
    "no-metrics": State(_no_metrics, "InProgress", "Progressing"),
    "metrics-back": State(_metrics_back, "InProgress", "Progressing"),
    "forecast-late": State(_forecast_late, "InProgress", "Progressing"),
    "watch": State(_in("full"), "InProgress", "Progressing"),
    "superseded": State(_superseded, "InProgress", "Progressing"),
    "suspended": State(_suspended, "InProgress", "Suspended"),
    "suspended-at-rest": State(_suspended_at_rest, "InProgress", "Suspended"),
    "breach-held": State(_breach_held, "InProgress", "Suspended"),
    "awaiting-approval": State(_waiting(), "InProgress", "Suspended"),
    "refused": State(_refused, "InProgress", "Suspended"),
    "approved-ahead": State(_approved_ahead, "InProgress", "Progressing"),
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
    "first-is-bad": State(_first_is_bad, "Failed", "Degraded", first=True),
    "invalid-spec": State(_invalid, "Failed", "Degraded"),
    "taken-back": State(_taken_back, "Failed", "Degraded"),
    "no-contract": State(_no_contract, "Failed", "Degraded"),
    "no-gateway": State(_no_gateway, "Failed", "Degraded"),
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
        metadata = {"name": name, "namespace": namespace}
        spec = {**decision["spec"], "release": name}
        _asked(session, "POST", decisions, json={**decision, "metadata": metadata, "spec": spec})
        change = [{"op": "add", "path": "/status", "value": decision["status"]}]
        return _patched(session, f"{decisions}/{name}/status", change)


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
