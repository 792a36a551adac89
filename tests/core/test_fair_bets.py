"""
Every engine's e-values are fair: expected to be at most 1 while the promise holds, and so at any stopping time.

By enumeration of all outcomes where they can be counted, for the exact engines at the margin and inside of it; the
approximate ones (ratio, difference, distance) keep their level, by enumeration of one look and simulation of many.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from modelrelease.core.assess import log_harm
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, SLICE_HARM, Arms, Bet, Engine, log_evidence
from modelrelease.core.histograms import Buckets, distance_evidence, level_evidence, ratio_evidence, shift_evidence
from modelrelease.core.question import DISTANCE_BET, Question, Side

ASSURANCE = Bet(ASSURANCE_MULTIPLIERS, 100.0)
INSIDE = st.sampled_from([0.0, 1.0]) | st.floats(0.001, 0.999)
"""How far inside the margin the truth is; 0 or 1 is the margin itself, by the direction."""

BETS = st.sampled_from([HARM, SLICE_HARM, ASSURANCE])
SIGNS = st.sampled_from([1, -1])
FAIR = 1 + 1e-6


def every(*largest: int) -> list[np.ndarray]:
    """Return all tuples of counts up to *largest*, one array each."""
    return [grid.ravel().astype(float) for grid in np.meshgrid(*(np.arange(n + 1) for n in largest), indexing="ij")]


def two_arms(n1: int, n0: int) -> Arms:
    """Return every outcome of so many requests in the candidate and in the baseline."""
    x1, x0 = every(n1, n0)
    return Arms(x1, np.full(x1.size, float(n1)), x0, np.full(x0.size, float(n0)))


def alone(events: np.ndarray, of: float) -> Arms:
    """Return outcomes of the candidate alone."""
    return Arms(events, np.full(events.size, of), 0 * events, 0 * events)


def binomials(counts: Arms, rate: float, base: float) -> np.ndarray:
    """Return the chance of every outcome."""
    return np.asarray(
        stats.binom.pmf(counts.events, counts.of, rate) * stats.binom.pmf(counts.base_events, counts.base_of, base)
    )


# By enumeration: exact engines.


@given(st.integers(1, 12), st.integers(1, 25), st.floats(0.01, 0.6), st.floats(0.3, 3), INSIDE, BETS, SIGNS)
@settings(max_examples=150, deadline=None)
def test_counts_are_fair_at_the_margin_and_inside(n1, n0, base, bound, inside, bet, sign):
    """However far on the allowed side of the bound the true ratio is, down to nothing or up to every request."""
    base = min(base, 0.999 / bound)
    margin = bound * base
    rate = margin * inside if sign > 0 else margin + inside * (1 - margin)
    counts = two_arms(n1, n0)
    e = np.exp(log_evidence(Engine.COUNTS, [counts], bound, sign, bet, 0.05))
    assert float(e @ binomials(counts, rate, base)) <= FAIR


@given(st.floats(0.2, 8), st.floats(0.2, 8), st.floats(0.3, 3), st.floats(0.05, 1), BETS, SIGNS)
@settings(max_examples=60, deadline=None)
def test_counts_of_events_per_second_are_fair(mean, base_mean, bound, inside, bet, sign):
    """Poisson counts over unequal times; what lies beyond 60 events is as good as impossible."""
    x1, x0 = every(60, 60)
    seconds, base_seconds = mean / bound, base_mean
    counts = Arms(x1, np.full(x1.size, seconds), x0, np.full(x0.size, base_seconds))
    # One event a second in the baseline, so that the candidate's frequency is the ratio.
    ratio = bound * (inside if sign > 0 else 1 / inside)
    assume(ratio * seconds < 30)
    chance = stats.poisson.pmf(x1, ratio * seconds) * stats.poisson.pmf(x0, base_seconds)
    e = np.exp(log_evidence(Engine.COUNTS, [counts], bound, sign, bet, 0.05))
    assert float(e @ chance) <= FAIR


@given(st.integers(1, 60), st.floats(0.0005, 0.9995), INSIDE, BETS, SIGNS)
@settings(max_examples=150, deadline=None)
def test_limits_are_fair_at_the_limit_and_inside(n, limit, inside, bet, sign):
    rate = limit * inside if sign > 0 else limit + inside * (1 - limit)
    x = np.arange(n + 1.0)
    e = np.exp(log_evidence(Engine.LIMIT, [alone(x, n)], limit, sign, bet, 0.05))
    assert float(e @ stats.binom.pmf(x, n, rate)) <= FAIR


@given(st.floats(0.01, 20), st.floats(1e-3, 50), st.floats(0.05, 1), BETS, SIGNS)
@settings(max_examples=100, deadline=None)
def test_frequencies_are_fair_at_the_limit_and_inside(mean, limit, inside, bet, sign):
    """Exactly 1 at the limit: nothing is given away either."""
    x = np.arange(400.0)
    log_e = log_evidence(Engine.FREQUENCY, [alone(x, mean / limit)], limit, sign, bet, 0.05)

    def expected(events: float) -> float:
        return float(np.exp(log_e + stats.poisson.logpmf(x, events)).sum())

    assert expected(mean) <= FAIR
    # The bet on ten times as many wins by outcomes that are too rare to be enumerated.
    if max(bet.multipliers) * mean < 200:
        assert expected(mean) == pytest.approx(1, abs=1e-6)
    assert expected(mean * inside if sign > 0 else min(mean / inside, 300)) <= FAIR


@given(st.integers(1, 10), st.integers(1, 20), st.floats(0.01, 0.6), st.floats(0.9, 1.1), BETS)
@settings(max_examples=60, deadline=None)
def test_both_directions_together_are_fair_anywhere_inside(n1, n0, base, ratio, bet):
    """within 10 %: the mean of two bets, of which at most one can be near its own margin."""
    counts = two_arms(n1, n0)
    question = Question(Engine.COUNTS, (Side(1.1, 1), Side(0.9, -1)), bet, "10%")
    assert float(np.exp(log_harm(question, [counts], 0.05)) @ binomials(counts, ratio * base, base)) <= FAIR


@given(st.integers(1, 5), st.integers(1, 8), st.floats(0.02, 0.5), st.floats(0.02, 0.5), SIGNS)
@settings(max_examples=40, deadline=None)
def test_two_stages_of_other_rates_and_splits_are_fair_together(n1, n0, early, late, sign):
    """The base rate moves and the arms change their sizes between the stages; the ratio is at its margin in both."""
    outcomes = every(n1, n0, n0, n1)
    sizes = [np.full(outcomes[0].size, float(n)) for n in (n1, n0, n0, n1)]
    first = Arms(outcomes[0], sizes[0], outcomes[1], sizes[1])
    second = Arms(outcomes[2], sizes[2], outcomes[3], sizes[3])
    chance = binomials(first, 1.2 * early, early) * binomials(second, 1.2 * late, late)
    e = np.exp(log_evidence(Engine.COUNTS, [first, second], 1.2, sign, HARM, 0.05))
    assert float(e @ chance) <= FAIR


def compositions(n: int, bins: int) -> np.ndarray:
    """Return every way to put *n* observations into *bins*, ``(ways, bins)``."""
    counts = np.stack(every(*([n] * (bins - 1))), axis=1)
    counts = counts[counts.sum(axis=1) <= n]
    return np.column_stack([counts, n - counts.sum(axis=1)])


_shares = st.lists(st.floats(0.02, 1), min_size=3, max_size=3).map(lambda parts: np.array(parts) / sum(parts))


@pytest.mark.parametrize("kind", ["ratio", "shift"])
@given(st.integers(1, 5), st.integers(1, 5), _shares, _shares, st.floats(0.05, 0.6), SIGNS, st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_quantiles_of_two_arms_are_fair_unless_the_bins_themselves_refute_it(
    kind, n1, n0, shares, base_shares, tail, sign, apart
):
    """
    Bounds 1 and 2. The promise q1 <= r q0 (or q0 + d) can hold unless for some bound b the baseline's quantile lies at
    or below b and the candidate's above the first bound from r b on; then there is nothing to be fair to.
    """
    bounds = np.array([1.0, 2.0])
    limit = {"ratio": (1.0, 1.5, 2.0), "shift": (0.0, 0.4, 1.0)}[kind][apart - 1]
    reached = limit * bounds if kind == "ratio" else limit + bounds
    # Shares above each bound: the quantile lies above the bound when they are more than the tail.
    above, base_above = (1 - np.cumsum(parts)[:2] for parts in (shares, base_shares))
    for b in range(2):
        beyond = np.flatnonzero(bounds >= reached[b]) if sign > 0 else np.flatnonzero(bounds <= reached[b])
        if beyond.size:
            c = beyond[0] if sign > 0 else beyond[-1]
            refuted = base_above[b] <= tail < above[c] if sign > 0 else above[c] <= tail < base_above[b]
            assume(not refuted)
    mine, theirs = compositions(n1, 3), compositions(n0, 3)
    pairs = np.stack(np.meshgrid(np.arange(len(mine)), np.arange(len(theirs)), indexing="ij")).reshape(2, -1)
    counts = Arms(
        mine[pairs[0]], np.full(pairs.shape[1], float(n1)), theirs[pairs[1]], np.full(pairs.shape[1], float(n0))
    )
    chance = (
        stats.multinomial.pmf(mine, n1, shares)[pairs[0]] * stats.multinomial.pmf(theirs, n0, base_shares)[pairs[1]]
    )
    evidence = ratio_evidence if kind == "ratio" else shift_evidence
    log_e = evidence([counts], Buckets(bounds, tail=tail), np.full(pairs.shape[1], limit), sign, HARM)
    assert float(np.exp(log_e) @ chance) <= FAIR


@given(st.integers(1, 12), _shares, st.floats(0.05, 0.6), SIGNS, st.sampled_from([1.0, 1.3, 2.0]))
@settings(max_examples=60, deadline=None)
def test_a_quantile_alone_is_fair_unless_the_bins_refute_it(n, shares, tail, sign, level):
    bounds = np.array([1.0, 2.0])
    above = 1 - np.cumsum(shares)[:2]
    beyond = np.flatnonzero(bounds >= level)[0] if sign > 0 else np.flatnonzero(bounds <= level)[-1]
    assume(above[beyond] <= tail if sign > 0 else above[beyond] > tail)
    mine = compositions(n, 3)
    counts = Arms(mine, np.full(len(mine), float(n)), 0 * mine, np.zeros(len(mine)))
    log_e = level_evidence([counts], Buckets(bounds, tail=tail), np.full(len(mine), level), sign, HARM)
    assert float(np.exp(log_e) @ stats.multinomial.pmf(mine, n, shares)) <= FAIR


# By enumeration: approximate engines.

LARGEST_EXPECTED = 1.5
"""Of the engines that rest on a normal approximation: more than one look was seen to give away (docs/verdicts.md)."""


@given(
    st.sampled_from([(Engine.RATIO, ratio) for ratio in (0.5, 0.95, 1.0, 1.05, 1.5)])
    | st.sampled_from([(Engine.DIFFERENCE, step) for step in (-0.05, -0.01, 0.0, 0.01, 0.05)]),
    st.integers(1, 40),
    st.integers(1, 120),
    st.floats(0.02, 0.95),
    SIGNS,
    st.sampled_from([36.0, 100.0, 400.0]),
)
@settings(max_examples=150, deadline=None)
def test_approximate_engines_are_nearly_fair_and_keep_their_level_at_one_look(asked, n1, n0, base, sign, information):
    engine, bound = asked
    rate = base * bound if engine is Engine.RATIO else base + bound
    assume(0 < rate < 1)
    counts = two_arms(n1, n0)
    chance = binomials(counts, rate, base)
    log_e = log_evidence(engine, [counts], bound, sign, Bet((), information), 0.05)
    assert float(np.exp(log_e) @ chance) <= LARGEST_EXPECTED
    for level in (0.05, 0.01, 0.001):
        assert float(chance[log_e >= np.log(1 / level)].sum()) <= level


# By simulation: any stopping time.

PATHS, LEVEL = 4000, 0.05
BATCHES = (1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Candidate requests between looks: early looks, when little is seen, and late ones."""

MOST = stats.binom.ppf(0.9999, PATHS, LEVEL) / PATHS
"""Share of paths that an exact 5 % exceeds once in ten thousand times."""

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]
Ask = Callable[[Arms], np.ndarray]


def requests(rate: float, base: float, share: int = 9) -> Draw:
    """Draw events and requests of both arms."""

    def draw(rng, batch):
        return (
            rng.binomial(batch, rate, PATHS),
            np.full(PATHS, batch),
            rng.binomial(share * batch, base, PATHS),
            np.full(PATHS, share * batch),
        )

    return draw


def frequencies(rate: float, base: float) -> Draw:
    """Draw events in a tenth of a second a request, and in nine times as much of the baseline."""

    def draw(rng, batch):
        time = 0.1 * batch
        return (
            rng.poisson(rate * time, PATHS),
            np.full(PATHS, time),
            rng.poisson(base * 9 * time, PATHS),
            np.full(PATHS, 9 * time),
        )

    return draw


def histograms(shares: list[float], base_shares: list[float]) -> Draw:
    """Draw bins of both arms."""

    def draw(rng, batch):
        mine, theirs = rng.multinomial(batch, shares, PATHS), rng.multinomial(9 * batch, base_shares, PATHS)
        return mine, mine.sum(axis=1), theirs, theirs.sum(axis=1)

    return draw


def by(engine: Engine, bound: float, sign: int, bet: Bet = HARM) -> Ask:
    return lambda arms: log_evidence(engine, [arms], bound, sign, bet, LEVEL)


def of_quantile(evidence, bound: float, sign: int) -> Ask:
    buckets = Buckets(np.array([1.0, 2.0]), tail=0.1)
    return lambda arms: evidence([arms], buckets, np.full(PATHS, bound), sign, HARM)


def of_distance(limit: float, sign: int) -> Ask:
    buckets = Buckets(np.array([1.0, 2.0, 3.0]), edges=(0, 1, 2, 3))
    return lambda arms: distance_evidence([arms], buckets, np.full(PATHS, limit), sign, DISTANCE_BET, LEVEL)


EVEN, MOVED = [0.25, 0.25, 0.25, 0.25], [0.4, 0.25, 0.2, 0.15]
DISTANCE_MOVED = float(((np.array(MOVED) - EVEN) * np.log(np.array(MOVED) / EVEN)).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "ask"),
    [
        pytest.param(requests(0.021, 0.02), by(Engine.COUNTS, 1.05, 1), id="counts, more"),
        pytest.param(requests(0.019, 0.02), by(Engine.COUNTS, 0.95, -1), id="counts, fewer"),
        pytest.param(requests(0.21, 0.2), by(Engine.COUNTS, 1.05, 1, SLICE_HARM), id="counts, in a slice"),
        pytest.param(requests(0.03, 0.02), by(Engine.COUNTS, 1.5, -1, ASSURANCE), id="counts, a pass"),
        pytest.param(frequencies(2.4, 2.0), by(Engine.COUNTS, 1.2, 1), id="events per second, more"),
        pytest.param(requests(0.42, 0.4), by(Engine.RATIO, 1.05, 1), id="ratio, more"),
        pytest.param(requests(0.38, 0.4), by(Engine.RATIO, 0.95, -1), id="ratio, fewer"),
        pytest.param(requests(0.6, 0.4), by(Engine.RATIO, 1.5, -1, ASSURANCE), id="ratio, a pass"),
        pytest.param(requests(0.03, 0.02), by(Engine.DIFFERENCE, 0.01, 1, Bet((), 6e4)), id="difference, more"),
        pytest.param(requests(0.39, 0.4), by(Engine.DIFFERENCE, -0.01, -1, Bet((), 6e4)), id="difference, fewer"),
        pytest.param(requests(0.01, 0.5), by(Engine.LIMIT, 0.01, 1), id="limit, above"),
        pytest.param(requests(0.99, 0.5), by(Engine.LIMIT, 0.99, -1), id="limit, below"),
        pytest.param(requests(0.01, 0.5), by(Engine.LIMIT, 0.01, -1, ASSURANCE), id="limit, a pass"),
        pytest.param(frequencies(5.0, 1.0), by(Engine.FREQUENCY, 5.0, 1), id="frequency, above"),
        pytest.param(frequencies(5.0, 1.0), by(Engine.FREQUENCY, 5.0, -1), id="frequency, below"),
        # The baseline's quantile is surely at or below a bound, and the candidate's is that bound; or the reverse.
        pytest.param(histograms([0.7, 0.2, 0.1], [0.7, 0.28, 0.02]), of_quantile(ratio_evidence, 1, 1), id="slower"),
        pytest.param(histograms([0.899, 0.1, 0.001], [0.6, 0.3, 0.1]), of_quantile(ratio_evidence, 1, -1), id="faster"),
        pytest.param(histograms([0.7, 0.2, 0.1], [0.95, 0.04, 0.01]), of_quantile(shift_evidence, 1, 1), id="later"),
        pytest.param(histograms([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]), of_quantile(level_evidence, 2, 1), id="level"),
        pytest.param(histograms(MOVED, EVEN), of_distance(DISTANCE_MOVED, 1), id="distance, more"),
        pytest.param(histograms(MOVED, EVEN), of_distance(DISTANCE_MOVED, -1), id="distance, less"),
    ],
)
def test_any_stopping_time_keeps_the_level(draw, ask):
    """4000 releases exactly at the margin, looked at twelve times: at most 5 % ever reach an e-value of 20."""
    rng = np.random.default_rng(11)
    ever = np.zeros(PATHS, dtype=bool)
    total = None
    for batch in BATCHES:
        new = draw(rng, batch)
        total = new if total is None else tuple(old + more for old, more in zip(total, new, strict=True))
        ever |= ask(Arms(*(np.asarray(part, dtype=float) for part in total))) >= np.log(1 / LEVEL)
    assert ever.mean() <= MOST
