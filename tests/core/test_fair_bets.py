"""
Every engine's e-values are fair: expected to be at most 1 while the promise holds, and so at any stopping time.

By enumeration of all outcomes, at the margin and inside of it. The approximate engines (ratio, difference, distance)
are fair because their bets have a price: that it is enough is shown for the bets that the judge places, over rates,
sizes and splits of the traffic, at one look and for one who stops at the best moment; simulation shows many looks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from modelrelease.core.assess import PASS_LEVEL, log_harm
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, SLICE_HARM, Arms, Bet, Engine, log_evidence
from modelrelease.core.histograms import Buckets, distance_evidence, level_evidence, ratio_evidence, shift_evidence
from modelrelease.core.hypotheses import Hypotheses
from modelrelease.core.question import DISTANCE_BET, Question, Side, exclusion, harm
from tests.core.judging import a_contract

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


# By enumeration: engines that rest on a normal approximation, in the very bets that the judge places.


@dataclass(frozen=True)
class Placed:
    """A bet as the judge places it: against "effect <= bound" (*sign* +1) or "effect >= bound" (-1), at a level."""

    question: Question
    bound: float
    sign: int
    level: float

    def expected(self, counts: Arms, bases: np.ndarray, depth: float = 0.0) -> np.ndarray:
        """Return the expected e-value at each base rate, the candidate's so deep inside of what is allowed."""
        e = np.exp(np.minimum(self.question.evidence([counts], self.bound, self.sign, self.level), _IMPOSSIBLE))
        bases, rates = self.rates(bases, depth)
        n1, n0 = int(counts.of[0]), int(counts.base_of[0])
        mine, base = (stats.binom.pmf(np.arange(n + 1), n, p[:, None]) for n, p in ((n1, rates), (n0, bases)))
        return np.asarray(((mine @ e.reshape(n1 + 1, n0 + 1)) * base).sum(axis=1))

    def rates(self, bases: np.ndarray, depth: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the base rates at which the bound can be reached, and the candidate's, at or inside of it."""
        rates = bases * self.bound if self.question.proportional else bases + self.bound
        possible = (rates > 0) & (rates < 1)
        edge = 0.0 if self.sign > 0 else 1.0
        return bases[possible], rates[possible] * (1 - depth) + edge * depth


_IMPOSSIBLE = 700.0
"""Evidence beyond it belongs to outcomes that the promise rules out."""


def placed(**clause: Any) -> list[Placed]:
    """Return all bets about a clause on a metric whose rate is high: for a breach at several budgets, for a pass."""
    better = clause.pop("better", "Lower")
    contract = a_contract({"name": "it", "metric": "block-rate", "per": ["country"], **clause}, better=better)
    it, metric = contract.clauses[0], contract.metric("block-rate")
    counts = Arms(*(np.array([float(n)]) for n in (40, 100, 400, 1000)))
    hyp = Hypotheses(((),), np.zeros(1, dtype=bool), counts, (counts,), 60.0)
    bets = []
    for overall in (True, False):
        question, excluded = harm(it, metric, hyp, overall=overall), exclusion(it, metric, hyp, overall=overall)
        bets += [
            Placed(question, side.bound, side.sign, level) for side in question.sides for level in (0.2, 0.01, 1e-4)
        ]
        bets += [Placed(excluded, side.bound, -side.sign, PASS_LEVEL) for side in excluded.sides]
    return bets


RELATIVE = [
    {"within": "5%"},
    {"within": "50%"},
    {"within": "150%"},
    {"improves": True},
    {"improves": True, "better": "Higher"},
    {"within": "1%", "assure": {"overall": "5%", "slices": "20%"}},
    {"noWorse": "5%", "assure": {"overall": "300%", "slices": "100%"}},
]
IN_POINTS = [{"within": points} for points in ("0.1pp", "0.5pp", "1pp", "5pp", "20pp", "50pp")]
SIZES = [(1, 1), (12, 12), (200, 200), (1, 9), (5, 45), (40, 360), (12, 1), (30, 3), (200, 20), (1, 99), (6, 594)]
BASES = np.array(
    [1e-4, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999]
)
"""Of the baseline; beside them those that bring the candidate near 0 or 1."""


def bases_of(bet: Placed) -> np.ndarray:
    """Return base rates down to those at which the candidate nearly always, or never, has an event."""
    ends = np.array([1e-4, 1e-3, 0.01, 0.05, 0.95, 0.99, 0.999, 0.9999])
    there = ends / bet.bound if bet.question.proportional else ends - bet.bound
    return np.unique(np.concatenate([BASES, there[(there > 0) & (there < 1)]]))


def expected_of(clause: dict[str, Any], sizes: tuple[int, int], depth: float = 0.0) -> float:
    """Return the largest expected e-value of any bet about *clause* at any base rate."""
    counts = two_arms(*sizes)
    return max(float(bet.expected(counts, bases_of(bet), depth).max(initial=0.0)) for bet in placed(**clause))


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "{} of {}".format(*sizes))
@pytest.mark.parametrize("clause", RELATIVE + IN_POINTS, ids=lambda clause: " ".join(map(str, clause.values())))
def test_bets_by_the_normal_mixture_are_fair(clause, sizes):
    """Breach and pass, both directions, at the bound: no base rate and no split of the traffic gives away."""
    assert expected_of(clause, sizes) <= 1


@pytest.mark.parametrize("clause", RELATIVE + IN_POINTS, ids=lambda clause: " ".join(map(str, clause.values())))
@pytest.mark.parametrize("depth", [0.01, 0.1, 0.5])
def test_bets_by_the_normal_mixture_are_fair_inside_the_bound(clause, depth):
    assert max(expected_of(clause, sizes, depth) for sizes in ((12, 12), (30, 3), (20, 180))) <= 1


def best_stop(bet: Placed, split: tuple[int, int], looks: list[int], base: float) -> float:
    """
    Return what one can expect who knows all rates and stops at the best look, at the bound.

    Backwards from the last look: go on where more is to be expected than is in hand (Snell's envelope). At look k there
    were k times as many requests in each arm as *split* says.
    """
    (base,), (rate,) = bet.rates(np.array([base]))

    def in_hand(look: int) -> np.ndarray:
        n1, n0 = (look * n for n in split)
        log_e = bet.question.evidence([two_arms(n1, n0)], bet.bound, bet.sign, bet.level)
        return np.exp(np.minimum(log_e, _IMPOSSIBLE)).reshape(n1 + 1, n0 + 1)

    value = in_hand(looks[-1])
    for before, look in zip([0, *looks][-2::-1], looks[::-1], strict=False):
        for axis, (n, p) in enumerate(zip(split, (rate, base), strict=True)):
            new = (look - before) * n
            chance = stats.binom.pmf(np.arange(new + 1), new, p)
            value = np.apply_along_axis(np.correlate, axis, value, chance, "valid")
        value = np.maximum(value, in_hand(before)) if before else value
    return float(value[0, 0])


STOPPING = [
    pytest.param({"within": "1%", "assure": {"slices": "5%"}}, (1, 30), 0.95, id="a pass of 5 %, rates near 1"),
    pytest.param({"within": "5%", "assure": {"slices": "20%"}}, (1, 30), 0.82, id="a pass of 20 %, rates near 1"),
    pytest.param({"noWorse": "20%", "better": "Higher"}, (12, 1), 0.95, id="a breach, most traffic in the candidate"),
    pytest.param({"within": "20pp"}, (1, 30), 0.79, id="20 points, rates near 1"),
    pytest.param({"within": "5pp"}, (12, 1), 0.001, id="5 points, a rare event"),
    pytest.param({"within": "5%"}, (1, 9), 0.4, id="a usual ratio"),
    pytest.param({"within": "1pp"}, (1, 9), 0.3, id="a usual difference"),
]


@pytest.mark.parametrize(("clause", "split", "base"), STOPPING)
def test_stopping_at_the_best_moment_wins_nothing(clause, split, base):
    """The worst found of several thousand bounds, splits, rates and widths of the mixture; and two usual ones."""
    looks = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    bets = [bet for bet in placed(**clause) if bet.rates(np.array([base]))[0].size]
    assert max(best_stop(bet, split, looks, base) for bet in bets) <= 1


@pytest.mark.parametrize("clause", [RELATIVE[0], RELATIVE[1], IN_POINTS[1], IN_POINTS[3]], ids=str)
def test_two_stages_of_the_normal_mixture_are_fair_together(clause):
    """Splits of 1 to 3 and of 2 to 1, base rates of 30 % and of 60 %, and the other way round."""
    outcomes = every(4, 12, 10, 5)
    sizes = [np.full(outcomes[0].size, float(n)) for n in (4, 12, 10, 5)]
    first, second = (
        Arms(outcomes[0], sizes[0], outcomes[1], sizes[1]),
        Arms(*outcomes[2:3], sizes[2], outcomes[3], sizes[3]),
    )
    for bet in placed(**clause):
        e = np.exp(np.minimum(bet.question.evidence([first, second], bet.bound, bet.sign, bet.level), _IMPOSSIBLE))
        for early, late in ((0.3, 0.6), (0.6, 0.3)):
            (one, other), (rate, other_rate) = bet.rates(np.array([early, late]))
            chance = binomials(first, rate, one) * binomials(second, other_rate, other)
            assert float(e @ chance) <= 1


def index_of(shares: np.ndarray, base_shares: np.ndarray) -> float:
    """Return the population stability index."""
    return float(((shares - base_shares) * np.log(shares / base_shares)).sum())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("limit", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("tilt", [(-1, 0, 1), (1, 0, -1), (-1, 2, -1), (1, -2, 1)])
def test_distances_from_a_known_baseline_are_fair(tilt, limit, sign):
    """300 observations in three bins, at the limit; at each of the levels that are asked for."""
    base = np.array([0.2, 0.3, 0.5])

    def shares(strength: float) -> np.ndarray:
        weights = base * np.exp(strength * np.array(tilt))
        return np.asarray(weights / weights.sum())

    moved = shares(optimize.brentq(lambda strength: index_of(shares(strength), base) - limit, 0, 5))
    mine = compositions(300, 3)
    n = len(mine)
    counts = Arms(mine, np.full(n, 300.0), np.tile(base * 1e7, (n, 1)), np.full(n, 1e7))
    chance = stats.multinomial.pmf(mine, 300, moved)
    for level in (0.2, 0.05, 0.01, 1e-4):
        log_e = distance_evidence(
            [counts], Buckets(np.array([1.0, 2.0]), edges=(0, 1, 2)), np.full(n, limit), sign, DISTANCE_BET, level
        )
        assert float(np.exp(np.minimum(log_e, _IMPOSSIBLE)) @ chance) <= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("sizes", [(200, 200), (200, 1000), (600, 300)])
def test_distances_of_two_arms_are_fair(sizes, sign):
    """Two bins that hold at least a tenth of each arm."""
    n1, n0 = sizes
    x1, x0 = every(n1, n0)
    counts = Arms(
        np.column_stack([x1, n1 - x1]),
        np.full(x1.size, float(n1)),
        np.column_stack([x0, n0 - x0]),
        np.full(x0.size, float(n0)),
    )
    for limit in (0.05, 0.2):
        log_e = distance_evidence(
            [counts], Buckets(np.array([1.0]), edges=(0, 1)), np.full(x1.size, limit), sign, DISTANCE_BET, 0.05
        )
        e = np.exp(np.minimum(log_e, _IMPOSSIBLE))
        for base in (0.15, 0.3, 0.5):
            for end in (0.99, 0.01):

                def beyond(share: float, base: float = base, limit: float = limit) -> float:
                    return index_of(np.array([share, 1 - share]), np.array([base, 1 - base])) - limit

                if beyond(end) > 0 and 0.1 <= (share := optimize.brentq(beyond, base, end)) <= 0.9:
                    assert float(e @ binomials(counts_of_first(counts), share, base)) <= 1


def counts_of_first(counts: Arms) -> Arms:
    """Return the first bin's counts as events."""
    return Arms(counts.events[:, 0], counts.of, counts.base_events[:, 0], counts.base_of)


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
