"""What holds for every input: the judge's invariants, by hypothesis."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelrelease.api.contract import Contract
from modelrelease.api.reasons import Outcome
from modelrelease.core.counts import SliceCounts, StageCounts
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, Arms, Bet, Engine, log_evidence
from modelrelease.core.hypotheses import LARGEST_COUNT, SMALLEST_COUNT
from tests.core.judging import FEW_ERRORS, ROUGHLY_STEADY, STEADY, a_contract, a_stage, verdict_on

pytestmark = pytest.mark.slow

CLAUSES = (
    ROUGHLY_STEADY,
    {"name": "no-worse", "metric": "block-rate", "per": ["country"], "noWorse": "2%"},
    {"name": "points", "metric": "block-rate", "per": ["country"], "noWorse": "1pp", "onBreach": "Hold"},
    {"name": "floor", "metric": "block-rate", "per": ["country"], "atLeast": "1%", "onBreach": "Warn"},
    FEW_ERRORS,
)
BROAD = a_contract(*CLAUSES, expected=["A"], atMost=5)


@st.composite
def _arms(draw):
    of = draw(st.tuples(st.integers(0, 20_000), st.integers(0, 20_000)))
    rate = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    return tuple((float(round(r * n)), float(n)) for r, n in zip(rate, of, strict=True))


_countries = st.dictionaries(st.sampled_from("ABCDEFGH"), _arms(), min_size=1, max_size=8)
_stages = st.lists(
    st.builds(
        lambda countries, errors, kind: a_stage(countries=countries, errors=errors, kind=kind),
        _countries,
        _arms(),
        st.sampled_from(["shadow", "canary", "full"]),
    ),
    min_size=1,
    max_size=3,
)
_nonsense = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([-1.0, 0.0, 1e308, 5e-324]))


def _shuffled(stage: StageCounts, rng: random.Random) -> StageCounts:
    counts = {}
    for key, table in rng.sample(sorted(stage.counts.items()), len(stage.counts)):
        order = rng.sample(range(len(table.slices)), len(table.slices))
        parts = tuple(table.slices[index] for index in order)
        counts[key] = SliceCounts(parts, table.events[order], table.of[order])
    return replace(stage, counts=counts)


def _mapped(stage: StageCounts, change) -> StageCounts:
    counts = {key: SliceCounts(t.slices, change(t.events), change(t.of)) for key, t in stage.counts.items()}
    return replace(stage, counts=counts)


@given(_stages, st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_order_of_clauses_and_slices_changes_nothing(stages, rng):
    shuffled = Contract.model_validate(
        {**BROAD.model_dump(exclude_none=True), "clauses": rng.sample(list(BROAD.clauses), len(BROAD.clauses))}
    )
    one = verdict_on(BROAD, *stages)
    other = verdict_on(shuffled, *(_shuffled(stage, rng) for stage in stages))
    assert (one.outcome, one.on_breach, one.reason) == (other.outcome, other.on_breach, other.reason)
    assert set(one.blame) == set(other.blame)
    for clause in one.clauses:
        twin = next(c for c in other.clauses if c.clause == clause.clause)
        assert clause.outcome == twin.outcome
        assert {p.part: p.outcome for p in clause.slices} == {p.part: p.outcome for p in twin.slices}
        assert clause.log_e == pytest.approx(twin.log_e, abs=1e-6)


@given(_stages, st.floats(0.01, 1))
@settings(max_examples=25, deadline=None)
def test_seeing_less_never_turns_doubt_into_a_pass(stages, factor):
    if verdict_on(BROAD, *stages).outcome is Outcome.INCONCLUSIVE:
        less = [_mapped(stage, lambda counts: counts * factor) for stage in stages]
        assert verdict_on(BROAD, *less).outcome is not Outcome.PASS


@given(_stages, st.sampled_from(["shadow", "canary", "full"]), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_a_stage_without_data_never_moves_the_evidence(stages, kind, place):
    empty = a_stage(countries={"A": ((0, 0), (0, 0))}, errors=((0, 0), (0, 0)), kind=kind)
    place = min(place, len(stages) - 1)
    one, other = verdict_on(BROAD, *stages), verdict_on(BROAD, *stages[:place], empty, *stages[place:])
    assert (one.outcome, one.blame) == (other.outcome, other.blame)
    assert [c.log_e for c in one.clauses] == pytest.approx([c.log_e for c in other.clauses], abs=1e-6)


@given(_nonsense, _nonsense, _nonsense, _nonsense)
@settings(max_examples=60, deadline=None)
def test_no_number_makes_the_judge_raise_or_judge(a, b, c, d):
    """An arm whose counts cannot be counts is judged as if it were empty."""
    healthy = {"B": ((200, 10_000), (200, 10_000))}
    fine = [0 <= x <= n and SMALLEST_COUNT <= n <= LARGEST_COUNT for x, n in ((a, b), (c, d))]
    emptied = tuple(pair if ok else (0.0, 0.0) for pair, ok in zip(((a, b), (c, d)), fine, strict=True))
    overall = ((200, 10_000), (200, 10_000))
    dirty = verdict_on(BROAD, a_stage(overall, {**healthy, "A": ((a, b), (c, d))}, errors=((a, b), (c, d))))
    clean = verdict_on(BROAD, a_stage(overall, {**healthy, "A": emptied}, errors=emptied))
    assert dirty == clean


@given(_stages)
@settings(max_examples=15, deadline=None)
def test_every_verdict_explains_itself(stages):
    verdict = verdict_on(BROAD, *stages)
    assert verdict.message
    assert (verdict.on_breach is not None) == any(c.outcome is Outcome.BREACH for c in verdict.clauses)
    for clause in verdict.clauses:
        assert clause.message
        for part in [clause.overall, *clause.slices]:
            assert not math.isnan(part.log_e)
            if part.change is not None:
                assert not math.isnan(part.low)
                assert not math.isnan(part.high)


@given(
    st.integers(1, 12),
    st.integers(1, 25),
    st.floats(0.01, 0.6),
    st.sampled_from([0.5, 0.95, 1.0, 1.05, 1.5]),
    st.sampled_from(
        [(1, HARM), (-1, HARM), (-1, Bet(ASSURANCE_MULTIPLIERS, 100)), (1, Bet(ASSURANCE_MULTIPLIERS, 100))]
    ),
)
@settings(max_examples=150, deadline=None)
def test_expected_evidence_is_at_most_one_at_the_margin_by_enumeration(n1, n0, base, ratio, bet):
    """Engine COUNTS: a fair bet against binomial counts at its bound, in both directions, breach and pass."""
    base = min(base, 0.999 / ratio)
    sign, where = bet
    x1, x0 = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1), indexing="ij"))
    chance = stats.binom.pmf(x1, n1, ratio * base) * stats.binom.pmf(x0, n0, base)
    counts = Arms(x1, np.full(x1.size, float(n1)), x0, np.full(x0.size, float(n0)))
    e = np.exp(log_evidence(Engine.COUNTS, [counts], ratio, sign, where, 0.05))
    assert float(e @ chance) <= 1 + 1e-6


@given(st.integers(1, 60), st.floats(0.0005, 0.9995), st.sampled_from([1, -1]))
@settings(max_examples=150, deadline=None)
def test_expected_evidence_of_a_limit_is_one_at_the_limit_by_enumeration(n, limit, sign):
    x = np.arange(n + 1, dtype=float)
    e = np.exp(log_evidence(Engine.LIMIT, [Arms(x, np.full(n + 1, float(n)), 0 * x, 0 * x)], limit, sign, HARM, 0.05))
    assert float(e @ stats.binom.pmf(x, n, limit)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "clause", [STEADY, {"name": "no-worse", "metric": "block-rate", "per": ["country"], "noWorse": "5%"}]
)
def test_any_stopping_time_keeps_the_level(clause):
    """100 releases with every slice at its margin, judged at 8 looks, stopped at the worst: budget 5 %."""
    rng = np.random.default_rng(11)
    contract = a_contract(clause)
    stopped = 0
    for _ in range(100):
        counts = np.zeros((6, 4))
        for _ in range(8):
            base = rng.binomial(3600, 0.04, 6)
            candidate = rng.binomial(400, 0.04 * 1.05, 6)
            counts += np.column_stack([base, np.full(6, 3600), candidate, np.full(6, 400)])
            countries = {f"C{i}": ((x0, n0), (x1, n1)) for i, (x0, n0, x1, n1) in enumerate(counts)}
            if verdict_on(contract, a_stage(countries=countries), error_budget=0.05).outcome is Outcome.BREACH:
                stopped += 1
                break
    assert stopped <= stats.binom.ppf(0.999, 100, 0.05)
