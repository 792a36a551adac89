"""What is kept of a gate: all of it, or as much as fits; and never what nobody refers to."""

import json
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from modelrelease.api.contract import OnBreach
from modelrelease.api.decision import Verb
from modelrelease.api.quantities import Unit
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.decide import Advance, Cancel, Complete, Decision, Hold, RollBack, Situation
from modelrelease.core.dossier import LARGEST, Dossier, dossier, lost, named
from modelrelease.core.evidence import HARM, Arms, Engine
from modelrelease.core.histograms import Buckets
from modelrelease.core.question import Question, Side
from modelrelease.core.transition import transition
from modelrelease.core.verdict import ClauseVerdict, GateVerdict, SliceVerdict, Words, Workings
from tests.builders import NO_METRICS, a_release, a_situation, a_status, a_verdict, decided

BROKEN = RollBack(Reason.CONTRACT_BREACHED, "clause steady is broken")
BAKING = Hold(Reason.BAKING, "bakes")
NEXT = Advance(a_release().spec.plan_stages[2], "stage canary-50")


def a_slice(number: int, **changes: Any) -> SliceVerdict:
    """Return a slice, the worse the lower its number."""
    part = SliceVerdict(
        part=(("country", f"C{number:05}"),),
        outcome=Outcome.INCONCLUSIVE,
        reason=Reason.LOW_TRAFFIC,
        baseline=0.2,
        candidate=0.3,
        change=0.5,
        low=-0.1,
        high=inf,
        events=(20.0, 30.0),
        of=(100.0, 100.0),
        log_e=5.0 - number / 1000,
        level=0.001,
        eta=None,
    )
    return replace(part, **changes)


def some_workings(slices: int, bounds: int = 0) -> Workings:
    """Return what so many slices were judged by in two stages: their rates, or histograms with so many bounds."""
    numbers = np.full(1 + slices, 100.0)
    events = np.full((1 + slices, bounds + 1), 20.0) if bounds else np.full(1 + slices, 20.0)
    arms = Arms(events, numbers, events, numbers)
    buckets = Buckets(np.linspace(0.1, 9, bounds), tail=0.01) if bounds else None
    engine = Engine.QUANTILE_RATIO if bounds else Engine.COUNTS
    question = Question(engine, (Side(1.05, 1), Side(0.95, -1)), HARM, "5%", buckets)
    rows = tuple(range(1 + slices))
    return Workings((question, question), (question, None), 0.01, ("shadow", "canary-10"), (arms, arms), rows)


def a_gate(slices: int, clauses: int = 1, bounds: int = 0) -> GateVerdict:
    """Return a breach found by clauses with so many slices each."""
    clause = ClauseVerdict(
        clause="steady",
        metric="block-rate",
        outcome=Outcome.BREACH,
        reason=Reason.CONTRACT_BREACHED,
        message="clause steady is broken",
        limit="5%",
        words=Words(Unit.RELATIVE, alone=False),
        on_breach=OnBreach.ROLLBACK,
        engine="counts",
        overall=a_slice(0, part=(), baseline=nan),
        slices=tuple(a_slice(number) for number in range(slices)),
        log_e=5.2,
        level=0.01,
        design_effect=1.3,
        eta=None,
        workings=some_workings(slices, bounds),
    )
    found = tuple(replace(clause, clause=f"steady-{number}") for number in range(clauses))
    return replace(a_verdict(Outcome.BREACH), clauses=found)


def kept(it: Situation, decision: Decision) -> dict[str, Any]:
    left = dossier(it, decision)
    assert isinstance(left, Dossier)
    content: dict[str, Any] = json.loads(left.manifest["data"]["gate.json"])
    return content


def test_everything_that_the_gate_was_left_on():
    """Contract, windows, counts by stage, engines, levels, e-values, decisions: enough to judge again by hand."""
    release = a_release()
    status = a_status(contract=release.contract.digest, decisions=[decided(Verb.APPROVE, "canary-10")])
    content = kept(a_situation(status, a_gate(25), release=release), BROKEN)
    assert (content["stage"], content["decision"], content["reason"]) == ("canary-10", "RollBack", "ContractBreached")
    assert content["contract"]["digest"] == release.contract.digest
    assert content["contract"]["spec"]["clauses"][0]["within"] == "5%"
    assert [window["name"] for window in content["windows"]] == ["canary-10"]
    assert content["decisions"][0]["approvedBy"] == "ana"
    clause = content["verdict"]["clauses"][0]
    assert (clause["engine"], clause["level"], clause["logE"], clause["designEffect"]) == ("counts", 0.01, 5.2, 1.3)
    assert len(clause["slices"]) == clause["slicesJudged"] == 25
    first = clause["slices"][0]
    assert (first["slice"], first["logE"]) == ("country=C00000", 5.0)
    assert first["candidate"] == {"value": 0.3, "events": 30.0, "of": 100.0}
    assert first["counts"] == [[[20, 100], [20, 100]], [[20, 100], [20, 100]]]
    assert clause["stages"] == ["shadow", "canary-10"]
    assert (first["high"], clause["overall"]["baseline"]["value"]) == (None, None), "JSON knows no inf and no nan"
    assert "cut" not in content


@pytest.mark.slow
@pytest.mark.parametrize(("slices", "clauses", "bounds"), [(2_000, 1, 0), (500, 64, 0), (40_000, 1, 0), (500, 1, 160)])
def test_what_is_too_large_is_cut_and_says_so(slices: int, clauses: int, bounds: int):
    """The worst slices of each clause stay, within 256 KiB, and what the others add to the evidence is told."""
    left = dossier(a_situation(finding=a_gate(slices, clauses, bounds)), BROKEN)
    text = left.manifest["data"]["gate.json"]
    assert len(text.encode()) <= LARGEST == 256 * 1024
    content = json.loads(text)
    found = content["verdict"]["clauses"]
    assert len(found) == clauses
    number = len(found[0]["slices"])
    assert 0 < number < slices
    assert found[0]["rest"]["slices"] == slices - number
    assert found[0]["slices"][0]["slice"] == "country=C00000"
    assert content["cut"].startswith(f"it was too large: of each clause the {number} worst of up to {slices} slices")


def test_histograms_too_many_for_any_dossier_are_left_out():
    """Nothing of a third of a gigabyte is written to find that it does not fit; the verdicts of the clauses stay."""
    left = dossier(a_situation(finding=a_gate(500, 64, bounds=160)), BROKEN)
    text = left.manifest["data"]["gate.json"]
    assert len(text.encode()) <= LARGEST
    content = json.loads(text)
    assert content["cut"] == (
        "it was too large: none of up to 500 slices are here, nor the contract, nor what e-values are computed from"
    )
    assert [clause["logE"] for clause in content["verdict"]["clauses"]] == [5.2] * 64


def test_a_slice_is_a_line():
    """A dossier is read by people, who look for one slice."""
    text = dossier(a_situation(finding=a_gate(25)), BROKEN).manifest["data"]["gate.json"]
    assert len([line for line in text.splitlines() if '"slice":"country=C000' in line]) == 25


@pytest.mark.parametrize(
    ("decision", "keeps"),
    [(NEXT, True), (BROKEN, True), (Complete("done"), True), (Cancel("revert"), False), (BAKING, False)],
)
def test_only_a_gate_that_is_left_by_a_verdict_is_kept(decision: Decision, keeps: bool):
    """A rollout that is called off has proved nothing."""
    assert (dossier(a_situation(), decision) is not None) is keeps


def test_a_stage_that_is_left_without_a_verdict():
    """Pods that are gone, or a promotion without metrics: that there was no verdict is kept too."""
    content = kept(a_situation(finding=NO_METRICS), RollBack(Reason.CANDIDATE_UNAVAILABLE, "0 of 3 pods"))
    assert content["verdict"] == {"outcome": None, "message": NO_METRICS.message}


def test_a_candidate_without_a_stage_has_no_gate():
    """Nothing was judged while its pods started."""
    assert dossier(a_situation(a_status("Pending")), RollBack(Reason.PROGRESS_DEADLINE_EXCEEDED, "late")) is None


def test_status_names_what_is_kept_until_the_history_forgets_it():
    """In the stage's record while the rollout lasts, in the history afterwards."""
    it = a_situation(finding=a_gate(3))
    left = dossier(it, NEXT)
    advanced = transition(it, NEXT, left.name)
    assert [stage.evidence for stage in advanced.candidate.stages] == [left.name, None]
    assert named(advanced) == {left.name}
    second = a_situation(advanced, a_gate(4))
    last = dossier(second, BROKEN)
    rolled_back = transition(second, BROKEN, last.name)
    assert named(rolled_back) == {left.name, last.name}
    assert rolled_back.history[-1].evidence == [left.name, last.name]
    assert named(rolled_back.model_copy(update={"candidate": None, "history": []})) == frozenset()


def test_a_rollback_whose_dossier_was_lost_is_told_from_status():
    """The worst slices are there still; what is missing is said."""
    it = a_situation(finding=a_gate(25))
    left = dossier(it, BROKEN)
    after = transition(it, BROKEN, left.name)
    assert lost(it.release, after, [left.name]) is None
    again = lost(it.release, after, [])
    assert again.name == left.name
    content = json.loads(again.manifest["data"]["gate.json"])
    assert "the operator ended before all of it was kept" in content["cut"]
    assert len(content["gate"]["clauses"][0]["worst"]) == 10
