"""Clauses about quantiles, distributions and rates: what they find, what they say, and when a histogram cannot tell."""

import re

import numpy as np
import pytest

from modelrelease.api.contract import Contract
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import Canary, Stage
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, BinCounts, SliceCounts, StageCounts
from modelrelease.core.forecast import forecast
from modelrelease.core.judge import judge
from tests.core.judging import clause_of, country, slice_of

FINE = 0.05 * 1.05 ** np.arange(80)
DEFAULT = np.array([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
"""The bounds of Prometheus' client libraries."""

FAST = {"name": "fast", "metric": "latency", "noWorse": "10%", "assure": {"overall": "30%", "slices": "50%"}}


def a_contract(*clauses, better="Lower", **dimension):
    """Return a contract with one metric of each kind."""
    return Contract.model_validate(
        {
            "slices": [{"name": "country", "labels": ["country"], **dimension}],
            "metrics": [
                {"name": "latency", "better": better, "quantile": {"histogram": "latency_seconds", "q": "0.99"}},
                {"name": "score", "distribution": {"histogram": "score"}},
                {"name": "fallbacks", "rate": {"events": "fallbacks_total"}},
            ],
            "clauses": list(clauses),
        }
    )


def bins(values, bounds):
    return np.histogram(values, bins=np.concatenate([[-np.inf], bounds, [np.inf]]))[0]


def latencies(rng, number, factor=1.0):
    """Return latencies around 0.1 s, with a 99th percentile of 0.32 s times *factor*."""
    return factor * 0.1 * np.exp(0.5 * rng.standard_normal(number))


def a_stage(metric, parts, bounds=FINE, dimension="country", kind="canary"):
    """Return a stage with the histogram of *parts*: values of both arms by slice; all traffic is their sum."""
    table = np.stack([np.column_stack([bins(base, bounds), bins(mine, bounds)]) for base, mine in parts.values()])
    histograms = {
        (metric, OVERALL_DIMENSION): BinCounts((OVERALL,), bounds, table.sum(axis=0, keepdims=True).astype(float)),
        (metric, dimension): BinCounts(tuple(country(name) for name in parts), bounds, table.astype(float)),
    }
    return StageCounts(stage=f"{kind}-1", kind=kind, seconds=600, counts={}, histograms=histograms)


def of_latencies(factor, *, bounds=FINE, n=20_000, seed=1):
    """Return a stage of two countries; in MT, a tenth of the traffic, the candidate's latencies are *factor* times."""
    rng = np.random.default_rng(seed)
    parts = {
        "DE": (latencies(rng, 9 * n), latencies(rng, n)),
        "MT": (latencies(rng, n), latencies(rng, n // 9, factor)),
    }
    return a_stage("latency", parts, bounds)


def verdict_on(contract, *stages):
    return judge(contract, stages, error_budget=0.01, has_baseline=True)


# Quantiles.


def test_a_slow_slice_is_named_with_its_quantiles():
    verdict = verdict_on(a_contract({**FAST, "per": ["country"]}), of_latencies(2.0))
    assert (verdict.outcome, verdict.reason) == (Outcome.BREACH, Reason.CONTRACT_BREACHED)
    slow = slice_of(verdict, "MT", "fast")
    assert (slow.baseline, slow.candidate) == (pytest.approx(0.32, rel=0.05), pytest.approx(0.64, rel=0.05))
    assert slow.low > 0.1
    assert "clause fast is broken in country=MT: 0.3" in verdict.message
    assert "limit 10 %" in verdict.message
    assert "observations above 0.3" in verdict.message
    assert re.fullmatch(r"latency country=MT 0\.3\d+ -> 0\.6\d+, \+\d+% \(limit 10%\)", verdict.worst)


def test_an_unchanged_quantile_passes():
    verdict = verdict_on(a_contract({**FAST, "per": ["country"]}), of_latencies(1.0, n=60_000))
    assert verdict.outcome is Outcome.PASS, verdict.message


def test_few_observations_of_a_quantile_prove_nothing():
    verdict = verdict_on(a_contract(FAST), of_latencies(1.0, n=300))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.UNDECIDED)
    assert clause_of(verdict, "fast").overall.eta is not None


@pytest.mark.parametrize(
    ("clause", "factor", "want"),
    [
        pytest.param({"within": "20%"}, 0.5, Outcome.BREACH, id="within looks down too"),
        pytest.param({"improves": True}, 0.5, Outcome.PASS, id="faster improves"),
        pytest.param({"improves": True}, 2.0, Outcome.BREACH, id="slower does not"),
        pytest.param({"noWorse": "0.1"}, 2.0, Outcome.BREACH, id="more than a tenth of a second slower"),
        pytest.param({"noWorse": "1"}, 2.0, Outcome.PASS, id="less than a second slower"),
        pytest.param({"atMost": "0.5"}, 2.0, Outcome.BREACH, id="above half a second"),
        pytest.param({"atMost": "1"}, 2.0, Outcome.PASS, id="below a second"),
        pytest.param({"atLeast": "0.5"}, 1.0, Outcome.BREACH, id="below what it must reach"),
    ],
)
def test_every_verb_judges_quantiles(clause, factor, want):
    rng = np.random.default_rng(3)
    stage = a_stage("latency", {"DE": (latencies(rng, 90_000), latencies(rng, 30_000, factor))})
    asked = {"name": "fast", "metric": "latency", "assure": {"overall": "1" if clause == {"noWorse": "1"} else "30%"}}
    if not {"noWorse", "within"} & set(clause):
        del asked["assure"]
    verdict = verdict_on(a_contract({**asked, **clause}), stage)
    assert verdict.outcome is want, verdict.message


def test_higher_may_be_better():
    verdict = verdict_on(a_contract(FAST, better="Higher"), of_latencies(2.0))
    assert verdict.outcome is not Outcome.BREACH
    slower = verdict_on(a_contract({**FAST, "per": ["country"]}, better="Higher"), of_latencies(0.5))
    assert slower.outcome is Outcome.BREACH


def test_buckets_that_are_too_wide_say_so_instead_of_waiting():
    """Prometheus' usual bounds around 0.32 s are 0.25 and 0.5: a change of 10 % cannot be told."""
    verdict = verdict_on(a_contract(FAST), of_latencies(1.0, bounds=DEFAULT, n=60_000))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.HISTOGRAM_TOO_COARSE)
    assert "the histogram's buckets are too wide near 0.5 to judge 10 % in all traffic" in verdict.message
    assert clause_of(verdict, "fast").eta is None


def test_a_limit_that_is_no_bound_is_too_coarse():
    clause = {"name": "fast", "metric": "latency", "atMost": "0.75"}
    verdict = verdict_on(a_contract(clause), of_latencies(1.0, bounds=DEFAULT))
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.WITHIN_CONTRACT), "0.5 s are less than 0.75"
    verdict = verdict_on(a_contract(clause), of_latencies(2.0, bounds=np.array([0.1, 0.4, 1.5])))
    assert verdict.reason is Reason.HISTOGRAM_TOO_COARSE
    assert "no bucket bound at the limit 0.75: add one" in verdict.message


def test_harm_that_coarse_buckets_do_show_is_harm():
    verdict = verdict_on(a_contract({**FAST, "per": ["country"]}), of_latencies(10.0, bounds=DEFAULT))
    assert verdict.outcome is Outcome.BREACH


def test_stages_with_other_bounds_are_judged_at_the_bounds_they_share():
    """A finished stage had half of the bounds; its evidence still counts."""
    before, now = of_latencies(2.0, bounds=FINE[::2], n=6000), of_latencies(2.0, n=6000, seed=2)
    both = verdict_on(a_contract({**FAST, "per": ["country"]}), before, now)
    alone = verdict_on(a_contract({**FAST, "per": ["country"]}), of_latencies(2.0, bounds=FINE[::2], n=6000, seed=2))
    assert slice_of(both, "MT", "fast").log_e > slice_of(alone, "MT", "fast").log_e


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(np.nan, id="NaN"),
        pytest.param(-1.0, id="negative"),
        pytest.param(np.inf, id="infinite"),
    ],
)
def test_a_bin_that_is_no_count_takes_its_arm_out(bad):
    stage = of_latencies(2.0)
    for counts in stage.histograms.values():
        counts.bins[:, 3, 1] = bad
    verdict = verdict_on(a_contract({**FAST, "per": ["country"]}), stage)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)


def test_a_histogram_without_bounds_is_too_coarse():
    counts = BinCounts((OVERALL,), np.zeros(0), np.full((1, 1, 2), 5000.0))
    stage = StageCounts("canary-1", "canary", 600, {}, {("latency", OVERALL_DIMENSION): counts})
    verdict = verdict_on(a_contract(FAST), stage)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason in {Reason.NO_DATA, Reason.HISTOGRAM_TOO_COARSE}


# Distributions.

SIMILAR = {"name": "drift", "metric": "score", "per": ["country"], "similar": {"psi": "0.2"}}
SCORES = np.linspace(-3, 3, 61)


def of_scores(moved, n=3000):
    rng = np.random.default_rng(4)
    parts = {
        "DE": (rng.standard_normal(9 * n), rng.standard_normal(n)),
        "MT": (rng.standard_normal(3 * n), moved + rng.standard_normal(n // 2)),
    }
    return a_stage("score", parts, SCORES)


def test_a_distribution_that_moved_in_one_slice_is_named():
    verdict = verdict_on(a_contract(SIMILAR), of_scores(1.0))
    assert verdict.outcome is Outcome.BREACH
    assert "clause drift is broken in country=MT: PSI" in verdict.message
    assert "limit 0.2" in verdict.message
    moved = slice_of(verdict, "MT", "drift")
    assert moved.candidate > 0.5
    assert moved.low > 0
    assert verdict.worst.startswith("score country=MT ")


def test_equal_distributions_pass():
    verdict = verdict_on(a_contract(SIMILAR), of_scores(0.0))
    assert verdict.outcome is Outcome.PASS, verdict.message


def test_few_observations_tell_nothing_of_a_distribution():
    verdict = verdict_on(a_contract(SIMILAR), of_scores(1.0, n=100))
    assert verdict.outcome is Outcome.INCONCLUSIVE


# Rates.


def of_events(baseline, candidate, *, seconds=(540.0, 60.0), slices=None):
    """Return a canary of 10 % and ten minutes with so many events."""
    counts = {
        ("fallbacks", OVERALL_DIMENSION): SliceCounts(
            (OVERALL,), np.array([[baseline, candidate]], dtype=float), np.array([seconds])
        )
    }
    if slices:
        names = tuple(country(name) for name in slices)
        counts["fallbacks", "country"] = SliceCounts(
            names, np.array(list(slices.values()), dtype=float), np.array([seconds] * len(names))
        )
    return StageCounts("canary-1", "canary", 600, counts)


@pytest.mark.parametrize(
    ("clause", "events", "want"),
    [
        pytest.param({"atMost": "5"}, (0, 600), Outcome.BREACH, id="ten a second"),
        pytest.param({"atMost": "5"}, (0, 100), Outcome.PASS, id="fewer than two a second"),
        pytest.param({"atMost": "5"}, (0, 300), Outcome.INCONCLUSIVE, id="about five a second"),
        pytest.param({"atLeast": "5"}, (0, 30), Outcome.BREACH, id="half a second"),
        pytest.param({"noWorse": "20%"}, (5400, 1200), Outcome.BREACH, id="twice as many"),
        pytest.param({"within": "50%"}, (54_000, 6000), Outcome.PASS, id="as many"),
        pytest.param({"within": "20%"}, (5400, 300), Outcome.BREACH, id="half as many"),
    ],
)
def test_rates_are_events_per_second_of_all_traffic(clause, events, want):
    verdict = verdict_on(a_contract({"name": "steady", "metric": "fallbacks", **clause}), of_events(*events))
    assert verdict.outcome is want, verdict.message


def test_there_may_be_more_events_than_seconds():
    verdict = verdict_on(a_contract({"name": "few", "metric": "fallbacks", "atMost": "5"}), of_events(0, 6000))
    part = clause_of(verdict, "few").overall
    assert (part.candidate, part.change) == (100, 95)
    assert "100, limit 5, 6 000 events in 60 s (of all traffic)" in verdict.message


def test_a_slice_with_more_events_is_named():
    clause = {"name": "steady", "metric": "fallbacks", "per": ["country"], "noWorse": "50%"}
    stage = of_events(5940, 760, slices={"DE": (5400, 600), "MT": (540, 160)})
    verdict = verdict_on(a_contract(clause), stage)
    assert "clause steady is broken in country=MT: 1 -> 2.67, +167 %" in verdict.message


@pytest.mark.parametrize("slices", [None, {"DE": (0, 0), "MT": (0, 0)}], ids=["no counter is born", "all are 0"])
@pytest.mark.parametrize(
    ("clause", "want", "reason"),
    [
        pytest.param({"atMost": "1"}, Outcome.PASS, Reason.WITHIN_CONTRACT, id="at most"),
        pytest.param({"atLeast": "1"}, Outcome.BREACH, Reason.CONTRACT_BREACHED, id="at least"),
        pytest.param({"noWorse": "20%"}, Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC, id="compared"),
    ],
)
def test_no_events_in_any_slice_are_no_events_over_all_traffic(clause, want, reason, slices):
    """A candidate that never falls back is what the contract asks for: it does not wait for one that does."""
    contract = a_contract({"name": "steady", "metric": "fallbacks", "per": ["country"], **clause})
    verdict = verdict_on(contract, of_events(0, 0, slices=slices))
    assert (verdict.outcome, verdict.reason) == (want, reason), verdict.message


def test_events_in_no_slice_are_no_data_of_any():
    contract = a_contract({"name": "few", "metric": "fallbacks", "per": ["country"], "atMost": "1"})
    verdict = verdict_on(contract, of_events(9, 1))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_DATA)


@pytest.mark.parametrize(("each", "want"), [(540, Outcome.BREACH), (5, Outcome.PASS)])
def test_what_is_folded_into_other_happens_in_the_same_time(each, want):
    """Twenty slices of 0.9 events a second are one of 18, not one of 0.9 in twenty times the time."""
    clause = {"name": "few", "metric": "fallbacks", "per": ["country"], "atMost": "1"}
    contract = a_contract(clause, atMost=2)
    small = {f"C{i:02}": (9 * each, each) for i in range(20)}
    verdict = verdict_on(contract, of_events(0, 60, seconds=(5400.0, 600.0), slices={"DE": (4950, 550), **small}))
    other = slice_of(verdict, "other", "few")
    assert (other.events, other.of, other.candidate) == ((180 * each, 20 * each), (5400, 600), pytest.approx(each / 30))
    assert other.outcome is want


# Forecast.


@pytest.mark.parametrize(
    ("clause", "history"),
    [
        pytest.param(FAST, of_latencies(1.0, n=50_000), id="quantile"),
        pytest.param(SIMILAR, of_scores(0.0, n=30_000), id="distribution"),
        pytest.param(
            {"name": "few", "metric": "fallbacks", "within": "50%"},
            of_events(60_000, 0, seconds=(600.0, 0.0)),
            id="rate",
        ),
        pytest.param(
            {"name": "few", "metric": "fallbacks", "atMost": "200"},
            of_events(60_000, 0, seconds=(600.0, 0.0)),
            id="limit of a rate",
        ),
    ],
)
def test_a_forecast_tells_when_harm_is_found_and_when_none_is_excluded(clause, history):
    """In a canary of half of the traffic; the history's candidate is not looked at."""
    stage = Stage(name="canary-50", canary=Canary(percent=50), deadline="2h")
    found = forecast(a_contract(clause), history, [stage], error_budget=0.01, design_effect=1.0)
    whole = found[0]
    assert whole.part == OVERALL
    assert whole.in_time
    assert whole.found_after is not None
    assert whole.found_after < stage.deadline_time
