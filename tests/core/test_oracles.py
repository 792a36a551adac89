"""
The engines against what others have published or computed.

Lindon and Malek's examples as savvi prints them, R's PropCIs and Gu and others as statsmodels' tests have them, and
confseq's unit tests. Where others mix over a continuous prior, the engine's grid is placed on the prior's quantiles.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelrelease.core.assess import slice_weights
from modelrelease.core.evidence import (
    HARM,
    Arms,
    Engine,
    best_rho,
    conditional_grid,
    difference_mle,
    log_evidence,
    log_sum,
    mixture,
    normal_mixture,
    ratio_mle,
)
from tests.core.test_evidence import arms, log_e

pytestmark = pytest.mark.slow

NORMAL_975 = 1.959963984540054


@pytest.mark.parametrize(
    ("want", "candidate", "baseline", "prior"),
    [
        pytest.param(3.354668, (550, 0.5), (450, 0.5), 100, id="a split of 550 to 450"),
        pytest.param(-np.log(0.045579631759249686), (62, 0.2), (148, 0.8), 100, id="a canary of Poisson counts"),
    ],
)
def test_counts_are_lindon_and_maleks_mixture_when_the_grid_is_their_prior(want, candidate, baseline, prior):
    """Their Dirichlet prior on the candidate's share of the events is a grid on its quantiles."""
    (x1, share), (x0, rest) = candidate, baseline
    shares = stats.beta.ppf((np.arange(20_000) + 0.5) / 20_000, prior * share, prior * rest)
    factors = shares / (1 - shares) * rest / share
    found = mixture(conditional_grid(arms(x1, share, x0, rest), 1.0, factors))
    assert float(found[0]) == pytest.approx(want, abs=2e-4)


def test_the_slope_of_counts_is_the_score_test_of_two_poisson_rates():
    """60 in 51477.5 against 30 in 54308.7: z = 3.417402, one-sided p = 0.000316 (Gu and others 2008)."""
    step = 1e-4
    down, here, up = conditional_grid(arms(60, 51477.5, 30, 54308.7), 1.0, np.exp(np.array([-step, 0.0, step])))[:, 0]
    slope, curvature = (up - down) / (2 * step), (2 * here - up - down) / step**2
    z = slope / np.sqrt(curvature)
    assert z == pytest.approx(3.417402, abs=1e-5)
    assert stats.norm.sf(z) == pytest.approx(0.000316, abs=1e-6)


@pytest.mark.parametrize(("limit", "sign"), [(1.220853, 1), (42.575718, -1)])
def test_score_limits_of_a_ratio_match_r(limit, sign):
    """7 of 34 against 1 of 34: riskscoreci's interval is (1.220853, 42.575718), by the restricted rates of ours."""
    base = ratio_mle(arms(7, 34, 1, 34), limit)[0]
    rate = limit * base
    variance = (rate * (1 - rate) + limit**2 * base * (1 - base)) / 34
    assert (7 / 34 - limit / 34) / np.sqrt(variance) == pytest.approx(sign * NORMAL_975, abs=1e-4)


@pytest.mark.parametrize(("limit", "sign"), [(0.0270416, 1), (0.3452912, -1)])
def test_score_limits_of_a_difference_match_r(limit, sign):
    """The same counts: diffscoreci's interval is (0.0270416, 0.3452912), with Miettinen and Nurminen's N / (N - 1)."""
    base = difference_mle(arms(7, 34, 1, 34), limit)[0]
    rate = base + limit
    variance = (rate * (1 - rate) + base * (1 - base)) / 34 * 68 / 67
    assert (6 / 34 - limit) / np.sqrt(variance) == pytest.approx(sign * NORMAL_975, abs=1e-4)


def test_both_directions_are_confseqs_two_sided_mixture():
    """log(s=10, v=100) = -0.6510052, and its bound at 5 % is 30.35209."""
    rho = best_rho(100, 0.05)

    def two_sided(score):
        ends = [normal_mixture(np.array([sign * score]), np.array([100.0]), rho) for sign in (1, -1)]
        return float((log_sum(np.stack(ends)) - np.log(2))[0])

    assert two_sided(10.0) == pytest.approx(-0.6510052, rel=1e-6)
    assert two_sided(30.35209) == pytest.approx(np.log(20), abs=1e-5)


def test_frequency_engine_reference():
    """20 events where 10 are allowed."""
    assert log_e(Engine.FREQUENCY, arms(20, 10_000, 0, 0), 0.001) == pytest.approx(2.3770264075302103, abs=1e-6)


@pytest.mark.parametrize(
    ("engine", "bound", "base"),
    [
        (Engine.COUNTS, 1.05, 40),
        (Engine.RATIO, 1.05, 400),
        (Engine.DIFFERENCE, 0.01, 40),
        (Engine.LIMIT, 0.04, 0),
        (Engine.FREQUENCY, 0.04, 0),
    ],
)
def test_more_harm_is_more_evidence(engine, bound, base):
    """From the rate that is allowed on, every further event of the candidate raises the evidence."""
    of, base_of = 1000.0, (1000.0 if base else 0.0)
    allowed = {Engine.COUNTS: 42, Engine.RATIO: 420, Engine.DIFFERENCE: 50}.get(engine, 40)
    events = np.arange(allowed, 1000.0)
    n = events.size
    counts = Arms(events, np.full(n, of), np.full(n, float(base)), np.full(n, base_of))
    found = log_evidence(engine, [counts], bound, 1, HARM, 0.05)
    assert (np.diff(found) > 0).all()


@given(
    st.lists(st.floats(-5, 15), min_size=1, max_size=40),
    st.lists(st.floats(1, 1e6), min_size=40, max_size=40),
    st.sampled_from([0.1, 0.05, 0.01]),
)
@settings(max_examples=200, deadline=None)
def test_the_mean_is_never_later_than_a_correction_for_many_comparisons(log_e_values, traffic, budget):
    """Whenever Bonferroni or Holm, with the judge's shares, or e-BH, with equal ones, rejects, the mean has."""
    values = np.array(log_e_values)
    n = values.size
    for weights, correction in (
        (slice_weights(np.array([sum(traffic[:n]), *traffic[1:n]])), _bonferroni),
        (np.full(n, 1 / n), _bonferroni),
        (np.full(n, 1 / n), _benjamini_hochberg),
    ):
        if correction(values, weights, budget):
            assert float(log_sum(np.log(weights) + values)) >= np.log(1 / budget) - 1e-9


def _bonferroni(log_e_values, weights, budget):
    """Whether any is rejected; Holm's first step is the same."""
    return bool((np.log(weights) + log_e_values >= np.log(1 / budget)).any())


def _benjamini_hochberg(log_e_values, weights, budget):
    """Whether e-BH rejects any: the k-th largest is at least n / (k budget) for some k (Wang and Ramdas 2022)."""
    largest = np.sort(log_e_values)[::-1]
    n = largest.size
    return bool((largest >= np.log(n / (np.arange(1, n + 1) * budget))).any())


def test_sums_of_logarithms_are_those_of_scipy():
    values = np.random.default_rng(3).normal(0, 300, (7, 50))
    from scipy.special import logsumexp

    assert log_sum(values) == pytest.approx(logsumexp(values, axis=0), rel=1e-13)


@pytest.mark.parametrize("z", [-1e6, -400.0, -38.0, -30.0, -29.999, -5.0, 0.0, 5.0, 38.0, 1e6])
def test_the_normal_mixture_is_its_integral_at_every_score(z):
    """Far out, where the normal distribution's value is 0 in floating point, too: against the asymptotic series."""
    information, rho = 99.0, 1.0
    score = z * 10
    found = float(normal_mixture(np.array([score]), np.array([information]), rho)[0])
    if z < -20:
        # log(exp(z^2 / 2) Phi(z)) = -log(|z| sqrt(2 pi)) + log(1 - 1/z^2 + 3/z^4 - 15/z^6 + ...)
        series = 1 - 1 / z**2 + 3 / z**4 - 15 / z**6
        want = 0.5 * np.log(4 * rho / 100) - np.log(-z * np.sqrt(2 * np.pi)) + np.log(series)
    else:
        want = 0.5 * np.log(4 * rho / 100) + z * z / 2 + stats.norm.logcdf(z)
    # Of a large square, the last digits are lost, as in every double.
    assert found == pytest.approx(want, abs=1e-7 + 1e-15 * z * z)
