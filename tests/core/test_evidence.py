"""
The engines against published constants, closed forms and other packages.

The published ones: confseq's unit tests, R's PropCIs through statsmodels' tests, and Fagerland (2013, 2015).
"""

import numpy as np
import pytest
from scipy import optimize, stats

from modelrelease.core.evidence import (
    HARM,
    Arms,
    Bet,
    Engine,
    best_rho,
    conditional_grid,
    difference_mle,
    log_evidence,
    mixture,
    normal_mixture,
    ratio_mle,
    signed_root_difference,
    signed_root_ratio,
)


def arms(events, of, base_events, base_of):
    """One hypothesis."""
    return Arms(*(np.atleast_1d(np.asarray(count, dtype=float)) for count in (events, of, base_events, base_of)))


def log_e(engine, counts, bound, sign=1, bet=HARM, level=0.05):
    return float(log_evidence(engine, [counts], bound, sign, bet, level)[0])


@pytest.mark.parametrize(
    ("want", "counts", "ratio"),
    [
        pytest.param(4.279553526287892, arms(60, 51477.5, 30, 54308.7), 1.0, id="two Poisson rates of Gu and others"),
        pytest.param(18.995789443833342, arms(144, 3600, 648, 32400), 1.05, id="a doubled rate at a 10 % canary"),
        pytest.param(-1.4508540944345252, arms(72, 3600, 648, 32400), 1.05, id="no change at a 10 % canary"),
    ],
)
def test_counts_engine_reference(want, counts, ratio):
    assert log_e(Engine.COUNTS, counts, ratio) == pytest.approx(want, abs=1e-6)


def test_limit_engine_reference():
    assert log_e(Engine.LIMIT, arms(20, 10_000, 0, 0), 0.001) == pytest.approx(2.3808586879168887, abs=1e-6)


def test_frequency_engine_is_the_poisson_likelihood_ratio():
    """50 events in 40 s against one a second: the mean over the grid of exp(x ln m - n c (m - 1))."""
    grid = np.array(HARM.multipliers)
    want = np.log(np.mean(np.exp(50 * np.log(grid) - 40 * (grid - 1))))
    assert log_e(Engine.FREQUENCY, arms(50, 40, 0, 0), 1.0) == pytest.approx(want)
    ratio = stats.poisson.logpmf(50, 80) - stats.poisson.logpmf(50, 40)
    assert 50 * np.log(2.0) - 40 * 1.0 == pytest.approx(ratio)


def test_one_event_breaks_a_frequency_of_nothing():
    assert log_e(Engine.FREQUENCY, arms(1, 1000, 0, 0), 0.0) > 100
    assert log_e(Engine.FREQUENCY, arms(0, 1000, 0, 0), 0.0) == 0


def test_ratio_engine_reference():
    """The value was computed with the two-sided tuning of the mixture."""
    score, information = signed_root_ratio(arms(144, 3600, 648, 32400), 1.05)
    assert score / np.sqrt(information) == pytest.approx(6.61022451, rel=1e-8)
    assert information == pytest.approx(75.842274, rel=1e-7)
    assert normal_mixture(score, information, best_rho(100, 0.05)) == pytest.approx(18.4537282927835, rel=1e-12)


def test_normal_mixture_matches_confseq():
    assert best_rho(100, 0.05) == pytest.approx(12.60056, rel=1e-6)
    one_sided = normal_mixture(np.array([10.0]), np.array([100.0]), best_rho(100, 2 * 0.05))
    assert one_sided == pytest.approx(-0.06502391, rel=1e-6)
    boundary = optimize.brentq(
        lambda s: normal_mixture(np.array([s]), np.array([100.0]), best_rho(100, 0.1))[0] - np.log(20), 1, 100
    )
    assert boundary == pytest.approx(27.66071, rel=1e-6)


def test_restricted_rates_match_a_numeric_optimum():
    counts = arms(30, 400, 200, 3600)
    assert difference_mle(counts, 0.01) == pytest.approx(0.0563779487, rel=1e-7)
    assert ratio_mle(counts, 1.05) == pytest.approx(0.0572184493, rel=1e-8)


@pytest.mark.parametrize("counts", [(30, 400, 200, 3600), (7, 34, 1, 34), (0, 50, 3, 70), (90, 100, 95, 100)])
@pytest.mark.parametrize("difference", [-0.2, -0.01, 0.01, 0.2])
def test_restricted_difference_is_likeliest(counts, difference):
    x1, n1, x0, n0 = counts
    low, high = max(0, -difference) + 1e-12, min(1, 1 - difference) - 1e-12

    def unlikely(p):
        return -stats.binom.logpmf(x1, n1, p + difference) - stats.binom.logpmf(x0, n0, p)

    best = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    found = difference_mle(arms(*counts), difference)[0]
    assert unlikely(np.clip(found, low, high)) <= best.fun + 1e-9


@pytest.mark.parametrize("ratio", [0.5, 0.95, 1.0, 1.05, 3.0])
def test_signed_root_squares_to_the_likelihood_ratio(ratio):
    """z squared is twice the log-likelihood that the restriction costs."""
    x1, n1, x0, n0 = 144, 3600, 648, 32400
    score, information = signed_root_ratio(arms(x1, n1, x0, n0), ratio)
    base = ratio_mle(arms(x1, n1, x0, n0), ratio)[0]
    cost = (
        stats.binom.logpmf(x1, n1, x1 / n1)
        + stats.binom.logpmf(x0, n0, x0 / n0)
        - stats.binom.logpmf(x1, n1, ratio * base)
        - stats.binom.logpmf(x0, n0, base)
    )
    assert score[0] ** 2 / information[0] == pytest.approx(2 * cost, rel=1e-9)
    assert np.sign(score[0]) == np.sign(x1 / n1 - ratio * x0 / n0)


def test_difference_score_bounds_match_miettinen_nurminen_loosely():
    """The signed root at the published score limits of 7/34 against 1/34 is near the normal quantile."""
    for limit, sign in [(0.0270416, 1), (0.3452912, -1)]:
        score, information = signed_root_difference(arms(7, 34, 1, 34), limit)
        assert sign * score[0] / np.sqrt(information[0]) == pytest.approx(1.96, abs=0.12)


BOUNDS = {
    Engine.COUNTS: 1.05,
    Engine.RATIO: 1.05,
    Engine.DIFFERENCE: 0.01,
    Engine.LIMIT: 0.001,
    Engine.FREQUENCY: 0.5,
}
"""A bound for every engine that needs no histogram."""


@pytest.mark.parametrize("engine", list(BOUNDS))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(arms(0, 0, 0, 0), id="nothing at all"),
        pytest.param(arms(0, 0, 40, 1000), id="no candidate"),
    ],
)
def test_no_data_is_no_evidence(engine, sign, nothing):
    bound = BOUNDS[engine]
    assert log_e(engine, nothing, bound, sign) == pytest.approx(0.0, abs=1e-9)


def test_no_baseline_is_no_evidence_of_a_change():
    for engine in (Engine.COUNTS, Engine.RATIO, Engine.DIFFERENCE):
        assert log_e(engine, arms(40, 1000, 0, 0), 1.05 if engine is not Engine.DIFFERENCE else 0.01) == pytest.approx(
            0.0, abs=1e-12
        )


def test_expected_evidence_under_the_boundary_is_at_most_one():
    """Enumerated over every outcome: 12 candidate and 40 baseline requests, 15 %, the ratio at its margin."""
    n1, n0, p = 12, 40, 0.15
    x1, x0 = np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1), indexing="ij")
    chance = stats.binom.pmf(x1, n1, 1.05 * p) * stats.binom.pmf(x0, n0, p)
    counts = arms(x1.ravel(), np.full(x1.size, n1), x0.ravel(), np.full(x0.size, n0))
    e = np.exp(log_evidence(Engine.COUNTS, [counts], 1.05, 1, HARM, 0.05))
    assert float(e @ chance.ravel()) == pytest.approx(0.881749, abs=1e-6)


@pytest.mark.parametrize(("limit", "events", "want_proof"), [(0.0, 1, True), (0.0, 0, False), (1.0, 1000, False)])
def test_limits_at_the_edge(limit, events, want_proof):
    """Nothing may happen at all: one event is proof. Anything may happen: nothing is."""
    assert (log_e(Engine.LIMIT, arms(events, 1000, 0, 0), limit) > 100) == want_proof


def test_high_limits_are_judged_on_the_misses():
    """At least 99 % good is at most 1 % bad, to the last digit."""
    good, bad = arms(970, 1000, 0, 0), arms(30, 1000, 0, 0)
    assert log_e(Engine.LIMIT, good, 0.99, -1) == pytest.approx(log_e(Engine.LIMIT, bad, 0.01, 1), abs=1e-6)


def test_stages_add_as_evidence_not_as_counts():
    """A base rate that doubles while the weight rises is no change: pooled counts would see one."""
    early, late = arms(100, 10_000, 1900, 190_000), arms(2000, 100_000, 2000, 100_000)
    pooled = arms(2100, 110_000, 3900, 290_000)
    apart = float(log_evidence(Engine.COUNTS, [early, late], 1.05, 1, HARM, 0.05)[0])
    assert log_e(Engine.COUNTS, pooled, 1.05) > np.log(1e6)
    assert apart < 0


def test_evidence_of_two_stages_is_summed_inside_the_mixture():
    one, two = arms(30, 1000, 150, 9000), arms(25, 1000, 140, 9000)
    factors = np.array(HARM.multipliers)
    summed = conditional_grid(one, 1.05, factors) + conditional_grid(two, 1.05, factors)
    assert log_evidence(Engine.COUNTS, [one, two], 1.05, 1, HARM, 0.05) == pytest.approx(mixture(summed))


@pytest.mark.parametrize("engine", [Engine.RATIO, Engine.DIFFERENCE])
@pytest.mark.parametrize("rate", [0.02, 0.3, 0.7])
@pytest.mark.parametrize("sign", [1, -1])
def test_signed_root_engines_keep_their_level_from_the_first_request(engine, rate, sign):
    """20,000 paths at the boundary, looked at after 1, 2, 4 ... requests: few ever reach 1/5 %."""
    rng = np.random.default_rng(7)
    bound = 1.0 if engine is Engine.RATIO else 0.0
    paths, ever = 20_000, np.zeros(20_000, dtype=bool)
    counts = np.zeros((4, paths))
    for batch in [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]:
        counts += np.array(
            [rng.binomial(batch, rate, paths), np.full(paths, batch)] * 1
            + [
                rng.binomial(3 * batch, rate, paths),
                np.full(paths, 3 * batch),
            ]
        )
        ever |= log_evidence(engine, [Arms(*counts)], bound, sign, Bet((2.0,), 100.0), 0.05) >= np.log(20)
    assert ever.mean() <= 0.05


def test_pieces_are_put_together_in_order():
    """More hypotheses than fit into one piece are judged as each would be alone."""
    rng = np.random.default_rng(1)
    base = rng.poisson(200, 20_000).astype(float)
    counts = Arms(rng.poisson(20, 20_000).astype(float), np.full(20_000, 1000.0), base, np.full(20_000, 10_000.0))
    bounds = rng.uniform(0.9, 1.1, 20_000)
    together = log_evidence(Engine.COUNTS, [counts], bounds, 1, HARM, 0.05)
    for index in (0, 4095, 4096, 19_999):
        alone = log_evidence(Engine.COUNTS, [counts.take(slice(index, index + 1))], bounds[index], 1, HARM, 0.05)
        assert together[index] == pytest.approx(alone[0], abs=1e-9)


def test_no_hypotheses_have_no_evidence():
    none = Arms(*(np.zeros(0) for _ in range(4)))
    for engine in BOUNDS:
        assert log_evidence(engine, [none], 0.5, 1, HARM, 0.05).shape == (0,)
