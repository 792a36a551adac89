"""
The one reconcile, the same at every tick: observe, decide, record, apply, announce.

This is the only place where deciding meets doing. The status that is written first is the commitment; the cluster
follows it. A crash between any two lines is repaired by the next tick, because nothing is remembered elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from modelrelease.adapters.errors import AdapterError, Conflict, Forbidden, Overtaken, Refused
from modelrelease.adapters.gateway import (
    gateway_problem,
    read_route,
    rerouted,
    route_manifest,
    same_parents,
    same_route,
)
from modelrelease.adapters.kube import Children
from modelrelease.api.decision import DecisionOutcome, DecisionSpec, DecisionStatus, Verb
from modelrelease.api.parse import Asked, InvalidSpec, Release, named_contract, parse, parse_decision
from modelrelease.api.reasons import Reason
from modelrelease.api.release import StageKind
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.announce import Announcement, recorded, to_tell
from modelrelease.core.attention import look_again
from modelrelease.core.counts import Evidence, MetricsUnavailable
from modelrelease.core.decide import (
    Cancel,
    Decision,
    Hold,
    Reshare,
    RollBack,
    Situation,
    Start,
    decide,
    on_trial,
    refuse,
    under_another_contract,
    without_copies,
)
from modelrelease.core.dossier import Dossier, dossier, lost, named
from modelrelease.core.elapsed import Jump
from modelrelease.core.gate import evaluate
from modelrelease.core.observation import GatewayProblem, Observation
from modelrelease.core.outlook import history_window
from modelrelease.core.plan import Manifest, Plan, Traffic, object_name, owner_reference, plan, traffic_of
from modelrelease.core.queries import StageWindow, evidence_window
from modelrelease.core.rulings import Ruling, orphaned, take_up, take_up_rollbacks
from modelrelease.core.transition import transition, transition_invalid

EVIDENCE_LIMIT: Final = timedelta(seconds=30)
"""How long a tick waits for Prometheus; what needs no metrics is then decided without them."""

ROLLBACK_LIMIT: Final = timedelta(seconds=3)
"""How long it waits while a person asks for a rollback: the numbers are for the record alone."""

HISTORY_LIMIT: Final = timedelta(seconds=3)
"""How long it waits for what only a forecast needs, while the candidate's pods start anyway."""


class Kube(Protocol):
    """The Kubernetes API, as far as a reconcile needs it; every method raises AdapterError when it fails."""

    async def get_release(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read a ModelRelease from the API server, not from a cache."""

    async def get_contract(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read a ModelContract from the API server, not from a cache."""

    async def open_decisions(self, namespace: str, release: str) -> list[dict[str, Any]]:
        """Read the ReleaseDecisions about a release that have no outcome yet."""

    async def write_outcome(self, decision: dict[str, Any], status: dict[str, Any]) -> None:
        """Write the status of a ReleaseDecision; one that is gone is fine."""

    async def keep(self, dossier: Manifest) -> None:
        """Create a ConfigMap that is never changed; one of its name that exists is it."""

    async def drop(self, namespace: str, name: str, uid: str) -> None:
        """Delete the very ConfigMap that was seen; one that is absent is fine."""

    async def read_children(self, namespace: str, name: str, uid: str, revisions: Iterable[str]) -> Children:
        """Read everything that belongs to a release, and whether the names of *revisions* are free or its own."""

    async def get_gateway(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read a Gateway."""

    async def get_gateway_class(self, name: str) -> dict[str, Any] | None:
        """Read a GatewayClass."""

    async def write_status(self, body: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Write the status of exactly the object that was read; raise Conflict when it has changed since."""

    async def apply(self, manifest: Manifest) -> bool:
        """Make an object what *manifest* says; return whether anything had to be written."""

    async def delete(self, manifest: Manifest) -> None:
        """Delete an object; one that is absent is fine, one that has another owner raises Conflict and stays."""

    async def emit(self, body: dict[str, Any], announcement: Announcement) -> None:
        """Write an Event about the release, unless that is known to be done; a failure is not the release's."""

    def emitted(self, body: dict[str, Any], announcement: Announcement) -> bool:
        """Return whether this process knows that the Event exists."""


class Metrics(Protocol):
    """Prometheus, as far as a reconcile needs it."""

    async def read(
        self, release: Release, windows: Sequence[StageWindow], baseline: str | None, candidate: str
    ) -> Evidence:
        """Read the counts of every stage in *windows*; what goes wrong is a value, not an exception."""


class Log(Protocol):
    """Where decisions are logged and counted."""

    def decided(self, release: Release | InvalidSpec, stage: str, decision: Decision) -> None:
        """Note what was decided for a release in *stage*."""


@dataclass(frozen=True, slots=True)
class World:
    """
    Everything outside.

    Attributes:
        kube: The Kubernetes API.
        metrics: Prometheus.
        log: Where decisions are logged and counted.
        drain: How long a revision without traffic keeps its pods.
        scrape_interval: Time between two scrapes of Prometheus.
    """

    kube: Kube
    metrics: Metrics
    log: Log
    drain: timedelta
    scrape_interval: timedelta


async def reconcile(
    namespace: str, name: str, world: World, now: datetime, jumps: tuple[Jump, ...] = ()
) -> timedelta | None:
    """
    Bring one release a step further, and return when to look again; None when only a change can matter.

    *jumps* are those of the clock that *now* was read from.

    Raises:
        AdapterError: The cluster could not be read or written; nothing is lost, the next tick starts anew.
    """
    body = await world.kube.get_release(namespace, name)
    if body is None:
        await _answer_orphans(namespace, name, world, now)
        return None
    if body["metadata"].get("deletionTimestamp"):
        return None
    moment, now = now, now.replace(microsecond=0)  # status holds whole seconds; evidence is as fresh as can be
    before = ReleaseStatus.model_validate(body.get("status") or {})
    contract, (decided, unheard) = await asyncio.gather(_contract(body, world), _decided(body, world))
    release = parse(body, contract)
    if isinstance(release, InvalidSpec):
        return await _refuse(release, body, before, decided, world, now, jumps, unheard)

    seen, live = await _observe(release, before, decided, world, moment)
    found = evaluate(release, before, seen.evidence, now)
    situation, rulings = take_up(without_copies(Situation(release, before, seen, found, now, jumps)))
    decision = decide(situation)
    left = dossier(situation, decision)
    unkept = None
    if left and not isinstance(decision, RollBack) and (unkept := await _tried(world.kube.keep(left.manifest))):
        # A gate is passed only when what it was passed on is kept; users lose nothing by waiting.
        decision, left = _waits_for(unkept, before), None
    after = transition(situation, decision, left.name if left else None)
    after = recorded(before, after, now, situation.finding, _missing(body, before, now, jumps, world))
    world.log.decided(release, before.stage, decision)
    body = await _record(body, before, after, world)
    planned = plan(release, after, seen, now, drain=world.drain)
    steer = _steer(release, after, seen, live, world)
    failure = await _apply(release, planned, world, steer, route_only=_returns_users(before, decision))
    failure = await _file(release, after, left if isinstance(decision, RollBack) else None, seen, world) or failure
    await _say(body, after, now, jumps, world)
    await _answer(body, decided, rulings, world, now)
    if unheard:
        await _complain(body, unheard, world)
    if failure := unkept or failure:
        await _complain(body, failure, world)
        raise failure
    return look_again(release, after, decision, situation.finding, planned, now, shortest=world.scrape_interval)


async def _refuse(
    invalid: InvalidSpec,
    body: dict[str, Any],
    before: ReleaseStatus,
    decided: Sequence[dict[str, Any]],
    world: World,
    now: datetime,
    jumps: tuple[Jump, ...],
    unheard: AdapterError | None,
) -> timedelta | None:
    """Record that the spec cannot be carried out; users stay, or come back, to where status has promised them."""
    asked, rulings = take_up_rollbacks(_asked(decided), before, invalid, now)
    decision = refuse(invalid, asked)
    children = await _children(invalid, before, world)
    after = transition_invalid(asked, invalid, decision, children.workloads if children else {}, now)
    after = recorded(before, after, now, missing=_missing(body, before, now, jumps, world))
    world.log.decided(invalid, before.stage, decision)
    body = await _record(body, before, after, world)
    failure = await _reroute(invalid, children.route if children else None, after, world)
    await _say(body, after, now, jumps, world)
    await _answer(body, decided, rulings, world, now)
    if unheard:
        await _complain(body, unheard, world)
    if failure:
        await _complain(body, failure, world)
        raise failure
    return None


# Observe.


async def _children(invalid: InvalidSpec, status: ReleaseStatus, world: World) -> Children | None:
    """Read what belongs to an invalid release that has pods; a name that is not valid cannot even be asked for."""
    if status.stable is None and status.candidate is None:
        return None
    return _told(await world.kube.read_children(invalid.namespace, invalid.name, invalid.uid, ()), status)


def _told(children: Children, status: ReleaseStatus) -> Children:
    """
    Return the *children* if they tell whether users are where *status* promises.

    Raises:
        UnknownKind: They do not: an API server that is starting does not know HTTPRoutes yet. Where none has been
            promised to anybody, there is none, and what is said about the Gateway tells why.
    """
    if children.unknown_route and traffic_of(status):
        raise children.unknown_route
    return children


async def _contract(body: dict[str, Any], world: World) -> dict[str, Any] | None:
    """Read the contract that the release refers to; None when it refers to none, or when that does not exist."""
    name = named_contract(body)
    return await world.kube.get_contract(body["metadata"]["namespace"], name) if name else None


async def _decided(body: dict[str, Any], world: World) -> tuple[list[dict[str, Any]], AdapterError | None]:
    """Read what people decided; when that fails, they wait for the next tick, and nothing else waits for them."""
    meta = body["metadata"]
    try:
        return await world.kube.open_decisions(meta["namespace"], meta["name"]), None
    except AdapterError as error:
        return [], error


def _asked(decided: Iterable[dict[str, Any]]) -> tuple[Asked, ...]:
    return tuple(parse_decision(body) for body in decided)


async def _observe(
    release: Release, status: ReleaseStatus, decided: Iterable[dict[str, Any]], world: World, moment: datetime
) -> tuple[Observation, Manifest | None]:
    """Read everything; also return the live route, whoever owns it."""
    parts = (status.stable, status.serving, status.candidate)
    names = {release.desired.name, *(part.revision for part in parts if part)}
    children = _told(await world.kube.read_children(release.namespace, release.name, release.uid, names), status)
    traffic = traffic_of(status)
    moves = _moves(release, traffic, children.route)
    problem = await _gateway_problem(release, status, world, moves=moves)
    stays = children.route if moves and problem and problem.reason == Reason.GATEWAY_NOT_FOUND else None
    asked = _asked(decided)
    seen = Observation(
        workloads=children.workloads,
        revisions=children.revisions,
        services=children.services,
        route=read_route(children.route, _route(release, traffic, stays) if traffic else None, release.name),
        gateway_problem=problem,
        leads_nowhere=stays is not None,
        conflict=children.conflict,
        leftover=children.leftover,
        evidence=await _evidence(release, status, asked, world, moment),
        history=await _history(release, status, children, world, moment),
        asked=asked,
        dossiers=children.dossiers,
    )
    return seen, children.route


def _moves(release: Release, traffic: Traffic | None, live: Manifest | None) -> bool:
    """Return whether the spec asks for other Gateways than the live route has."""
    return live is not None and traffic is not None and not same_parents(live, route_manifest(release, traffic))


def _route(release: Release, traffic: Traffic, stays: Manifest | None) -> Manifest:
    """Return the route for *traffic*; one that *stays* gets the weights alone."""
    return rerouted(stays, release, traffic) if stays else route_manifest(release, traffic)


async def _gateway_problem(
    release: Release, status: ReleaseStatus, world: World, *, moves: bool
) -> GatewayProblem | None:
    """Look at the Gateways before traffic moves, or *moves* to others; else the route's own status tells."""
    trial = on_trial(status)
    if trial and trial.current_stage and not moves:
        return None
    gateways: dict[tuple[str, str], dict[str, Any] | None] = {}
    classes: dict[str, dict[str, Any] | None] = {}
    for parent in release.spec.traffic.gateway_api.parent_refs:
        key = (parent.namespace or release.namespace, parent.name)
        # Nobody has to let us look: then the route's own status tells.
        with suppress(Forbidden):
            gateways[key] = await world.kube.get_gateway(*key)
            class_name = ((gateways[key] or {}).get("spec") or {}).get("gatewayClassName")
            if class_name and class_name not in classes:
                classes[class_name] = await world.kube.get_gateway_class(class_name)
    shadows = any(stage.kind is StageKind.SHADOW for stage in release.spec.plan_stages)
    return gateway_problem(release, gateways, classes, needs_mirror=shadows and status.stable is not None)


async def _evidence(
    release: Release, status: ReleaseStatus, asked: Iterable[Asked], world: World, moment: datetime
) -> Evidence | None:
    trial = on_trial(status)
    if trial is None or trial.current_stage is None or under_another_contract(trial.current_stage, release):
        return None
    hasty = any(isinstance(it.spec, DecisionSpec) and it.spec.decision is Verb.ROLLBACK for it in asked)
    windows = [
        evidence_window(stage, moment, world.scrape_interval, first=stage is trial.stages[0])
        for stage in trial.evidence_stages
    ]
    return await _read(release, windows, status, trial.revision, world, ROLLBACK_LIMIT if hasty else EVIDENCE_LIMIT)


async def _history(
    release: Release, status: ReleaseStatus, children: Children, world: World, moment: datetime
) -> Evidence | None:
    """Read what a forecast is made from, once a rollout; nothing waits for it."""
    window = history_window(release, status, children.workloads, moment)
    if window is None or status.candidate is None:
        return None
    return await _read(release, [window], status, status.candidate.revision, world, HISTORY_LIMIT)


async def _read(
    release: Release,
    windows: Sequence[StageWindow],
    status: ReleaseStatus,
    candidate: str,
    world: World,
    limit: timedelta,
) -> Evidence:
    baseline = status.stable.revision if status.stable else None
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await world.metrics.read(release, windows, baseline, candidate)
    except TimeoutError:
        return MetricsUnavailable(f"Prometheus has not answered within {limit.total_seconds():g} s")


# Record, apply, announce.


async def _record(body: dict[str, Any], before: ReleaseStatus, after: ReleaseStatus, world: World) -> dict[str, Any]:
    """Write *after* unless it says nothing new; a conflict ends the tick, and the next one decides anew."""
    if after == before:
        return body
    return await world.kube.write_status(body, after.as_json())


def _waits_for(unkept: AdapterError, status: ReleaseStatus) -> Hold:
    """Return what is done instead of leaving a gate that could not be kept: nothing, and people are told why."""
    message = f"stage {status.stage} is not left: its evidence cannot be kept: {unkept}"
    return Hold(Reason.EVIDENCE_NOT_KEPT, message, stalled=_said_no(unkept))


def _returns_users(before: ReleaseStatus, decision: Decision) -> bool:
    """Return whether the route is to be written first and alone: users are taken off a candidate."""
    leaves = isinstance(decision, RollBack | Cancel | Start | Reshare)
    return leaves and before.candidate is not None and bool(before.candidate.stages)


async def _apply(
    release: Release, planned: Plan, world: World, steer: Awaitable[AdapterError | None], *, route_only: bool
) -> AdapterError | None:
    """
    Make the cluster what it should be; return the first failure, which does not keep the rest from being tried.

    The route comes first, as *steer* writes it: when users have to leave a candidate, nothing may stand before it. When
    its weight rises, its pods have been there since an earlier tick, or the decision would not have been taken.
    """
    tried = [await steer]
    if not route_only:
        tried += [await _tried(world.kube.apply(manifest)) for manifest in planned.manifests]
    failures = [failure for failure in tried if failure]
    if failures or route_only:
        return failures[0] if failures else None
    for revision in planned.prune:
        for manifest in _objects_of(release, revision):
            failure = await _tried(world.kube.delete(manifest))
            # What somebody else has made his own is no business of ours any more; what is ours still is tried again.
            foreign = isinstance(failure, Conflict) and not isinstance(failure, Overtaken)
            failures += [failure] if failure and not foreign else []
    return failures[0] if failures else None


async def _steer(
    release: Release, status: ReleaseStatus, seen: Observation, live: Manifest | None, world: World
) -> AdapterError | None:
    """
    Write the route; return what went wrong, if anything did.

    Where the spec asks for what the API server refuses (a path without a slash, a listener named twice), the *live*
    route gets the weights alone: users leave a candidate all the same. It is given no more of them by such a route.
    """
    traffic = traffic_of(status)
    if traffic is None:
        return None
    wanted = _route(release, traffic, live if seen.leads_nowhere else None)
    failure = await _tried(world.kube.apply(wanted))
    if live and isinstance(failure, Refused) and not _gives_users(status, seen):
        weighted = rerouted(live, release, traffic)
        if not same_route(weighted, wanted):
            await _tried(world.kube.apply(weighted))
    return failure


def _gives_users(status: ReleaseStatus, seen: Observation) -> bool:
    """Return whether the candidate is to have more users than the live route gives it."""
    trial = on_trial(status)
    return trial is not None and trial.weight > (seen.route.weights.get(trial.revision, 0) if seen.route else 0)


async def _file(
    release: Release, after: ReleaseStatus, left: Dossier | None, seen: Observation, world: World
) -> AdapterError | None:
    """Keep the dossier of a rollback, now that users are back; drop those that nothing refers to any more."""
    it = left or lost(release, after, seen.dossiers)
    writes = [world.kube.keep(it.manifest)] if it else []
    unnamed = sorted(seen.dossiers.keys() - named(after))
    writes += [world.kube.drop(release.namespace, name, seen.dossiers[name]) for name in unnamed]
    failures = [failure for write in writes if (failure := await _tried(write))]
    return failures[0] if failures else None


async def _reroute(
    invalid: InvalidSpec, live: Manifest | None, status: ReleaseStatus, world: World
) -> AdapterError | None:
    """
    Give the live route the weights that were recorded, for instance those of a rollback whose write failed.

    Where requests come from is not in status, and the spec cannot tell: a route that is gone waits for a valid one.
    """
    traffic = traffic_of(status)
    if live is None or traffic is None:
        return None
    wanted = rerouted(live, invalid, traffic)
    route = read_route(live, wanted, invalid.name)
    return None if route and route.in_sync else await _tried(world.kube.apply(wanted))


async def _tried(write: Awaitable[object]) -> AdapterError | None:
    try:
        await write
    except AdapterError as error:
        return error
    return None


def _objects_of(release: Release, revision: str) -> list[Manifest]:
    metadata = {
        "name": object_name(release.name, revision),
        "namespace": release.namespace,
        "ownerReferences": [owner_reference(release)],
    }
    kinds = [("apps/v1", "Deployment"), ("v1", "Service"), ("apps/v1", "ControllerRevision")]
    return [{"apiVersion": version, "kind": kind, "metadata": metadata} for version, kind in kinds]


def _missing(
    body: dict[str, Any], status: ReleaseStatus, now: datetime, jumps: tuple[Jump, ...], world: World
) -> list[Announcement]:
    """Return what was to be told of the last transition, and may not have been: by an operator that ended since."""
    return [it for it in to_tell(status, now, jumps) if not world.kube.emitted(body, it)]


async def _say(
    body: dict[str, Any], status: ReleaseStatus, now: datetime, jumps: tuple[Jump, ...], world: World
) -> None:
    """Tell what *status* wants to be told; each time, for only what is missing is written."""
    for announcement in to_tell(status, now, jumps):
        await world.kube.emit(body, announcement)


async def _answer(
    body: dict[str, Any],
    decided: Iterable[dict[str, Any]],
    rulings: Iterable[Ruling],
    world: World,
    now: datetime,
) -> None:
    """Write into each decision what became of it; the release tells of those that were not applied."""
    bodies = {one["metadata"]["uid"]: one for one in decided}
    for ruling in rulings:
        if ruling.outcome is not DecisionOutcome.APPLIED:
            message = f"ReleaseDecision {ruling.asked.name}: {ruling.message}"
            await world.kube.emit(body, Announcement("Warning", f"Decision{ruling.outcome}", message))
        await world.kube.write_outcome(bodies[ruling.asked.uid], _outcome(ruling, now))


async def _answer_orphans(namespace: str, name: str, world: World, now: datetime) -> None:
    """Answer the decisions about a release that does not exist."""
    decided = await world.kube.open_decisions(namespace, name)
    for body, ruling in zip(decided, orphaned(_asked(decided), namespace, name), strict=True):
        await world.kube.write_outcome(body, _outcome(ruling, now))


def _outcome(ruling: Ruling, now: datetime) -> dict[str, Any]:
    return DecisionStatus(outcome=ruling.outcome, message=ruling.message, time=now).as_json()


async def _complain(body: dict[str, Any], failure: AdapterError, world: World) -> None:
    """Tell people what the API server refuses; what it could not be asked is a matter of the next tick."""
    if _said_no(failure):
        await world.kube.emit(body, Announcement("Warning", "NotApplied", str(failure)))


def _said_no(failure: AdapterError) -> bool:
    """Return whether the API server has understood and refused: trying again does not help by itself."""
    return isinstance(failure, Refused | Conflict) and not isinstance(failure, Overtaken)
