"""``modelrelease lint``: what would be refused, what would be regretted, and where it stands in the file."""

import json
import re
import subprocess

import pytest
import yaml
from typer.testing import CliRunner

from e2e.cluster import binaries, paths
from modelrelease.cli.lint import KINDS, Severity, lint
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
    assert "no clause is judged in stage shadow: it passes when its bake is over" in found["spec.stages[0]"]


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


def test_yaml_says_what_json_says(run):
    bad = changed({**SOUND, "spec.stages[1].canary.percent": 120})
    assert yaml.safe_load(run(bad, options=["-o", "yaml"]).stdout) == json.loads(
        run(bad, options=["-o", "json"]).stdout
    )


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


def test_what_needs_no_contract_is_told_of_a_release_whose_contract_is_elsewhere(run):
    body = a_body_that_refers()
    body["spec"]["server"]["replicas"] = 1
    found = json.loads(run(body, options=["-o", "json"]).stdout)
    assert [(it["severity"], it["path"]) for it in found] == [
        ("warning", "spec.contractRef.name"),
        ("warning", "spec.server.replicas"),
        ("warning", "spec.server.template.spec.containers[0]"),
    ]


@pytest.mark.parametrize(
    ("of_the_release", "of_the_contract", "found"),
    [("fraud", "fraud", True), (None, None, True), ("fraud", "other", False), ("fraud", None, False)],
)
def test_a_contract_is_looked_for_in_the_namespace_of_the_release(run, of_the_release, of_the_contract, found):
    """Without one, both are in the namespace that whoever applies the files will name."""
    release, contract = a_body_that_refers(), a_contract()
    for body, namespace in ((release, of_the_release), (contract, of_the_contract)):
        body["metadata"].pop("namespace", None)
        body["metadata"] |= {"namespace": namespace} if namespace else {}
    told = {it["path"] for it in json.loads(run(contract, release, options=["-o", "json"]).stdout)}
    assert ("spec.contractRef.name" not in told) == found


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


README = paths.REPOSITORY / "README.md"


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


def test_nothing_is_said_about_the_example_of_the_readme(run):
    """What people begin with is what we would have them write."""
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert run(text=example).stdout == "ModelRelease/radar: nothing to say\n"


@pytest.mark.parametrize(
    "change",
    [
        {"spec.contract.metrics[0].query": "up"},
        {"spec.contract.metrics[0].labelDelay": "1h"},
        {"spec.stages[3].full": {"holdback": 2}},
        {"spec.server.autoscaling": {}},
        {"spec.traffic.istio": {}},
    ],
    ids=str,
)
def test_what_was_designed_and_not_built_is_refused(change):
    """As the README's limits say."""
    (path,) = change
    field = "holdback" if path.endswith("full") else path.rpartition(".")[2]
    assert any(f"'{field}' does not exist" in it.message for it in lint(changed(change), {}))
    assert field in README.read_text().partition("## Limits")[2]


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


LIST = {"apiVersion": "v1", "kind": "List"}


def test_a_list_is_opened(run):
    """As kubectl opens it: what stands in it is applied."""
    bad = changed({**SOUND, "spec.stages[1].canary.percent": 500})
    text = yaml.safe_dump({**LIST, "items": [a_contract(), {**LIST, "items": [bad]}]})
    result = run(text=text, options=["-o", "json"])
    (refused,) = [it for it in json.loads(result.stdout) if it["severity"] == "refused"]
    assert refused["path"] == "items[1].items[0].spec.stages[1].canary.percent"
    assert text.splitlines()[refused["line"] - 1].strip() == "percent: 500"
    assert result.exit_code == 2


def test_items_of_a_list_of_one_kind_need_not_name_it(run):
    bad = {"metadata": {"name": "radar"}, "spec": {"suspend": 5}}
    typed = {"apiVersion": "modelrelease.dev/v1alpha1", "kind": "ModelReleaseList", "items": [bad]}
    assert "items[0].spec.suspend: 5 is not true or false" in run(typed).stdout


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({**LIST, "items": "none"}, "items is not a list", id="no list"),
        pytest.param({**LIST, "items": [5]}, "is not a mapping", id="no object in it"),
        pytest.param({**LIST, "items": None}, "no ModelRelease", id="empty"),
        pytest.param({**LIST, "items": []}, "no ModelRelease", id="empty list"),
    ],
)
def test_lists_that_are_none(run, given, says):
    result = run(given)
    assert result.exit_code == 2
    assert says in result.output


META = {"name": "radar", "namespace": "default"}


NO_OBJECTS = [
    pytest.param({"metadata": "foo"}, "metadata", '"foo" is not an object', id="metadata that is none"),
    pytest.param({"metadata": None}, "metadata.", "is required", id="no metadata"),
    pytest.param({"metadata": {**META, "name": 5}}, "metadata.name", "5 is not a string", id="a number as a name"),
    pytest.param({"metadata": {**META, "name": "Foo_Bar"}}, "metadata.name", "'Foo_Bar' is not", id="a bad name"),
    pytest.param({"metadata": {**META, "namespace": "Fraud_X"}}, "metadata.namespace", "is not a name", id="place"),
    pytest.param({"metadata": {**META, "namespace": ["a"]}}, "metadata.namespace", "is not a string", id="places"),
    pytest.param({"metadata": {**META, "generation": "abc"}}, "metadata.generation", "whole number", id="age"),
    pytest.param({"metadata": {**META, "labels": {"a": 5}}}, "metadata.labels.a", "is not a string", id="label"),
    pytest.param({"metadata": {**META, "labels": {"a": "b c"}}}, "metadata.labels.a", "'b c' is not", id="value"),
    pytest.param({"metadata": {**META, "labels": {"a b": "c"}}}, "metadata.labels", "'a b' is not a key", id="key"),
    pytest.param({"metadata": {**META, "labels": []}}, "metadata.labels", "is not an object", id="labels"),
    pytest.param({"metadata": {**META, "nmae": "x"}}, "metadata.nmae", "does not exist", id="a field of metadata"),
    pytest.param({"stages": []}, "stages", "does not exist here, allowed: apiVersion, kind", id="a wrong indent"),
    pytest.param({"spec": []}, "spec", "is required, and an object", id="a spec that is none"),
    pytest.param({"kind": ["ModelRelease"]}, "kind", "is not one of", id="several kinds"),
]  # fmt: skip
"""Changes that make an object of any kind one that is none: the field, and what is said of it."""


@pytest.mark.parametrize(("change", "path", "says"), NO_OBJECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_api_server_refuses_of_any_object(run, kind, change, path, says):
    body = {"apiVersion": "modelrelease.dev/v1alpha1", "kind": kind, "metadata": META, "spec": {}, **change}
    result = run(body, options=["-o", "json"])
    found = [it for it in json.loads(result.stdout) if it["path"].startswith(path)]
    assert any(it["severity"] == "refused" and says in it["message"] for it in found)
    assert result.exit_code == 2


@pytest.mark.apiserver
@pytest.mark.parametrize(("change", "path", "says"), NO_OBJECTS)
def test_the_api_server_refuses_it_too(cluster, change, path, says):
    """As kubectl sends it: with strict validation."""
    kubectl = [binaries.ensure("kubectl"), "--kubeconfig", cluster.server.kubeconfig]
    sound = changed({**SOUND, "metadata.namespace": "default"})
    for body, refused in ((sound, False), ({**sound, **change}, True)):
        done = subprocess.run(
            [*kubectl, "create", "--dry-run=server", "--validate=strict", "--filename=-"],
            input=json.dumps(body), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == refused, done.stderr


def test_a_problem_outside_the_spec_does_not_hide_those_inside(run):
    result = run({**changed({**SOUND, "spec.stages[1].canary.percent": 120}), "stages": []}, options=["-o", "json"])
    assert [it["path"] for it in json.loads(result.stdout)] == ["stages", "spec.stages[1].canary.percent"]


def test_names_that_are_allowed(run):
    labels = {"app.kubernetes.io/name": "radar", "a": "", "B_1": "x.y"}
    meta = {"name": "a.b-1", "namespace": "fraud", "labels": labels, "annotations": {"example.com/why": "any text!"}}
    body = {**a_contract(), "metadata": meta}
    assert "refused" not in run(body).stdout


def test_the_same_object_twice_is_a_warning(run):
    elsewhere = changed(SOUND)
    elsewhere["metadata"] = {**elsewhere["metadata"], "namespace": "other"}
    (found,) = json.loads(run(changed(SOUND), elsewhere, changed(SOUND), options=["-o", "json"]).stdout)
    assert (found["severity"], found["path"]) == ("warning", "metadata.name")
    assert "release.yaml, line 1: what is applied last counts" in found["message"]


@pytest.fixture
def files(tmp_path):
    """Three files: one that is no YAML between one without objects of ours and a release that is refused."""
    refused = yaml.safe_dump(changed({**SOUND, "spec.stages[1].canary.percent": 120}))
    texts = {"other.yaml": "kind: ConfigMap", "bad.yaml": "a: [", "release.yaml": refused}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in texts]


def test_a_file_that_cannot_be_read_hides_no_other(files):
    result = CliRunner().invoke(app, ["lint", *files, "-o", "json"])
    assert result.exit_code == 2
    unread, refused = json.loads(result.stdout)
    assert unread == {
        "severity": "refused",
        "path": "",
        "message": "not YAML: expected the node content, but found '<stream end>'",
        "object": None,
        "file": files[1],
        "line": 1,
        "column": 5,
    }
    assert refused["message"] == "120 is outside 1..100"


def test_json_is_a_list_when_there_is_nothing_of_ours(files):
    result = CliRunner().invoke(app, ["lint", files[0], "-o", "json"])
    assert result.exit_code == 2
    (found,) = json.loads(result.stdout)
    assert (found["severity"], found["file"], found["line"]) == ("refused", files[0], None)
    assert "no ModelRelease, ModelContract or ReleaseDecision in there" in found["message"]


def test_diff_asks_no_cluster_about_what_is_refused_anyway(files):
    """There is no such kubeconfig; a cluster that were asked would be code 3."""
    nowhere = ["--kubeconfig", "/nowhere"]
    result = CliRunner().invoke(app, ["diff", *files, *nowhere])
    assert result.exit_code == 2
    assert "bad.yaml:1:5: not YAML" in result.stdout.replace("\n", "")
    assert "ModelRelease/radar: refused: spec.stages[1].canary.percent: 120 is outside 1..100" in result.stdout
    found = json.loads(CliRunner().invoke(app, ["diff", *files, "-o", "json", *nowhere]).stdout)
    assert [it["effect"] for it in found] == ["refused", "refused"]


def test_diff_refuses_a_key_that_is_there_twice_and_opens_lists(tmp_path):
    file = tmp_path / "release.yaml"
    text = yaml.safe_dump({**LIST, "items": [changed(SOUND)]})
    file.write_text(text.replace("    model:\n", "    suspend: true\n    suspend: false\n    model:\n"))
    result = CliRunner().invoke(app, ["diff", str(file), "--kubeconfig", "/nowhere"])
    assert (result.exit_code, "items[0].spec.suspend: is there twice" in result.stdout) == (2, True)


def test_standard_input(monkeypatch):
    result = CliRunner().invoke(app, ["lint", "-"], input=yaml.safe_dump(changed({**SOUND, "spec.suspend": True})))
    assert result.exit_code == 1
    assert "-:" in result.stdout


def test_the_good_spec_of_the_api_tests_is_not_refused():
    assert {it.severity for it in lint(GOOD, {})} == {Severity.WARNING}
