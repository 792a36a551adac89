"""Verdicts on counts: what breaks a contract, what passes it, what is not known, and how it is said."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from modelrelease.api.contract import OnBreach, SliceDimension
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.counts import SliceCounts
from modelrelease.core.judge import gate_status, judge
from modelrelease.core.report import span
from modelrelease.core.verdict import Blame
from tests.core.judging import (
    FEW_ERRORS,
    ROUGHLY_STEADY,
    STEADY,
    a_contract,
    a_stage,
    clause_of,
    country,
    slice_of,
    verdict_on,
)

HEALTHY = {"FR": ((288, 13_750), (290, 13_700)), "DE": ((5000, 250_000), (5010, 250_000))}
HARMED = {**HEALTHY, "FR": ((288, 13_750), (500, 13_700))}


# Breach.


def test_a_harmed_slice_is_named_with_its_numbers():
    """The average moves by 4 %, inside the limit; one slice of 5 % of the traffic moves by 74 %."""
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries=HARMED))
    assert (verdict.outcome, verdict.reason) == (Outcome.BREACH, Reason.CONTRACT_BREACHED)
    assert verdict.blame == (Blame("steady", country("FR")),)
    assert verdict.on_breach is OnBreach.ROLLBACK
    assert verdict.worst == "block-rate country=FR 2.1% -> 3.6%, +74% (limit 5%)"
    assert verdict.message.startswith(
        "clause steady is broken in country=FR: 2.1 % -> 3.6 %, +74 % [+26 %, +143 %], limit 5 %, "
        "500 of 13 700 requests against 288 of 13 750"
    )
    assert slice_of(verdict, "DE").outcome is Outcome.PASS


def test_a_number_that_looks_broken_and_is_not_proved_says_so():
    """Two of three requests blocked in a thin slice is no reason to wake anybody."""
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries={**HEALTHY, "MT": ((1, 30), (2, 30))}))
    assert verdict.outcome is not Outcome.BREACH
    assert verdict.worst == "block-rate country=MT 3.3% -> 6.7%, +100%, not proved (limit 5%)"


def test_what_is_in_doubt_is_named_before_what_holds():
    """Who reads that a gate is inconclusive wants to know of what."""
    contract = a_contract(FEW_ERRORS, {"name": "steady", "metric": "block-rate", "within": "5%"})
    equal = ((4000, 200_000), (4000, 200_000))
    verdict = verdict_on(contract, a_stage(equal, errors=((0, 20_000), (0, 20_000))))
    assert {it.clause: it.outcome for it in verdict.clauses} == {
        "few-errors": Outcome.PASS,
        "steady": Outcome.INCONCLUSIVE,
    }
    assert clause_of(verdict, "few-errors").log_e > clause_of(verdict, "steady").log_e
    assert verdict.worst == "block-rate 2.0% -> 2.0%, +0.0% (limit 5%)"


def test_a_rate_far_below_its_limit_is_not_in_doubt():
    """The distance from an absolute limit is no change that would have to be proved."""
    verdict = verdict_on(a_contract(FEW_ERRORS), a_stage(((0, 5000), (0, 5000)), errors=((0, 5000), (0, 5000))))
    assert verdict.worst == "error-rate 0.0% (limit 0.1%)"


@pytest.mark.parametrize(
    ("candidate", "want"), [(11_000, Outcome.BREACH), (9_000, Outcome.BREACH), (10_020, Outcome.PASS)]
)
def test_within_looks_both_ways(candidate, want):
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "2%", "assure": {"overall": "10%"}})
    assert verdict_on(contract, a_stage(((10_000, 500_000), (candidate, 500_000)))).outcome is want


@pytest.mark.parametrize(
    ("better", "candidate", "want"),
    [
        pytest.param("Lower", 15_000, Outcome.BREACH, id="a bad thing rose"),
        pytest.param("Lower", 7_000, Outcome.PASS, id="a bad thing fell"),
        pytest.param("Higher", 15_000, Outcome.PASS, id="a good thing rose"),
        pytest.param("Higher", 7_000, Outcome.BREACH, id="a good thing fell"),
    ],
)
def test_no_worse_looks_the_bad_way(better, candidate, want):
    contract = a_contract({"name": "fpr", "metric": "block-rate", "noWorse": "5%"}, better=better)
    assert verdict_on(contract, a_stage(((10_000, 500_000), (candidate, 500_000)))).outcome is want


@pytest.mark.parametrize("rate", [0.02, 0.6])
@pytest.mark.parametrize(
    ("change", "want"), [(0.85, Outcome.PASS), (1.0, Outcome.INCONCLUSIVE), (1.15, Outcome.BREACH)]
)
@pytest.mark.parametrize("better", ["Lower", "Higher"])
def test_an_improvement_has_to_be_proved(rate, change, want, better):
    contract = a_contract({"name": "gain", "metric": "block-rate", "improves": True}, better=better)
    events = rate * 1e5
    changed = change * events if better == "Lower" else (2 - change) * events
    verdict = verdict_on(contract, a_stage(((events, 1e5), (changed, 1e5))))
    assert verdict.outcome is want
    if rate > 0.2 and want is not Outcome.INCONCLUSIVE:
        small = a_stage(((events / 50, 2e3), (changed / 50, 2e3)))
        assert verdict_on(contract, small).outcome is want, "a change of 15 % of a common rate needs few requests"


@pytest.mark.parametrize("rate", [0.02, 0.6])
@pytest.mark.parametrize(("change", "want"), [(1.3, Outcome.BREACH), (1.0, Outcome.PASS)])
def test_rare_and_common_events_are_judged_alike(rate, change, want):
    """The counting engine judges the rare ones, the signed-root engine the common ones."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "10%"})
    events = rate * 1e6
    assert verdict_on(contract, a_stage(((events, 1e6), (change * events, 1e6)))).outcome is want


@pytest.mark.parametrize(
    ("candidate", "want"), [(0.036, Outcome.BREACH), (0.0201, Outcome.PASS), (0.0245, Outcome.INCONCLUSIVE)]
)
def test_percentage_points_are_a_difference(candidate, want):
    contract = a_contract({"name": "fpr", "metric": "block-rate", "noWorse": "0.5pp"})
    verdict = verdict_on(contract, a_stage(((2000, 100_000), (candidate * 1e5, 100_000))))
    assert verdict.outcome is want
    assert clause_of(verdict, "fpr").overall.change == pytest.approx(candidate - 0.02)


@pytest.mark.parametrize(
    ("clause", "events", "want"),
    [
        pytest.param({"atMost": "0.1%"}, 300, Outcome.BREACH, id="above a ceiling"),
        pytest.param({"atMost": "0.1%"}, 20, Outcome.PASS, id="far below a ceiling"),
        pytest.param({"atMost": "0.1%"}, 98, Outcome.INCONCLUSIVE, id="just below a ceiling"),
        pytest.param({"atMost": "0.001"}, 300, Outcome.BREACH, id="the same as a fraction"),
        pytest.param({"atLeast": "99%"}, 98_500, Outcome.BREACH, id="below a floor"),
        pytest.param({"atLeast": "99%"}, 99_500, Outcome.PASS, id="above a floor"),
        pytest.param({"atMost": "0.1%", "assure": {"overall": "0.2%"}}, 98, Outcome.PASS, id="only 0.2 % is excluded"),
    ],
)
def test_absolute_limits_judge_the_candidate_alone(clause, events, want):
    contract = a_contract({"name": "errors", "metric": "error-rate", **clause})
    stage = a_stage(errors=((0, 0), (events, 100_000)))
    assert verdict_on(contract, stage, has_baseline=False).outcome is want


def test_diffuse_harm_is_found_although_no_slice_is_proved():
    """Many slices each a little too high: the mean of the evidence says so, and names the largest."""
    rng = np.random.default_rng(3)
    countries = {f"C{i}": ((float(rng.poisson(400)), 20_000), (float(rng.poisson(520)), 20_000)) for i in range(40)}
    no_overall = a_stage(overall=((0, 0), (0, 0)), countries=countries)
    verdict = verdict_on(a_contract(), no_overall)
    assert verdict.outcome is Outcome.BREACH
    if not verdict.blame:
        assert "over its slices taken together; largest evidence in country=C" in verdict.message


@pytest.mark.parametrize("per", [None, ["country"]], ids=["no slices", "slices"])
def test_clauses_that_are_broken_together_only_say_so(per):
    """Each has evidence for 75 coins or so, of a hundred: what is broken are not the slices of either."""
    clauses = [
        {"name": "steady", "metric": "block-rate", "within": "5%", "per": per},
        {"name": "errors", "metric": "error-rate", "within": "5%"},
    ]
    arms = ((1000, 50_000), (149, 5000))
    found = a_stage(arms, {"FR": ((10, 500), (1, 50))} if per else None, errors=((1000, 50_000), (151, 5000)))
    verdict = verdict_on(a_contract(*clauses), found)
    assert (verdict.outcome, verdict.blame) == (Outcome.BREACH, ())
    assert "clause errors is broken together with other clauses, none of which is broken alone;" in verdict.message


def test_evidence_of_earlier_stages_counts_against_the_candidate():
    """Neither stage proves it, both together do."""
    half = a_stage(((300, 15_000), (400, 15_000)))
    contract = a_contract({"name": "steady", "metric": "block-rate", "noWorse": "5%"})
    assert verdict_on(contract, half).outcome is Outcome.INCONCLUSIVE
    assert verdict_on(contract, half, half, half).outcome is Outcome.BREACH


def test_evidence_of_a_stage_in_which_a_clause_is_not_judged_does_not_count():
    contract = a_contract({"name": "steady", "metric": "block-rate", "noWorse": "5%", "stages": ["canary"]})
    harmed = ((300, 15_000), (900, 15_000))
    quiet = ((300, 15_000), (300, 15_000))
    assert verdict_on(contract, a_stage(harmed, kind="shadow"), a_stage(quiet)).outcome is Outcome.INCONCLUSIVE


def test_a_ramp_over_a_daily_rhythm_is_no_harm():
    """The base rate doubles while the weight rises: counts are never pooled over stages."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    night = a_stage(((1900, 190_000), (100, 10_000)))
    day = a_stage(((40_000, 1_000_000), (40_000, 1_000_000)))
    assert verdict_on(contract, night, day).outcome is Outcome.PASS


def test_a_ramp_over_a_daily_rhythm_shows_no_change():
    """What is shown is the change within the stages, not the one that pooled counts would show."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    night, day = a_stage(((1900, 190_000), (100, 10_000))), a_stage(((40_000, 1_000_000), (40_000, 1_000_000)))
    verdict = verdict_on(contract, night, day)
    overall = clause_of(verdict).overall
    assert overall.change == pytest.approx(0.0, abs=1e-12)
    assert overall.low < 0 < overall.high
    assert overall.events == (41_900, 40_100)
    assert verdict.worst == "block-rate 3.9% -> 3.9%, +0.0% (limit 5%)"


def test_the_change_over_stages_lies_in_its_interval():
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    night, day = a_stage(((1900, 190_000), (150, 10_000))), a_stage(((40_000, 1_000_000), (60_000, 1_000_000)))
    overall = clause_of(verdict_on(contract, night, day)).overall
    assert overall.change == pytest.approx(0.5)
    assert overall.low < 0.5 < overall.high


# Pass rests on the current stage.


def test_a_pass_of_an_earlier_stage_is_no_pass_of_this_one():
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    plenty, little = ((40_000, 1_000_000), (40_000, 1_000_000)), ((400, 10_000), (400, 10_000))
    assert verdict_on(contract, a_stage(plenty)).outcome is Outcome.PASS
    assert verdict_on(contract, a_stage(plenty), a_stage(little)).outcome is Outcome.INCONCLUSIVE


def test_every_slice_must_be_assured():
    countries = {**HEALTHY, "MT": ((60, 3000), (60, 3000))}
    contract = a_contract(ROUGHLY_STEADY)
    verdict = verdict_on(contract, a_stage(countries=countries))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.UNDECIDED)
    assert "country=MT (+0.0 %, 60 events of 3 000, about 8 min more)" in verdict.message
    assert gate_status(verdict, "canary", datetime(2026, 11, 23, tzinfo=UTC)).eta == "8 min"


def test_no_proof_is_asked_for_when_assure_says_none():
    clause = {**STEADY, "assure": {"overall": "none", "slices": "none"}}
    verdict = verdict_on(a_contract(clause), a_stage(countries={"FR": ((2, 100), (2, 100))}))
    assert verdict.outcome is Outcome.PASS


def test_thin_slices_are_assured_together_and_shown():
    """Nobody waits weeks for 0.01 % of the traffic; but together the thin slices must not hide harm."""
    thin = {f"T{i}": ((2, 100), (2, 100)) for i in range(30)}
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries={**HEALTHY, **thin}))
    assert verdict.outcome is Outcome.INCONCLUSIVE, "together they have 120 events in both arms: too few"
    more = {f"T{i}": ((30, 1500), (30, 1500)) for i in range(60)}
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries={**HEALTHY, **more}))
    assert verdict.outcome is Outcome.PASS
    assert slice_of(verdict, "T7").outcome is Outcome.INCONCLUSIVE
    assert "60 slices with little traffic only together" in clause_of(verdict).message


def test_a_request_counts_once_in_the_thin_slices_of_several_dimensions():
    """The same small groups, cut in four ways: what one cut cannot exclude, four cuts of it cannot either."""
    thin = {f"T{i}": ((2, 100), (2, 100)) for i in range(30)}
    cut = a_stage(countries={**HEALTHY, **thin})
    more = ["channel", "segment", "plan"]
    both = cut.counts["block-rate", "country"]
    for name in more:
        parts = tuple(((name, part[0][1]),) for part in both.slices)
        cut.counts["block-rate", name] = SliceCounts(slices=parts, events=both.events, of=both.of)
    contract = a_contract({**ROUGHLY_STEADY, "per": ["country", *more]})
    contract.slices.extend(SliceDimension(name=name, labels=[name]) for name in more)
    assert verdict_on(a_contract(ROUGHLY_STEADY), cut).outcome is Outcome.INCONCLUSIVE
    verdict = verdict_on(contract, cut)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC)
    assert "in the slices with little traffic taken together" in verdict.message


def test_a_slice_that_only_the_candidate_has_is_not_thin():
    """However much there is of it, nothing of it is proved; its label may be written in another way: fr for FR."""
    countries = {**HEALTHY, "fr": ((0, 0), (145, 6_850))}
    assert verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries=HEALTHY)).outcome is Outcome.PASS
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries=countries))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)


def test_an_expected_slice_is_never_thin():
    countries = {**HEALTHY, "MT": ((2, 100), (2, 100))}
    verdict = verdict_on(a_contract(ROUGHLY_STEADY, expected=["MT"]), a_stage(countries=countries))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC)


# What is not known.


@pytest.mark.parametrize(
    ("silent", "where"),
    [
        pytest.param(((20, 1000), (0, 0)), "the candidate", id="candidate"),
        pytest.param(((0, 0), (20, 1000)), "the baseline", id="baseline"),
        pytest.param(None, "both arms", id="never seen"),
    ],
)
def test_a_silent_expected_slice_is_inconclusive(silent, where):
    countries = {**HEALTHY, **({"US": silent} if silent else {})}
    verdict = verdict_on(a_contract(ROUGHLY_STEADY, expected=["FR", "US"]), a_stage(countries=countries))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.SILENT_SLICE)
    assert verdict.message == f"clause steady: expected slices are silent: country=US in {where}"


def test_an_expected_value_of_one_label_may_have_a_comma():
    """Such as a country's full name; it is one value, and no slice of its first half is waited for."""
    name = "Korea, Republic of"
    contract = a_contract(ROUGHLY_STEADY, expected=[name])
    verdict = verdict_on(contract, a_stage(countries={name: HEALTHY["FR"], **HEALTHY}))
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.WITHIN_CONTRACT), verdict.message
    verdict = verdict_on(contract, a_stage(countries=HEALTHY))
    assert verdict.message == f"clause steady: expected slices are silent: country={name} in both arms"


def test_a_slice_expected_in_two_labels_is_written_with_a_comma():
    contract = a_contract(ROUGHLY_STEADY, labels=["country", "channel"], expected=["FR,web"])
    verdict = verdict_on(contract, a_stage(countries=HEALTHY))
    assert "country=FR,channel=web in both arms" in verdict.message


@pytest.mark.parametrize(
    ("arms", "where"),
    [
        pytest.param(((0, 0), (20, 1000)), "the baseline", id="baseline"),
        pytest.param(((20, 1000), (0, 0)), "the candidate", id="candidate"),
        pytest.param(None, "both arms", id="not read"),
    ],
)
def test_a_metric_without_data_is_inconclusive(arms, where):
    verdict = verdict_on(a_contract({"name": "steady", "metric": "block-rate", "within": "5%"}), a_stage(arms))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)
    assert verdict.message == f"clause steady: metric block-rate has no data in {where}"


def test_a_dimension_without_slices_is_inconclusive():
    plenty = ((40_000, 1_000_000), (40_000, 1_000_000))
    verdict = verdict_on(a_contract(), a_stage(plenty))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)
    assert "was seen in no slice of country" in verdict.message


@pytest.mark.parametrize("per", [[], ["country"]])
def test_a_metric_without_events_passes_when_no_proof_is_asked_for(per):
    """There are no thin slices here that something would have to be proved of together."""
    clause = {"name": "steady", "metric": "block-rate", "noWorse": "20%", "per": per}
    none = {"overall": "none", "slices": "none"} if per else {"overall": "none"}
    quiet = a_stage(countries={"DE": ((0, 54_000), (0, 6000)), "FR": ((0, 54_000), (0, 6000))})
    verdict = verdict_on(a_contract({**clause, "assure": none}), quiet)
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.WITHIN_CONTRACT)


@pytest.mark.parametrize("errors", [0, 1])
@pytest.mark.parametrize(
    "assure",
    [{"overall": "0.5pp", "slices": "1pp"}, {"overall": "none", "slices": "none"}],
    ids=["in points", "none"],
)
def test_thirty_requests_do_not_hold_a_gate_because_there_are_no_errors_at_all(assure, errors):
    """What passes with one error passes with none; the candidate need not have seen each of the smallest slices."""
    clause = {"name": "steady", "metric": "block-rate", "per": ["country"], "noWorse": "0.5pp"}
    contract = a_contract({**clause, "assure": assure})
    countries = {"FR": ((errors, 54_000), (errors, 6_000)), "MT": ((0, 30), (0, 3)), "SM": ((0, 9), (0, 0))}
    verdict = verdict_on(contract, a_stage(countries=countries))
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.WITHIN_CONTRACT)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 1e9])
def test_what_cannot_be_a_count_is_not_seen(bad):
    """NaN, infinite, negative, more events than requests: as if the arm had said nothing."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    verdict = verdict_on(contract, a_stage(((bad, 1e6), (20_000, 1e6))))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)


def test_a_clause_of_another_stage_is_left_out():
    contract = a_contract({**STEADY, "stages": ["full"]})
    verdict = verdict_on(contract, a_stage(countries=HARMED))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NOT_JUDGED)
    assert verdict.message == "no clause of the contract is judged in a canary stage"


def test_a_first_release_is_judged_by_absolute_clauses_only():
    contract = a_contract(STEADY, FEW_ERRORS)
    stage = a_stage(errors=((0, 0), (10, 100_000)), kind="full")
    verdict = verdict_on(contract, stage, has_baseline=False)
    assert verdict.outcome is Outcome.PASS
    assert [clause.clause for clause in verdict.clauses] == ["few-errors"]


def test_a_first_release_without_absolute_clauses_says_that_there_is_no_baseline():
    verdict = verdict_on(a_contract(), a_stage(countries=HARMED), has_baseline=False)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_BASELINE)


def test_without_a_baseline_at_full_only_absolute_clauses_are_judged_with_their_own_share():
    """What the relative clauses have spent in earlier stages is spent: the others get no more than they had."""
    stage = a_stage(errors=((0, 0), (10, 100_000)), kind="full")
    verdict = judge(a_contract(STEADY, FEW_ERRORS), (stage,), error_budget=0.01, has_baseline=True, compared=False)
    assert [(clause.clause, clause.overall.level) for clause in verdict.clauses] == [("few-errors", 0.005)]
    assert verdict.outcome is Outcome.PASS


# More slices than allowed.


def test_the_smallest_slices_are_folded_into_other():
    countries = {f"C{i}": ((float(20 * i), 1000.0 * i), (float(20 * i), 1000.0 * i)) for i in range(1, 11)}
    verdict = verdict_on(a_contract(expected=["C1"], atMost=4), a_stage(countries=countries))
    parts = {dict(part.part)["country"]: part.of for part in clause_of(verdict).slices}
    assert parts.keys() == {"C1", "C9", "C10", "other"}
    assert parts["other"] == (35_000, 35_000)


def test_an_expected_slice_that_is_called_other_is_one_with_the_folded_ones():
    """The model server counts values that were not declared as ``other``: who expects it sees it once."""
    countries = {f"C{i}": ((20.0 * i, 1000.0 * i), (20.0 * i, 1000.0 * i)) for i in range(1, 11)}
    countries["other"] = countries["C1"]
    verdict = verdict_on(a_contract(expected=["other"], atMost=4), a_stage(countries=countries))
    names = [dict(part.part)["country"] for part in clause_of(verdict).slices]
    assert ["C10", "C8", "C9", "other"] == sorted(names)


def test_harm_in_other_is_found():
    countries = {f"C{i}": ((200.0, 10_000.0), (600.0, 10_000.0)) for i in range(20)}
    verdict = verdict_on(a_contract(atMost=3), a_stage(countries={**HEALTHY, **countries}))
    assert Blame("steady", country("other")) in verdict.blame


# Actions.


@pytest.mark.parametrize(
    ("on_breach", "want", "action"),
    [
        ("Rollback", Outcome.BREACH, OnBreach.ROLLBACK),
        ("Hold", Outcome.BREACH, OnBreach.HOLD),
        ("Warn", Outcome.PASS, OnBreach.WARN),
    ],
)
def test_a_broken_clause_does_what_it_says(on_breach, want, action):
    harmed = a_stage(((20_000, 1_000_000), (30_000, 1_000_000)), errors=((10, 1_000_000), (10, 1_000_000)))
    clause = {"name": "steady", "metric": "block-rate", "within": "5%", "onBreach": on_breach}
    verdict = verdict_on(a_contract(clause, FEW_ERRORS), harmed)
    assert (verdict.outcome, verdict.on_breach) == (want, action)
    assert clause_of(verdict).outcome is Outcome.BREACH


def test_a_clause_that_only_warns_does_not_keep_the_gate_waiting():
    little = a_stage(((2, 100), (2, 100)), errors=((10, 1_000_000), (10, 1_000_000)))
    clause = {"name": "steady", "metric": "block-rate", "within": "5%", "onBreach": "Warn"}
    assert verdict_on(a_contract(clause, FEW_ERRORS), little).outcome is Outcome.PASS


ADVICE = {"name": "steady", "metric": "block-rate", "within": "5%", "onBreach": "Warn"}


@pytest.mark.parametrize(
    ("clauses", "blocks", "want"),
    [
        pytest.param(
            [ADVICE],
            60_000,
            "every clause only warns: clause steady is broken in all traffic: 2.0 % -> 6.0 %, +200 % ",
            id="the only clause is broken",
        ),
        pytest.param(
            [ADVICE, FEW_ERRORS],
            60_000,
            "every clause holds: few-errors; a warning only: clause steady is broken in all traffic: 2.0 % -> 6.0 %, ",
            id="one beside a clause that holds is broken",
        ),
        pytest.param([ADVICE], 20_900, "every clause only warns: none is broken", id="the only clause is undecided"),
        pytest.param([ADVICE], 20_000, "every clause holds: steady", id="the only clause holds"),
    ],
)
def test_a_gate_that_passes_names_what_it_only_warns_of(clauses, blocks, want):
    """A broken clause is never among those that hold."""
    stage = a_stage(((20_000, 1e6), (blocks, 1e6)), errors=((10, 1_000_000), (10, 1_000_000)))
    verdict = verdict_on(a_contract(*clauses), stage)
    assert verdict.outcome is Outcome.PASS
    assert verdict.message.startswith(want)


# Numbers for people.


def test_an_interval_excludes_the_limit_exactly_when_its_slice_is_blamed():
    for blocks in range(288, 520, 8):
        verdict = verdict_on(a_contract(), a_stage(countries={**HEALTHY, "FR": ((288, 13_750), (blocks, 13_700))}))
        part = slice_of(verdict, "FR")
        assert (part.outcome is Outcome.BREACH) == (part.low > 0.05)
        assert part.low < part.change < part.high


def test_a_rate_that_was_zero_has_no_relative_change():
    verdict = verdict_on(a_contract(), a_stage(countries={**HEALTHY, "MT": ((0, 3000), (40, 3000))}))
    part = slice_of(verdict, "MT")
    assert part.outcome is Outcome.BREACH
    assert part.change is None
    assert "country=MT: 0.0 % -> 1.3 %, from nothing, limit 5 %" in verdict.message
    assert verdict.worst == "block-rate country=MT 0.0% -> 1.3%, from nothing (limit 5%)"


def test_gate_status_keeps_the_worst_slices_as_short_strings():
    thin = {f"T{i}": ((30, 1500), (30, 1500)) for i in range(60)}
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries={**HARMED, **thin}))
    status = gate_status(verdict, "canary-5", now)
    clause = status.clauses[0]
    assert (status.stage, status.verdict, status.worst) == ("canary-5", "Breach", verdict.worst)
    assert len(clause.worst) == 10
    assert (clause.slices_judged, clause.worst[0].slice) == (62, "country=FR")
    worst = clause.worst[0]
    assert (worst.baseline, worst.candidate, worst.change, worst.limit) == ("2.1 %", "3.6 %", "+74 %", "5%")
    assert worst.candidate_counts.model_dump() == {"events": "500", "of": "13700"}


def test_slices_of_another_order_or_stage_line_up():
    """A slice that appears late, and rows in another order, are still the same slices."""
    early = a_stage(countries={"DE": HEALTHY["DE"], "FR": ((288, 13_750), (400, 13_700))})
    late = a_stage(
        countries={"FR": ((288, 13_750), (400, 13_700)), "AT": ((20, 1000), (20, 1000)), "DE": HEALTHY["DE"]}
    )
    part = slice_of(verdict_on(a_contract(), early, late), "FR")
    assert part.events == (576, 800)


def test_a_slice_that_the_contract_does_not_ask_for_is_not_judged():
    stage = a_stage(countries=HARMED)
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    assert clause_of(verdict_on(contract, stage)).slices == ()


def test_counts_without_slices_are_allowed():
    empty = SliceCounts(slices=(), events=np.zeros((0, 2)), of=np.zeros((0, 2)))
    stage = a_stage(((40_000, 1_000_000), (40_000, 1_000_000)))
    stage.counts["block-rate", "country"] = empty
    assert verdict_on(a_contract(), stage).reason is Reason.NO_DATA


@pytest.mark.parametrize(("weight", "want"), [(None, Outcome.INCONCLUSIVE), (20, Outcome.BREACH)])
def test_a_heavier_clause_has_more_of_the_budget(weight, want):
    """The same counts, one of twenty clauses: with most of the weight they are proof."""
    rest = [{"name": f"errors-{i}", "metric": "error-rate", "atMost": "1%"} for i in range(19)]
    clause = {"name": "steady", "metric": "block-rate", "noWorse": "5%"}
    contract = a_contract({**clause, **({"weight": weight} if weight else {})}, *rest)
    stage = a_stage(((800, 40_000), (1020, 40_000)), errors=((10, 40_000), (10, 40_000)))
    assert verdict_on(contract, stage).outcome is want


def test_the_levels_of_all_slices_are_the_budget():
    """Half for all traffic, half for the slices by the root of their traffic: a bound can be checked by hand."""
    verdict = verdict_on(a_contract(STEADY, FEW_ERRORS), a_stage(countries=HARMED, errors=((1, 1000), (1, 1000))))
    steady, errors = verdict.clauses
    roots = [sum(part.of) ** 0.5 for part in steady.slices]
    assert steady.overall.level == pytest.approx(0.0025)
    assert [part.level for part in steady.slices] == pytest.approx([0.0025 * root / sum(roots) for root in roots])
    assert errors.overall.level == pytest.approx(0.005)
    assert (steady.engine, errors.engine) == ("counts", "limit")


# How much longer.


def test_the_eta_is_when_the_same_rates_would_pass():
    """What is judged Inconclusive with an ETA passes when that much more of the same has been seen, not much before."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    waiting = verdict_on(contract, a_stage(((400, 20_000), (404, 20_000)), seconds=600))
    assert waiting.outcome is Outcome.INCONCLUSIVE
    factor = 1 + waiting.eta.total_seconds() / 600
    for share, want in [(1.01, Outcome.PASS), (0.97, Outcome.INCONCLUSIVE)]:
        f = factor * share
        later = verdict_on(contract, a_stage(((400 * f, 20_000 * f), (404 * f, 20_000 * f)), seconds=600 * f))
        assert later.outcome is want


@pytest.mark.parametrize("candidate", [0, 440])
def test_there_is_no_eta_when_waiting_does_not_help(candidate):
    """Nothing was seen of the candidate, or its rate is beyond what is to be excluded."""
    contract = a_contract({"name": "steady", "metric": "block-rate", "within": "5%"})
    verdict = verdict_on(contract, a_stage(((400, 20_000), (candidate, 20_000 if candidate else 0))))
    assert (verdict.outcome, verdict.eta) == (Outcome.INCONCLUSIVE, None)


def test_the_gate_waits_for_its_slowest_slice():
    countries = {**HEALTHY, "MT": ((66, 3000), (66, 3000)), "LU": ((58, 3000), (58, 3000))}
    verdict = verdict_on(a_contract(ROUGHLY_STEADY), a_stage(countries=countries))
    assert verdict.eta == slice_of(verdict, "LU").eta > slice_of(verdict, "MT").eta
    assert verdict.message.index("country=LU") < verdict.message.index("country=MT")


def test_a_message_tells_which_slices_are_late_for_the_deadline():
    countries = {**HEALTHY, "MT": ((66, 3000), (66, 3000)), "LU": ((58, 3000), (58, 3000))}
    told = [a_contract(ROUGHLY_STEADY), a_stage(countries=countries)]
    early, late = (slice_of(verdict_on(*told), name).eta for name in ("MT", "LU"))
    between = verdict_on(*told, time_left=(early + late) / 2)
    assert f"about {span(late)} more, not within the deadline); country=MT" in between.message
    assert f"about {span(early)} more)" in between.message
    assert "deadline" not in verdict_on(*told, time_left=late).message
    assert verdict_on(*told, time_left=timedelta(0)).clauses[0].outcome is Outcome.INCONCLUSIVE


def test_a_breach_waits_for_nothing():
    """Beside the broken clause, another is undecided and knows how long; the gate has its verdict."""
    verdict = verdict_on(a_contract(STEADY, FEW_ERRORS), a_stage(countries=HARMED, errors=((0, 0), (0, 2000))))
    assert clause_of(verdict, "few-errors").eta is not None
    assert (verdict.outcome, verdict.eta) == (Outcome.BREACH, None)
    assert gate_status(verdict, "canary", datetime(2026, 11, 23, tzinfo=UTC)).eta is None


# Bursts.


def test_bursts_count_as_what_they_tell():
    """Every request came five times: the counts shown are those seen, the evidence is that of a fifth."""
    seen, told = {**HARMED}, {k: tuple((x / 5, n / 5) for x, n in arms) for k, arms in HARMED.items()}
    contract = a_contract(ROUGHLY_STEADY)
    bursty = judge(contract, (a_stage(countries=seen),), error_budget=0.01, has_baseline=True, design_effect=5)
    fifth = verdict_on(contract, a_stage(countries=told))
    assert slice_of(bursty, "FR").events == (288, 500)
    assert slice_of(bursty, "FR").log_e == pytest.approx(slice_of(fifth, "FR").log_e)
    assert (bursty.outcome, verdict_on(contract, a_stage(countries=seen)).outcome) == (
        Outcome.INCONCLUSIVE,
        Outcome.BREACH,
    )
