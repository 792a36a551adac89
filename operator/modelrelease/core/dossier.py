"""
The dossier of a gate: everything that was known when a stage was left, for whoever asks later.

Status shows the ten worst slices of the gate that is open. A dossier holds all of them, with counts, engines, levels
and e-values, the windows they were counted in and the contract that they were judged by, in an immutable ConfigMap that
the release owns. Its name is in the stage's record and in the history; it goes when its rollout leaves the history.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from modelrelease.api.base import GROUP, RELEASE_LABEL, REVISION_LABEL
from modelrelease.api.parse import Release
from modelrelease.api.status import ROLLED_BACK, CandidateStatus, ReleaseStatus, StageRecord
from modelrelease.core.counts import MetricsUnavailable, slice_name
from modelrelease.core.decide import Advance, Complete, Decision, RollBack, Situation
from modelrelease.core.plan import MANAGED_BY, Manifest, owner_reference
from modelrelease.core.verdict import ClauseVerdict, Finding, GateVerdict, SliceVerdict

DOSSIER_LABEL: Final = f"{GROUP}/dossier"
FILE: Final = "gate.json"

LARGEST: Final = 256 * 1024
"""Bytes of a dossier; etcd takes 1.5 MiB, and a namespace holds many."""

_FEWEST_SLICES: Final = 10
_DIGITS: Final = 8


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
    contract = {
        "digest": release.contract.digest,
        "spec": release.contract.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    clauses = finding.clauses if isinstance(finding, GateVerdict) else ()
    most = max((len(clause.slices) for clause in clauses), default=0)
    slices = most
    text = _text({**about, "contract": contract}, finding, slices, "")
    while len(text.encode()) > LARGEST and slices > 0:
        slices = slices // 2 if slices > 2 * _FEWEST_SLICES else slices - 1
        cut = f"it was too large: of each clause the {slices} worst of up to {most} slices are here"
        if slices < _FEWEST_SLICES:
            contract = {"digest": release.contract.digest}
            cut = f"{cut}, and not the contract"
        text = _text({**about, "contract": contract}, finding, slices, cut)
    return text


def _text(about: Mapping[str, Any], finding: Finding | None, slices: int, cut: str) -> str:
    match finding:
        case GateVerdict():
            found: dict[str, Any] = {
                "outcome": finding.outcome,
                "reason": finding.reason,
                "message": finding.message,
                "clauses": [_clause(clause, slices) for clause in finding.clauses],
            }
        case MetricsUnavailable(message=message):
            found = {"outcome": None, "message": message}
        case None:
            found = {"outcome": None, "message": "the gate was not judged"}
    return json.dumps(_plain({**about, **({"cut": cut} if cut else {}), "verdict": found}), indent=1, allow_nan=False)


def _clause(clause: ClauseVerdict, slices: int) -> dict[str, Any]:
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
        "overall": _slice(clause.overall) if clause.overall else None,
        "slicesJudged": len(clause.slices),
        "slices": [_slice(part) for part in clause.slices[:slices]],
    }


def _slice(part: SliceVerdict) -> dict[str, Any]:
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
