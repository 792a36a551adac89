"""
A ModelRelease as it was read, and the few things that every view asks of it. Pure: the time is passed in.

A newer operator may know fields that this program does not. So what the spec says is None when it cannot be read here,
and every view has something to say from the status alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from modelrelease.api.base import GROUP
from modelrelease.api.contract import Contract
from modelrelease.api.parse import Release, parse, spec_of
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ReleaseSpec, Stage, StageKind
from modelrelease.api.revision import Revision
from modelrelease.api.rules import problems_of
from modelrelease.api.status import ROLLED_BACK, CandidateStatus, ReleaseStatus, RevisionStatus, StageRecord
from modelrelease.core.counts import printable
from modelrelease.core.decide import NO_PODS_GRACE, needs_approval, stopped_since
from modelrelease.core.report import span

SUSPENDED_BY: Final = f"{GROUP}/suspended-by"
SUSPEND_REASON: Final = f"{GROUP}/suspend-reason"


@dataclass(frozen=True, slots=True)
class Sight:
    """
    A ModelRelease at one moment.

    Attributes:
        namespace, name: The object.
        generation: Generation of the spec.
        created: When it was created.
        suspended: Whether spec.suspend is true.
        annotations: The object's annotations, without notes about a suspension that is over.
        status: The status.
        spec: What is ordered; None when it cannot be carried out, or is newer than this program.
        contract: What must hold; None when it is not known here.
        now: When it was read.
        raw: The object itself.
    """

    namespace: str
    name: str
    generation: int
    created: datetime | None
    suspended: bool
    annotations: Mapping[str, str]
    status: ReleaseStatus
    spec: ReleaseSpec | None
    contract: Contract | None
    now: datetime
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any], now: datetime, named: Mapping[str, Any] | None = None) -> "Sight":
        """Return what *body* shows at *now*; *named* is the ModelContract that it refers to, if that was read."""
        meta, spec = body["metadata"], body.get("spec") or {}
        release = parse(body, named)
        return cls(
            namespace=meta.get("namespace", ""),
            name=meta["name"],
            generation=int(meta.get("generation", 0)),
            created=datetime.fromisoformat(meta["creationTimestamp"]) if "creationTimestamp" in meta else None,
            suspended=spec.get("suspend") is True,
            annotations=_printable(_annotations(meta)),
            status=ReleaseStatus.model_validate(_printable(body.get("status") or {})),
            spec=_spec(spec),
            contract=release.contract if isinstance(release, Release) else None,
            now=now,
            raw=body,
        )

    @property
    def desired(self) -> Revision | None:
        """The revision that the spec asks for; None when the spec cannot be read."""
        return Revision.of(self.spec) if self.spec else None

    @property
    def unseen(self) -> bool:
        """Whether the operator has never looked at it."""
        return not self.status.conditions

    @property
    def outdated(self) -> bool:
        """Whether the operator has not looked at the latest edit yet."""
        return not self.unseen and self.status.observed_generation != self.generation

    @property
    def ready(self) -> bool:
        """Whether what was ordered is the release."""
        return self.state("Ready") == "True"

    @property
    def reason(self) -> str:
        """Reason of the condition Ready."""
        ready = self.status.condition("Ready")
        return ready.reason if ready else ""

    @property
    def message(self) -> str:
        """Message of the condition Ready."""
        ready = self.status.condition("Ready")
        return ready.message if ready else ""

    def state(self, type_: str) -> str:
        """Return the status of a condition; ``""`` when it is absent."""
        condition = self.status.condition(type_)
        return condition.status if condition else ""

    @property
    def stalled(self) -> bool:
        """Whether it will not go on by itself."""
        return self.state("Stalled") == "True"

    @property
    def unserved(self) -> tuple[str, timedelta] | None:
        """What is missing where users are sent, and for how long; None when every part of them is served."""
        available = self.status.condition("Available")
        if available is None or available.status != "False" or not users(self.status):
            return None
        return available.message, max(self.now - available.last_transition_time, timedelta(0))

    @property
    def alarming(self) -> bool:
        """Whether users are sent where no pod answers for longer than a restart takes."""
        return self.unserved is not None and self.unserved[1] > NO_PODS_GRACE

    @property
    def trial(self) -> CandidateStatus | None:
        """The candidate on trial; a rejected one is not."""
        return None if self.status.stage == ROLLED_BACK else self.status.candidate

    @property
    def record(self) -> StageRecord | None:
        """The open stage, as recorded."""
        return self.trial.current_stage if self.trial else None

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages of this rollout; none when the spec cannot be read."""
        if self.spec is None:
            return ()
        stages = self.spec.plan_stages
        first = self.status.stable is None
        return tuple(stage for stage in stages if stage.kind is StageKind.FULL) if first else stages

    @property
    def stage(self) -> Stage | None:
        """The open stage, as planned."""
        return next((stage for stage in self.plan if self.record and stage.name == self.record.name), None)

    @property
    def next_stage(self) -> Stage | None:
        """The stage after the open one; None when there is none, or the spec cannot be read."""
        if self.trial is None or not self.plan:
            return None
        if self.stage is None:
            return self.plan[0]
        if self.stage.weight > self.trial.weight:
            return self.stage  # once more, with the share that the spec has come to ask for
        following = self.plan[self.plan.index(self.stage) + 1 :]
        return following[0] if following else None

    @property
    def unapproved(self) -> bool:
        """Whether the open stage needs an approval that nobody has given yet."""
        record, stage = self.record, self.stage
        if self.spec is None or record is None or stage is None or self.status.stable is None:
            return False
        given = any(it.stage == record.name and it.approves_under(record.contract) for it in self.status.decisions)
        return needs_approval(self.spec, stage) and not given

    @property
    def bake_left(self) -> timedelta:
        """How long the open stage has to bake yet."""
        if self.stage is None or self.record is None:
            return timedelta(0)
        return max(self.record.start_time + self.stage.bake_time - self.now, timedelta(0))

    @property
    def deadline(self) -> datetime | None:
        """When the open stage's deadline is, if from now on nothing keeps it from coming nearer."""
        if self.stage is None or self.record is None:
            return None
        begun = self.now if self.record.routed is False else self.record.counts_from
        stopped = stopped_since(self.status, self.record)
        return begun + self.stage.deadline_time + (self.now - max(stopped, begun) if stopped else timedelta(0))

    def ago(self, moment: datetime) -> str:
        """Return how long ago *moment* was, such as ``4 min ago``."""
        return f"{span(max(self.now - moment, timedelta(0)))} ago"

    def within(self, moment: datetime) -> str:
        """Return when *moment* will be, such as ``12:10:00 UTC (in 6 min)``; with the date unless it is today."""
        form = "%H:%M:%S UTC" if moment.date() == self.now.date() else "%Y-%m-%d %H:%M UTC"
        left = moment - self.now
        return f"{moment:{form}} ({f'in {span(left)}' if left > timedelta(0) else self.ago(moment)})"


def _annotations(meta: Mapping[str, Any]) -> Mapping[str, str]:
    """
    Return the annotations, without who suspended it and why when somebody else has set spec.suspend since.

    Whoever edits the field by other means, in Git or with kubectl, leaves the notes of the time before: they would
    blame somebody for what another has done. Which write was last, the API server remembers for each field.
    """
    found: Mapping[str, str] = meta.get("annotations") or {}
    noted = _written(meta, "f:metadata", "f:annotations", f"f:{SUSPENDED_BY}")
    suspended = _written(meta, "f:spec", "f:suspend")
    if noted is None or suspended is None or suspended <= noted:
        return found
    return {name: text for name, text in found.items() if name not in {SUSPENDED_BY, SUSPEND_REASON}}


def _written(meta: Mapping[str, Any], *path: str) -> str | None:
    """Return when whoever set a field last wrote; None when nobody knows."""
    times = []
    for entry in meta.get("managedFields") or ():
        fields = entry.get("fieldsV1")
        for step in path:
            fields = (fields or {}).get(step)
        if fields is not None:
            times.append(entry.get("time") or "")
    return max(times, default=None)


def _printable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return *value* with texts that cannot command a terminal: others than who looks have written them."""
    match value:
        case str():
            return "\n".join(printable(line) for line in value.split("\n"))
        case Mapping():
            return {key: _printable(inner) for key, inner in value.items()}
        case list():
            return [_printable(inner) for inner in value]
        case _:
            return value


def _spec(given: Mapping[str, Any]) -> ReleaseSpec | None:
    try:
        spec = spec_of(given)
    except ValidationError:
        return None
    return None if problems_of(spec) else spec


def users(status: ReleaseStatus) -> str:
    """Return who serves users, such as ``version 1 (90 %) and version 2 (10 %)``; "" for nobody."""
    return " and ".join(f"{called(status, part)} ({part.weight} %)" for part in status.users)


def called(status: ReleaseStatus, part: RevisionStatus) -> str:
    """Return how people call a revision: by its version, unless both have the same, such as two builds of one model."""
    stable, candidate = status.stable or status.serving, status.candidate
    same = stable and candidate and stable.version == candidate.version and stable.revision != candidate.revision
    return f"version {part.version}, revision {part.revision}" if same else f"version {part.version}"


def share(stage: Stage) -> str:
    """Return what users see in a stage, such as ``10 % of requests``."""
    match stage.kind:
        case StageKind.SHADOW:
            return f"copies of {stage.mirror_percent} % of requests, no user sees it"
        case StageKind.CANARY:
            return f"{stage.weight} % of requests"
        case StageKind.FULL:
            return f"all requests, watched for {span(stage.bake_time)}"


def waits_for_a_person(sight: Sight) -> bool:
    """Return whether a person has to decide before anything moves."""
    return sight.state("AwaitingApproval") == "True" or sight.reason == Reason.BREACH_HELD
