"""What the baseline tells of noise: bursts count once, and an arm that differs from itself proves nothing."""

from dataclasses import replace

import pytest

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.counts import Noise
from tests.core.judging import FEW_ERRORS, STEADY, a_contract, a_stage, clause_of, slice_of, verdict_on

HARMED = {"DE": ((1800, 90_000), (200, 10_000)), "FR": ((180, 9000), (60, 1000))}
"""In FR, the candidate blocks three times as often."""

EVEN = a_stage(countries={"DE": ((900, 45_000), (900, 45_000)), "FR": ((90, 4500), (90, 4500))})
UNEVEN = a_stage(countries={"DE": ((900, 45_000), (900, 45_000)), "FR": ((30, 4500), (150, 4500))})
"""Two halves of the baseline's pods; of the uneven ones, one has nearly all blocks of FR."""


def with_noise(stage, *, effects=None, halves=None):
    """Return *stage* with what the baseline tells of noise."""
    return replace(stage, noise=Noise(design_effects=effects or {}, halves=halves))


def test_even_halves_leave_a_breach_a_breach():
    verdict = verdict_on(a_contract(), with_noise(a_stage(countries=HARMED), halves=EVEN))
    assert verdict.outcome is Outcome.BREACH


@pytest.mark.parametrize("halves", [UNEVEN, replace(UNEVEN, kind="shadow")])
def test_a_baseline_that_differs_from_itself_blames_nobody(halves):
    verdict = verdict_on(a_contract(), with_noise(a_stage(countries=HARMED), halves=halves))
    assert (verdict.outcome, verdict.reason, verdict.on_breach) == (Outcome.INCONCLUSIVE, Reason.NOISY, None)
    assert verdict.blame == ()
    assert "two halves of the baseline's own pods differ as much as a breach would" in verdict.message
    assert verdict.eta is None, "more of the same does not help"
    assert [part.eta for part in clause_of(verdict).slices] == [None, None]


def test_it_does_not_matter_which_half_is_the_worse():
    other_way = a_stage(countries={"DE": ((900, 45_000), (900, 45_000)), "FR": ((150, 4500), (30, 4500))})
    clause = {"name": "steady", "metric": "block-rate", "per": ["country"], "noWorse": "5%"}
    verdict = verdict_on(a_contract(clause), with_noise(a_stage(countries=HARMED), halves=other_way))
    assert verdict.reason is Reason.NOISY


def test_a_limit_is_judged_whatever_the_baseline_does():
    errors = a_stage(countries=HARMED, errors=((0, 100_000), (100, 11_000)))
    verdict = verdict_on(a_contract(STEADY, FEW_ERRORS), with_noise(errors, halves=UNEVEN))
    assert verdict.outcome is Outcome.BREACH
    assert [blame.clause for blame in verdict.blame] == ["few-errors"]
    assert clause_of(verdict, "steady").reason is Reason.NOISY


def test_the_estimated_design_effect_divides_the_counts_and_is_shown():
    alone = verdict_on(a_contract(), a_stage(countries=HARMED))
    bursts = verdict_on(a_contract(), with_noise(a_stage(countries=HARMED), effects={"block-rate": 4.0}))
    assert clause_of(bursts).design_effect == 4.0
    quarter = {name: tuple((x / 4, n / 4) for x, n in arms) for name, arms in HARMED.items()}
    told = verdict_on(a_contract(), a_stage(countries=quarter))
    assert slice_of(bursts, "FR").log_e == pytest.approx(slice_of(told, "FR").log_e)
    assert slice_of(bursts, "FR").of == slice_of(alone, "FR").of, "what is shown is what was counted"


def test_a_metric_without_history_is_taken_as_it_is():
    verdict = verdict_on(a_contract(), with_noise(a_stage(countries=HARMED), effects={"error-rate": 9.0}))
    assert clause_of(verdict).design_effect == 1.0


def test_bursts_are_no_noise_between_halves():
    """Counts of the halves are divided too: a difference that bursts explain does not make the traffic noisy."""
    bursts = with_noise(a_stage(countries=HARMED), effects={"block-rate": 40.0}, halves=UNEVEN)
    assert verdict_on(a_contract(), bursts).reason is not Reason.NOISY
