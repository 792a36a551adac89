"""``modelrelease forecast``: the baseline's counts in, what each stage can prove out."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from modelrelease.cli.main import app
from tests.cli.test_judge_command import CONTRACT, RELEASE

HISTORY = """\
stage,metric,arm,slice,events,of,seconds
last-week,block-rate,baseline,,12096,604800,6048
last-week,block-rate,baseline,country=FR,600,30240,6048
last-week,block-rate,baseline,country=DE,11496,574560,6048
last-week,error-rate,baseline,,60,604800,6048
"""


@pytest.fixture
def run(tmp_path):
    """Write both files and run the command on them."""

    def run(counts, *options, contract=CONTRACT):
        (tmp_path / "contract.yaml").write_text(contract)
        (tmp_path / "counts.csv").write_text(counts)
        files = [str(tmp_path / "contract.yaml"), str(tmp_path / "counts.csv")]
        return CliRunner().invoke(app, ["forecast", *files, *options])

    return run


def test_every_stage_of_the_default_plan_has_an_outlook(run):
    result = run(HISTORY, "-o", "json")
    found = json.loads(result.stdout)
    assert list(dict.fromkeys(o["stage"] for o in found)) == [*("shadow", "canary-5", "canary-25", "canary-50", "full")]
    first = found[0]
    assert (first["stage"], first["clause"], first["slice"]) == ("shadow", "steady", "")
    assert first["candidatePerSecond"] == pytest.approx(100)
    assert result.exit_code == (0 if all(o["inTime"] for o in found) else 11)
    assert yaml.safe_load(run(HISTORY, "-o", "yaml").stdout) == found


def test_a_release_is_forecast_by_its_own_plan(run):
    found = json.loads(run(HISTORY, "-o", "json", contract=RELEASE).stdout)
    assert {(o["stage"], o["deadlineSeconds"]) for o in found} == {("small", 2 * 3600), ("all", 48 * 3600)}
    first = found[0]
    assert (first["stage"], first["slice"]) == ("small", "")
    assert first["candidatePerSecond"] == pytest.approx(10), "a tenth of 100 a second"


@pytest.mark.parametrize("budget", ["0", "1", "nan"])
def test_a_budget_that_is_no_chance_is_refused(run, budget):
    result = run(HISTORY, "--error-budget", budget)
    assert result.exit_code == 2
    assert "more than 0 and less than 1 is allowed" in result.stderr


@pytest.mark.parametrize(("assure", "code"), [("50%", 11), ("1%", 11), ("none", 0)])
def test_exit_code_says_whether_all_can_pass_in_time(run, assure, code):
    """Of 5 requests a second in France, a canary of 5 % sees one in four seconds: 2 hours are too short."""
    contract = CONTRACT.replace("overall: 50%, slices: 50%", f"overall: 50%, slices: {assure}")
    assert run(HISTORY, contract=contract).exit_code == code


def test_the_table_says_what_is_too_slow(run):
    out = run(HISTORY).output
    assert "stage canary-5, clause steady, deadline 2 h" in out
    slow = next(line for line in out.split("stage canary-5")[1].splitlines() if line.startswith("country=FR"))
    assert "not before the deadline" in slow


def test_a_long_slice_cuts_no_number_off(run):
    long = "country=the Federated States of Micronesia in the Western Pacific,channel=partners and their partners"
    where = CONTRACT.replace("per: [country]", "per: [where]")
    counts = HISTORY.replace("country=FR", f'"{long}"').replace("country=DE", '"country=DE,channel=web"')
    shown = run(counts, contract=where).stdout
    assert f"{long}  " in shown
    assert "…" not in shown


def test_one_stage_can_be_asked_for(run):
    assert {o["stage"] for o in json.loads(run(HISTORY, "--stage", "shadow", "-o", "json").stdout)} == {"shadow"}
    wrong = run(HISTORY, "--stage", "dark")
    assert wrong.exit_code == 2
    assert "'dark' is not in the plan; allowed are shadow, canary-5" in wrong.stderr


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        pytest.param(HISTORY.replace(",baseline,", ",candidate,"), "only the arm baseline is allowed", id="candidate"),
        pytest.param(HISTORY.replace(",6048\n", ",0\n"), "give the column seconds", id="no time"),
        pytest.param(
            HISTORY + "yesterday,error-rate,baseline,,1,10,60\n", "there are last-week, yesterday", id="two stages"
        ),
    ],
)
def test_a_history_that_is_none_is_refused(run, counts, problem):
    result = run(counts)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_clause_of_one_kind_of_stage_is_forecast_there_only(run):
    contract = CONTRACT.replace("atMost: 0.1%", "atMost: 0.1%, stages: [full]")
    found = json.loads(run(HISTORY, "-o", "json", contract=contract).stdout)
    assert {o["stage"] for o in found if o["clause"] == "few-errors"} == {"full"}


ONLY_STEADY = CONTRACT.replace("- {name: few-errors, metric: error-rate, atMost: 0.1%}\n", "")


@pytest.mark.parametrize(
    ("clause", "options", "code", "said"),
    [
        pytest.param("per", ["--stage", "full"], 11, "nothing is judged in stage full: its clauses compare", id="full"),
        pytest.param(
            "stages: [canary], per",
            ["--stage", "shadow"],
            11,
            "nothing is judged in stage shadow: no clause is judged in shadow stages: its gate never passes",
            id="shadow",
        ),
        pytest.param("stages: [canary], per", [], 11, "in stage shadow: no clause", id="one of the plan never passes"),
        pytest.param("per", [], 0, "in stage full: its clauses compare", id="the plan ends with a blind watch"),
    ],
)
def test_a_stage_that_judges_nothing_is_told(run, clause, options, code, said):
    contract = ONLY_STEADY.replace("per", clause).replace("overall: 50%, slices: 50%", "overall: none, slices: none")
    result = run(HISTORY, *options, contract=contract)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert bool(result.stdout) != ("--stage" in options), "a table of nothing is not printed"


def test_a_clause_of_which_no_slice_was_counted_is_told(run):
    """The operator has no data for such a clause, and its gate stays in doubt."""
    contract = CONTRACT.replace("overall: 50%, slices: 50%", "overall: 50%, slices: none")
    assert run(HISTORY, contract=contract).exit_code == 0
    alone = "".join(row for row in HISTORY.splitlines(keepends=True) if "country" not in row)
    result = run(alone, contract=contract)
    assert result.exit_code == 11
    assert "clause steady: block-rate was counted in no slice of country: what it can prove there" in result.stderr
    both = contract.replace("per: [country]", "per: [country, where]")
    result = run(HISTORY, contract=both)
    assert (result.exit_code, "in no slice of where" in result.stderr) == (0, True)


def test_a_file_without_counts_is_no_name_of_a_release(tmp_path):
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    result = CliRunner().invoke(app, ["forecast", str(tmp_path / "contract.yaml")])
    assert result.exit_code == 2
    assert f"COUNTS is missing: {tmp_path}/contract.yaml is a file" in result.stderr


@pytest.mark.parametrize("options", [["--stage", "shadow"], ["--design-effect", "2"], ["--error-budget", "0.05"]])
def test_what_the_operator_foretold_has_no_options(options):
    result = CliRunner().invoke(app, ["forecast", "radar", *options])
    assert result.exit_code == 2
    assert f"{options[0]}: only with files; what the operator foretold is shown as it is" in result.stderr
