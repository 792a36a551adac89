"""
What holds for every kind of metric and every verb at once: ratios, rates, quantiles and distributions by slice.

The same invariants as in ``test_judge_properties``, whose contract has ratios only.
"""

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrelease.api.contract import Contract
from modelrelease.api.reasons import Outcome
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, BinCounts, SliceCounts, StageCounts
from modelrelease.core.judge import judge
from tests.core.judging import country

pytestmark = pytest.mark.slow

SLICES = [{"name": "country", "labels": ["country"], "expected": ["A"], "atMost": 4}]
METRICS = [
    {"name": "blocks", "ratio": {"events": "blocks", "of": "decisions"}},
    {"name": "recall", "better": "Higher", "ratio": {"events": "found", "of": "frauds"}},
    {"name": "fallbacks", "rate": {"events": "fallbacks_total"}},
    {"name": "latency", "quantile": {"histogram": "latency_seconds", "q": "0.9"}},
    {"name": "score", "distribution": {"histogram": "score"}},
]
EASY = {"overall": "50%", "slices": "100%"}
CLAUSES = [
    {"name": "steady", "metric": "blocks", "per": ["country"], "within": "20%", "assure": EASY},
    {"name": "points", "metric": "blocks", "per": ["country"], "noWorse": "2pp"},
    {"name": "ceiling", "metric": "blocks", "per": ["country"], "atMost": "30%", "onBreach": "Hold"},
    {"name": "floor", "metric": "recall", "per": ["country"], "atLeast": "40%", "onBreach": "Warn"},
    {"name": "recall", "metric": "recall", "per": ["country"], "noWorse": "10%", "assure": EASY},
    {"name": "better", "metric": "recall", "improves": True, "onBreach": "Warn"},
    {"name": "calm", "metric": "fallbacks", "per": ["country"], "within": "50%", "assure": {"slices": "80%"}},
    {"name": "few", "metric": "fallbacks", "per": ["country"], "atMost": "5", "onBreach": "Hold"},
    {"name": "some", "metric": "fallbacks", "atLeast": "0.01", "onBreach": "Warn"},
    {"name": "fast", "metric": "latency", "per": ["country"], "noWorse": "20%", "assure": EASY},
    {"name": "soon", "metric": "latency", "within": "1", "assure": {"overall": "2"}, "onBreach": "Hold"},
    {"name": "below", "metric": "latency", "per": ["country"], "atMost": "4"},
    {"name": "alike", "metric": "score", "per": ["country"], "similar": {"psi": "0.2"}},
]
LATENCIES = 0.5 * 1.15 ** np.arange(16)
SCORES = np.array([0.25, 0.5, 0.75])
ALL = Contract.model_validate({"slices": SLICES, "metrics": METRICS, "clauses": CLAUSES})


def only(*names: str) -> Contract:
    """Return the contract with these clauses alone."""
    clauses = [clause for clause in CLAUSES if clause["name"] in names]
    return Contract.model_validate({"slices": SLICES, "metrics": METRICS, "clauses": clauses})


def verdict_on(contract: Contract, *stages: StageCounts):
    return judge(contract, stages, error_budget=0.01, has_baseline=True)


def a_stage(seed: int, names: str, size: int, harm: float, kind: str) -> StageCounts:
    """Return a stage with every kind of counts in countries *names* of about *size* requests, one of them harmed."""
    rng = np.random.default_rng(seed)
    parts = tuple(country(name) for name in names)
    of = np.ceil(size * rng.uniform(0.05, 1, (len(names), 1)) * [3, 1])
    factor = np.ones((len(names), 2))
    factor[0, 1] = harm
    counts: dict[tuple[str, str], SliceCounts] = {}
    for metric, rate in (("blocks", 0.1), ("recall", 0.5)):
        events = rng.binomial(of.astype(int), np.minimum(rate * factor, 1.0)).astype(float)
        counts[metric, "country"] = SliceCounts(parts, events, of)
        counts[metric, OVERALL_DIMENSION] = SliceCounts(
            (OVERALL,), events.sum(axis=0, keepdims=True), of.sum(axis=0, keepdims=True)
        )
    time = np.broadcast_to([450.0, 150.0], of.shape).copy()
    events = rng.poisson(0.05 * of * factor).astype(float)
    counts["fallbacks", "country"] = SliceCounts(parts, events, time)
    counts["fallbacks", OVERALL_DIMENSION] = SliceCounts((OVERALL,), events.sum(axis=0, keepdims=True), time[:1])
    histograms: dict[tuple[str, str], BinCounts] = {}
    for metric, bounds, shares in (
        ("latency", LATENCIES, [0.25, *[0.07] * 8, 0.06, 0.05, 0.04, 0.02, 0.01, 0.005, 0.003, 0.002]),
        ("score", SCORES, [0.25, 0.25, 0.25, 0.25]),
    ):
        table = np.stack([_bins(rng, of[index], shares, factor[index]) for index in range(len(names))])
        histograms[metric, "country"] = BinCounts(parts, bounds, table)
        histograms[metric, OVERALL_DIMENSION] = BinCounts((OVERALL,), bounds, table.sum(axis=0, keepdims=True))
    return StageCounts(f"{kind}-1", kind, 600, counts, histograms)


def _bins(rng: np.random.Generator, of: np.ndarray, shares: list[float], factor: np.ndarray) -> np.ndarray:
    """Return bins of both arms, ``(bins, 2)``; of a harmed one, more lies in the upper bins."""
    tilted = [np.array(shares) * tilt ** np.arange(len(shares)) for tilt in factor]
    return np.stack(
        [rng.multinomial(int(n), t / t.sum()).astype(float) for n, t in zip(of, tilted, strict=True)], axis=1
    )


_stage = st.builds(
    a_stage,
    st.integers(0, 10_000),
    st.sets(st.sampled_from("ABCDEF"), min_size=1).map(lambda names: "".join(sorted(names))),
    st.sampled_from([3, 30, 300, 3000, 30_000]),
    st.sampled_from([0.3, 1.0, 1.0, 1.0, 2.0, 4.0]),
    st.sampled_from(["shadow", "canary"]),
)
STAGES = st.lists(_stage, min_size=1, max_size=3)


def mapped(stage: StageCounts, change: Callable[[np.ndarray], np.ndarray]) -> StageCounts:
    """Return the stage with every count changed; the time of rates is one."""
    counts = {key: SliceCounts(t.slices, change(t.events), change(t.of)) for key, t in stage.counts.items()}
    bins = {key: BinCounts(t.slices, t.bounds, change(t.bins)) for key, t in stage.histograms.items()}
    return replace(stage, counts=counts, histograms=bins)


def shuffled(stage: StageCounts, rng: random.Random) -> StageCounts:
    """Return the stage with its tables, and the slices in each, in another order."""

    def order(n: int) -> list[int]:
        return rng.sample(range(n), n)

    counts, bins = {}, {}
    for key, table in rng.sample(sorted(stage.counts.items()), len(stage.counts)):
        index = order(len(table.slices))
        counts[key] = SliceCounts(tuple(table.slices[i] for i in index), table.events[index], table.of[index])
    for key, table in rng.sample(sorted(stage.histograms.items()), len(stage.histograms)):
        index = order(len(table.slices))
        bins[key] = BinCounts(tuple(table.slices[i] for i in index), table.bounds, table.bins[index])
    return replace(stage, counts=counts, histograms=bins)


def test_the_stages_that_are_drawn_pass_break_and_leave_doubt():
    """Or the properties below would hold of nothing."""
    healthy = verdict_on(only("steady", "fast", "alike", "calm"), a_stage(1, "ABC", 30_000, 1.0, "canary"))
    assert healthy.outcome is Outcome.PASS, healthy.message
    harmed = verdict_on(ALL, a_stage(1, "ABC", 30_000, 2.0, "canary"))
    assert {clause.clause for clause in harmed.clauses if clause.outcome is Outcome.BREACH} >= {
        *("steady", "points", "calm", "fast", "alike"),
    }
    assert verdict_on(ALL, a_stage(1, "ABC", 30, 1.0, "canary")).outcome is Outcome.INCONCLUSIVE


@pytest.mark.slow
@given(STAGES, st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_order_of_clauses_and_slices_changes_nothing(stages, rng):
    mixed = Contract.model_validate(
        {"slices": SLICES, "metrics": rng.sample(METRICS, len(METRICS)), "clauses": rng.sample(CLAUSES, len(CLAUSES))}
    )
    one, other = verdict_on(ALL, *stages), verdict_on(mixed, *(shuffled(stage, rng) for stage in stages))
    assert (one.outcome, one.on_breach, one.reason) == (other.outcome, other.on_breach, other.reason)
    assert set(one.blame) == set(other.blame)
    twins = {clause.clause: clause for clause in other.clauses}
    for clause in one.clauses:
        twin = twins[clause.clause]
        assert (clause.outcome, clause.reason) == (twin.outcome, twin.reason)
        assert {p.part: p.outcome for p in clause.slices} == {p.part: p.outcome for p in twin.slices}
        assert clause.log_e == pytest.approx(twin.log_e, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("clause", [clause["name"] for clause in CLAUSES])
@given(STAGES, st.floats(0.003, 1))
@settings(max_examples=10, deadline=None)
def test_seeing_less_never_turns_doubt_into_a_pass(clause, stages, factor):
    """Clause by clause: beside others, one that passes too early would not be seen."""
    contract = only(clause)
    if verdict_on(contract, *stages).clauses[0].outcome is Outcome.INCONCLUSIVE:
        less = [mapped(stage, lambda counts: counts * factor) for stage in stages]
        assert verdict_on(contract, *less).clauses[0].outcome is not Outcome.PASS


@pytest.mark.slow
@given(STAGES, st.integers(0, 2))
@settings(max_examples=8, deadline=None)
def test_a_stage_without_data_never_moves_the_evidence(stages, place):
    place = min(place, len(stages) - 1)
    empty = mapped(stages[place], np.zeros_like)
    nothing = replace(stages[place], counts={}, histograms={})
    one = verdict_on(ALL, *stages)
    for without in (empty, nothing):
        other = verdict_on(ALL, *stages[:place], without, *stages[place:])
        assert (one.outcome, one.blame) == (other.outcome, other.blame)
        assert [c.log_e for c in one.clauses] == pytest.approx([c.log_e for c in other.clauses], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("clause", [clause["name"] for clause in CLAUSES])
@pytest.mark.parametrize("nothing", ["no tables", "only zeros"])
def test_nothing_is_neither_a_pass_nor_a_breach(clause, nothing):
    stage = a_stage(1, "ABC", 300, 2.0, "canary")
    none = replace(stage, counts={}, histograms={}) if nothing == "no tables" else mapped(stage, np.zeros_like)
    verdict = verdict_on(only(clause), none)
    assert verdict.clauses[0].outcome is Outcome.INCONCLUSIVE
    assert verdict.clauses[0].log_e <= 1e-6


_nonsense = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -1e-9, 1e308, 5e-324, 2.0**60]),
    st.floats(allow_nan=True, allow_infinity=True),
)


@pytest.mark.slow
@given(_nonsense, st.integers(0, 1), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_no_number_makes_the_judge_raise_or_judge(number, arm, row):
    """Put where a count is, in every table: an arm is judged as if it were empty, or as what it says."""
    stage = a_stage(1, "ABC", 3000, 1.0, "canary")

    def spoil(table: np.ndarray) -> np.ndarray:
        spoiled = table.copy()
        spoiled[row % len(table), ..., arm] = number
        return spoiled

    # Every verdict is complete, and no number of it is none.
    verdict = verdict_on(ALL, mapped(stage, spoil))
    for clause in verdict.clauses:
        assert clause.message
        for part in [clause.overall, *clause.slices]:
            assert math.isfinite(part.log_e)
            assert not any(end is not None and math.isnan(end) for end in (part.change, part.low, part.high))
    if not 0 <= number <= 2.0**53:
        clean = stage
        for where in ("counts", "histograms"):
            emptied = {key: _without(table, row, arm) for key, table in getattr(clean, where).items()}
            clean = replace(clean, **{where: emptied})
        assert verdict == verdict_on(ALL, clean)


def _without(table, row: int, arm: int):
    """Return the table without what one arm of one slice has counted."""
    if isinstance(table, BinCounts):
        bins = table.bins.copy()
        bins[row % len(bins), :, arm] = 0
        return BinCounts(table.slices, table.bounds, bins)
    events, of = table.events.copy(), table.of.copy()
    events[row % len(of), arm] = of[row % len(of), arm] = 0
    return SliceCounts(table.slices, events, of)


@pytest.mark.slow
@given(st.integers(0, 1), st.floats(1.001, 100))
@settings(max_examples=8, deadline=None)
def test_more_events_than_there_is_anything_are_no_counts_of_a_share(arm, factor):
    """Of a ratio; of a rate, there may be as many as there like in a second."""
    stage = a_stage(1, "ABC", 3000, 1.0, "canary")
    shares = {key: table for key, table in stage.counts.items() if key[0] != "fallbacks"}

    def too_many(table: SliceCounts) -> SliceCounts:
        events = table.events.copy()
        events[0, arm] = factor * table.of[0, arm]
        return SliceCounts(table.slices, events, table.of)

    dirty = replace(stage, counts={**stage.counts, **{key: too_many(table) for key, table in shares.items()}})
    clean = replace(stage, counts={**stage.counts, **{key: _without(table, 0, arm) for key, table in shares.items()}})
    assert verdict_on(ALL, dirty) == verdict_on(ALL, clean)
