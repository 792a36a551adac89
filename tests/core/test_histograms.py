"""
Quantiles and distributions: exact proofs from counts above bounds, and the population stability index.

Published: the stability index of (120, 80, 100) against three times 1000 (the design's reference), and its mean under
no change (Yurdakul and Naranjo 2020).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrelease.core.evidence import HARM, Arms
from modelrelease.core.histograms import (
    Buckets,
    distance_evidence,
    groups,
    level_evidence,
    quantiles,
    ratio_evidence,
    shift_evidence,
    stability,
)
from modelrelease.core.question import DISTANCE_BET

FINE = 0.05 * 1.05 ** np.arange(80)
"""Bounds 5 % apart, from 0.05 to 2.4."""

P99 = Buckets(FINE, tail=0.01)


def histogram(values, bounds=FINE):
    """Return the bins of *values*."""
    return np.histogram(values, bins=np.concatenate([[-np.inf], bounds, [np.inf]]))[0].astype(float)


def arms(candidate, baseline):
    """Return one hypothesis of two histograms."""
    mine, theirs = (np.atleast_2d(np.asarray(bins, dtype=float)) for bins in (candidate, baseline))
    return Arms(mine, mine.sum(axis=1), theirs, theirs.sum(axis=1))


def latencies(rng, number, factor=1.0):
    """Return latencies around 0.1 s, with a 99th percentile of 0.32 s times *factor*."""
    return factor * 0.1 * np.exp(0.5 * rng.standard_normal(number))


def one(bound):
    return np.array([bound])


# Quantiles.


@pytest.mark.parametrize(
    ("factor", "sign", "bound", "proved"),
    [
        pytest.param(1.5, 1, 1.1, True, id="slower by half is more than 10 %"),
        pytest.param(1.0, 1, 1.1, False, id="no change is not more than 10 %"),
        pytest.param(1.0, -1, 1.25, True, id="no change is less than 25 %"),
        pytest.param(1.5, -1, 1.25, False, id="slower by half is not less than 25 %"),
        pytest.param(0.6, -1, 1.0, True, id="faster is faster"),
    ],
)
def test_a_quantile_that_moved_is_proved_from_counts_above_bounds(factor, sign, bound, proved):
    rng = np.random.default_rng(1)
    counts = arms(histogram(latencies(rng, 20_000, factor)), histogram(latencies(rng, 100_000)))
    assert proved is bool(ratio_evidence([counts], P99, one(bound), sign, HARM)[0] > np.log(1000))


def test_a_shift_is_proved_in_the_histograms_unit():
    rng = np.random.default_rng(2)
    counts = arms(histogram(latencies(rng, 20_000, 1.5)), histogram(latencies(rng, 100_000)))
    assert shift_evidence([counts], P99, one(0.05), 1, HARM)[0] > np.log(1000)
    assert shift_evidence([counts], P99, one(0.25), 1, HARM)[0] < 0
    assert shift_evidence([counts], P99, one(0.25), -1, HARM)[0] > np.log(1000)


def test_a_quantile_alone_is_held_against_a_limit():
    rng = np.random.default_rng(3)
    counts = arms(histogram(latencies(rng, 20_000)), np.zeros(len(FINE) + 1))
    assert level_evidence([counts], P99, one(0.25), 1, HARM)[0] > np.log(1000)
    assert level_evidence([counts], P99, one(0.45), -1, HARM)[0] > np.log(1000)
    assert level_evidence([counts], P99, one(0.45), 1, HARM)[0] < 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("nothing", ["both arms", "the candidate", "the baseline"])
def test_silence_proves_nothing(sign, nothing):
    seen, none = histogram(latencies(np.random.default_rng(4), 5000)), np.zeros(len(FINE) + 1)
    counts = {
        "both arms": arms(none, none),
        "the candidate": arms(none, seen),
        "the baseline": arms(seen, none),
    }[nothing]
    assert ratio_evidence([counts], P99, one(1.1), sign, HARM)[0] <= 0
    assert shift_evidence([counts], P99, one(0.1), sign, HARM)[0] <= 0
    assert distance_evidence([counts], Buckets(FINE, edges=(0, 20, 30)), one(0.2), sign, DISTANCE_BET, 0.01)[0] <= 0
    if nothing != "the baseline":
        assert level_evidence([counts], P99, one(0.25), sign, HARM)[0] <= 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_histogram_without_bounds_proves_nothing(sign):
    counts = arms([1000.0], [1000.0])
    for evidence in (ratio_evidence, shift_evidence, level_evidence):
        assert evidence([counts], Buckets(np.zeros(0), tail=0.01), one(1.1), sign, HARM)[0] == 0


def test_bounds_of_nothing_or_less_have_no_ratio():
    """Scores from -1 to 1: a ratio of quantiles below 0 says nothing."""
    bounds = np.array([-0.5, 0.0])
    counts = arms([100.0, 50.0, 50.0], [10.0, 90.0, 100.0])
    assert ratio_evidence([counts], Buckets(bounds, tail=0.5), one(1.1), 1, HARM)[0] == 0


@settings(max_examples=60, deadline=None)
@given(
    base_tail=st.floats(0.002, 0.05),
    tail=st.floats(0.002, 0.05),
    n=st.integers(5, 25),
    base_n=st.integers(5, 25),
)
def test_the_evidence_is_fair_by_enumeration(base_tail, tail, n, base_n):
    """
    One bound, tail 10 %: "q1 <= q0" is false only where the candidate's quantile lies above the bound and the
    baseline's does not. Whatever else is true, the expected e-value is at most 1.
    """
    # Shares above the bound; the quantile is above it when more than 0.1 is.
    share, base_share = 0.1 + tail * (1 if base_tail > 0.02 else -1), 0.1 + base_tail
    buckets = Buckets(np.array([1.0]), tail=0.1)
    from scipy.stats import binom

    above, base_above = np.meshgrid(np.arange(n + 1), np.arange(base_n + 1), indexing="ij")
    chance = binom.pmf(above, n, share) * binom.pmf(base_above, base_n, base_share)
    counts = Arms(
        np.column_stack([n - above.ravel(), above.ravel()]).astype(float),
        np.full(above.size, float(n)),
        np.column_stack([base_n - base_above.ravel(), base_above.ravel()]).astype(float),
        np.full(above.size, float(base_n)),
    )
    log_e = ratio_evidence([counts], buckets, np.ones(above.size), 1, HARM)
    # base_share > 0.1: the baseline's quantile is above the bound, so "q1 <= q0" cannot be refuted there.
    assert (np.exp(log_e) * chance.ravel()).sum() <= 1 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("bound", [1.1, 1.3])
def test_looking_often_keeps_the_level(bound):
    """200 releases exactly at their margin, 60 looks each: at most 5 % ever reach an e-value of 20."""
    rng = np.random.default_rng(5)
    releases, looks = 200, 60
    mine = np.stack([histogram(latencies(rng, 200, bound)) for _ in range(releases * looks)])
    theirs = np.stack([histogram(latencies(rng, 400)) for _ in range(releases * looks)])
    mine, theirs = (np.cumsum(bins.reshape(releases, looks, -1), axis=1) for bins in (mine, theirs))
    ever = np.zeros(releases, dtype=bool)
    for look in range(looks):
        counts = Arms(mine[:, look], mine[:, look].sum(axis=1), theirs[:, look], theirs[:, look].sum(axis=1))
        ever |= ratio_evidence([counts], P99, np.full(releases, bound), 1, HARM) >= np.log(20)
    assert ever.mean() <= 0.05


def test_stages_are_added_as_evidence_for_quantiles():
    rng = np.random.default_rng(6)
    stages = [arms(histogram(latencies(rng, 2000, 1.4)), histogram(latencies(rng, 9000))) for _ in range(2)]
    apart = [ratio_evidence([stage], P99, one(1.1), 1, HARM)[0] for stage in stages]
    assert ratio_evidence(stages, P99, one(1.1), 1, HARM)[0] > max(apart)


@pytest.mark.parametrize(
    ("bins", "q", "want"),
    [
        pytest.param([0, 100, 0, 0], "0.5", 1.5, id="in the middle of its bucket"),
        pytest.param([100, 0, 0, 0], "0.5", 0.5, id="the first bucket begins at 0"),
        pytest.param([0, 0, 0, 100], "0.5", 4.0, id="beyond the last bound it is that bound"),
        pytest.param([50, 50, 0, 0], "0.75", 1.5, id="between two buckets"),
    ],
)
def test_quantiles_are_shown_as_prometheus_interpolates_them(bins, q, want):
    buckets = Buckets(np.array([1.0, 2.0, 4.0]), tail=1 - float(q))
    assert want == pytest.approx(quantiles(np.array([bins], dtype=float), buckets)[0])


def test_no_observations_have_no_quantile():
    assert np.isnan(quantiles(np.zeros((1, 4)), Buckets(np.array([1.0, 2.0, 4.0]), tail=0.01))[0])


# Distributions.


def test_stability_index_reference():
    """Raw 0.027031, corrected 0.019559, standard error 0.019921; ours adds half a count to each bin."""
    counts = arms([120.0, 80.0, 100.0], [1000.0, 1000.0, 1000.0])
    distance, variance, usable = stability(counts, Buckets(np.array([1.0, 2.0]), edges=(0, 1, 2)))
    assert usable[0]
    assert distance[0] == pytest.approx(0.019559, rel=0.02)
    assert np.sqrt(variance[0]) == pytest.approx(0.019921, rel=0.02)


def test_the_index_of_equal_distributions_is_nothing_on_average():
    """Raw, it would be (B - 1) (1/n1 + 1/n0) = 0.0198 (Yurdakul and Naranjo 2020)."""
    rng = np.random.default_rng(7)
    shares = np.full(10, 0.1)
    counts = Arms(
        rng.multinomial(500, shares, 2000).astype(float),
        np.full(2000, 500.0),
        rng.multinomial(5000, shares, 2000).astype(float),
        np.full(2000, 5000.0),
    )
    distance, _, usable = stability(counts, Buckets(np.arange(9.0), edges=tuple(range(10))))
    assert usable.all()
    assert abs(distance.mean()) < 0.001


@pytest.mark.parametrize(
    ("moved", "sign", "proved"),
    [
        pytest.param(0.0, -1, True, id="no change is less than 0.2"),
        pytest.param(0.0, 1, False, id="no change is not more than 0.2"),
        pytest.param(1.0, 1, True, id="shifted by a standard deviation is more than 0.2"),
        pytest.param(1.0, -1, False, id="shifted by a standard deviation is not less than 0.2"),
    ],
)
def test_a_distribution_that_moved_is_proved(moved, sign, proved):
    rng = np.random.default_rng(8)
    bounds = np.linspace(-3, 3, 61)
    base = histogram(rng.standard_normal(20_000), bounds)
    counts = arms(histogram(rng.standard_normal(2000) + moved, bounds), base)
    buckets = Buckets(bounds, edges=groups(base))
    assert proved is bool(distance_evidence([counts], buckets, one(0.2), sign, DISTANCE_BET, 0.01)[0] > np.log(100))


def test_few_observations_tell_nothing_of_a_distribution():
    counts = arms([60.0, 60.0, 60.0], [600.0, 100.0, 2.0])
    assert (
        distance_evidence([counts], Buckets(np.arange(2.0), edges=(0, 1, 2)), one(0.2), 1, DISTANCE_BET, 0.01)[0] <= 0
    )


@pytest.mark.parametrize(
    ("bins", "want"),
    [
        pytest.param([10] * 10, tuple(range(10)), id="ten tenths"),
        pytest.param([1] * 100, tuple(range(0, 100, 10)), id="a hundred hundredths"),
        pytest.param([50, 50], (0, 1), id="a coarse histogram has fewer"),
        pytest.param([0, 0, 0], (0,), id="without observations there is one"),
        pytest.param([90, 9, 1], (0, 1), id="a small rest joins its neighbour"),
    ],
)
def test_bins_hold_about_a_tenth_of_the_baseline(bins, want):
    assert want == groups(np.array(bins, dtype=float))
