"""What Prometheus' answers mean."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from modelrelease.core.answers import Bucket, Sample, stage_counts, stale, torn
from modelrelease.core.counts import OVERALL, MetricsUnavailable
from modelrelease.core.queries import SCRAPED, StageQueries, StageWindow, stage_queries
from tests.builders import a_release

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
FR, DE = (("country", "FR"),), (("country", "DE"),)
KINDS = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [
        {"name": "error-rate", "ratio": {"events": 'r_total{code="500"}', "of": "r_total"}},
        {"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.99"}},
        {"name": "fallbacks", "rate": {"events": "f_total"}},
    ],
    "clauses": [
        {"name": "errors", "metric": "error-rate", "noWorse": "5%"},
        {"name": "fast", "metric": "latency", "per": ["country"], "noWorse": "20%"},
        {"name": "few-fallbacks", "metric": "fallbacks", "per": ["country"], "noWorse": "20%"},
    ],
}


def asked(seconds: float = 60, *, baseline: str | None = "old", percent: int | None = 10, **spec) -> StageQueries:
    window = StageWindow("canary-10", "canary", START, START + timedelta(seconds=seconds), percent)
    return stage_queries(a_release(**spec), window, baseline, "new", lag=timedelta(0))


def about(questions: StageQueries, metric: str, dimension: str):
    return next(it for it in questions.metrics if (it.metric, it.dimension) == (metric, dimension))


def sample(revision: str, value: float, **labels: str) -> Sample:
    return Sample({"revision": revision, **labels}, value)


def native(revision: str, *buckets: Bucket, **labels: str) -> Sample:
    return Sample({"revision": revision, **labels}, sum(count for *_, count in buckets), buckets)


def understood(events: list[Sample], of: list[Sample], *, baseline: str | None = "old"):
    """Return the counts by country that these answers give, and how many samples were bad."""
    questions = asked(baseline=baseline)
    answers = dict.fromkeys(questions.queries, ())
    ratio = about(questions, "block-rate", "country")
    answers |= {ratio.events: tuple(events), ratio.of: tuple(of)}
    result = stage_counts(questions, answers)
    if isinstance(result, MetricsUnavailable):
        return result
    counts = result[0].counts["block-rate", "country"]
    rows = zip(counts.events.tolist(), counts.of.tolist(), strict=True)
    return dict(zip(counts.slices, rows, strict=True)), result[1]


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


@pytest.mark.parametrize(("later", "want"), [(1.0, False), (2.0, True)], ids=["the same samples", "another scrape"])
def test_two_counters_of_different_samples_are_torn(later, want):
    """Each answer tells when its newest samples were scraped; that is no count of anything."""
    questions = asked()
    ratio = about(questions, "block-rate", "country")
    first, second = (
        (sample("old", 5, country="FR"), Sample({"revision": "old", "instance": "a", SCRAPED: "last"}, moment))
        for moment in (1.0, later)
    )
    answers = dict.fromkeys(questions.queries, ()) | {ratio.events: first, ratio.of: second}
    assert want == torn(questions, answers)
    assert ({FR: ([5, 0], [5, 0])}, 0) == understood(list(first), list(second))


def test_a_slice_without_its_label_has_a_name():
    """Absent and empty are the same to Prometheus."""
    result = understood([], [sample("new", 10), sample("old", 3, country="")])
    assert ({(("country", "(none)"),): ([0, 0], [3, 10])}, 0) == result


def test_a_label_that_says_none_and_one_that_is_not_there_are_one_slice():
    """Some count an absent value as ``(none)``, and not all of their pods or code paths have the label."""
    none = (("country", "(none)"),)
    both = [sample("old", 3), sample("old", 4, country="(none)")]
    assert ({none: ([7, 0], [7, 0])}, 0) == understood(both, both)


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


def test_the_share_of_the_candidate_is_told():
    """Who judges wants to know whether the split that was asked for arrived."""
    questions = asked(percent=25)
    counts, _ = stage_counts(questions, dict.fromkeys(questions.queries, ()))
    assert 25 == counts.percent


# Histograms.


def histogram(classic: list[Sample], natives: Sequence[Sample] = ()):
    """Return bounds, bins by country (baseline, candidate), and bad samples, or why there are none."""
    questions = asked(contract=KINDS)
    answers = dict.fromkeys(questions.queries, ())
    latency = about(questions, "latency", "country")
    answers |= {latency.classic: tuple(classic), latency.native: tuple(natives)}
    result = stage_counts(questions, answers)
    if isinstance(result, MetricsUnavailable):
        return result
    counts = result[0].histograms["latency", "country"]
    bins = dict(zip(counts.slices, counts.bins.transpose(0, 2, 1).tolist(), strict=True))
    return counts.bounds.tolist(), bins, result[1]


def cumulative(revision: str, country: str, below: dict[str, float]) -> list[Sample]:
    return [sample(revision, value, country=country, le=bound) for bound, value in below.items()]


def test_cumulative_counts_become_bins():
    """Whatever the order; a slice that only one arm has is empty in the other."""
    old = cumulative("old", "FR", {"+Inf": 20, "0.5": 12, "1": 15})
    new = cumulative("new", "FR", {"0.5": 1, "1": 3, "+Inf": 3})
    german = cumulative("new", "DE", {"0.5": 0, "1": 0, "+Inf": 4})
    bins = {DE: [[0, 0, 0], [0, 0, 4]], FR: [[12, 3, 5], [1, 2, 0]]}
    assert histogram([*old, *new, *german]) == ([0.5, 1], bins, 0)


def test_arms_are_compared_at_the_bounds_that_both_have():
    old = cumulative("old", "FR", {"0.5": 12, "1": 15, "+Inf": 20})
    new = cumulative("new", "FR", {"1": 3, "2": 4, "+Inf": 5})
    assert histogram([*old, *new]) == ([1], {FR: [[15, 5], [3, 2]]}, 0)


def test_an_arm_without_data_does_not_restrict():
    old = cumulative("old", "FR", {"0.5": 12, "1": 15, "+Inf": 20})
    new = cumulative("new", "FR", {"1": 0, "+Inf": 0})
    assert histogram([*old, *new]) == ([0.5, 1], {FR: [[12, 3, 5], [0, 0, 0]]}, 0)


def test_one_bound_written_in_two_ways_is_one_bound():
    """Pods of two versions of a library."""
    old = cumulative("old", "FR", {"1": 5, "1.0": 5, "+Inf": 11})
    assert histogram(old) == ([1], {FR: [[10, 1], [0, 0]]}, 0)


@pytest.mark.parametrize(
    ("second", "bad"),
    [
        pytest.param(1e6 - 1e-4, 0, id="a rounding error is repaired"),
        pytest.param(1e6 - 1, 1, id="a fall is repaired and told"),
    ],
)
def test_cumulative_counts_that_fall_are_repaired(second, bad):
    counts = cumulative("new", "FR", {"1": 1e6, "2": second, "+Inf": 1e6 + 5})
    assert histogram(counts) == ([1, 2], {FR: [[0, 0, 0], [1e6, 0, 5]]}, bad)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"1": math.nan, "+Inf": 7}, id="no number"),
        pytest.param({"1": 3, "+Inf": math.inf}, id="infinite"),
        pytest.param({"1": -1, "+Inf": 7}, id="negative"),
        pytest.param({"1": 3}, id="nobody knows how many there are"),
    ],
)
def test_a_histogram_with_a_bucket_that_is_no_count_is_out(broken):
    """Its arm of its slice, and nothing else."""
    good = [*cumulative("old", "FR", {"1": 3, "+Inf": 7}), *cumulative("new", "DE", {"1": 2, "+Inf": 2})]
    bins = {DE: [[0, 0], [2, 0]], FR: [[3, 4], [0, 0]]}
    assert histogram([*good, *cumulative("new", "FR", broken)]) == ([1], bins, 1)


def test_native_histograms_become_bins():
    old = native("old", (0.5, 1, 12), (1, 2, 3), country="FR")
    new = native("new", (-0.001, 0.001, 2), (1, 2, 5), country="FR")
    bins = {FR: [[0, 0, 0, 12, 3, 0], [0, 2, 0, 0, 5, 0]]}
    assert histogram([], [old, new]) == ([-0.001, 0.001, 0.5, 1, 2], bins, 0)


def test_a_native_histogram_with_a_bucket_that_is_no_count_is_out():
    good, broken = native("old", (0.5, 1, 12), country="FR"), native("new", (0.5, 1, -1), (1, 2, 3), country="FR")
    assert histogram([], [good, broken]) == ([0.5, 1], {FR: [[0, 12, 0], [0, 0, 0]]}, 1)


def test_an_arm_with_both_kinds_is_read_by_the_classic():
    """A pod that exposes both must not count twice; an arm whose classic histograms are empty is read by the native."""
    classic = [*cumulative("old", "FR", {"1": 3, "+Inf": 7}), *cumulative("new", "FR", {"1": 0, "+Inf": 0})]
    natives = [native("old", (0.5, 1, 300), country="FR"), native("new", (0.5, 1, 5), (1, 4, 6), country="FR")]
    assert histogram(classic, natives) == ([1], {FR: [[3, 4], [5, 6]]}, 0)


@pytest.mark.parametrize(
    ("classic", "natives", "says"),
    [
        pytest.param([], [sample("old", 5, country="FR")], "plain numbers where a histogram is wanted", id="a gauge"),
        pytest.param([sample("old", 5, country="FR")], [], "with the bound le='', which is none", id="no bound"),
        pytest.param([sample("old", 5, country="FR", le="x")], [], "with the bound le='x'", id="a wrong bound"),
        pytest.param(
            cumulative("old", "FR", {"+Inf": 1}) * 2, [], "several series for one revision and slice", id="twice"
        ),
    ],
)
def test_what_is_no_histogram_is_an_error(classic, natives, says):
    result = histogram(classic, natives)
    assert isinstance(result, MetricsUnavailable)
    assert "metric latency: " in result.message
    assert says in result.message


def test_a_histogram_is_no_counter():
    result = understood([], [native("old", (0, 1, 5), country="FR")])
    assert isinstance(result, MetricsUnavailable)
    assert "metric block-rate: Prometheus gave native histograms where a counter is wanted" == result.message


def test_a_histogram_whose_counts_stand_still_is_stale():
    questions = asked(contract=KINDS | {"clauses": [KINDS["clauses"][1]]})
    answers = dict.fromkeys(questions.queries, ())
    counts, _ = stage_counts(questions, answers)
    assert stale(questions, counts, (), timedelta(seconds=5)) is None
    answers[about(questions, "latency", "").native] = (native("new", (1, 2, 3)),)
    counts, _ = stage_counts(questions, answers)
    assert "no fresh samples" in stale(questions, counts, (), timedelta(seconds=5)).message


# Rates.


def rate(events: list[Sample], *, requests: dict[str, float]):
    """Return events and seconds by country; *requests* are the overall counts of another metric by revision."""
    questions = asked(contract=KINDS)
    answers = dict.fromkeys(questions.queries, ())
    answers[about(questions, "fallbacks", "country").events] = tuple(events)
    answers[about(questions, "error-rate", "").of] = tuple(sample(revision, n) for revision, n in requests.items())
    stage, bad = stage_counts(questions, answers)
    counts = stage.counts["fallbacks", "country"]
    rows = zip(counts.events.tolist(), counts.of.tolist(), strict=True)
    return dict(zip(counts.slices, rows, strict=True)), bad


BUSY = {"old": 900, "new": 100}


def test_events_of_a_rate_are_counted_against_time():
    """All slices of an arm have the same time; only slices with events are there."""
    events = [sample("old", 5, country="FR"), sample("new", 1, country="DE")]
    assert ({DE: ([0, 1], [54, 6]), FR: ([5, 0], [54, 6])}, 0) == rate(events, requests=BUSY)


def test_an_arm_without_traffic_has_no_time_without_events():
    """A candidate that nobody scrapes has no events, and must not pass for it."""
    assert ({FR: ([5, 0], [54, 0])}, 0) == rate([sample("old", 5, country="FR")], requests={"old": 900})


def test_an_arm_with_events_is_there():
    assert ({FR: ([0, 5], [0, 6])}, 0) == rate([sample("new", 5, country="FR")], requests={})


def test_requests_in_a_histogram_are_traffic_too():
    questions = asked(contract=KINDS | {"clauses": KINDS["clauses"][1:]})
    answers = dict.fromkeys(questions.queries, ())
    answers[about(questions, "latency", "").native] = (native("new", (1, 2, 3)),)
    stage, _ = stage_counts(questions, answers)
    assert [[0, 6]] == stage.counts["fallbacks", ""].of.tolist()


def test_more_events_than_seconds_are_fine():
    events = [sample("old", 5000, country="FR"), sample("new", 700, country="FR")]
    assert ({FR: ([5000, 700], [54, 6])}, 0) == rate(events, requests=BUSY)


def test_events_that_are_no_count_take_their_arm_of_the_slice_out():
    events = [sample("old", math.nan, country="FR"), sample("new", 1, country="FR"), sample("old", 2, country="DE")]
    assert ({DE: ([2, 0], [54, 6]), FR: ([0, 1], [0, 6])}, 1) == rate(events, requests=BUSY)
