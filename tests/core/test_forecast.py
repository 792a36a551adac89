"""A forecast is what the judge would say of expected counts."""

from dataclasses import replace

import pytest

from modelrelease.api.reasons import Outcome
from modelrelease.api.release import Canary, Full, Shadow, Stage
from modelrelease.core.counts import OVERALL
from modelrelease.core.forecast import Outlook, forecast
from tests.core.judging import FEW_ERRORS, ROUGHLY_STEADY, a_contract, a_stage, country, verdict_on

CANARY = Stage(name="canary-10", canary=Canary(percent=10), deadline="2h")
SHADOW = Stage(name="shadow", shadow=Shadow(percent=50), deadline="1h")
FULL = Stage(name="full", full=Full())
NONE = (0.0, 0.0)
HOUR = {"DE": ((7200, 360_000), NONE), "FR": ((720, 36_000), NONE), "MT": ((36, 1800), NONE)}
HISTORY = a_stage(countries=HOUR, errors=((40, 400_000), NONE), seconds=3600)


def outlooks(contract, *stages, design_effect=1.0):
    return forecast(contract, HISTORY, stages, error_budget=0.01, design_effect=design_effect)


def in_part(found: tuple[Outlook, ...], part=OVERALL) -> Outlook:
    return next(outlook for outlook in found if outlook.part == part)


def _after(seconds, share, ratio, only=None):
    """Counts of a canary of that share after *seconds*, at the history's rates times *ratio*."""
    f = seconds / 3600
    return a_stage(
        countries={
            name: (
                (x * f * (1 - share), n * f * (1 - share)),
                (x * f * share * (ratio if only in (None, name) else 1), n * f * share),
            )
            for name, ((x, n), _) in HOUR.items()
        },
        seconds=seconds,
    )


@pytest.mark.parametrize("name", [None, "FR"])
def test_a_pass_is_forecast_when_the_judge_passes_expected_counts(name):
    contract = a_contract(ROUGHLY_STEADY)
    part = OVERALL if name is None else country(name)
    seconds = in_part(outlooks(contract, CANARY), part).passes_after.total_seconds()

    def outcome(seconds):
        clause = verdict_on(contract, _after(seconds, 0.1, 1.0)).clauses[0]
        return next(p.outcome for p in (clause.overall, *clause.slices) if p.part == part)

    assert (outcome(1.02 * seconds), outcome(0.97 * seconds)) == (Outcome.PASS, Outcome.INCONCLUSIVE)


def test_a_doubled_slice_is_forecast_when_the_judge_names_it():
    contract = a_contract(ROUGHLY_STEADY)
    seconds = in_part(outlooks(contract, CANARY), country("FR")).found_after.total_seconds()
    blamed = [
        {blame.part for blame in verdict_on(contract, _after(f * seconds, 0.1, 2.0, only="FR")).blame}
        for f in (1.02, 0.97)
    ]
    assert country("FR") in blamed[0]
    assert country("FR") not in blamed[1]


def test_a_shadow_proves_more_than_a_canary():
    found = outlooks(a_contract(ROUGHLY_STEADY), SHADOW, CANARY)
    shadow, canary = (
        in_part([o for o in found if o.stage == stage], country("FR")) for stage in ("shadow", "canary-10")
    )
    assert (shadow.candidate_per_second, canary.candidate_per_second) == pytest.approx((5.0, 1.0))
    assert shadow.passes_after < canary.passes_after
    assert shadow.found_after < canary.found_after


def test_at_full_only_absolute_clauses_have_a_forecast():
    found = outlooks(a_contract(ROUGHLY_STEADY, FEW_ERRORS), CANARY, FULL)
    assert {(o.stage, o.clause) for o in found} == {
        ("canary-10", "steady"),
        ("canary-10", "few-errors"),
        ("full", "few-errors"),
    }


def test_a_stage_that_cannot_conclude_says_so():
    strict = {**ROUGHLY_STEADY, "assure": {"overall": "1%", "slices": "50%"}}
    found = outlooks(a_contract(strict), CANARY)
    assert not in_part(found).in_time
    assert in_part(found, country("DE")).in_time


def test_nobody_waits_for_a_thin_slice_unless_it_is_expected():
    assert in_part(outlooks(a_contract(ROUGHLY_STEADY), CANARY), country("MT")).thin
    expected = in_part(outlooks(a_contract(ROUGHLY_STEADY, expected=["MT"]), CANARY), country("MT"))
    assert (expected.thin, expected.in_time) == (False, False)


def test_a_limit_that_the_baseline_breaks_is_never_passed():
    strict = {"name": "errors", "metric": "error-rate", "atMost": "0.005%"}
    assert in_part(outlooks(a_contract(strict), CANARY)).passes_after is None


def test_bursts_take_longer():
    one, five = (outlooks(a_contract(ROUGHLY_STEADY), CANARY, design_effect=effect) for effect in (1.0, 5.0))
    assert in_part(five).candidate_per_second == pytest.approx(in_part(one).candidate_per_second)
    longer = in_part(five).passes_after / in_part(one).passes_after
    assert longer == pytest.approx(5, rel=0.02)


def test_an_expected_slice_without_history_never_passes():
    found = forecast(
        a_contract(ROUGHLY_STEADY, expected=["US"]),
        replace(HISTORY, kind="shadow"),
        (CANARY,),
        error_budget=0.01,
        design_effect=1.0,
    )
    assert in_part(found, country("US")).passes_after is None
