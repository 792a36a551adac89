"""
Everything that was read this tick, absences included.

A thing that is not there is a value, and so is a thing that could not be read: neither is ever a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelrelease.api.parse import Asked
from modelrelease.api.revision import Revision
from modelrelease.core.counts import Evidence


@dataclass(frozen=True, slots=True)
class Workload:
    """
    The Deployment of one revision.

    Attributes:
        revision: Name of the revision.
        replicas: Pods asked for by the live object.
        available: Pods that are ready and surely run the current template.
        serving: Pods that are ready, whatever they run: during a restart of the Deployment they answer users.
        message: What keeps it from being available, in the words of its conditions; "" if nothing is known.
    """

    revision: str
    replicas: int
    available: int
    serving: int
    message: str


@dataclass(frozen=True, slots=True)
class Route:
    """
    What the live HTTPRoute says.

    Attributes:
        weights: Share of requests by revision, in percent of all weights; revisions of this release only.
        mirror_percent: Copied share by revision, in percent.
        in_sync: Whether the live rules are exactly those that status asks for.
        accepted: True or False as every parent Gateway says; None while one has not said anything.
        message: Why it is not accepted, or what differs.
    """

    weights: Mapping[str, float]
    mirror_percent: Mapping[str, float]
    in_sync: bool
    accepted: bool | None
    message: str


@dataclass(frozen=True, slots=True)
class GatewayProblem:
    """Why the traffic that the spec asks for cannot be had: which Gateway, and what it lacks."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Observation:
    """
    Everything read this tick.

    Attributes:
        workloads: Live Deployments by revision.
        revisions: Stored content by revision name.
        services: Names of the revisions whose Service exists.
        route: The live route; None when there is none.
        gateway_problem: What is wrong with a Gateway that the spec names; None when all is well or unknown.
        leads_nowhere: Whether the spec would move the live route to a Gateway that does not exist: it stays where it
            is, with the weights of status.
        conflict: An object of ours-to-be that somebody else owns, as ``Kind name``; None when there is none.
        leftover: The same of a release of this name that was deleted: it is about to be collected.
        evidence: Counts by stage; None when the tick did not need any.
        history: Counts of the baseline before the candidate gets any requests; None when the tick did not need any.
        asked: What people decided and nobody has answered yet.
        dossiers: Uids of the dossiers that are kept, by name.
    """

    workloads: Mapping[str, Workload]
    revisions: Mapping[str, Revision]
    services: frozenset[str]
    route: Route | None
    gateway_problem: GatewayProblem | None
    conflict: str | None
    evidence: Evidence | None
    history: Evidence | None = None
    asked: tuple[Asked, ...] = ()
    dossiers: Mapping[str, str] = field(default_factory=dict)
    leads_nowhere: bool = False
    leftover: str | None = None
