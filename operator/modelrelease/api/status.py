"""
What users read: the status of a ModelRelease. Small and quiet.

Status is also the operator's only memory. `stage` and the weights in `stable` and `candidate` are commitments: traffic
is a function of them, never the other way round. Numbers of the evidence are strings: the Kubernetes API conventions
ask for no floats.
"""

from datetime import datetime
from itertools import takewhile
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from modelrelease.api.base import BY_TYPE, MicroTime, StatusModel, Time
from modelrelease.api.decision import Verb
from modelrelease.api.reasons import Outcome

# Words of `status.stage` beside the names of spec.stages; those are lower-case, so they cannot collide.
PENDING: Final = "Pending"
COMPLETED: Final = "Completed"
ROLLED_BACK: Final = "RolledBack"

WORST_SLICES_KEPT: Final = 10


class Condition(StatusModel):
    """A standard Kubernetes condition."""

    type: Annotated[str, StringConstraints(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    message: Annotated[str, StringConstraints(max_length=32768)]
    observed_generation: int
    last_transition_time: Time


class LineageStatus(StatusModel):
    """Where a model comes from, as the spec said."""

    code: str | None = None
    data: str | None = None
    run: str | None = None


class StageRecord(StatusModel):
    """A stage that the candidate went through, or is in: the window of its evidence."""

    name: str
    kind: Literal["shadow", "canary", "full"]
    percent: int | None = Field(
        default=None, description="Share of user requests, or of their copies, that it gets there."
    )
    raise_to: int | None = Field(
        default=None,
        description="Share of user requests that the spec has come to ask for in it. It gets them, and begins anew, "
        "when its gate has passed.",
    )
    contract: str | None = Field(
        default=None,
        description="Digest of the contract that it is judged by; evidence counts under one contract only.",
    )
    routed: bool | None = Field(
        default=None,
        description="Whether the route was found as the stage asks; until then its evidence and its bake do not begin.",
    )
    written: bool | None = Field(
        default=None,
        description="Whether the route was seen written after a shadow, before a Gateway answered: breaches count now.",
    )
    start_time: Time = Field(description="When it was entered; from when its route is in place on, when that was.")
    end_time: Time | None = None
    evidence: str | None = Field(default=None, description="ConfigMap that holds what its gate was left on.")
    paused_since: Time | None = Field(
        default=None,
        description="Since when nothing is decided in it, while the release is suspended or its spec cannot be carried "
        "out: no time of its deadline.",
    )
    deadline_since: Time | None = Field(
        default=None,
        description="From when on its deadline counts, where that is not startTime: later by the time of its pauses, "
        "and by that in which Prometheus was silent.",
    )

    @property
    def counts_from(self) -> datetime:
        """From when on its deadline counts; a pause that is under way is still to be left out."""
        return max(self.start_time, self.deadline_since or self.start_time)


class RevisionStatus(StatusModel):
    """The part that a revision plays."""

    revision: str = Field(description="Hash of the (model, server) pair.")
    version: str
    weight: int = Field(description="Share of user requests, in percent.")
    mirror_percent: int = Field(default=0, description="Share of user requests that is copied to it, in percent.")
    since: Time = Field(description="When it took this part.")


class StableStatus(RevisionStatus):
    """The revision that users depend on."""


class CandidateStatus(RevisionStatus):
    """The revision on trial."""

    lineage: LineageStatus | None = Field(default=None, description="Where the model comes from, as the spec says.")
    replicas: int = Field(default=1, description="Pods that it is to have now.")
    unavailable_since: Time | None = Field(default=None, description="Since when its pods are not available.")
    silent_since: Time | None = Field(
        default=None,
        description="Since when it has no pod left to answer the users that it is given, while the stable revision "
        "has.",
    )
    stages: list[StageRecord] = Field(default_factory=list, description="Stages in the order they were entered.")

    @property
    def evidence_stages(self) -> list[StageRecord]:
        """The stages whose evidence counts for the open one: those under its contract, back to the last edit of it."""
        under = self.stages[-1].contract if self.stages else None
        counted = list(takewhile(lambda stage: stage.contract == under, reversed(self.stages)))
        return counted[::-1]

    @property
    def current_stage(self) -> StageRecord | None:
        """The stage that is open now."""
        return self.stages[-1] if self.stages and self.stages[-1].end_time is None else None


class ArmNumbers(StatusModel):
    """The counts of one arm."""

    events: str
    of: str


class SliceStatus(StatusModel):
    """What one clause found in one slice."""

    slice: str = Field(description='"" is all traffic, else such as country=FR.')
    verdict: Outcome
    reason: str
    baseline: str | None = Field(default=None, description="Value in the baseline arm.")
    candidate: str | None = Field(default=None, description="Value in the candidate arm.")
    change: str | None = Field(default=None, description="Change against the baseline, such as +41%.")
    low: str | None = Field(default=None, description="Lower end of the interval of the change.")
    high: str | None = Field(default=None, description="Upper end of the interval of the change.")
    limit: str | None = Field(default=None, description="The clause's margin.")
    log_e: str | None = Field(default=None, description="Natural logarithm of the evidence that the clause is broken.")
    baseline_counts: ArmNumbers | None = None
    candidate_counts: ArmNumbers | None = None


class ClauseStatus(StatusModel):
    """What one clause found."""

    name: str
    metric: str
    verdict: Outcome
    reason: str
    message: str = ""
    engine: str = Field(default="", description="Which test judged it; docs/verdicts.md tells them.")
    level: str | None = Field(default=None, description="Its share of the error budget.")
    design_effect: str | None = Field(default=None, description="How many requests count as one: they come in bursts.")
    overall: SliceStatus | None = None
    worst: list[SliceStatus] = Field(default_factory=list, description="The worst slices, at most ten.")
    slices_judged: int = 0
    slices_inconclusive: int = 0


class GateStatus(StatusModel):
    """What must hold to leave the stage, and whether it does."""

    stage: str
    verdict: Outcome
    reason: str
    message: str = ""
    worst: str = Field(default="", description="The worst slice in one line.")
    contract: str | None = Field(default=None, description="Digest of the contract that it was judged by.")
    eta: str | None = Field(
        default=None,
        description="How much longer an undecided gate takes at the present rates; absent when waiting is no help.",
    )
    evaluated_at: Time
    clauses: list[ClauseStatus] = Field(default_factory=list)


class StageForecast(StatusModel):
    """What a stage could prove of a candidate that changes nothing, by the baseline's own rates and traffic."""

    stage: str
    in_time: bool = Field(description="Whether its gate can pass before the stage's deadline.")
    passes_after: str | None = Field(
        default=None, description="How long its slowest clause and slice need, such as 12 min; absent for never."
    )
    slowest: str = Field(description="Which they are, such as clause few-errors, country=MT.")
    deadline: str = Field(description="The stage's deadline.")
    message: str = ""


class Rejected(StatusModel):
    """A revision that was rolled back; it is never retried by itself."""

    revision: str
    version: str
    stage: str
    reason: str
    message: str
    clause: str | None = None
    slice: str | None = None
    time: Time


class DecisionRecord(StatusModel):
    """A ReleaseDecision that was taken up."""

    name: str
    uid: str = Field(description="By which it is known, so that it is applied once.")
    decision: Verb
    revision: str
    stage: str = Field(description="Where the candidate was; of an Approve, the stage that it approves.")
    approved_by: str
    reason: str = ""
    despite: str | None = Field(default=None, description="The hold that an Approve overrules.")
    overruled: list[str] | None = Field(
        default=None,
        description="Of an Approve in spite of BreachHeld: the clauses that were broken when it was taken up. "
        "Another one that breaks holds anew.",
    )
    ahead: str | None = Field(
        default=None,
        description="Of an Approve given before its stage began: digest of the contract that it was given under. "
        "Once there was another one, it counts no more.",
    )
    void_since: Time | None = Field(
        default=None,
        description="Of an Approve: since when it counts no more, because the contract was edited, or the share of the "
        "open stage.",
    )
    time: Time = Field(description="When it was taken up.")

    def approves_under(self, contract: str | None) -> bool:
        """Return whether it is an approval that counts when its stage is judged by *contract*, given as a digest."""
        asked_for = self.ahead is None or self.ahead == contract
        return self.decision is Verb.APPROVE and self.void_since is None and asked_for


class Suggestion(StatusModel):
    """What the operator would do if it were asked to."""

    stage: str = Field(description="The stage whose gate passes.")
    action: Literal["Advance", "Complete"]
    to: str | None = Field(default=None, description="The stage that comes next.")
    message: str
    since: Time


class Followed(StatusModel):
    """How the operator's suggestions in a stage were answered, over all rollouts."""

    stage: str
    in_a_row: int = Field(default=0, description="Followed since the last time that one was overruled.")
    followed: int = 0
    overruled: int = 0
    automation_earned: bool = Field(default=False, description="Whether in_a_row reached approval.automateAfter.")


class Announced(StatusModel):
    """What is told of a transition as an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    time: MicroTime = Field(
        description="When the transition was recorded; several things told of one are microseconds apart, in order."
    )


class HistoryEntry(StatusModel):
    """A rollout that ended."""

    revision: str
    version: str
    outcome: Literal["Completed", "RolledBack", "Cancelled", "Superseded"]
    reason: str
    message: str = ""
    lineage: LineageStatus | None = Field(default=None, description="Where the model came from, as the spec said.")
    decisions: list[DecisionRecord] = Field(default_factory=list, description="What people decided, in order.")
    evidence: list[str] = Field(
        default_factory=list, description="ConfigMaps that hold what each of its gates was left on."
    )
    start_time: Time
    end_time: Time


class ReleaseStatus(StatusModel):
    """The whole status of a ModelRelease."""

    observed_generation: int = -1
    stage: str = Field(default="", description="A name from spec.stages, or Pending, Completed, RolledBack.")
    stage_start_time: Time | None = None
    stable: StableStatus | None = None
    serving: RevisionStatus | None = Field(
        default=None,
        description="The revision that users stay on while the candidate, which replaces a first release that never "
        "became stable, gets ready. It is no baseline, and nobody returns to it.",
    )
    candidate: CandidateStatus | None = None
    gate: GateStatus | None = None
    forecast: list[StageForecast] = Field(
        default_factory=list,
        max_length=16,
        description="What each stage could prove, as of when the candidate started; empty when nothing was known.",
    )
    suggestion: Suggestion | None = Field(default=None, description="With mode Suggest: what awaits an Approve.")
    followed: list[Followed] = Field(
        default_factory=list, max_length=16, description="How suggestions were answered, by stage."
    )
    decisions: list[DecisionRecord] = Field(
        default_factory=list, max_length=20, description="What people decided since the last rollout ended."
    )
    metrics_missing_since: Time | None = Field(default=None, description="Since when Prometheus cannot be read.")
    rejected: list[Rejected] = Field(default_factory=list, max_length=10)
    history: list[HistoryEntry] = Field(default_factory=list, max_length=50)
    announcements: list[Announced] = Field(
        default_factory=list,
        max_length=32,
        description="Events of the last transition. They are recorded with it, so that one is never lost: an operator "
        "that starts writes those that are missing.",
    )
    conditions: list[Condition] = Field(default_factory=list, json_schema_extra=BY_TYPE)

    @property
    def users(self) -> tuple[RevisionStatus, ...]:
        """The revisions that users are given to, the stable one first."""
        return tuple(part for part in (self.stable, self.serving, self.candidate) if part and part.weight)

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if it is present."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def as_json(self) -> dict[str, Any]:
        """Return the status as the API server stores it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
