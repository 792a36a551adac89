"""What is kept of a gate is enough to compute its verdict again by hand, with the page's formulas and nothing else."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.arrival import SPLIT_LEVEL
from modelrelease.core.assess import PASS_LEVEL, THIN_SHARE
from modelrelease.core.counts import OVERALL, BinCounts, Noise, SliceCounts, StageCounts
from modelrelease.core.decide import RollBack
from modelrelease.core.dossier import dossier
from modelrelease.core.evidence import PRICE, SMALLEST_RHO
from modelrelease.core.histograms import FEWEST_IN_A_BIN, FEWEST_OBSERVATIONS
from modelrelease.core.judge import NOISE_LEVEL, judge
from modelrelease.core.noise import FEWEST_TERMS
from tests.builders import a_release, a_situation
from tests.core import by_hand
from tests.core.by_hand import PAGE, Noted
from tests.core.judging import country

COUNTRIES = ("FR", "DE", "MT", "LU")
TRAFFIC = (0.55, 0.4, 0.0495, 0.0005)
BOUNDS = np.array([0.05, 0.1, 0.2, 0.25, 0.3, 0.33, 0.36, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0, 2.0])

WORSE = (1.02, 1.0, 2.1, 1.2)

METRICS = {
    "block-rate": {"ratio": {"events": "blocks", "of": "decisions"}},
    "approve-rate": {"better": "Higher", "ratio": {"events": "approvals", "of": "decisions"}},
    "latency": {"quantile": {"histogram": "latency_seconds", "q": "0.99"}},
    "score": {"distribution": {"histogram": "score"}},
    "fallbacks": {"rate": {"events": "fallbacks_total"}},
}

CLAUSES = {
    "counts": {"metric": "block-rate", "within": "5%", "weight": 3},
    "counts, for canaries": {"metric": "block-rate", "noWorse": "0%", "stages": ["canary"]},
    "counts, a limit in slices": {"metric": "block-rate", "noWorse": "30%", "assure": {"slices": "2pp"}},
    "ratio": {"metric": "approve-rate", "within": "4%"},
    "ratio, which improves": {"metric": "approve-rate", "improves": True, "onBreach": "Hold"},
    "difference": {"metric": "approve-rate", "noWorse": "0.5pp", "assure": {"slices": "none"}},
    "difference, both ways": {"metric": "block-rate", "within": "0.3pp"},
    "limit": {"metric": "block-rate", "atMost": "2.2%"},
    "limit from below": {"metric": "approve-rate", "atLeast": "70%"},
    "limit of nothing": {"metric": "block-rate", "atMost": "0%", "onBreach": "Warn"},
    "rate": {"metric": "fallbacks", "within": "20%"},
    "frequency": {"metric": "fallbacks", "atMost": "0.8"},
    "frequency from below": {"metric": "fallbacks", "atLeast": "0.3", "onBreach": "Hold"},
    "quantile": {"metric": "latency", "within": "10%"},
    "quantile, shifted": {"metric": "latency", "noWorse": "0.1"},
    "quantile, a limit": {"metric": "latency", "atMost": "0.5"},
    "quantile, no such bound": {"metric": "latency", "atMost": "3", "onBreach": "Warn"},
    "quantile, from below": {"metric": "latency", "atLeast": "0.35", "onBreach": "Warn"},
    "distance": {"metric": "score", "similar": {"psi": "0.05"}},
}
"""Every engine, in every direction, with every kind of proof of a pass."""

NAMES = list(CLAUSES)

STAGES = [
    {"name": "shadow", "shadow": {"percent": 50}, "bake": "10m", "deadline": "1h"},
    {"name": "canary-10", "canary": {"percent": 10}, "bake": "10m", "deadline": "1h"},
    {"name": "full", "full": {}, "bake": "1h", "deadline": "3h"},
]


def a_contract():
    named = [{"name": f"c{number}", "per": ["country"], **CLAUSES[name]} for number, name in enumerate(NAMES)]
    return {
        "slices": [{"name": "country", "labels": ["country"]}],
        "metrics": [{"name": name, **metric} for name, metric in METRICS.items()],
        "clauses": named,
    }


RELEASE = a_release(contract=a_contract(), stages=STAGES)


def a_stage(name, *, percent, seconds, requests, level, seed, arriving=1.02, worse=WORSE):
    """
    Return a stage in which the candidate gets another share than in the others, at another hour.

    The rates of both arms are *level* times the usual ones; the candidate's are *worse* by country. *arriving* is how
    many of its requests reach it, of those that the route asks for.
    """
    rng = np.random.default_rng(seed)
    kind = name.partition("-")[0]
    share = percent / 100
    split = (1.0, share * 0.97) if kind == "shadow" else (1 - share, share * arriving)
    of = np.array([[round(requests * part * arm) for arm in split] for part in TRAFFIC], dtype=float)
    factor = np.column_stack([np.ones(4), worse])
    times = np.array([seconds * (1.0 if kind == "shadow" else 1 - share), seconds * share])
    blocks = rng.binomial(of.astype(int), 0.02 * level * factor)
    approvals = rng.binomial(of.astype(int), 1 - 0.3 * level * factor / 1.2)
    fallbacks = rng.poisson(np.array(TRAFFIC)[:, None] * times * 0.5 * level * factor)
    counts = {}
    for metric, events, out_of in (
        ("block-rate", blocks, of),
        ("approve-rate", approvals, of),
        ("fallbacks", fallbacks, np.broadcast_to(times, of.shape)),
    ):
        whole = times if metric == "fallbacks" else out_of.sum(axis=0)
        counts[metric, ""] = SliceCounts((OVERALL,), events.sum(axis=0)[None].astype(float), whole[None].astype(float))
        counts[metric, "country"] = SliceCounts(tuple(map(country, COUNTRIES)), events.astype(float), out_of.copy())
    histograms = {}
    for metric, spread in (("latency", 0.5), ("score", 1.0)):
        bins = np.stack(
            [
                np.column_stack(
                    [counted(rng, int(n), spread, worse[row] if arm else 1.0) for arm, n in enumerate(of[row])]
                )
                for row in range(4)
            ]
        ).astype(float)
        histograms[metric, ""] = BinCounts((OVERALL,), BOUNDS, bins.sum(axis=0)[None])
        histograms[metric, "country"] = BinCounts(tuple(map(country, COUNTRIES)), BOUNDS, bins)
    return StageCounts(name, kind, seconds, counts, histograms, percent=percent)


def counted(rng, number, spread, factor):
    values = 0.1 * factor**0.7 * np.exp(spread * rng.standard_normal(number))
    return np.histogram(values, bins=[-np.inf, *BOUNDS, np.inf])[0]


NOISE = Noise(design_effects={"block-rate": 1.3, "approve-rate": 2.7}, halves=None)
EVIDENCE = (
    a_stage("shadow", percent=50, seconds=900, requests=40_000, level=0.7, seed=1),
    replace(a_stage("canary-10", percent=10, seconds=1800, requests=120_000, level=1.2, seed=2), noise=NOISE),
)
HEALTHY = (
    a_stage("shadow", percent=50, seconds=900, requests=100_000, level=0.7, seed=5, worse=(1, 1, 1, 1)),
    a_stage("canary-10", percent=10, seconds=1800, requests=2_000_000, level=1, seed=6, worse=(0.98, 1, 1, 1)),
)
FOUND, FINE = (
    judge(RELEASE.contract, evidence, error_budget=RELEASE.spec.error_budget, has_baseline=True)
    for evidence in (EVIDENCE, HEALTHY)
)
READ: set[str] = set()


def kept(finding, release=RELEASE):
    left = dossier(a_situation(finding=finding, release=release), RollBack(Reason.CONTRACT_BREACHED, "broken"))
    return Noted.of(json.loads(left.manifest["data"]["gate.json"]), READ)


@pytest.fixture(scope="module", name="content")
def _content():
    return kept(FOUND)


@pytest.mark.parametrize("name", NAMES)
def test_every_e_value_follows_from_what_is_kept(content, name):
    """Of every engine, over two stages in which the candidate gets different shares of the traffic."""
    number = NAMES.index(name)
    judged, clause = FOUND.clauses[number], content["verdict"]["clauses"][number]
    assert by_hand.harm(clause, clause["overall"], "overall") == pytest.approx(judged.overall.log_e, abs=1e-6)
    assert [part["slice"] for part in clause["slices"]] == [f"country={part.part[0][1]}" for part in judged.slices]
    for part, want in zip(clause["slices"], judged.slices, strict=True):
        assert by_hand.harm(clause, part, "slices") == pytest.approx(want.log_e, abs=1e-6), part["slice"]
    assert by_hand.clause_mean(clause) == pytest.approx(judged.log_e, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_shares_and_outcomes_follow_from_what_is_kept(content, name):
    number = NAMES.index(name)
    judged, clause = FOUND.clauses[number], content["verdict"]["clauses"][number]
    parts = [clause["overall"], *clause["slices"]]
    wanted = [judged.overall, *judged.slices]
    assert by_hand.levels(clause, parts) == pytest.approx([part.level for part in wanted], rel=1e-12)
    where = ["overall", *("slices" for _ in judged.slices)]
    told = [by_hand.outcome(clause, part, its) for part, its in zip(parts, where, strict=True)]
    assert told == [part.outcome.value for part in wanted]


def test_the_release_is_rolled_back_by_what_is_kept(content):
    """The evidence against the release, by what a breach does, and the clauses that it breaks."""
    budget = content["errorBudget"]
    assert by_hand.families(content["verdict"], budget) == pytest.approx(dict(FOUND.log_e), abs=1e-6)


@pytest.mark.parametrize("judged", [FOUND, FINE], ids=["harmed", "healthy"])
def test_the_verdict_on_every_clause_follows_from_what_is_kept(judged):
    """Breach, pass or doubt: of all traffic, of the slices, and of those with little traffic together."""
    content = kept(judged)
    wanted = {clause.clause: clause.outcome.value for clause in judged.clauses}
    assert by_hand.found(content["verdict"], content["errorBudget"]) == wanted
    assert len(set(wanted.values())) == 3


def test_the_evidence_tells_the_clauses_apart():
    """What is computed again is of all sizes and outcomes: nothing is right by being nothing."""
    parts = [part for clause in FOUND.clauses for part in (clause.overall, *clause.slices)]
    assert {part.outcome for part in parts} == set(Outcome)
    assert {clause.engine for clause in FOUND.clauses} == {
        "counts",
        "ratio",
        "difference",
        "limit",
        "frequency",
        "quantile ratio",
        "quantile shift",
        "quantile level",
        "distance",
    }
    for clause in FOUND.clauses:
        assert any(abs(part.log_e) > 0.01 for part in (clause.overall, *clause.slices)), clause.clause


@pytest.mark.parametrize(
    ("phrase", "number"),
    [
        ("and pass when each of them pays #", 1 / PASS_LEVEL),
        ("less than # % of the events of all traffic", 100 * THIN_SHARE),
        ("from # observations in each arm and stage on", FEWEST_OBSERVATIONS),
        ("its share of both arms is at least # of the smaller arm", FEWEST_IN_A_BIN),
        ("and there are # terms", FEWEST_TERMS),
        ("with one half of the pods for the candidate and with the other, reaches #", 1 / NOISE_LEVEL),
        ("proved wrong when `limit` pays #", 2 / SPLIT_LEVEL),
        ("divided by **#**", PRICE),
        ("at least #, with `L = 2 ln", SMALLEST_RHO),
    ],
)
def test_the_numbers_of_the_page_are_those_of_the_judge(phrase, number):
    """Those that decide only at an edge: evidence does not follow them."""
    assert by_hand.told(phrase) == pytest.approx(number)


@pytest.mark.parametrize(
    ("name", "what", "information", "level"),
    [
        ("ratio", "breach", 100, 0.01),
        ("ratio", "pass", 6 / 0.04**2, 0.05),
        ("ratio, which improves", "pass", 100, 0.05),
        ("difference", "breach", 6 / 0.005**2, 0.01),
        ("distance", "breach", 1 / 0.03**2, 0.01),
        ("distance", "pass", 100, 0.05),
    ],
)
def test_the_precision_of_a_mixture_is_as_the_page_says(content, name, what, information, level):
    """By its formula, from the information and the chance of error at which the mixture is sharpest."""
    limit = 2 * log(1 / (2 * level))
    want = max(information / (limit + log(1 + limit)), by_hand.told("at least #, with `L = 2 ln"))
    clause = content["verdict"]["clauses"][NAMES.index(name)]
    assert clause[what]["overall"]["rho"] == pytest.approx(want)


def test_a_time_that_nobody_knows_is_kept_as_such():
    """Where the split is proved wrong, what was counted of rates proves nothing, then and when it is computed again."""
    wrong = a_stage("canary-10", percent=10, seconds=1800, requests=60_000, level=1.2, seed=3, arriving=0.5)
    found = judge(RELEASE.contract, (EVIDENCE[0], wrong), error_budget=0.01, has_baseline=True)
    content = kept(found)
    for name in ("rate", "frequency", "frequency from below"):
        judged, clause = (clauses[NAMES.index(name)] for clauses in (found.clauses, content["verdict"]["clauses"]))
        assert clause["times"][1] == [0.0, None]
        assert by_hand.clause_mean(clause) == pytest.approx(judged.log_e, abs=1e-6)


def test_what_is_cut_is_told_as_one():
    """Of more slices than fit, the worst ones and the sum of the others still make up the clause's evidence."""
    rng = np.random.default_rng(4)
    names = tuple(country(f"C{number:04}") for number in range(2_000))
    of = np.tile([90_000.0, 10_000.0], (2_000, 1))
    events = rng.binomial(of.astype(int), 0.02).astype(float)
    counts = {
        ("block-rate", ""): SliceCounts((OVERALL,), events.sum(axis=0)[None], of.sum(axis=0)[None]),
        ("block-rate", "country"): SliceCounts(names, events, of),
    }
    steady = {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"}
    dimension = {"name": "country", "labels": ["country"], "atMost": 2_000}
    release = a_release(contract={**a_contract(), "slices": [dimension], "clauses": [steady]}, stages=STAGES)
    stage = StageCounts("canary-10", "canary", 600, counts)
    found = judge(release.contract, (stage,), error_budget=0.01, has_baseline=True)
    (clause,) = kept(found, release)["verdict"]["clauses"]
    assert 100 < len(clause["slices"]) < 2_000 == clause["slicesJudged"]
    assert by_hand.clause_mean(clause) == pytest.approx(found.clauses[0].log_e, abs=1e-6)


def test_the_page_names_all_that_is_read(content):
    """Every key of the JSON that a reckoning reads stands on the page."""
    for clause in content["verdict"]["clauses"]:
        by_hand.outcome(clause, clause["overall"], "overall")
        by_hand.clause_mean(clause)
    assert [key for key in sorted(READ) if f"`{key}`" not in PAGE] == []
