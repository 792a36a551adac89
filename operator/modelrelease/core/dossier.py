"""
The dossier of a gate: everything that was known when a stage was left, for whoever asks later.

Status shows the ten worst slices of the gate that is open. A dossier holds all of them, with counts by stage, engines,
bets, levels and e-values, the windows they were counted in and the contract that they were judged by: enough to compute
each e-value again (docs/verdicts.md, "Again by hand"). It is an immutable ConfigMap that the release owns. Its name is
in the stage's record and in the history; it goes when its rollout leaves the history.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Final

import numpy as np

from modelrelease.api.base import GROUP, RELEASE_LABEL, REVISION_LABEL
from modelrelease.api.parse import Release
from modelrelease.api.status import ROLLED_BACK, CandidateStatus, ReleaseStatus, StageRecord
from modelrelease.core.counts import MetricsUnavailable, slice_name
from modelrelease.core.decide import Advance, Complete, Decision, RollBack, Situation
from modelrelease.core.evidence import log_sum
from modelrelease.core.plan import MANAGED_BY, Manifest, owner_reference
from modelrelease.core.verdict import ClauseVerdict, Finding, GateVerdict, SliceVerdict
from modelrelease.core.workings import counts, how_many, workings

DOSSIER_LABEL: Final = f"{GROUP}/dossier"
FILE: Final = "gate.json"

LARGEST: Final = 256 * 1024
"""Bytes of a dossier; etcd takes 1.5 MiB, and a namespace holds many."""

_FEWEST_SLICES: Final = 10
_DIGITS: Final = 8
_DEPTH_OF_A_SLICE: Final = 5
_BYTES_A_NUMBER: Final = 2


@dataclass(frozen=True, slots=True)
class Dossier:
    """
    A ConfigMap to be kept.

    Attributes:
        name: Its name; ends in a digest of the content.
        manifest: The object.
    """

    name: str
    manifest: Manifest


def dossier(it: Situation, decision: Decision) -> Dossier | None:
    """Return the dossier of the gate that *decision* leaves; None when it leaves none."""
    if it.trial is None or it.record is None or not isinstance(decision, Advance | Complete | RollBack):
        return None
    about = {
        **_who(it.release, it.status, it.trial),
        "stage": it.record.name,
        "decision": type(decision).__name__,
        "reason": str(getattr(decision, "reason", "")),
        "message": decision.message,
        "decidedAt": it.now.isoformat(),
        "decisions": [_plain(record.model_dump(mode="json", by_alias=True)) for record in it.status.decisions],
        "windows": [_window(stage) for stage in it.trial.evidence_stages],
        "errorBudget": it.release.spec.error_budget,
    }
    text = _bounded(about, it.release, it.finding)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    name = f"{it.release.name}-{it.trial.revision}-{it.record.name}-{digest}"
    return Dossier(name, _manifest(it.release, it.trial.revision, name, text))


def lost(release: Release, status: ReleaseStatus, kept: Iterable[str]) -> Dossier | None:
    """
    Return what is left of the dossier of a rollback that status names and that is not among those *kept*.

    A rollback waits for nothing, so its dossier is written after it, and the operator may have ended in between. Status
    still has the gate with the worst slices.
    """
    trial = status.candidate
    record = trial.stages[-1] if trial and trial.stages else None
    if status.stage != ROLLED_BACK or trial is None or record is None or not record.evidence:
        return None
    if record.evidence in kept or status.gate is None:
        return None
    about = {
        **_who(release, status, trial),
        "stage": record.name,
        "decision": RollBack.__name__,
        "cut": "the operator ended before all of it was kept: these are the worst slices of each clause",
        "windows": [_window(stage) for stage in trial.evidence_stages],
        "gate": status.gate.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    text = json.dumps(about, indent=1)
    return Dossier(record.evidence, _manifest(release, trial.revision, record.evidence, text))


def named(status: ReleaseStatus) -> frozenset[str]:
    """Return the names of the dossiers that *status* refers to."""
    stages = status.candidate.stages if status.candidate else []
    current = {stage.evidence for stage in stages if stage.evidence}
    return frozenset(current.union(*(entry.evidence for entry in status.history)))


def _who(release: Release, status: ReleaseStatus, trial: CandidateStatus) -> dict[str, Any]:
    stable = status.stable
    return {
        "release": f"{release.namespace}/{release.name}",
        "candidate": {"revision": trial.revision, "version": trial.version},
        "baseline": {"revision": stable.revision, "version": stable.version} if stable else None,
    }


def _window(stage: StageRecord) -> dict[str, Any]:
    return stage.model_dump(mode="json", by_alias=True, exclude_none=True)


def _manifest(release: Release, revision: str, name: str, text: str) -> Manifest:
    labels = {**MANAGED_BY, RELEASE_LABEL: release.name, REVISION_LABEL: revision, DOSSIER_LABEL: "gate"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": release.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(release)],
        },
        "immutable": True,
        "data": {FILE: text},
    }


# What was found.


def _bounded(about: Mapping[str, Any], release: Release, finding: Finding | None) -> str:
    """Return the text of a dossier: all of it, or as much as fits, with a word about what was left out."""
    digest = {"digest": release.contract.digest}
    contract = {**digest, "spec": release.contract.model_dump(mode="json", by_alias=True, exclude_none=True)}
    text = ""
    for extent in _extents(finding):
        if _least_bytes(finding, extent) <= LARGEST:
            text = _text({**about, "contract": contract if extent.contract else digest}, finding, extent)
            if len(text.encode()) <= LARGEST:
                break
    return text


@dataclass(frozen=True, slots=True)
class _Extent:
    """
    How much is told.

    Attributes:
        slices: The worst of each clause.
        contract: Whether the contract is there.
        workings: Whether counts by stage, and what they are asked, are there.
        cut: What was left out; "" if nothing was.
    """

    slices: int
    contract: bool = True
    workings: bool = True
    cut: str = ""


def _extents(finding: Finding | None) -> Iterator[_Extent]:
    """Yield less and less."""
    clauses = finding.clauses if isinstance(finding, GateVerdict) else ()
    most = slices = max((len(clause.slices) for clause in clauses), default=0)
    yield _Extent(slices)
    while slices > 0:
        slices = slices // 2 if slices > 2 * _FEWEST_SLICES else slices - 1
        cut = f"it was too large: of each clause the {slices} worst of up to {most} slices are here"
        contract = slices >= _FEWEST_SLICES
        yield _Extent(slices, contract=contract, cut=cut if contract else f"{cut}, and not the contract")
    cut = (
        f"it was too large: none of up to {most} slices are here, nor the contract, nor what e-values are computed from"
    )
    yield _Extent(0, contract=False, workings=False, cut=cut)


def _least_bytes(finding: Finding | None, extent: _Extent) -> int:
    """Return a size that the text cannot be smaller than, without writing it: histograms may have millions of bins."""
    clauses = finding.clauses if isinstance(finding, GateVerdict) and extent.workings else ()
    return sum(_BYTES_A_NUMBER * how_many(clause, extent.slices) for clause in clauses)


def _text(about: Mapping[str, Any], finding: Finding | None, extent: _Extent) -> str:
    match finding:
        case GateVerdict():
            found: dict[str, Any] = {
                "outcome": finding.outcome,
                "reason": finding.reason,
                "message": finding.message,
                "logE": dict(finding.log_e),
                "clauses": [_clause(clause, extent) for clause in finding.clauses],
            }
        case MetricsUnavailable(message=message):
            found = {"outcome": None, "message": message}
        case None:
            found = {"outcome": None, "message": "the gate was not judged"}
    return _written(_plain({**about, **({"cut": extent.cut} if extent.cut else {}), "verdict": found}))


def _written(value: Any, depth: int = 0) -> str:  # noqa: ANN401 - JSON
    """Return JSON with a line for everything down to a slice, which is on one."""
    indent = "\n" + " " * (depth + 1)
    match value:
        case {} if value and depth < _DEPTH_OF_A_SLICE:
            lines = [f"{json.dumps(key)}: {_written(part, depth + 1)}" for key, part in value.items()]
            return f"{{{indent}{f',{indent}'.join(lines)}{indent[:-1]}}}"
        case [_, *_] if depth < _DEPTH_OF_A_SLICE:
            lines = [_written(part, depth + 1) for part in value]
            return f"[{indent}{f',{indent}'.join(lines)}{indent[:-1]}]"
        case _:
            return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _clause(clause: ClauseVerdict, extent: _Extent) -> dict[str, Any]:
    shown = clause.slices[: extent.slices]
    by_stage = counts(clause, len(shown)) if extent.workings else [None] * (1 + len(shown))
    rest = clause.slices[len(shown) :]
    return {
        "name": clause.clause,
        "metric": clause.metric,
        "outcome": clause.outcome,
        "reason": clause.reason,
        "message": clause.message,
        "limit": clause.limit,
        "onBreach": clause.on_breach,
        "engine": clause.engine,
        "level": clause.level,
        "designEffect": clause.design_effect,
        "logE": clause.log_e,
        **(workings(clause) if extent.workings else {}),
        "overall": _slice(clause.overall, by_stage[0]) if clause.overall else None,
        "slicesJudged": len(clause.slices),
        "slices": [_slice(part, its) for part, its in zip(shown, by_stage[1:], strict=True)],
        **({"rest": {"slices": len(rest), "logE": _part_of_mean(clause, rest)}} if rest else {}),
    }


def _part_of_mean(clause: ClauseVerdict, parts: Sequence[SliceVerdict]) -> float:
    """Return what *parts* add to the clause's mean e-value, as a logarithm."""
    return float(log_sum(np.array([part.log_e + log(part.level / clause.level) for part in parts])))


def _slice(part: SliceVerdict, by_stage: list[Any] | None) -> dict[str, Any]:
    """Return a slice in numbers: values and changes as fractions or in the metric's unit, counts by arm."""
    return {
        "slice": slice_name(part.part),
        "outcome": part.outcome,
        "reason": part.reason,
        "baseline": {"value": part.baseline, "events": part.events[0], "of": part.of[0]},
        "candidate": {"value": part.candidate, "events": part.events[1], "of": part.of[1]},
        "change": part.change,
        "low": part.low,
        "high": part.high,
        "logE": part.log_e,
        "level": part.level,
        "thin": part.thin,
        **({"counts": by_stage} if by_stage is not None else {}),
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON without numbers that JSON does not have: what is not finite is null, which means no bound."""
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list():
            return [_plain(part) for part in value]
        case _:
            return value
