"""The open stage's gate: the judge's verdict, and the doubt whether the requests arrive that it rests on."""

from dataclasses import replace

import pytest

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.gate import evaluate
from tests.builders import a_release, a_status
from tests.core.judging import a_stage

FAIR = {"A": ((180, 9000), (20, 1000))}
"""A tenth of the requests, as the route asks, and the same rate; too few to prove that nothing changed."""


def finding(countries, *, stage="canary-10", percent=10, stable="1"):
    kind = stage.partition("-")[0]
    (((_, base_of), (_, of)),) = countries.values()
    counts = a_stage(countries=countries, errors=((0, base_of), (0, of)), kind=kind)
    return evaluate(a_release(), a_status(stage, stable=stable), (replace(counts, stage=stage, percent=percent),))


def test_a_gate_that_waits_tells_how_much_longer():
    verdict = finding(FAIR)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC)
    assert verdict.eta is not None


@pytest.mark.parametrize(
    ("countries", "stage", "want"),
    [
        pytest.param({"A": ((160, 8000), (40, 2000))}, "canary-10", Reason.SPLIT_MISMATCH, id="twice the share"),
        pytest.param({"A": ((180, 9000), (20, 1000))}, "shadow", Reason.SHADOW_NOT_FLOWING, id="a ninth of the copies"),
    ],
)
def test_requests_that_do_not_arrive_as_asked_are_a_doubt_that_waiting_does_not_cure(countries, stage, want):
    verdict = finding(countries, stage=stage)
    assert (verdict.outcome, verdict.reason, verdict.eta) == (Outcome.INCONCLUSIVE, want, None)


def test_a_breach_is_not_doubted_for_the_split():
    verdict = finding({"A": ((160, 8000), (400, 2000))})
    assert (verdict.outcome, verdict.reason) == (Outcome.BREACH, Reason.CONTRACT_BREACHED)


def test_evidence_of_another_stage_says_nothing_of_this_one():
    counts = a_stage(countries=FAIR)
    assert isinstance(evaluate(a_release(), a_status("canary-50"), (counts,)), MetricsUnavailable)
    assert isinstance(evaluate(a_release(), a_status("canary-50"), ()), MetricsUnavailable)


@pytest.mark.parametrize(
    ("status", "evidence"),
    [
        pytest.param(a_status("Completed", candidate=None), (a_stage(countries=FAIR),), id="no open stage"),
        pytest.param(a_status(), None, id="nothing was read"),
    ],
)
def test_without_a_gate_there_is_nothing_to_find(status, evidence):
    assert evaluate(a_release(), status, evidence) is None


def test_metrics_that_cannot_be_read_are_told_as_they_are():
    gone = MetricsUnavailable("Prometheus refused the connection")
    assert evaluate(a_release(), a_status(), gone) is gone


def test_the_first_release_has_nobody_to_be_compared_with():
    verdict = finding(FAIR, stage="full", percent=None, stable=None)
    assert [clause.clause for clause in verdict.clauses] == ["errors"]


def test_at_full_nobody_is_left_to_compare_with():
    """The old revision's weight is 0: a comparison would be one with the past."""
    verdict = finding(FAIR, stage="full", percent=None)
    assert [clause.clause for clause in verdict.clauses] == ["errors"]
