"""The open stage's gate: the judge's verdict, and the doubt whether the requests arrive that it rests on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.contract import OnBreach
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.counts import OVERALL, MetricsUnavailable, StageCounts
from modelrelease.core.decide import decide
from modelrelease.core.gate import evaluate
from modelrelease.core.judge import gate_status
from modelrelease.core.transition import transition
from modelrelease.core.verdict import GateVerdict
from tests.builders import NOW, a_body, a_release, a_situation, a_status, seen
from tests.core.judging import a_stage, table

FAIR = {"A": ((180, 9000), (20, 1000))}
"""A tenth of the requests, as the route asks, and the same rate; too few to prove that nothing changed."""


def finding(countries, *, stage="canary-10", percent=10, stable="1", earlier=None, now=NOW):
    kind = stage.partition("-")[0]
    (((_, base_of), (_, of)),) = countries.values()
    counts = a_stage(countries=countries, errors=((0, base_of), (0, of)), kind=kind)
    status = earlier or a_status(stage, stable=stable)
    return evaluate(a_release(), status, (replace(counts, stage=stage, percent=percent),), now)


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


# What an earlier look has counted cannot be undone.


def seen_before(countries, *, stage="canary-10", contract=None, at=NOW):
    """Return the status of a release whose gate found *countries* at an earlier look."""
    status, verdict = a_status(stage), finding(countries, stage=stage)
    gate = gate_status(verdict, stage, at).model_copy(update={"contract": contract or a_release().contract.digest})
    return status.model_copy(update={"gate": gate})


@pytest.mark.parametrize(
    ("now", "said"),
    [
        pytest.param({"A": ((0, 9000), (40, 1000))}, "180 events of the baseline", id="numerator of the baseline"),
        pytest.param({"A": ((180, 9000), (0, 1000))}, "20 events of the candidate", id="numerator of the candidate"),
        pytest.param({"A": ((0, 9000), (0, 1000))}, "180 events of the baseline", id="numerator of both"),
        pytest.param({"A": ((0, 0), (40, 1000))}, "180 events of the baseline", id="the baseline"),
    ],
)
def test_what_was_counted_and_is_gone_makes_no_verdict(now, said):
    """The first of them would be a breach: no events of the baseline, and some of the candidate."""
    found = finding(now, earlier=seen_before(FAIR))
    assert isinstance(found, MetricsUnavailable)
    assert said in found.message
    assert "block-rate" in found.message


def test_requests_that_are_gone_are_told_where_there_were_no_events():
    found = finding({"A": ((0, 9000), (0, 0))}, earlier=seen_before({"A": ((0, 9000), (0, 1000))}))
    assert isinstance(found, MetricsUnavailable)
    assert "1000 requests of the candidate" in found.message


@pytest.mark.parametrize(
    ("countries", "earlier"),
    [
        pytest.param({"A": ((180, 9000), (0, 1000))}, None, id="nobody looked before"),
        pytest.param({"A": ((0, 9000), (0, 1000))}, seen_before({"A": ((0, 9), (0, 1))}), id="there were no events"),
        pytest.param({"A": ((90, 9000), (0, 1000))}, seen_before({"A": ((180, 9000), (0, 9))}), id="fewer than before"),
        pytest.param({"A": ((0, 9000), (0, 1000))}, seen_before(FAIR, contract="another"), id="another contract"),
        pytest.param(
            {"A": ((0, 9000), (0, 1000))}, seen_before(FAIR, at=NOW + timedelta(seconds=1)), id="the clock was set back"
        ),
    ],
)
def test_what_may_never_have_been_counted_is_none(countries, earlier):
    assert isinstance(finding(countries, earlier=earlier), GateVerdict)


def test_who_knows_that_the_evidence_is_lost_says_so_and_nothing_else():
    counts = replace(a_stage(countries={"A": ((0, 0), (0, 0))}), stage="canary-10", forgotten=(True, True))
    assert isinstance(evaluate(a_release(), seen_before(FAIR), (counts,), NOW), GateVerdict)


def test_evidence_of_another_stage_says_nothing_of_this_one():
    counts = a_stage(countries=FAIR)
    assert isinstance(evaluate(a_release(), a_status("canary-50"), (counts,), NOW), MetricsUnavailable)
    assert isinstance(evaluate(a_release(), a_status("canary-50"), (), NOW), MetricsUnavailable)


@pytest.mark.parametrize(
    ("status", "evidence"),
    [
        pytest.param(a_status("Completed", candidate=None), (a_stage(countries=FAIR),), id="no open stage"),
        pytest.param(a_status(), None, id="nothing was read"),
    ],
)
def test_without_a_gate_there_is_nothing_to_find(status, evidence):
    assert evaluate(a_release(), status, evidence, NOW) is None


def test_metrics_that_cannot_be_read_are_told_as_they_are():
    gone = MetricsUnavailable("Prometheus refused the connection")
    assert evaluate(a_release(), a_status(), gone, NOW) is gone


def test_the_first_release_has_nobody_to_be_compared_with():
    verdict = finding(FAIR, stage="full", percent=None, stable=None)
    assert [clause.clause for clause in verdict.clauses] == ["errors"]


def test_at_full_nobody_is_left_to_compare_with():
    """The old revision's weight is 0: a comparison would be one with the past."""
    verdict = finding(FAIR, stage="full", percent=None)
    assert [clause.clause for clause in verdict.clauses] == ["errors"]


# Events per second, which are counted against the share that the route asks for.

STEADY_ROWS = {"name": "steady-rows", "metric": "rows", "within": "20%"}
FEW_ERRORS = {"name": "few-errors", "metric": "errors", "atMost": "1%"}


def a_stage_of_rows(requests, rows, *, percent=10, seconds=600.0, errors=0, stage="canary-10"):
    """Return a stage in which requests and rows of the baseline and of the candidate were counted."""
    (base, mine), (base_rows, my_rows) = requests, rows
    kind, share = stage.partition("-")[0], percent / 100
    base_time = seconds if kind == "shadow" else seconds * (1 - share)
    counts = {
        ("errors", ""): table({OVERALL: ((0, base), (errors, mine))}),
        ("rows", ""): table({OVERALL: ((base_rows, base_time), (my_rows, seconds * share))}),
    }
    return StageCounts(stage, kind, seconds, counts, percent=percent)


def rows_found(*stages, clause=STEADY_ROWS):
    metrics = [
        {"name": "errors", "ratio": {"events": "errors_total", "of": "requests_total"}},
        {"name": "rows", "rate": {"events": "rows_total"}},
    ]
    contract = {"metrics": metrics, "clauses": [clause, FEW_ERRORS]}
    return evaluate(a_release("2", contract=contract), a_status(stages[-1].stage), stages, NOW)


HEALTHY = a_stage_of_rows((54_000, 6000), (54_000, 6000))
FIFTEEN_FOR_TEN = a_stage_of_rows((51_000, 9000), (51_000, 9000))
A_THIRD_UNSCRAPED = a_stage_of_rows((36_000, 6000), (36_000, 6000))
HALF_THE_COPIES = a_stage_of_rows((60_000, 30_000), (60_000, 30_000), percent=100, stage="shadow")


@pytest.mark.parametrize(
    ("stage", "want"),
    [
        pytest.param(FIFTEEN_FOR_TEN, Reason.SPLIT_MISMATCH, id="the Gateway sends half as many again"),
        pytest.param(A_THIRD_UNSCRAPED, Reason.SPLIT_MISMATCH, id="one of three baseline pods is not scraped"),
        pytest.param(HALF_THE_COPIES, Reason.SHADOW_NOT_FLOWING, id="half of the copies are dropped"),
    ],
)
@pytest.mark.parametrize(
    "clause",
    [
        STEADY_ROWS,
        {"name": "no-more-rows", "metric": "rows", "noWorse": "20%"},
        {"name": "rows-at-most", "metric": "rows", "atMost": "110"},
        {"name": "rows-at-least", "metric": "rows", "atLeast": "90"},
    ],
    ids=lambda clause: clause["name"],
)
def test_a_wrong_share_of_the_requests_is_no_breach_of_a_rate(stage, want, clause):
    """Two models that do the same: the one that gets half as many requests again has half as many rows again."""
    verdict = rows_found(stage, clause=clause)
    assert (verdict.outcome, verdict.reason, verdict.on_breach) == (Outcome.INCONCLUSIVE, want, None)


@pytest.mark.parametrize("seconds", [5, 10, 20, 40, 80, 160, 320, 640])
@pytest.mark.parametrize("rows", [1, 20], ids=["a row per request", "twenty rows"])
@pytest.mark.parametrize("share", [0.05, 0.13, 0.2])
def test_a_wrong_share_is_no_breach_of_a_rate_before_it_is_proved_either(seconds, rows, share):
    """The first seconds of a stage may be split in any way, and many rows prove a difference in a moment."""
    base, mine = 100 * seconds * (1 - share), 100 * seconds * share
    stage = a_stage_of_rows((base, mine), (base * rows, mine * rows), seconds=seconds)
    assert rows_found(stage).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("arriving", [0.72, 0.8, 1.4])
def test_a_shadow_that_flows_with_losses_is_no_breach_of_a_rate(arriving):
    """Copies may be lost to three in ten before the shadow counts as one that does not flow."""
    requests = (60_000, 60_000 * arriving)
    assert rows_found(a_stage_of_rows(requests, requests, percent=100, stage="shadow")).outcome is Outcome.INCONCLUSIVE


def test_what_a_stage_with_a_wrong_split_counted_is_no_evidence_later_either():
    later = replace(HEALTHY, stage="canary-50")
    verdict = rows_found(FIFTEEN_FOR_TEN, later)
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.WITHIN_CONTRACT)


def test_a_rate_that_doubles_in_the_right_share_is_a_breach():
    verdict = rows_found(a_stage_of_rows((54_000, 6000), (54_000, 12_000)))
    assert (verdict.outcome, verdict.on_breach) == (Outcome.BREACH, OnBreach.ROLLBACK)


def test_a_rate_passes_in_the_right_share():
    assert rows_found(HEALTHY).outcome is Outcome.PASS


def test_what_must_never_happen_is_a_breach_in_any_share():
    verdict = rows_found(FIFTEEN_FOR_TEN, clause={"name": "no-rows", "metric": "rows", "atMost": "0"})
    assert (verdict.outcome, verdict.on_breach) == (Outcome.BREACH, OnBreach.ROLLBACK)


def test_a_ratio_is_a_breach_at_once_while_the_share_is_wrong():
    verdict = rows_found(a_stage_of_rows((51_000, 9000), (51_000, 9000), errors=900))
    assert (verdict.outcome, verdict.on_breach) == (Outcome.BREACH, OnBreach.ROLLBACK)
    assert [blame.clause for blame in verdict.blame] == ["few-errors"]


# What is told of a shadow.


@pytest.mark.parametrize(("copies", "want"), [(0, "Unknown"), (3, "True")])
def test_copies_that_nobody_counted_are_not_said_to_reach_the_candidate(copies, want):
    """No clause is judged in the shadow, and too few copies are due for their absence to mean anything."""
    contract = a_body()["spec"]["contract"]
    release = a_release(contract={**contract, "clauses": [{**contract["clauses"][1], "stages": ["canary", "full"]}]})
    counts = replace(a_stage(((0, 30), (0, copies)), kind="shadow"), stage="shadow", percent=100)
    status = a_status("shadow", entered=timedelta(minutes=5))
    found = evaluate(release, status, (counts,), NOW)
    situation = a_situation(status, found, release=release, observation=seen(evidence=(counts,)))
    assert found.reason is Reason.NOT_JUDGED
    assert transition(situation, decide(situation)).condition("ShadowFlowing").status == want
