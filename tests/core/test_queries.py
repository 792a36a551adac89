"""What Prometheus is asked, and what its answers mean."""

from datetime import UTC, datetime, timedelta

import promql_parser
import pytest

from modelrelease.core.counts import OVERALL, MetricsUnavailable
from modelrelease.core.queries import Sample, StageWindow, needed, stage_counts, stage_queries, stale
from tests.builders import a_body, a_release

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
FR, DE = (("country", "FR"),), (("country", "DE"),)


def a_window(seconds: float = 60, kind: str = "canary") -> StageWindow:
    return StageWindow("canary-10", kind, START, START + timedelta(seconds=seconds))


def asked(seconds: float = 60, *, baseline: str | None = "old", lag: float = 0, **spec):
    return stage_queries(a_release(**spec), a_window(seconds), baseline, "new", lag=timedelta(seconds=lag))


def sample(revision: str, value: float, **labels: str) -> Sample:
    return Sample({"revision": revision, **labels}, value)


def understood(events: list[Sample], of: list[Sample], *, baseline: str | None = "old"):
    """Return the counts by country that these answers give, and how many samples were bad."""
    questions = asked(baseline=baseline)
    answers = dict.fromkeys(questions.queries, ())
    ratio = next(it for it in questions.ratios if it.dimension == "country")
    answers |= {ratio.events: tuple(events), ratio.of: tuple(of)}
    result = stage_counts(questions, answers)
    if isinstance(result, MetricsUnavailable):
        return result
    counts = result[0].counts["block-rate", "country"]
    return dict(zip(counts.slices, zip(counts.events.tolist(), counts.of.tolist(), strict=True), strict=True)), result[
        1
    ]


def test_one_question_per_counter_and_dimension():
    """However many slices there are; the clause that is only judged overall asks for no slices."""
    pairs = [(it.metric, it.dimension) for it in asked().ratios]
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
    text = asked().ratios[0].events.text
    want = 'd_total{namespace="fraud",release="radar",revision=~"old|new",decision="block"}'
    assert want in text
    assert 'revision=~"new"' in asked(baseline=None).ratios[0].events.text


@pytest.mark.parametrize("seconds", [1, 59.5, 60, 501, 3_601.5, 14 * 86_400])
def test_every_question_is_promql(seconds):
    """Whatever the window."""
    questions = asked(seconds)
    for query in (*questions.queries, questions.newest):
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
    query = questions.ratios[0].of
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


def test_answers_become_columns_of_baseline_and_candidate():
    """Baseline first; slices of either arm, sorted."""
    events = [sample("old", 5, country="FR"), sample("new", 6, country="FR"), sample("new", 1, country="DE")]
    of = [sample("old", 50, country="FR"), sample("new", 60, country="FR"), sample("new", 10, country="DE")]
    assert ({DE: ([0, 1], [0, 10]), FR: ([5, 6], [50, 60])}, 0) == understood(events, of)


def test_an_absent_numerator_is_no_events():
    """Nothing was blocked; that is a count."""
    assert ({FR: ([0, 0], [50, 0])}, 0) == understood([], [sample("old", 50, country="FR")])


def test_without_a_baseline_its_column_is_zero():
    """An initial release has nothing to compare with."""
    both = [sample("old", 5, country="FR"), sample("new", 6, country="FR")]
    assert ({FR: ([0, 6], [0, 6])}, 0) == understood(both, both, baseline=None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -1.0])
@pytest.mark.parametrize("where", ["events", "of"])
def test_what_is_no_count_takes_its_arm_of_the_slice_out(bad, where):
    """A missing numerator must not look like no events; the other arm and slices stay."""
    good = [sample("old", 5, country="FR"), sample("new", 5, country="FR"), sample("new", 5, country="DE")]
    broken = [good[0], sample("new", bad, country="FR"), good[2]]
    events, of = (broken, good) if where == "events" else (good, broken)
    assert ({DE: ([0, 5], [0, 5]), FR: ([5, 0], [5, 0])}, 1) == understood(events, of)


def test_more_events_than_there_can_be_are_cut_and_counted():
    """Two counters that do not belong together, or a scrape between two questions."""
    assert ({FR: ([0, 10], [0, 10])}, 1) == understood(
        [sample("new", 12, country="FR")], [sample("new", 10, country="FR")]
    )


def test_a_slice_without_its_label_has_a_name():
    """Absent and empty are the same to Prometheus."""
    result = understood([], [sample("new", 10), sample("old", 3, country="")])
    assert ({(("country", "(none)"),): ([0, 0], [3, 10])}, 0) == result


def test_several_series_for_one_slice_are_an_error():
    """Never the last wins."""
    twice = [sample("new", 1, country="FR", pod="a"), sample("new", 2, country="FR", pod="b")]
    result = understood([], twice)
    assert isinstance(result, MetricsUnavailable)
    assert "metric block-rate" in result.message
    assert "country='FR', pod='b', revision='new'" in result.message


def test_all_traffic_is_one_row_even_when_there_is_none():
    """Absent denominators are no traffic."""
    questions = asked()
    counts, _ = stage_counts(questions, dict.fromkeys(questions.queries, ()))
    overall = counts.counts["block-rate", ""]
    assert ((OVERALL,), [[0, 0]], [[0, 0]]) == (overall.slices, overall.events.tolist(), overall.of.tolist())


@pytest.mark.parametrize(
    ("age", "says"),
    [
        pytest.param(10, None, id="two intervals old is fresh"),
        pytest.param(11, "11 s old", id="older is stale"),
        pytest.param(None, "no fresh samples", id="counts without any living series are stale"),
    ],
)
def test_old_samples_are_no_evidence(age, says):
    """Counts that no longer move must not look like a healthy candidate."""
    questions = asked(60)
    answers = dict.fromkeys(questions.queries, (sample("new", 10, country="FR"),))
    counts, _ = stage_counts(questions, answers)
    newest = () if age is None else (Sample({}, START.timestamp() + 60 - age),)
    problem = stale(questions, counts, newest, timedelta(seconds=5))
    assert (says is None) == (problem is None)
    assert says is None or says in problem.message
