"""What Prometheus is asked."""

from datetime import UTC, datetime, timedelta

import promql_parser
import pytest

from modelrelease.core.answers import stage_counts, stale
from modelrelease.core.queries import HistogramQueries, RateQueries, StageWindow, half_queries, needed, stage_queries
from tests.builders import a_body, a_release

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
KINDS = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [
        {"name": "fallbacks", "rate": {"events": 'f_total{tier="2"}'}},
        {"name": "latency", "quantile": {"histogram": 'd_seconds{code="200"}', "q": "0.99"}},
        {"name": "shape", "distribution": {"histogram": 'd_seconds{code="200"}'}},
        {"name": "error-rate", "ratio": {"events": 'r_total{code="500"}', "of": "r_total"}},
    ],
    "clauses": [
        {"name": "fast", "metric": "latency", "per": ["country"], "noWorse": "20%"},
        {"name": "alike", "metric": "shape", "per": ["country"], "similar": {"psi": "0.2"}},
        {"name": "few-fallbacks", "metric": "fallbacks", "noWorse": "20%"},
        {"name": "errors", "metric": "error-rate", "atMost": "0.1%"},
    ],
}
"""A metric of each kind; the first is a rate."""


def a_window(seconds: float = 60, kind: str = "canary", percent: int | None = 10) -> StageWindow:
    return StageWindow("canary-10", kind, START, START + timedelta(seconds=seconds), percent)


def asked(seconds: float = 60, *, baseline: str | None = "old", lag: float = 0, **spec):
    return stage_queries(a_release(**spec), a_window(seconds), baseline, "new", lag=timedelta(seconds=lag))


def asked_of_kinds(window: StageWindow | None = None, *clauses: int):
    """Return the questions about metrics of each kind, or only those of these clauses."""
    contract = KINDS | {"clauses": [KINDS["clauses"][index] for index in clauses or range(4)]}
    return stage_queries(a_release(contract=contract), window or a_window(), "old", "new", lag=timedelta(0))


def about(questions, metric: str, dimension: str = ""):
    return next(it for it in questions.metrics if (it.metric, it.dimension) == (metric, dimension))


def test_one_question_per_counter_and_dimension():
    """However many slices there are; the clause that is only judged overall asks for no slices."""
    pairs = [(it.metric, it.dimension) for it in asked().metrics]
    assert [("block-rate", ""), ("block-rate", "country"), ("error-rate", "")] == pairs
    assert 6 == len(asked().queries)


def test_only_what_the_stage_is_judged_on_is_asked():
    """A clause that is limited to other kinds of stage costs nothing here."""
    contract = a_body()["spec"]["contract"]
    contract["clauses"][0]["stages"] = ["full"]
    parsed = a_release(contract=contract).spec.contract
    assert (("error-rate", ""),) == needed(parsed, "shadow")
    contract["clauses"][1]["stages"] = ["full"]
    assert (("block-rate", ""),) == needed(a_release(contract=contract).spec.contract, "shadow")


def test_both_arms_of_one_release_are_asked_for():
    """Release, namespace and revisions are matched beside the user's own matchers."""
    text = asked().metrics[0].events.text
    want = 'd_total{namespace="fraud",release="radar",revision=~"old|new",decision="block"}'
    assert want in text
    assert 'revision=~"new"' in asked(baseline=None).metrics[0].events.text


@pytest.mark.parametrize("seconds", [1, 59.5, 60, 501, 3_601.5, 14 * 86_400])
def test_every_question_is_promql(seconds):
    """Whatever the window and the metric."""
    questions = asked_of_kinds(a_window(seconds))
    halves = half_queries(
        a_release(contract=KINDS), a_window(seconds), "old", (["a:1"], ["b:1", "c:1"]), lag=timedelta(0)
    )
    for query in (*questions.queries, questions.newest, *halves.queries):
        promql_parser.parse(query.text)


@pytest.mark.parametrize(
    ("seconds", "lag", "at", "parts", "counted"),
    [
        pytest.param(60, 0, 60, ["[60s]", "[59999ms:1s]", "offset 60s"], 60, id="a second's steps, no offset"),
        pytest.param(60, 5, 55, ["[55s]", "[54999ms:1s]", "offset 55s"], 55, id="read a lag earlier"),
        pytest.param(60.5, 0, 61, ["[60s] offset 500ms", "offset 60500ms"], 60, id="between two seconds"),
        pytest.param(1_801, 0, 1_804, ["[1800s] offset 3s", ":4s]", "offset 1803s"], 1_800, id="at most 500 steps"),
    ],
)
def test_the_window_is_laid_on_a_grid(seconds, lag, at, parts, counted):
    """Steps of a subquery end at multiples of the step, so the moment is moved up and the selectors back."""
    questions = asked(seconds, lag=lag)
    query = questions.metrics[0].of
    assert int((START.timestamp() + at) * 1000) == query.at
    assert counted == questions.seconds
    for part in parts:
        assert part in query.text


def test_nothing_is_asked_before_the_first_second():
    """A stage that has just begun has no counts, which is no failure."""
    questions = asked(0.9)
    assert frozenset() == questions.queries
    counts, bad = stage_counts(questions, {})
    assert ({}, 0) == (counts.counts, bad)
    assert stale(questions, counts, (), timedelta(seconds=5)) is None


# Other kinds of metric.


def test_a_histogram_is_asked_for_by_bound_and_as_native():
    """Only Prometheus knows which of the two it has."""
    latency = about(asked_of_kinds(), "latency", "country")
    assert isinstance(latency, HistogramQueries)
    assert latency.classic.text.startswith("sum by (revision, country, le) (")
    assert 'd_seconds_bucket{namespace="fraud",release="radar",revision=~"old|new",code="200"}' in latency.classic.text
    assert latency.native.text.startswith("sum by (revision, country) (")
    assert 'd_seconds{namespace="fraud",release="radar",revision=~"old|new",code="200"}' in latency.native.text


def test_two_metrics_of_one_histogram_share_its_questions():
    assert about(asked_of_kinds(), "latency").queries == about(asked_of_kinds(), "shape").queries
    both, one = asked_of_kinds(None, 0, 1), asked_of_kinds(None, 0)
    assert both.queries == one.queries
    assert 4 == len(one.queries)


@pytest.mark.parametrize(
    ("kind", "percent", "seconds"),
    [
        pytest.param("shadow", 50, (60, 30), id="a shadow gets copies, the baseline keeps all"),
        pytest.param("shadow", None, (60, 60), id="of a shadow, copies of all requests are assumed"),
        pytest.param("canary", 10, (54, 6), id="a canary takes its share away from the baseline"),
        pytest.param("full", 100, (0, 60), id="full has no baseline"),
        pytest.param("full", None, (0, 60), id="full needs no share"),
    ],
)
def test_a_rate_counts_against_its_share_of_the_time(kind, percent, seconds):
    rate = about(asked_of_kinds(a_window(60, kind, percent)), "fallbacks")
    assert isinstance(rate, RateQueries)
    assert pytest.approx(seconds) == rate.seconds


def test_a_rate_is_not_asked_for_when_the_share_is_unknown():
    questions = asked_of_kinds(a_window(60, "canary", None))
    assert "fallbacks" not in [it.metric for it in questions.metrics]


def test_traffic_is_counted_even_when_only_a_rate_is_judged():
    """By the first metric that can: the rate itself does not know of requests without events."""
    assert [("fallbacks", ""), ("latency", "")] == [(it.metric, it.dimension) for it in asked_of_kinds(None, 2).metrics]
    only_in_full = KINDS | {"clauses": [KINDS["clauses"][2] | {"stages": ["full"]}]}
    assert (("latency", ""),) == needed(a_release(contract=only_in_full).spec.contract, "shadow")


@pytest.mark.parametrize(
    ("clause", "asks"),
    [
        pytest.param(0, ["d_seconds{", 'd_seconds_bucket{le="+Inf",'], id="histogram, either kind, few of its series"),
        pytest.param(2, ["f_total{", "d_seconds{"], id="rate, and what counts the traffic"),
        pytest.param(3, ["r_total{"], id="ratio"),
    ],
)
def test_the_newest_sample_of_every_kind_is_asked_for(clause, asks):
    newest = asked_of_kinds(None, clause).newest
    assert newest.text.startswith("max by (revision, instance) (timestamp(")
    for series in asks:
        assert f"timestamp({series}" in newest.text


def test_two_halves_of_the_baseline_are_asked_for_like_two_arms():
    """Only what is compared with a baseline, and no rate: half of the pods have an unknown share of the traffic."""
    contract = KINDS | {"clauses": [*KINDS["clauses"], {"name": "e", "metric": "error-rate", "noWorse": "5%"}]}
    pods = (["10.0.0.1:80", "c"], ["b"])
    halves = half_queries(a_release(contract=contract), a_window(), "old", pods, lag=timedelta(0))
    want = [("latency", ""), ("latency", "country"), ("shape", ""), ("shape", "country"), ("error-rate", "")]
    assert want == [(it.metric, it.dimension) for it in halves.metrics]
    text = about(halves, "error-rate").of.text
    assert text.startswith("sum by (modelrelease_half) (")
    assert 'revision=~"old"}' in text
    assert r'"modelrelease_half", "first", "instance", "10\\.0\\.0\\.1:80|c")' in text
    assert '"modelrelease_half", "second", "instance", "b")' in text
    assert (("first", "second"), None, None) == (halves.columns, halves.percent, halves.newest)


def test_nothing_to_compare_needs_no_halves():
    """A limit holds whatever the baseline does."""
    contract = KINDS | {"clauses": [KINDS["clauses"][3]]}
    assert half_queries(a_release(contract=contract), a_window(), "old", (["a"], ["b"]), lag=timedelta(0)) is None
