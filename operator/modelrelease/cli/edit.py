"""
What an edit of a release would start. Pure.

The operator decides by revisions: the one that the spec asks for, against the stable one, the one on trial and the
rejected ones. So does this, in the order of its decision table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelrelease.api.contract import Contract
from modelrelease.api.release import ReleaseSpec, Stage, StageKind
from modelrelease.api.revision import Revision
from modelrelease.api.status import ROLLED_BACK, CandidateStatus
from modelrelease.cli.sight import Sight, share


class Effect(StrEnum):
    """What an edit starts."""

    NOTHING = "nothing"
    """The object is as the file says."""
    IN_PLACE = "in place"
    """It changes how the release is run; no rollout."""
    CREATED = "first release"
    """The object is new: straight to full, there is nothing to compare with."""
    ROLLOUT = "new revision"
    """A rollout of another revision."""
    RESTARTED = "restart"
    """The rollout under way begins anew, or its evidence does."""
    CANCELLED = "cancel"
    """The rollout under way ends; users are on the stable revision."""
    REJECTED = "rejected"
    """It asks for a revision that was rolled back; that is not retried by itself."""
    REFUSED = "refused"
    """The operator, or the API server before it, does not carry it out."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs; None is absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Edit:
    """
    What an edit would do.

    Attributes:
        effect: What it starts.
        message: The same in a sentence.
        revision: The revision that it asks for; "" when it is refused.
        changes: The fields of the spec that differ.
    """

    effect: Effect
    message: str
    revision: str
    changes: tuple[Change, ...]


def edit_of(live: Sight | None, wanted: Mapping[str, Any], spec: ReleaseSpec, contract: Contract | None) -> Edit:
    """
    Return what applying *wanted* would do to *live*.

    Args:
        live: The release as it is; None when there is none.
        wanted: The spec as the file has it.
        spec: The same, parsed.
        contract: What would have to hold; None when it is not known here.
    """
    desired = Revision.of(spec)
    changes = tuple(changes_of((live.raw.get("spec") if live else None) or {}, wanted, "spec"))
    effect, message = (
        _effect(live, desired, spec, contract) if changes else (Effect.NOTHING, "the object says the same")
    )
    if spec.suspend and effect is not Effect.NOTHING:
        message += "; but spec.suspend is true: nothing moves until it is resumed"
    return Edit(effect, message, desired.name, changes)


def changes_of(before: Any, after: Any, path: str) -> Iterator[Change]:  # noqa: ANN401 - JSON
    """Yield the fields in which two objects differ, the innermost that do."""
    if before == after:
        return
    match before, after:
        case dict(), dict():
            for key in sorted(before.keys() | after.keys()):
                yield from changes_of(before.get(key), after.get(key), f"{path}.{key}")
        case list(), list() if len(before) == len(after):
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from changes_of(old, new, f"{path}[{index}]")
        case _:
            yield Change(path, before, after)


def _effect(live: Sight | None, desired: Revision, spec: ReleaseSpec, contract: Contract | None) -> tuple[Effect, str]:
    new = f"version {desired.version}, revision {desired.name},"
    if live is None:
        return (
            Effect.CREATED,
            f"{new} is the first: to all users as soon as its pods are available, nothing to compare with",
        )
    status, trial = live.status, live.trial
    stable = status.stable
    if stable and stable.revision == desired.name:
        if trial:
            back = (
                f"all users to version {stable.version}" if trial.weight else f"users stay on version {stable.version}"
            )
            return Effect.CANCELLED, f"the rollout of version {trial.version} ends, without blame; {back}"
        if status.stage == ROLLED_BACK:
            return (
                Effect.IN_PLACE,
                f"no rollout: version {stable.version} is the release, and the release is Ready again",
            )
        return Effect.IN_PLACE, "no rollout: version, port and pod template are those of the release"
    if any(entry.revision == desired.name for entry in status.rejected):
        also = f"; the rollout of version {trial.version} is cancelled" if trial else ""
        return Effect.REJECTED, f"{new} was rolled back before and is not retried by itself{also}"
    if trial and trial.revision == desired.name:
        return _of_the_same_candidate(live, spec, contract)
    return Effect.ROLLOUT, _rollout(live, new, spec)


def _of_the_same_candidate(live: Sight, spec: ReleaseSpec, contract: Contract | None) -> tuple[Effect, str]:
    trial, record, stable = live.trial, live.record, live.status.stable
    assert trial is not None, "the caller has a candidate"
    goes_on = f"the rollout of version {trial.version} goes on"
    if record is None:
        return Effect.IN_PLACE, goes_on
    open_ = next((it for it in spec.plan_stages if (it.name, it.kind) == (record.name, record.kind)), None)
    if open_ is None:
        back = f"; all users go back to version {stable.version} first" if trial.weight and stable else ""
        return Effect.RESTARTED, f"stage {record.name}, which is open, is no longer in the plan: it starts over{back}"
    anew: list[str] = []
    effect = Effect.IN_PLACE
    if contract and record.contract and record.contract != contract.digest:
        anew, effect = ["the contract differs: evidence and bake of the open stage begin anew"], Effect.RESTARTED
    if said := _another_share(trial, open_):
        effect = Effect.RESTARTED if open_.weight <= trial.weight else effect
        anew.append(said)
    return effect, "; ".join([f"{goes_on} in stage {record.name}", *anew, *_without_effect(live, spec, open_)])


def _another_share(trial: CandidateStatus, stage: Stage) -> str:
    """Return what becomes of an edit of the open stage's share; "" for none."""
    if stage.weight > trial.weight:
        return f"it keeps {trial.weight} % until its gate has passed, then begins anew with {stage.weight} %"
    if stage.weight < trial.weight:
        return f"users go from {trial.weight} % to {stage.weight} % at once, and the stage begins anew"
    if stage.mirror_percent != trial.mirror_percent:
        return f"copies go from {trial.mirror_percent} % to {stage.mirror_percent} % at once, and the stage begins anew"
    return ""


def _without_effect(live: Sight, spec: ReleaseSpec, open_: Stage) -> Iterator[str]:
    """Say which stages of the plan differ that this rollout does not come to any more."""
    before = {stage.name: stage for stage in live.plan}
    passed = spec.plan_stages[: spec.plan_stages.index(open_)]
    if changed := [stage.name for stage in passed if before.get(stage.name) != stage]:
        yield f"what differs in {', '.join(changed)}, before it, takes effect in the next rollout"


def _rollout(live: Sight, new: str, spec: ReleaseSpec) -> str:
    trial, stable = live.trial, live.status.stable
    stages = [f"{stage.name} ({share(stage)})" for stage in spec.plan_stages if stable or stage.kind is StageKind.FULL]
    plan = f"{new} takes the way {' -> '.join(stages)}"
    if trial is None:
        return plan
    if stable is None:
        return f"version {trial.version} becomes the release as soon as it serves; then {plan}"
    back = f"all users go back to version {stable.version} first; " if trial.weight else ""
    return f"the rollout of version {trial.version} ends, superseded; {back}{plan}"
