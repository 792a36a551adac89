"""
What people decide: the spec and the status of a ReleaseDecision.

A decision is created once and never changed: who asked for what, about which revision, and why. Status says what became
of it. Together they are the audit log.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from modelrelease.api.base import SpecModel, StatusModel, Time
from modelrelease.api.constraints import Spelling
from modelrelease.api.contract import Name
from modelrelease.api.release import ObjectName
from modelrelease.api.revision import HASH_LENGTH

RevisionName = Annotated[
    str,
    StringConstraints(max_length=63),
    Spelling(
        pattern=f"[0-9a-f]{{{HASH_LENGTH}}}",
        wanted="a revision: write it as status.candidate.revision shows it, such as 7f3c9b1",
    ),
]


class Verb(StrEnum):
    """What a person can decide."""

    APPROVE = "Approve"
    ROLLBACK = "Rollback"
    RETRY = "Retry"
    PROMOTE = "Promote"


class DecisionOutcome(StrEnum):
    """What became of a decision."""

    APPLIED = "Applied"
    STALE = "Stale"
    REFUSED = "Refused"


class DecisionSpec(SpecModel):
    """The whole spec of a ReleaseDecision; immutable."""

    release: ObjectName = Field(description="The ModelRelease, in the namespace of the decision.")
    revision: RevisionName = Field(
        description="The revision that it is about: the candidate, or for Retry the rejected one. Any other is Stale."
    )
    decision: Verb = Field(
        description="Approve: the gate of a stage may be left. Rollback: all traffic to stable. Retry: a rejected "
        "revision is tried again. Promote: skip what is left to prove, to full, and from full to the release."
    )
    stage: Name | None = Field(
        default=None, description="For Approve: the stage whose gate may be left, the open one or one ahead."
    )
    approved_by: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="Who decides: must be the name of the user who creates the object."
    )
    reason: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Why, for the history."
    )


class DecisionStatus(StatusModel):
    """What became of a ReleaseDecision."""

    outcome: DecisionOutcome | None = Field(
        default=None,
        description="Applied: it was taken up, once. Stale: what it was about is past. Refused: it cannot be done.",
    )
    message: str = Field(default="", description="Why, for people.")
    time: Time | None = Field(default=None, description="When that was found.")

    def as_json(self) -> dict[str, Any]:
        """Return the status as the API server stores it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
