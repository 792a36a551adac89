"""Counts files of quantiles, distributions and rates: what their rows mean, what is refused, what is said of them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from modelrelease.api.contract import Contract
from modelrelease.cli.counts_file import read_counts
from modelrelease.cli.main import app
from modelrelease.cli.problems import BadInput
from modelrelease.cli.verdict_view import as_json, as_table
from modelrelease.core.counts import OVERALL
from modelrelease.core.judge import judge
from tests.core.judging import country

CONTRACT = """\
slices:
- {name: country, labels: [country]}
metrics:
- {name: latency, quantile: {histogram: latency_seconds, q: "0.99"}}
- {name: fallbacks, rate: {events: fallbacks_total}}
- {name: error-rate, ratio: {events: errors_total, of: requests_total}}
clauses:
- {name: fast, metric: latency, per: [country], noWorse: 20%, assure: {overall: 30%}}
- {name: calm, metric: fallbacks, noWorse: 50%}
"""
FAST = CONTRACT.replace("- {name: calm, metric: fallbacks, noWorse: 50%}\n", "")
CALM = CONTRACT.replace("- {name: fast, metric: latency, per: [country], noWorse: 20%, assure: {overall: 30%}}\n", "")
ALL_KINDS = Contract.model_validate(
    {
        "slices": [{"name": "country", "labels": ["country"]}],
        "metrics": [
            {"name": "latency", "quantile": {"histogram": "latency_seconds", "q": "0.99"}},
            {"name": "score", "distribution": {"histogram": "score"}},
            {"name": "fallbacks", "rate": {"events": "fallbacks_total"}},
            {"name": "error-rate", "ratio": {"events": "errors_total", "of": "requests_total"}},
        ],
        "clauses": [
            {"name": "fast", "metric": "latency", "per": ["country"], "noWorse": "20%"},
            {"name": "soon", "metric": "latency", "within": "0.1"},
            {"name": "below", "metric": "latency", "atMost": "0.5"},
            {"name": "drift", "metric": "score", "per": ["country"], "similar": {"psi": "0.2"}},
            {"name": "calm", "metric": "fallbacks", "noWorse": "50%"},
            {"name": "few", "metric": "fallbacks", "atMost": "5"},
            {"name": "errors", "metric": "error-rate", "per": ["country"], "noWorse": "10%"},
        ],
    }
)
HEADER = "stage,metric,arm,slice,le,events,of"
FINE = (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0)
COARSE = (0.1, 0.25, 1.0, 5.0)


def buckets(arm, n, *, factor=1.0, part="", bounds=FINE, stage="canary-10"):
    """Return the rows of *n* latencies around 0.1 s times *factor*, with a 99th percentile of 0.32 s times that."""
    values = factor * 0.1 * np.exp(0.5 * np.random.default_rng(1).standard_normal(n))
    return [f"{stage},latency,{arm},{part},{bound:g},{int((values <= bound).sum())},{n}" for bound in bounds]


def a_file(*groups):
    return "\n".join([HEADER, *(row for rows in groups for row in rows)]) + "\n"


def a_canary(factor, *, bounds=FINE):
    """Return a canary of 10 % in which country=MT, a tenth of the traffic, is *factor* times as slow."""
    parts = {"": 100_000, "country=DE": 90_000, "country=MT": 10_000}
    rows = [buckets("baseline", 9 * n, part=part, bounds=bounds) for part, n in parts.items()]
    rows += [
        buckets("candidate", n, factor=factor if part == "country=MT" else 1.0, part=part, bounds=bounds)
        for part, n in parts.items()
    ]
    return a_file(*rows)


@pytest.fixture
def run(tmp_path):
    """Write both files and run the command on them."""

    def run(counts, *options, contract=FAST, command="judge"):
        (tmp_path / "contract.yaml").write_text(contract)
        (tmp_path / "counts.csv").write_text(counts)
        files = [str(tmp_path / "contract.yaml"), str(tmp_path / "counts.csv")]
        return CliRunner().invoke(app, [command, *files, *options], env={"COLUMNS": "120"})

    return run


@pytest.fixture
def read(tmp_path):
    """Read a file of counts."""

    def read(counts):
        (tmp_path / "counts.csv").write_text(counts)
        return read_counts(tmp_path / "counts.csv", ALL_KINDS, ())

    return read


# What is read.


def test_cumulative_buckets_become_bins(read):
    """In any order of rows; of all observations, 100, ten are above 0.5."""
    (stage,) = read(
        f"{HEADER}\ncanary,latency,baseline,,0.5,90,100\ncanary,latency,baseline,,0.1,20,100\n"
        "canary,latency,candidate,,0.1,2,10\ncanary,latency,candidate,,0.5,9,10\n"
    )
    found = stage.histograms["latency", ""]
    assert found.slices == (OVERALL,)
    assert found.bounds.tolist() == [0.1, 0.5]
    assert found.bins.tolist() == [[[20, 2], [70, 7], [10, 1]]]
    assert found.of.tolist() == [[100, 10]]


@pytest.mark.parametrize("infinity", ["+Inf", "Inf", "inf"])
def test_the_last_bucket_may_be_given(read, infinity):
    rows = "canary,score,baseline,,-1,90,100\n"
    (without,), (given_,) = (
        read(f"{HEADER}\n{rows}{more}") for more in ("", f"canary,score,baseline,,{infinity},100,100\n")
    )
    assert given_.histograms["score", ""].bins.tolist() == without.histograms["score", ""].bins.tolist()
    assert given_.histograms["score", ""].bounds.tolist() == [-1]


def test_arms_and_slices_are_read_at_the_bounds_that_all_have(read):
    """An arm that saw nothing needs no bounds."""
    counts = a_file(
        buckets("baseline", 100, bounds=(0.1, 0.2, 0.4)),
        buckets("candidate", 100, bounds=(0.05, 0.1, 0.4)),
        buckets("baseline", 100, part="country=MT", bounds=(0.1, 0.3, 0.4)),
        ["canary-10,latency,candidate,country=MT,+Inf,0,0"],
    )
    (stage,) = read(counts)
    assert stage.histograms["latency", ""].bounds.tolist() == [0.1, 0.4]
    slices = stage.histograms["latency", "country"]
    assert slices.slices == (country("MT"),)
    assert slices.of.tolist() == [[100, 0]]
    assert slices.bins.shape == (1, 3, 2)


def test_a_rate_may_have_more_events_than_seconds(read):
    (stage,) = read("stage,metric,arm,slice,events,of\ncanary,fallbacks,candidate,,600,60\n")
    assert stage.counts["fallbacks", ""].events.tolist() == [[0, 600]]
    assert stage.counts["fallbacks", ""].of.tolist() == [[0, 60]]


# What is refused.

ROWS = "canary,latency,candidate,,0.25,80,100\ncanary,latency,candidate,,0.5,95,100\n"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        pytest.param("canary,latency,baseline,,,5,10", "column 5 (le): empty; metric 'latency' has a", id="no bound"),
        pytest.param("canary,latency,baseline,,fast,5,10", "column 5 (le): 'fast' is not a bound", id="word"),
        pytest.param("canary,latency,baseline,,NaN,5,10", "a decimal or +Inf is allowed", id="NaN"),
        pytest.param("canary,latency,baseline,,-Inf,5,10", "column 5 (le): '-Inf' is not a bound", id="minus infinity"),
        pytest.param("canary,latency,baseline,,1e400,5,10", "column 5 (le): '1e400' is not a bound", id="endless"),
        pytest.param(
            "canary,error-rate,baseline,,0.5,5,10",
            "column 5 (le): '0.5' is given, and metric 'error-rate' has no histogram; leave it empty",
            id="bound of a ratio",
        ),
        pytest.param("canary,fallbacks,baseline,,0.5,5,10", "leave it empty", id="bound of a rate"),
        pytest.param(
            "canary,latency,candidate,,1,110,100",
            "column 6 (events): 110 is more than of, 100; at most as many are allowed",
            id="more than all",
        ),
        pytest.param(
            "canary,latency,candidate,,1,90,100",
            "column 6 (events): 90 at or below 1 are fewer than 95 at or below 0.5; as many or more are allowed",
            id="falling",
        ),
        pytest.param(
            "canary,latency,candidate,,0.50,95,100",
            "column 5 (le): 0.5 is in line 3 already; each bound is allowed once",
            id="twice",
        ),
        pytest.param(
            "canary,latency,candidate,,1,99,120", "column 7 (of): 120 is not 100, as in line 2", id="another total"
        ),
        pytest.param(
            "canary,latency,candidate,,+Inf,99,100",
            "column 6 (events): 99 at +Inf is not of, 100; both are all observations",
            id="another total at infinity",
        ),
        pytest.param(
            "canary,latency,baseline,,0.4,5,10",
            "column 5 (le): no bound is in all histograms of this stage and metric so far; at least one, other than",
            id="nothing in common",
        ),
        pytest.param("canary,latency,baseline,,+Inf,10,10", "at least one, other than +Inf, is needed", id="no bounds"),
        pytest.param("canary,error-rate,baseline,,,7,5", "7 is more than of, 5", id="ratio above one"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(run, tmp_path, row, problem):
    result = run(f"{HEADER}\n{ROWS}{row}\n", contract=CONTRACT)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path}/counts.csv:4: ")
    assert problem in result.stderr


def test_a_fall_is_told_where_it_is_written(run):
    """The lower bound comes later in the file; the row of the higher one has too few."""
    result = run(f"{HEADER}\ncanary,latency,baseline,,0.5,80,100\ncanary,latency,baseline,,0.25,90,100\n")
    assert "counts.csv:2: column 6 (events): 80 at or below 0.5 are fewer than 90 at or below 0.25" in result.stderr


def test_a_histogram_needs_the_column_of_bounds(run):
    result = run("stage,metric,arm,slice,events,of\ncanary,latency,baseline,,5,10\n")
    assert result.exit_code == 2
    assert "2: column 2 (metric): metric 'latency' has a histogram" in result.stderr
    assert "add the column le" in result.stderr


def test_a_histogram_too_coarse_for_its_clause_is_refused(run, tmp_path):
    """The 99th percentile lies somewhere between 0.25 and 1 s: nobody can say whether it moved by 20 %."""
    result = run(a_canary(1.0, bounds=COARSE))
    assert result.exit_code == 2
    want = "clause fast: the histogram's buckets are too wide near 1 to judge 20 % in all traffic"
    assert result.stderr.startswith(f"{tmp_path}/counts.csv: {want}")
    assert result.stdout.startswith("Inconclusive (HistogramTooCoarse) in stage canary-10"), "as the operator says"


def test_harm_that_a_coarse_histogram_does_show_is_a_breach(run):
    assert run(a_canary(30.0, bounds=COARSE)).exit_code == 10


def test_stages_without_a_common_bound_are_refused(run):
    counts = a_file(
        buckets("baseline", 9000, stage="canary-1", bounds=(0.1, 0.3)),
        buckets("baseline", 9000, stage="canary-2", bounds=(0.2, 0.4)),
        buckets("candidate", 1000, stage="canary-2", bounds=(0.2, 0.4)),
    )
    result = run(counts, contract=FAST.replace("per: [country], ", ""))
    assert result.exit_code == 2
    assert "buckets are too wide" in result.stderr


CELLS = {
    "metric": st.sampled_from(["latency", "score", "fallbacks", "error-rate", "speed"]),
    "arm": st.sampled_from(["baseline", "candidate"]),
    "slice": st.sampled_from(["", "", "country=MT", "country", "state=CA"]),
    "le": st.sampled_from(["", "0.1", "0.2", "0.5", "+Inf", "-Inf", "NaN", "1e308", "-3", "x", "0.10"]),
    "events": st.sampled_from(["0", "5", "9", "1e300", "-1", "NaN", "", "0.5", "x"]),
    "of": st.sampled_from(["10", "10", "0", "9", "1e300", "inf", ""]),
}
A_ROW = st.tuples(st.just("canary"), *CELLS.values()).map(",".join)
CLOSE_TO_ONE = st.tuples(st.sampled_from(["baseline", "candidate"]), st.integers(0, 3), st.integers(0, 9)).map(
    lambda it: f"canary,latency,{it[0]},,{it[1]},{it[2]},{9}"
)


@settings(max_examples=150, deadline=None)
@given(st.lists(A_ROW | CLOSE_TO_ONE | st.text(max_size=30), max_size=8))
def test_a_file_is_read_or_refused(tmp_path_factory, rows):
    """Whatever it holds: sound bins, or problems each with its place."""
    path = tmp_path_factory.mktemp("counts") / "counts.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    stages, problems = read_or_refused(path)
    assert all(problem.startswith((f"{path}:", "and ")) for problem in problems)
    for counts in stages[0].histograms.values() if stages else ():
        assert np.isfinite(counts.bounds).all()
        assert (np.diff(counts.bounds) > 0).all()
        assert (counts.bins >= 0).all()
    if stages:
        verdict = judge(ALL_KINDS, stages, error_budget=0.01, has_baseline=True)
        json.dumps(as_json(verdict, 0.01), allow_nan=False)
        as_table(verdict, "canary")


def read_or_refused(path):
    try:
        return read_counts(path, ALL_KINDS, ()), ()
    except BadInput as bad:
        return (), bad.problems


# What is said.


def test_a_slow_slice_is_named(run):
    result = run(a_canary(2.0))
    assert result.exit_code == 10
    assert "fast: latency, limit 20%: Breach" in result.output
    header, slow = (
        next(line for line in result.output.splitlines() if line.startswith(start)) for start in ("slice", "country=MT")
    )
    assert "above 0.35" in header
    assert "0.32" in slow
    assert "of 10 000" in slow


def test_an_unchanged_quantile_passes(run):
    result = run(a_canary(1.0))
    assert result.exit_code == 0, result.output


def test_the_json_of_a_quantile_tells_the_bound_that_its_events_are_above(run):
    found = json.loads(run(a_canary(2.0), "-o", "json").stdout)
    assert found["breaches"] == [{"clause": "fast", "slice": "country=MT"}]
    (clause,) = found["clauses"]
    assert clause["above"] == 0.35
    whole = clause["slices"][0]
    assert whole["of"] == {"baseline": 900_000, "candidate": 100_000}
    assert whole["events"]["baseline"] == pytest.approx(900_000 * 0.0061, rel=0.1)


def test_the_table_of_a_rate_tells_events_and_seconds(run):
    counts = (
        "stage,metric,arm,slice,events,of\ncanary,fallbacks,baseline,,5400,540\ncanary,fallbacks,candidate,,1200,60\n"
    )
    result = run(counts, contract=CALM)
    assert result.exit_code == 10
    assert "1 200 in 60 s" in result.output
    assert json.loads(run(counts, "-o", "json", contract=CALM).stdout)["clauses"][0]["above"] is None


# Forecast and watch.


def timed(counts, seconds):
    header, *rows = counts.splitlines()
    return "\n".join([f"{header},seconds", *(f"{row},{seconds}" for row in rows)]) + "\n"


def test_a_forecast_is_made_from_buckets(run):
    history = a_file(buckets("baseline", 50_000), buckets("baseline", 5000, part="country=MT"))
    result = run(timed(history, 600), "-o", "json", command="forecast")
    assert result.exit_code == 0
    whole = json.loads(result.stdout)[0]
    assert (whole["stage"], whole["clause"], whole["slice"]) == ("shadow", "fast", "")
    assert 0 < whole["passesAfterSeconds"] < 3600


def test_a_forecast_refuses_buckets_of_a_candidate(run):
    history = timed(a_file(buckets("baseline", 500), buckets("candidate", 500)), 600)
    result = run(history, command="forecast")
    assert result.exit_code == 2
    assert "only the arm baseline is allowed" in result.stderr


def test_at_full_buckets_of_the_baseline_are_compared_with(run):
    """As long as somebody is left on the old revision."""
    contract = FAST.replace("per: [country], ", "")
    rows = [buckets("candidate", 5000, stage="full"), buckets("baseline", 5000, stage="full")]
    alone, both = (json.loads(run(a_file(*rows[:n]), "-o", "json", contract=contract).stdout) for n in (1, 2))
    assert (alone["reason"], both["reason"]) == ("NoBaseline", "Undecided")


@pytest.mark.parametrize(("on_breach", "code", "verdict"), [("Warn", 0, "Pass"), ("Hold", 2, "Inconclusive")])
def test_a_clause_that_only_warns_cannot_be_too_coarse_for_the_gate(run, on_breach, code, verdict):
    """The operator passes this gate; whatever the exit code, the verdict is printed and the missing bounds are told."""
    contract = FAST.replace("noWorse: 20%", f"noWorse: 2%, onBreach: {on_breach}").replace(
        "{overall: 30%}", "{overall: 2%}"
    )
    contract += "- {name: errors, metric: error-rate, atMost: 1%}\n"
    errors = ["canary-10,error-rate,candidate,,,10,100000"]
    counts = a_canary(1.0, bounds=COARSE) + "\n".join(errors) + "\n"
    result = run(counts, "-o", "json", contract=contract)
    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (code, verdict), result.stderr
    assert "the histogram's buckets are too wide" in result.stderr
    assert ("it only warns, and does not count" in result.stderr) == (on_breach == "Warn")
    assert "fast: latency" in run(counts, contract=contract).stdout
