"""``modelrelease lint``: what would be refused, what would be regretted, and where it stands in the file."""

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from e2e.cluster import paths
from modelrelease.cli.lint import Severity, lint
from modelrelease.cli.main import app
from tests.api.specs import BAD, GOOD, changed
from tests.builders import a_body, a_body_that_refers, a_contract

SOUND = {
    "spec.server.template.spec.containers[0].readinessProbe": {"httpGet": {"path": "/ready", "port": 3000}},
    "spec.contract.slices[0].expected": ["FR", "DE"],
    "spec.contract.slices[1].expected": ["FR,web"],
    "spec.contract.clauses[0].per": ["country", "market"],
}
"""What the good spec of the API's tests lacks to be without warnings."""


def warned(change, *, without=()):
    """Return path and message of what is said about the sound release with *change*."""
    kept = {path: value for path, value in SOUND.items() if path not in without}
    return [(it.severity, it.path, it.message) for it in lint(changed({**kept, **change}), {})]


def test_nothing_is_said_about_a_sound_release():
    assert warned({}) == []


CLAUSE = "spec.contract.clauses[0]"
CONTAINER = "spec.server.template.spec.containers[0]"


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        pytest.param({"spec.suspend": True}, "spec.suspend", "nothing moves", id="suspended"),
        pytest.param(
            {"spec.stages": [{"name": "full", "full": {}}]}, "spec.stages", "nothing is compared", id="only full"
        ),
        pytest.param(
            {"spec.stages[1].canary.percent": 50, "spec.stages[2].canary.percent": 60},
            "spec.stages[1].canary.percent",
            "50: so many users are the first",
            id="a large first canary",
        ),
        pytest.param({"spec.stages[3].bake": "0s"}, "spec.stages[3].bake", "the watch ends as soon", id="no watch"),
        pytest.param(
            {"spec.analysis.onInconclusive": "Advance"},
            "spec.analysis.onInconclusive",
            "of which nothing was proved",
            id="advance without a verdict",
        ),
        pytest.param(
            {"spec.approval": {"mode": "Manual", "automateAfter": 3}},
            "spec.approval.automateAfter",
            "nothing is counted in mode Manual",
            id="counting nothing",
        ),
        pytest.param({"spec.server.replicas": 1}, "spec.server.replicas", "whenever the pod restarts", id="one pod"),
        pytest.param({f"{CONTAINER}.image": "radar:latest"}, f"{CONTAINER}.image", "no fixed image", id="latest"),
        pytest.param({f"{CONTAINER}.image": "r.example:5000/radar"}, f"{CONTAINER}.image", "no fixed", id="no tag"),
        pytest.param({f"{CONTAINER}.readinessProbe": None}, CONTAINER, "no readinessProbe", id="no probe"),
        pytest.param(
            {"spec.contract.slices[0].expected": None},
            "spec.contract.slices[0]",
            "no expected values of country",
            id="nothing expected",
        ),
        pytest.param(
            {f"{CLAUSE}.per": ["country"]}, "spec.contract.slices[1]", "no clause judges per market", id="unused slices"
        ),
        pytest.param(
            {"spec.contract.clauses[6].metric": "error-rate", "spec.contract.clauses[6].atMost": "5%",
             "spec.contract.clauses[7].metric": "error-rate"},
            "spec.contract.metrics[4]",
            "no clause judges metric fallbacks",
            id="an unused metric",
        ),
        pytest.param(
            {f"{CLAUSE}.stages": ["full"]},
            f"{CLAUSE}.stages",
            "no stage judges clause steady: at full nobody is left on the old revision",
            id="a comparison at full",
        ),
        pytest.param(
            {f"{CLAUSE}.stages": ["shadow"], "spec.stages": [{"name": "c", "canary": {"percent": 5}},
                                                            {"name": "full", "full": {}}]},
            f"{CLAUSE}.stages",
            "no stage judges clause steady: the plan has canary, full",
            id="a kind of stage that the plan lacks",
        ),
        pytest.param(
            {"spec.contract.clauses[2].noWorse": "0pp"},
            "spec.contract.clauses[2].noWorse",
            "no amount of traffic proves it",
            id="no worse by nothing",
        ),
        pytest.param(
            {"spec.contract.clauses[1].atMost": "0%"},
            "spec.contract.clauses[1].atMost",
            "no amount of traffic proves it",
            id="none at all",
        ),
        pytest.param(
            {f"{CLAUSE}.assure": {"slices": "0%"}},
            f"{CLAUSE}.assure.slices",
            "no amount of traffic proves it",
            id="every difference excluded",
        ),
    ],
)  # fmt: skip
def test_each_warning(change, path, says):
    found = {where: message for _, where, message in warned(change)}
    assert says in found[path]


def test_an_assurance_makes_a_strict_margin_provable():
    """No worse at all is the breach; a pass need only exclude what assure says."""
    assert (
        warned({"spec.contract.clauses[2].noWorse": "0%", "spec.contract.clauses[2].assure": {"overall": "5%"}}) == []
    )


def test_a_watch_that_sees_nothing_and_a_stage_without_clauses():
    """Relative clauses only: nothing is judged at full. Clauses for canaries only: the shadow stage never ends."""
    relative = a_body()["spec"]["contract"]
    relative["clauses"] = [{"name": "steady", "metric": "block-rate", "within": "5%"}]
    found = {it.path: it.message for it in lint(a_body(contract=relative), {})}
    assert "nothing is judged in stage full: its clauses compare with the baseline" in found["spec.stages[3]"]
    relative["clauses"][0]["stages"] = ["canary"]
    found = {it.path: it.message for it in lint(a_body(contract=relative), {})}
    assert "no clause is judged in stage shadow: its gate never passes" in found["spec.stages[0]"]


def test_no_clause_that_rolls_back():
    contract = a_body()["spec"]["contract"]
    contract["clauses"] = [{**clause, "onBreach": "Warn"} for clause in contract["clauses"]]
    assert (
        "no clause rolls back"
        in {it.path: it.message for it in lint(a_body(contract=contract), {})}["spec.contract.clauses"]
    )


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_what_is_refused_anywhere_is_refused_here(bad):
    """With the path that admission or the parser names."""
    found = lint(bad.body, {})
    assert {it.severity for it in found} == {Severity.REFUSED}
    wanted = bad.parsed_where or bad.where
    assert any(it.path == wanted and (bad.parsed or bad.says) in it.message for it in found) or bad.id == "no spec"


def test_all_refusals_are_told_at_once():
    """A number out of bounds in the plan does not hide a metric that does not exist, nor PromQL that does not parse."""
    found = lint(
        changed(
            {
                **SOUND,
                "spec.stages[1].canary.percent": 120,
                "spec.contract.clauses[0].metric": "blockrate",
                "spec.contract.metrics[1].ratio.events": "rate(errors[5m])",
            }
        ),
        {},
    )
    assert [it.path for it in found] == [
        "spec.stages[1].canary.percent",
        "spec.contract.clauses",
        "spec.contract.metrics[1].ratio.events",
    ]


@pytest.fixture
def run(tmp_path):
    """Write documents into a file and lint it."""

    def run(*documents, text=None, options=()):
        file = tmp_path / "release.yaml"
        file.write_text(text if text is not None else yaml.safe_dump_all(documents))
        return CliRunner().invoke(app, ["lint", str(file), *options])

    return run


def test_exit_codes(run):
    sound = changed(SOUND)
    assert run(sound).exit_code == 0
    assert run(changed({**SOUND, "spec.suspend": True})).exit_code == 1
    assert run(changed({**SOUND, "spec.stages[1].canary.percent": 120})).exit_code == 2


def test_json_names_severity_path_and_message(run):
    result = run(sound := changed({**SOUND, "spec.stages[1].canary.percent": 120}), options=["-o", "json"])
    assert sound
    (found,) = json.loads(result.stdout)
    assert (found["severity"], found["path"], found["message"]) == (
        "refused",
        "spec.stages[1].canary.percent",
        "120 is outside 1..100",
    )
    assert found["object"] == "ModelRelease/radar"


def test_a_line_says_where_it_stands_in_the_file(run):
    text = yaml.safe_dump(changed(SOUND)).replace("percent: 5\n", "percent: 120\n")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "percent: 120" in row)
    out = run(text=text).stdout
    assert f"release.yaml:{line}:" in out
    assert "refused: spec.stages[1].canary.percent: 120 is outside 1..100" in out


def test_several_documents_and_other_kinds(run):
    """A Deployment beside them is nobody's business here."""
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    result = run(other, a_contract(), changed({**SOUND, "spec.suspend": True}), options=["-o", "json"])
    assert {it["object"] for it in json.loads(result.stdout)} == {"ModelContract/promise", "ModelRelease/radar"}
    assert run(other).exit_code == 2


def test_a_release_is_judged_with_the_contract_of_the_same_files(run):
    """The contract's own problems are told once, at the contract."""
    weak = a_contract(clauses=[{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"}])
    found = json.loads(run(weak, a_body_that_refers(), options=["-o", "json"]).stdout)
    told = {(it["object"], it["path"]) for it in found}
    assert ("ModelRelease/radar", "spec.stages[3]") in told
    assert ("ModelContract/promise", "spec.slices[0]") in told
    alone = json.loads(run(a_body_that_refers(), options=["-o", "json"]).stdout)
    assert [(it["severity"], it["path"]) for it in alone] == [("warning", "spec.contractRef.name")]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"decision": "Approve", "stage": "canary-10"}, None),
        ({"decision": "Approve"}, "spec.stage"),
        ({"decision": "Maybe"}, "spec.decision"),
        ({"decision": "Rollback", "revision": "latest"}, "spec.revision"),
    ],
)
def test_decisions_are_looked_at(run, spec, path):
    given = {"release": "radar", "revision": "7f3c9b1", "approvedBy": "ana", **spec}
    body = {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ReleaseDecision",
        "metadata": {"generateName": "radar-"},
        "spec": given,
    }
    found = json.loads(run(body, options=["-o", "json"]).stdout)
    assert [it["path"] for it in found][:1] == ([path] if path else [])


def decisions_of_the_pages():
    """Return the ReleaseDecisions that people copy, whose revision is one that without quotes is a number."""
    pages = [paths.REPOSITORY / "docs" / name for name in ("spec/v1alpha1/releasedecisions.md", "tutorial.md")]
    text = "\n".join(page.read_text() for page in pages)
    found = re.findall(r"^apiVersion: .*\nkind: ReleaseDecision\n(?:[ a-z].*\n)*", text, re.MULTILINE)
    return [re.sub(r"\$\([^)]*\)|7f3c9b1", "1234e56", document) for document in found]


@pytest.mark.parametrize("text", decisions_of_the_pages())
def test_the_decisions_of_the_pages_hold_for_every_revision(run, text):
    """One revision in twenty-two is spelled like a number."""
    assert "1234e56" in text
    result = run(text=text)
    assert result.exit_code == 0, result.output


def test_the_pages_have_decisions():
    assert len(decisions_of_the_pages()) == 5


def test_a_key_that_is_there_twice_is_refused(run):
    """The API server refuses it; YAML alone would take the last."""
    text = yaml.safe_dump(changed(SOUND)) + "\n"
    text = text.replace("  model:\n", "  suspend: true\n  suspend: false\n  model:\n")
    result = run(text=text)
    assert result.exit_code == 2
    assert "spec.suspend: is there twice; once is allowed" in result.stdout


def test_a_date_is_the_string_that_it_is_for_kubernetes(run):
    text = yaml.safe_dump(changed(SOUND)).replace("version: '2026-11-20'", "version: 2026-11-20")
    assert "version: 2026-11-20" in text
    assert run(text=text).exit_code == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not YAML"), ("- 1", "is not a mapping"), ("", "no ModelRelease"), ("kind: ModelRelease", "apiVersion")],
)
def test_what_is_no_release_is_bad_input(run, text, says):
    result = run(text=text)
    assert result.exit_code == 2
    assert says in result.output


def test_standard_input(monkeypatch):
    result = CliRunner().invoke(app, ["lint", "-"], input=yaml.safe_dump(changed({**SOUND, "spec.suspend": True})))
    assert result.exit_code == 1
    assert "-:" in result.stdout


def test_the_good_spec_of_the_api_tests_is_not_refused():
    assert {it.severity for it in lint(GOOD, {})} == {Severity.WARNING}
