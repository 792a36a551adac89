"""What the baseline tells of noise: which questions are asked of it, and what bursts look like in the answers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import promql_parser
import pytest

from modelrelease.core.answers import Sample
from modelrelease.core.noise import (
    MOST_PODS,
    MOST_STEPS,
    Series,
    design_effect,
    design_effects,
    half_stage_queries,
    noise_queries,
)
from modelrelease.core.queries import StageWindow
from tests.builders import a_release

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}, {"name": "channel", "labels": ["channel"]}],
    "metrics": [
        {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
        {"name": "error-rate", "ratio": {"events": 'r_total{code="500"}', "of": "r_total"}},
        {"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.99"}},
    ],
    "clauses": [
        {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"},
        {"name": "errors", "metric": "error-rate", "atMost": "0.1%"},
        {"name": "fast", "metric": "latency", "noWorse": "20%"},
    ],
}


def asked(seconds: float = 60, kind: str = "canary", *, interval: float = 5, lag: float = 0, contract=CONTRACT):
    window = StageWindow("stage", kind, START, START + timedelta(seconds=seconds), 10)
    times = {"lag": timedelta(seconds=lag), "interval": timedelta(seconds=interval)}
    return noise_queries(a_release(contract=contract), window, "old", **times)


# Bursts.


def some_requests(seed: int, *, size: int = 1, slices: int = 20, steps: int = 60, drift: float = 0.0):
    """Return events and requests ``(n, t)``, about 1000 in a step; *size* requests at a time have the same outcome."""
    rng = np.random.default_rng(seed)
    bursts = rng.poisson(1000 / size, (slices, steps))
    rate = 0.05 * (1 + drift * np.linspace(-1, 1, steps))
    return rng.binomial(bursts, rate) * float(size), bursts * float(size)


@pytest.mark.parametrize("drift", [0.0, 0.5], ids=["steady", "threefold over the time"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_bursts_are_found_at_their_size(size, drift):
    """As in the table of the design; a drifting rate is no burst."""
    assert design_effect([some_requests(1, size=size, drift=drift)]) == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_independent_requests_are_no_bursts(drift):
    """The estimate is noisy; it counts in 3 of 100 looks, and then by little."""
    found = np.array([design_effect([some_requests(seed, drift=drift)]) for seed in range(200)])
    assert (found > 1).mean() < 0.06
    assert found.max() < 1.2


def test_an_estimate_of_little_history_counts_only_when_it_is_beyond_doubt():
    found = np.array([design_effect([some_requests(seed, slices=1)]) for seed in range(400)])
    assert (found > 1).mean() < 0.06
    assert found[found > 1].min() > 1.4


def test_terms_of_all_dimensions_are_taken_together():
    """Half of the terms from bursts of three, half from none; the doubt is that of one dimension alone."""
    alike = [some_requests(seed, size=size, slices=10) for seed, size in ((1, 1), (2, 3))]
    assert design_effect(alike) == pytest.approx(2, rel=0.15)


def test_too_little_history_tells_nothing():
    events, of = some_requests(1, slices=1)
    assert design_effect([(events[:, :30], of[:, :30])]) is None
    assert design_effect([(events[:, :31], of[:, :31])]) is not None
    assert design_effect([]) is None


def test_steps_that_are_not_known_are_left_out():
    """A pod that restarts or cannot be scraped; neither neighbour is compared with it."""
    events, of = some_requests(1, size=3)
    events[:, ::10] = np.nan
    of[:, 5::20] = np.nan
    of[:, 7::20] = 0
    events[:, 9::20] = of[:, 9::20] + 1
    assert design_effect([(events, of)]) == pytest.approx(3, rel=0.2)


def test_rare_events_and_rare_misses_tell_nothing():
    """With less than one to be expected in a step, one event is a jump."""
    events, of = some_requests(1)
    rare = np.where(np.arange(60) % 20 == 0, 1.0, 0.0) * np.ones((20, 1))
    assert design_effect([(rare, of)]) is None
    assert design_effect([(of - rare, of)]) is None
    assert design_effect([(events * 0, of)]) is None


# Answers.


def test_answers_become_steps():
    """Without events of a slice in a step there were none; without its requests nothing is known."""
    questions = asked()
    overall = next(it for it in questions.steps if it.metric == "block-rate" and not it.labels)
    by_country = next(it for it in questions.steps if it.metric == "block-rate" and it.labels)
    answers = dict.fromkeys(questions.ranges, ())
    moments = range(overall.of.start, overall.of.end + 1, overall.of.step)
    events, of = some_requests(4, size=4, slices=1, steps=len(moments))

    def series(values: np.ndarray, **labels: str) -> Series:
        return Series(labels, {moment: value for moment, value in zip(moments, values, strict=True) if value})

    answers |= {overall.events: (series(events[0]),), overall.of: (series(of[0]),)}
    answers |= {by_country.events: (series(events[0], country="FR"),)}
    answers |= {by_country.of: (series(of[0], country="FR"), series(of[0], country="DE"))}
    effects = design_effects(questions, answers)
    assert set(effects) == {"block-rate"}, "the other ratio has no history, the quantile no design effect"
    assert effects["block-rate"] == design_effect([(events, of), (events, of)])
    assert effects["block-rate"] > 2


# Questions.


def test_ratios_are_asked_for_by_slice_and_over_all_traffic():
    """In the dimensions that clauses use, the baseline alone, step by step."""
    questions = asked()
    assert [("block-rate", ()), ("block-rate", ("country",)), ("error-rate", ())] == [
        (it.metric, it.labels) for it in questions.steps
    ]
    text = questions.steps[1].events.text
    series = 'd_total{namespace="fraud",release="radar",revision=~"old",decision="block"}'
    assert text.startswith(f"sum by (country) (({series} - {series} offset 10s) >= 0) and topk(200, ")
    assert "topk" not in questions.steps[0].events.text
    assert 6 == len(questions.ranges)


@pytest.mark.parametrize("seconds", [1, 61.5, 7 * 86_400])
def test_every_question_is_promql(seconds):
    questions = asked(seconds)
    for query in (*questions.ranges, questions.pods):
        promql_parser.parse(query.text)


@pytest.mark.parametrize(
    ("seconds", "interval", "step", "steps"),
    [
        pytest.param(0, 5, 10, 60, id="ten minutes before the stage"),
        pytest.param(300, 5, 10, 90, id="and the stage so far"),
        pytest.param(1200, 5, 20, 90, id="longer steps"),
        pytest.param(3000, 5, 30, 90, id="up to half a minute, then only the newest part"),
        pytest.param(600, 15, 30, 40, id="two scrapes at least"),
        pytest.param(600, 60, 120, 10, id="however long they are"),
    ],
)
def test_history_is_read_in_steps(seconds, interval, step, steps):
    query = asked(seconds, interval=interval).steps[0].of
    assert query.end == int(START.timestamp()) + seconds
    assert (query.step, (query.end - query.start) // query.step + 1) == (step, steps)
    assert f"offset {step}s" in query.text
    assert steps <= MOST_STEPS


def test_history_too_short_for_two_steps_is_not_asked_for():
    assert () == asked(0, interval=600).steps


def test_evidence_younger_than_the_lag_is_not_asked_for():
    query = asked(60, lag=5).steps[0].of
    assert query.end == int(START.timestamp()) + 55


def test_at_full_the_baseline_is_asked_how_it_was_before():
    """It has no traffic any more; halves of it would tell nothing, and nothing is compared with it."""
    questions = asked(300, "full")
    assert questions.steps[0].of.end == int(START.timestamp())
    assert questions.pods is None


def test_pods_are_asked_for_by_what_is_compared():
    text = asked().pods.text
    assert text.startswith("group by (instance) (last_over_time(")
    assert "d_total{" in text
    assert 'd_seconds_bucket{le="+Inf",' in text
    assert "r_total" not in text
    assert asked(contract=CONTRACT | {"clauses": [CONTRACT["clauses"][1]]}).pods is None


def test_what_is_asked_about_does_not_depend_on_when():
    assert asked(60).about == asked(90).about
    other = CONTRACT | {"clauses": [CONTRACT["clauses"][0] | {"per": ["channel"]}]}
    assert asked(60).about != asked(60, contract=other).about


def some_pods(*names: str) -> tuple[Sample, ...]:
    return tuple(Sample({"instance": name}, 1) for name in names)


def halves(*names: str):
    window = StageWindow("stage", "canary", START, START + timedelta(seconds=60), 10)
    return half_stage_queries(a_release(contract=CONTRACT), window, "old", some_pods(*names), lag=timedelta(0))


def test_pods_are_halved_in_turn():
    """From ten minutes before the stage on."""
    questions = halves("c:1", "a:1", "b:1", "d:1", "e:1")
    assert 660 == questions.seconds
    text = questions.metrics[0].of.text
    assert '"first", "instance", "a:1|c:1|e:1")' in text
    assert '"second", "instance", "b:1|d:1")' in text


@pytest.mark.parametrize("names", [(), ("a:1",), ("a:1", "a:1", "")])
def test_a_single_pod_has_no_halves(names):
    assert halves(*names) is None


def test_a_question_names_at_most_a_hundred_pods():
    """Addresses are limited in length."""
    text = halves(*(f"p{number:03}" for number in range(300))).metrics[0].of.text
    assert "p099" in text
    assert "p100" not in text
    assert 100 == MOST_PODS
