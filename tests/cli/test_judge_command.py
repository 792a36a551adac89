"""``modelrelease judge``: files in, verdict and exit code out; bad input says where, what and what is allowed."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from modelrelease.cli.main import app
from tests.core import by_hand

CONTRACT = """\
slices:
- {name: country, labels: [country]}
- {name: where, labels: [country, channel]}
metrics:
- {name: block-rate, ratio: {events: blocks_total, of: decisions_total}}
- {name: error-rate, ratio: {events: errors_total, of: requests_total}}
clauses:
- {name: steady, metric: block-rate, per: [country], within: 5%, assure: {overall: 50%, slices: 50%}}
- {name: few-errors, metric: error-rate, atMost: 0.1%}
"""
HEALTHY = """\
stage,metric,arm,slice,events,of
canary,block-rate,baseline,,5288,263750
canary,block-rate,candidate,,5300,263700
canary,block-rate,baseline,country=FR,288,13750
canary,block-rate,candidate,country=FR,290,13700
canary,block-rate,baseline,country=DE,5000,250000
canary,block-rate,candidate,country=DE,5010,250000
canary,error-rate,candidate,,10,250000
"""
HARMED = HEALTHY.replace("candidate,country=FR,290", "candidate,country=FR,500")
SPLIT = HEALTHY.replace("canary,", "canary-10,") + HARMED.split("\n", 1)[1].replace("canary,", "canary-50,")


@pytest.fixture
def run(tmp_path):
    """Write both files and run the command on them."""

    def run(counts, *options, contract=CONTRACT):
        (tmp_path / "contract.yaml").write_text(contract)
        if counts is not None:
            (tmp_path / "counts.csv").write_text(counts)
        return CliRunner().invoke(
            app, ["judge", str(tmp_path / "contract.yaml"), str(tmp_path / "counts.csv"), *options]
        )

    return run


@pytest.mark.parametrize(
    ("counts", "code", "verdict"),
    [
        pytest.param(HEALTHY, 0, "Pass", id="healthy"),
        pytest.param(HARMED, 10, "Breach", id="one slice harmed"),
        pytest.param(HEALTHY.replace(",,10,250000", ",,0,250"), 11, "Inconclusive", id="little seen"),
    ],
)
def test_exit_code_and_json_say_the_verdict(run, counts, code, verdict):
    result = run(counts, "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (code, verdict), result.output
    told = run(counts, "-o", "yaml")
    assert (told.exit_code, yaml.safe_load(told.stdout)) == (code, json.loads(result.stdout))


def test_json_holds_every_slice_of_every_clause(run):
    found = json.loads(run(HARMED, "-o", "json").stdout)
    assert found["breaches"] == [{"clause": "steady", "slice": "country=FR"}]
    steady, errors = found["clauses"]
    assert [part["slice"] for part in steady["slices"]] == ["", "country=FR", "country=DE"]
    assert [part["slice"] for part in errors["slices"]] == [""]
    harmed = steady["slices"][1]
    assert harmed.keys() == {
        *(
            "slice",
            "verdict",
            "reason",
            "baseline",
            "candidate",
            "change",
            "low",
            "high",
            "events",
            "of",
            "logE",
            "level",
            "eta",
            "thin",
            "counts",
        )
    }
    assert [(clause["onBreach"], clause["message"].split(":")[0]) for clause in found["clauses"]] == [
        ("Rollback", "clause steady is broken in country=FR"),
        ("Rollback", "clause few-errors holds in all traffic"),
    ]
    assert (harmed["events"], harmed["of"]) == (
        {"baseline": 288, "candidate": 500},
        {"baseline": 13750, "candidate": 13700},
    )
    assert 0.05 < harmed["low"] < harmed["change"] < harmed["high"]


def test_json_is_enough_to_compute_a_verdict_again(run):
    """Its e-values follow from its counts by stage and its bets, in the words of the dossier."""
    found = json.loads(run(SPLIT, "-o", "json", "--design-effect", "2").stdout)
    for clause in found["clauses"]:
        overall, *slices = clause["slices"]
        again = {**clause, "overall": overall, "slices": slices}
        assert again["stages"] == ["canary-10", "canary-50"]
        for part, where in ((overall, "overall"), *((part, "slices") for part in slices)):
            assert by_hand.harm(again, part, where) == pytest.approx(part["logE"], abs=1e-6)
            assert by_hand.outcome(again, part, where) == part["verdict"]
        assert by_hand.clause_mean(again) == pytest.approx(clause["logE"], abs=1e-6)
    evidence = {clause["name"]: clause["logE"] for clause in found["clauses"]}
    shares = {clause["name"]: clause["level"] / found["errorBudget"] for clause in found["clauses"]}
    mean = by_hand.log_mean((shares[name], log_e) for name, log_e in evidence.items())
    assert found["logE"] == {"Rollback": pytest.approx(mean)}


def test_the_table_names_the_harmed_slice(run):
    out = run(HARMED).output
    assert "Breach (ContractBreached) in stage canary" in out
    harmed = next(line for line in out.splitlines() if line.startswith("country=FR"))
    assert "2.1 % -> 3.6 %" in harmed
    assert "+74 %" in harmed
    assert "500 of 13 700" in harmed


THIN = "".join(f"canary,block-rate,{arm},country=LU,8,400\n" for arm in ("baseline", "candidate"))


def test_a_long_slice_cuts_no_number_off(run):
    """Neither its name nor what was counted, on a terminal of any width."""
    long = "country=the Federated States of Micronesia in the Western Pacific,channel=partners and their partners"
    where = CONTRACT.replace("per: [country]", "per: [where]")
    counts = HARMED.replace("country=FR", f'"{long}"').replace("country=DE", '"country=DE,channel=web"')
    shown = run(counts, contract=where).stdout
    (row,) = (line for line in shown.splitlines() if line.startswith(long))
    assert "2.1 % -> 3.6 %" in row
    assert "500 of 13 700" in row
    assert "…" not in shown


def test_a_thin_slice_is_told_from_one_that_blocks(run):
    """Luxembourg proves nothing and keeps nothing from passing."""
    result = run(HEALTHY + THIN)
    assert result.exit_code == 0
    assert next(line for line in result.output.splitlines() if "LU" in line).split()[1:3] == ["not", "assured"]
    parts = json.loads(run(HEALTHY + THIN, "-o", "json").stdout)["clauses"][0]["slices"]
    told = {part["slice"]: (part["verdict"], part["thin"]) for part in parts}
    assert told["country=LU"] == ("Inconclusive", True)
    assert told["country=FR"] == told[""] == ("Pass", False)


def test_json_names_slices_in_full(run):
    """A table has no room for a name of 80 letters; for a program, two that are cut would be one."""
    rows = [
        f"canary,block-rate,{arm},country={'F' * 80}{last},{events},13750\n"
        for last, harmed in (("1", 500), ("2", 290))
        for arm, events in (("baseline", 288), ("candidate", harmed))
    ]
    found = json.loads(run(HEALTHY + "".join(rows), "-o", "json").stdout)
    assert found["breaches"] == [{"clause": "steady", "slice": f"country={'F' * 80}1"}]
    assert len({part["slice"] for part in found["clauses"][0]["slices"]}) == 5


def test_a_slice_without_a_baseline_did_not_rise_from_nothing(run):
    """Nobody knows from where: only a baseline that was seen and had no events is nothing."""
    out = run(HEALTHY + "canary,block-rate,candidate,country=LU,10,400\n").output
    new = next(line for line in out.splitlines() if line.startswith("country=LU"))
    assert "none -> 2.5 %" in new
    assert "unknown" in new
    rows = "canary,block-rate,candidate,country=LU,10,400\ncanary,block-rate,baseline,country=LU,0,400\n"
    assert "from nothing" in run(HEALTHY + rows).output


def test_slices_beyond_the_allowed_number_are_judged_as_other(run):
    contract = CONTRACT.replace("{name: country, labels: [country]}", "{name: country, labels: [country], atMost: 3}")
    rows = [
        f"canary,block-rate,{arm},country=C{size},{size // 50},{size}"
        for size in (9000, 8000, 2000, 1000)
        for arm in ("baseline", "candidate")
    ]
    found = json.loads(run(HEALTHY + "\n".join(rows) + "\n", "-o", "json", contract=contract).stdout)
    parts = {part["slice"]: part["of"] for part in found["clauses"][0]["slices"]}
    assert parts.keys() == {"", "country=DE", "country=FR", "country=other"}
    assert parts["country=other"] == {"baseline": 20_000, "candidate": 20_000}


@pytest.mark.parametrize(("stage", "code"), [("canary-10", 0), ("canary-50", 10), (None, 10)])
def test_a_stage_is_judged_without_the_later_ones(run, stage, code):
    assert run(SPLIT, *(["--stage", stage] if stage else [])).exit_code == code


def test_the_watch_has_no_baseline(run):
    """At full, only what needs no comparison is judged, as in the cluster; elsewhere a silent baseline is a doubt."""
    alone = "\n".join(row for row in HEALTHY.splitlines() if ",baseline," not in row)
    watch = json.loads(run(alone.replace("canary,", "full,"), "-o", "json").stdout)
    assert (watch["verdict"], [clause["name"] for clause in watch["clauses"]]) == ("Pass", ["few-errors"])
    canary = json.loads(run(alone, "-o", "json").stdout)
    assert (canary["verdict"], canary["reason"]) == ("Inconclusive", "NoData")


def test_bursts_weaken_evidence(run):
    assert [run(HARMED, "--design-effect", effect).exit_code for effect in ("1", "8")] == [10, 11]


def test_a_smaller_budget_needs_more_evidence(run):
    counts = HEALTHY.replace("candidate,country=FR,290", "candidate,country=FR,430")
    assert run(counts, "--error-budget", "0.1").exit_code == 10
    assert run(counts, "--error-budget", "0.0001").exit_code != 10


def test_seconds_make_an_eta(run):
    rows = HEALTHY.replace("263750", "2637").replace("263700", "2637").replace("5288", "53").replace("5300", "53")
    timed = "\n".join(f"{row},{'seconds' if i == 0 else '600'}" for i, row in enumerate(rows.splitlines()))
    whole = json.loads(run(timed, "-o", "json").stdout)["clauses"][0]["slices"][0]
    assert whole["verdict"] == "Inconclusive"
    assert 60 < whole["eta"] < 36_000
    assert json.loads(run(rows, "-o", "json").stdout)["clauses"][0]["slices"][0]["eta"] is None


def _indented(text):
    return "".join(f"  {line}\n" for line in text.splitlines())


RELEASE = """\
apiVersion: modelrelease.dev/v1alpha1
kind: ModelRelease
metadata: {name: radar}
spec:
  model: {version: "1"}
  server: {port: 3000, template: {spec: {containers: [{name: server, image: "radar:1"}]}}}
  traffic: {gatewayAPI: {parentRefs: [{name: public}]}}
  stages:
  - {name: small, canary: {percent: 10}}
  - {name: all, full: {}}
  analysis: {errorBudget: 5%}
  contract:
""" + _indented(_indented(CONTRACT))


@pytest.mark.parametrize(
    "contract",
    [
        pytest.param(CONTRACT, id="bare"),
        pytest.param("kind: ModelContract\nmetadata: {name: radar}\nspec:\n" + _indented(CONTRACT), id="ModelContract"),
        pytest.param(RELEASE.replace("name: small", "name: canary"), id="ModelRelease"),
    ],
)
def test_any_of_three_files_holds_a_contract(run, contract):
    result = run(HARMED, contract=contract)
    assert result.exit_code == 10, result.output


SHARED = "apiVersion: modelrelease.dev/v1alpha1\nkind: ModelContract\nmetadata: {name: shared}\nspec:\n" + _indented(
    CONTRACT
)
REFERRING = RELEASE.split("  contract:\n")[0] + "  contractRef: {name: shared}\n"


@pytest.mark.parametrize("order", [(REFERRING, SHARED), (SHARED, REFERRING)])
def test_a_release_is_judged_with_the_contract_in_the_same_file(run, order):
    result = run(HARMED.replace("canary,", "small,"), contract="---\n".join(order))
    assert (result.exit_code, result.stderr) == (10, "")
    assert "in stage small" in result.stdout


@pytest.mark.parametrize(
    ("contracts", "problem"),
    [
        pytest.param([], ": spec.contractRef.name: ModelContract 'shared' is not in the file; add it", id="none"),
        pytest.param([SHARED.replace("name: shared", "name: other")], "'shared' is not in the file", id="another"),
        pytest.param(
            [SHARED.replace("name: shared", "name: shared, namespace: far")], "'shared' is not in", id="elsewhere"
        ),
        pytest.param([SHARED, SHARED], "ModelContract 'shared' is there twice", id="two of one name"),
        pytest.param([SHARED.replace("5%", "5 %")], "spec.clauses[0].within: '5 %' is not a margin", id="a bad one"),
        pytest.param([SHARED.replace("in: 5%", "in: 5%, within: 6%")], "within: is there twice", id="a key twice"),
        pytest.param([SHARED, "kind: Service"], ": 3 documents; one is allowed, or", id="something else"),
    ],
)
def test_a_release_needs_its_contract_in_the_same_file(run, contracts, problem):
    result = run(HARMED, contract="---\n".join([REFERRING, *contracts]))
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_release_gives_the_order_of_the_stages(run):
    """In the file, the later stage comes first."""
    rows = HEALTHY.split("\n", 1)
    counts = f"{rows[0]}\n" + rows[1].replace("canary,", "all,") + rows[1].replace("canary,", "small,")
    assert "in stage all" in run(counts, contract=RELEASE).output


BAD_ROWS = [
    pytest.param("canary,block-rate,candidate,,5,4", "column 5 (events): 5 is more than of, 4", id="more than all"),
    pytest.param("canary,block-rate,candidate,,-1,4", "column 5 (events): '-1' is not a count", id="negative"),
    pytest.param("canary,block-rate,candidate,,NaN,4", "column 5 (events): 'NaN' is not a count", id="NaN"),
    pytest.param("canary,block-rate,candidate,,1,inf", "column 6 (of): 'inf' is not a count", id="infinite"),
    pytest.param("canary,block-rate,candidate,,one,4", "column 5 (events): 'one' is not a count", id="word"),
    pytest.param(
        "canary,blockrate,candidate,,1,4",
        "column 2 (metric): 'blockrate' is unknown; allowed are block-rate, error-rate",
        id="metric",
    ),
    pytest.param(
        "canary,block-rate,canary,,1,4",
        "column 3 (arm): 'canary' is unknown; allowed are baseline, candidate",
        id="arm",
    ),
    pytest.param(
        "canary,block-rate,candidate,state=CA,1,4",
        "column 4 (slice): 'state=CA' has labels state; allowed are country or country,channel",
        id="label",
    ),
    pytest.param("canary,block-rate,candidate,FR,1,4", "column 4 (slice): 'FR' is not a slice; write", id="no label"),
    pytest.param(
        "canary,block-rate,candidate,country=DE,1,4",
        "column 4 (slice): stage, metric, arm and slice are those of an earlier row",
        id="twice",
    ),
    pytest.param(
        "canary,block-rate,candidate,1,4", "5 cells; as many as the header's 6 columns are needed", id="short row"
    ),
    pytest.param(
        "canary,block-rate,candidate,country=FR,channel=web,1,4",
        "7 cells; as many as the header's 6 columns are needed; a slice of two labels needs quotes: \"country=FR,",
        id="no quotes",
    ),
    pytest.param(
        "canary,block-rate,candidate,,1,1e300",
        "column 6 (of): 1e300 is more than can be counted one by one, 9007199254740992",
        id="more than a count can be",
    ),
    pytest.param("canary,block-rate,candidate,,1_0,40", "column 5 (events): '1_0' is not a count", id="underscore"),
    pytest.param("canary,block-rate,candidate,,,4", "column 5 (events): '' is not a count", id="nothing"),
    pytest.param("canary,block-rate,candidate,,0x1,4", "column 5 (events): '0x1' is not a count", id="hexadecimal"),
    pytest.param("canary,block-rate,candidate,,٣,4", "column 5 (events): '٣' is not a count", id="another script"),
    pytest.param("canary,block-rate,candidate,,1e400,4", "column 5 (events): 1e400 is more than can", id="endless"),
    pytest.param(
        "canary,block-rate,candidate,country=F\x00R,1,4",
        "column 4 (slice): 'country=F\\x00R' holds the control character '\\x00'; text without any is allowed",
        id="NUL",
    ),
    pytest.param(
        "canary,block-rate,candidate,country=\x1b[2J,1,4",
        "column 4 (slice): 'country=\\x1b[2J' holds the control character '\\x1b'",
        id="commands a terminal",
    ),
    pytest.param(
        'canary,block-rate,candidate,"country=FR, channel=web, day=1",1,4',
        "allowed are country or country,channel",
        id="a label too many",
    ),
]


@pytest.mark.parametrize(("row", "problem"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_place(run, tmp_path, row, problem):
    result = run(f"{HEALTHY}{row}\n")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path}/counts.csv:9: ")
    assert problem in result.stderr


def test_a_file_in_another_encoding_is_refused_with_its_place(tmp_path):
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    counts = tmp_path / "counts.csv"
    counts.write_bytes((HEALTHY + "canary,block-rate,candidate,country=Curaçao,1,4\n").encode("latin-1"))
    result = CliRunner().invoke(app, ["judge", str(tmp_path / "contract.yaml"), str(counts)])
    said = f"{counts}:9: byte 41 of the line is not UTF-8; save the table as UTF-8\n"
    assert (result.exit_code, result.stderr) == (2, said)


def test_every_bad_row_is_told(run):
    result = run(HEALTHY.replace("canary,block-rate", "canary,x"))
    assert result.stderr.count("'x' is unknown") == 6


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        pytest.param("", ":1: empty; a first line of stage,metric,arm,slice,events,of is needed\n", id="empty"),
        pytest.param("\n" + HEALTHY, ":1: empty; a first line of", id="an empty first line"),
        pytest.param(
            HEALTHY.replace(",", "\t"), ":1: the columns are separated by tabs; separate them by commas\n", id="tabs"
        ),
        pytest.param(
            HEALTHY.replace(",", ";"),
            ":1: the columns are separated by semicolons; separate them by commas\n",
            id="semicolons",
        ),
        pytest.param("stage,metric,arm,slice,events,of\n", "2: no rows; at least one is needed", id="only a header"),
        pytest.param(HEALTHY.replace("events", "count", 1), "1: column 'events' is missing", id="missing column"),
        pytest.param(HEALTHY.replace(",of", ",of,ge", 1), "1: column 'ge' is unknown", id="unknown column"),
        pytest.param(HEALTHY.replace(",of", ",of,of", 1), "1: column 'of' is there twice", id="column twice"),
        pytest.param(None, "counts.csv: No such file or directory", id="no file"),
    ],
)
def test_a_bad_table_is_refused(run, counts, problem):
    result = run(counts)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) <= 2, "a line for each column says less"


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(HARMED.replace(",country=FR", ', "country=FR"'), id="a blank before a quote"),
        pytest.param(HARMED.replace(",", " , "), id="blanks around commas"),
        pytest.param(HARMED + "   \n", id="a last line of blanks"),
        pytest.param("\ufeff" + HARMED.replace("\n", "\r\n"), id="as Excel writes it"),
    ],
)
def test_a_table_may_hold_blanks(run, counts):
    result = run(counts)
    assert (result.exit_code, result.stderr) == (10, "")
    assert "broken in country=FR" in result.stdout


def test_a_value_may_hold_commas(run):
    """The country is ``Korea, Republic of``, alone and as a part of two labels."""
    rows = HARMED.replace("country=FR", '"country=Korea, Republic of"')
    rows += 'canary,block-rate,candidate,"channel=web, country=Korea, Republic of",1,10\n'
    found = json.loads(run(rows, "-o", "json").stdout)
    assert found["breaches"] == [{"clause": "steady", "slice": "country=Korea, Republic of"}]


def test_a_misspelt_label_is_no_part_of_a_value(run):
    result = run(HEALTHY + 'canary,block-rate,candidate,"country=Korea, Republic of, chanel=web",1,10\n')
    assert result.exit_code == 2
    assert "has labels country,chanel; allowed are country or country,channel" in result.stderr


def test_counts_are_read_from_standard_input(run, tmp_path):
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    path = str(tmp_path / "contract.yaml")
    result = CliRunner().invoke(app, ["judge", path, "-"], input="\ufeff" + HARMED)
    assert (result.exit_code, result.stderr) == (10, "")
    bad = CliRunner().invoke(app, ["judge", path, "-"], input=HARMED + "canary\n")
    assert bad.stderr.startswith("-:9: 1 cells;")
    both = CliRunner().invoke(app, ["judge", "-", "-"], input=CONTRACT)
    assert (both.exit_code, both.stderr) == (2, "only one of the two files can be standard input, -\n")
    counts = tmp_path / "counts.csv"
    counts.write_text(HARMED)
    assert CliRunner().invoke(app, ["judge", "-", str(counts)], input=CONTRACT).exit_code == 10


@pytest.mark.parametrize(
    ("contract", "problem"),
    [
        pytest.param(
            CONTRACT.replace("within: 5%", "within: 5 %"),
            ":8:62: clauses[0].within: '5 %' is not a margin: write 5% (relative)",
            id="a space",
        ),
        pytest.param(
            CONTRACT.replace("metric: block-rate,", "metric: blocks,"),
            'clauses: clauses ["steady"] judge metrics',
            id="unknown metric",
        ),
        pytest.param(
            CONTRACT.replace("within", "inside"), ":8:3: clauses[0]: 'inside' does not exist", id="unknown verb"
        ),
        pytest.param(CONTRACT + "oops", "not YAML", id="no YAML"),
        pytest.param("", ":1:1: empty;", id="empty"),
        pytest.param("- a", ":1:1: not a mapping;", id="a list"),
        pytest.param("kind: Pod", "kind 'Pod'; ModelRelease, ModelContract or none is allowed", id="another kind"),
        pytest.param("kind: ModelContract", ":1:1: spec: is required\n", id="no spec"),
        pytest.param("kind: ModelContract\nspec: [1]", ":2:7: spec: [1] is not an object", id="a list for a spec"),
        pytest.param("kind: ModelRelease\nspec: [1]", ":2:7: spec: [1] is not an object", id="a release's list"),
        pytest.param("kind: ModelRelease\nspec: hello", ':2:7: spec: "hello" is not an object', id="a word"),
        pytest.param("kind: ModelRelease\nmetadata: [a]", ':2:11: metadata: ["a"] is not an object', id="metadata"),
        pytest.param(
            CONTRACT.replace("[country], within", "!!set {country}, within"),
            ":8:43: tag !!set: JSON has no such values, leave the tag out",
            id="a set",
        ),
        pytest.param(
            CONTRACT.replace("within: 5%", "within: 5%, within: 500%"),
            ":8:62: clauses[0].within: is there twice; once is allowed",
            id="a key twice",
        ),
        pytest.param(CONTRACT + "---\n" + CONTRACT, ": 2 documents; one is allowed, or", id="two contracts"),
    ],
)
def test_a_bad_contract_is_refused_with_its_place(run, tmp_path, contract, problem):
    result = run(HEALTHY, contract=contract)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"{tmp_path}/contract.yaml")
    assert problem in result.stderr


def test_stages_must_be_those_of_the_release(run):
    result = run(HEALTHY, contract=RELEASE)
    assert result.exit_code == 2
    assert "column 1 (stage): 'canary' is unknown; allowed are small, all" in result.stderr


def test_stages_must_tell_their_kind_when_a_clause_asks(run):
    contract = CONTRACT.replace("per: [country]", "per: [country], stages: [canary]")
    result = run(HEALTHY.replace("canary,", "week-1,"), contract=contract)
    assert "column 1 (stage): 'week-1' does not tell its kind; begin with shadow, canary or full" in result.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--stage", "full"], "--stage: 'full' has no counts; allowed are canary"),
        (["--error-budget", "1.5"], "--error-budget: 1.5 is not a chance"),
        (["--design-effect", "0.5"], "--design-effect"),
        (["--design-effect", "nan"], "--design-effect"),
        (["--design-effect", "inf"], "--design-effect: inf is not a number of requests; 1 or more is allowed"),
    ],
)
def test_a_bad_option_is_refused(run, options, problem):
    result = run(HEALTHY, *options)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_version_is_printed():
    result = CliRunner().invoke(app, ["version"])
    assert (result.exit_code, result.stdout.strip()) == (0, "0.1.0")
