"""The plugin against a real API server: what it prints, what it writes, and what it says when it may not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from e2e.cluster import binaries
from modelrelease.cli.main import app
from tests.builders import a_body, revision_of
from tests.cli.states import a_state

pytestmark = pytest.mark.apiserver


def stored(name, namespace):
    """Return the state of that name as an object to create, and its status."""
    body = a_state(name)
    meta = {"name": "radar", "namespace": namespace, "annotations": body["metadata"].get("annotations", {})}
    return {**body, "metadata": meta}, {**body["status"], "observedGeneration": 1}


@pytest.fixture
def place(cluster, namespace):
    """Put a release into a state."""

    def place(name):
        body, status = stored(name, namespace)
        cluster.create({key: value for key, value in body.items() if key != "status"})
        cluster.patch("mrel", namespace, "radar", {"status": status}, status=True)

    return place


@pytest.fixture
def run(cluster, namespace):
    """Run a command as the cluster's administrator, in the test's namespace."""

    def run(command, *words, options=()):
        where = ["-n", namespace, "--kubeconfig", str(cluster.server.kubeconfig)]
        return CliRunner().invoke(app, [command, *words, *where, *options])

    return run


def decisions(cluster, namespace):
    """Return the specs of all decisions."""
    return [item["spec"] for item in json.loads(cluster.kubectl("get", "mdec", "-n", namespace, "-o", "json"))["items"]]


def test_look_at_a_release(run, place):
    """One release: no name is needed."""
    place("canary, baking")
    table = run("get")
    assert table.exit_code == 0, table.output
    assert table.stdout.splitlines()[0].split()[:2] == ["NAME", "STAGE"]
    assert json.loads(run("get", "radar", "-o", "json").stdout)["metadata"]["name"] == "radar"
    listed = yaml.safe_load(run("get", "-o", "yaml").stdout)
    assert [item["kind"] for item in listed["items"]] == ["ModelRelease"]
    told = run("explain").stdout
    assert told.startswith("radar: version 2 is in stage canary-10")
    assert "\x1b" not in told, "no colour where there is no terminal"
    assert "modelrelease rollback radar --reason" in told
    posted = json.loads(run("explain", "-o", "json").stdout)
    assert told.startswith(posted["headline"][:60])
    assert yaml.safe_load(run("explain", "-o", "yaml").stdout).keys() == posted.keys()
    assert run("history").stdout.splitlines()[0].split()[0] == "VERSION"


def test_what_is_not_there(run):
    absent = run("explain", "nobody")
    assert (absent.exit_code, absent.stderr.strip()) == (3, 'modelreleases.modelrelease.dev "nobody" not found')
    assert "no ModelRelease in namespace" in run("get").stdout
    both = run("get", "radar", "-A")
    assert (both.exit_code, both.stderr[:17]) == (2, "-A: without NAME;")
    unnamed = run("explain")
    assert (unnamed.exit_code, unnamed.stdout) == (2, "")
    assert "no ModelRelease in namespace" in unnamed.stderr


def test_what_was_foretold_of_a_release(run, place):
    """By its name instead of files; 11, as from files, when a gate may not pass in time."""
    place("pending")
    told = run("forecast", "radar")
    assert told.exit_code == 11, told.output
    assert "clause steady needs about 9 h in country=FR" in told.stdout
    assert json.loads(run("forecast", "radar", "-o", "json").stdout)[0]["stage"] == "canary-10"
    assert yaml.safe_load(run("forecast", "radar", "-o", "yaml").stdout)[0]["stage"] == "canary-10"


def test_a_watch_ends_when_nothing_moves(run, place):
    place("breach, rolled back from canary")
    watched = run("watch", "radar", "--until-done", "--every", "0.2")
    assert watched.exit_code == 10
    assert "RolledBack" in watched.stdout
    assert len(watched.stdout.splitlines()) == 1


def test_kubectl_finds_the_plugin(cluster, namespace, place):
    """As a person runs it; and it says the commands as that person would type them."""
    place("breach, held")
    found = subprocess.run(
        [binaries.ensure("kubectl"), "modelrelease", "explain", "radar", "-n", namespace],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.server.kubeconfig),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "A PERSON MUST DECIDE" in found.stdout
    assert f'kubectl modelrelease rollback radar --reason "..." -n {namespace}' in found.stdout


def test_names_are_completed_from_the_cluster(cluster, namespace, place):
    """As kubectl asks for it, with the options that were typed; and a cluster that is away proposes nothing."""
    place("canary, baking")
    program = Path(sys.executable).parent / "kubectl_complete-modelrelease"

    def proposed(*words):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=True)
        return done.stdout.split()

    here = ("explain", "--kubeconfig", str(cluster.server.kubeconfig), "-n", namespace)
    assert proposed(*here, "ra") == ["radar", ":4"]
    assert proposed("explain", "--kubeconfig", "/nowhere", "--as-group", "team", "ra") == [":4"]


def test_no_colour_where_there_is_no_terminal(run, place):
    """Piped into a file, a mail, a log of CI: every command, its help and its complaints."""
    place("breach, rolled back from canary")
    lines = [["get"], ["explain"], ["history"], ["watch", "--until-done"], ["explain", "nobody"], ["get", "--nonsense"]]
    for result in (run(*line) for line in lines):
        assert result.output
        assert "\x1b" not in result.output
    program = Path(sys.executable).parent / "modelrelease"
    shown = subprocess.run([program, "watch", "--help"], capture_output=True, text=True, check=True)
    assert "\x1b" not in shown.stdout


def test_suspend_and_resume(run, place, cluster, namespace):
    place("canary, baking")
    assert run("suspend", "radar").exit_code == 2, "a reason is asked for"
    assert run("suspend", "radar", "--reason", "incident 42").exit_code == 0
    body = cluster.get("mrel", namespace, "radar")
    assert body["spec"]["suspend"] is True
    assert body["metadata"]["annotations"] == {
        "modelrelease.dev/suspended-by": "admin",
        "modelrelease.dev/suspend-reason": "incident 42",
    }
    assert run("resume", "radar").exit_code == 0
    body = cluster.get("mrel", namespace, "radar")
    assert "suspend" not in body["spec"]
    assert not body["metadata"].get("annotations")


def test_nobody_is_blamed_for_the_suspension_of_another(run, place, cluster, namespace):
    """What the plugin has noted is about its own; an edit in Git or with kubectl notes nothing."""
    place("suspended by an edit")
    assert "set by" not in run("explain").stdout
    assert run("suspend", "radar", "--reason", "incident 42").exit_code == 0
    assert "set by admin: incident 42" in " ".join(run("explain").stdout.split())
    time.sleep(1.1)  # the API server remembers to the second
    for suspend in (False, True):
        cluster.patch("mrel", namespace, "radar", {"spec": {"suspend": suspend}})
    told = run("explain").stdout
    assert "spec.suspend is true" in told
    assert "incident 42" not in told


@pytest.mark.parametrize(
    ("state", "words", "spec"),
    [
        ("canary, baking", ["approve"], {"decision": "Approve", "stage": "canary-10"}),
        ("canary, baking", ["approve", "--stage", "canary-50"], {"decision": "Approve", "stage": "canary-50"}),
        ("canary, baking", ["rollback", "--reason", "looks odd"], {"decision": "Rollback", "reason": "looks odd"}),
        ("canary, baking", ["promote", "--reason", "hotfix"], {"decision": "Promote", "reason": "hotfix"}),
        (
            "breach, rolled back from canary",
            ["retry", "--reason", "was the feed"],
            {"decision": "Retry", "reason": "was the feed"},
        ),
    ],
)
def test_a_decision_is_an_object(run, place, cluster, namespace, state, words, spec):
    """About the revision that was there, by who the API server says we are."""
    place(state)
    command, *options = words
    result = run(command, "radar", *options, "--wait", "0")
    assert result.exit_code == 0, result.output
    about = {"release": "radar", "revision": revision_of("2").name, "approvedBy": "admin"}
    assert decisions(cluster, namespace) == [{**about, **spec}]


@pytest.mark.parametrize(
    ("state", "words", "says"),
    [
        ("completed", ["approve"], "radar: nothing is on trial, so there is nothing to approve"),
        ("canary, baking", ["retry", "--reason", "x"], "radar: no rejected revision is asked for"),
        ("canary, baking", ["rollback", "--reason", "x", "--revision", "abcdef0"], "not abcdef0: look again"),
        ("canary, baking", ["approve", "--stage", "dark"], "'dark' is not in the plan; allowed are shadow, canary-10"),
        ("pending", ["approve"], "no stage is open yet: name one with --stage"),
    ],
)
def test_a_decision_about_nothing_is_not_made(run, place, cluster, namespace, state, words, says):
    place(state)
    command, *options = words
    result = run(command, "radar", *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert decisions(cluster, namespace) == []


@pytest.mark.parametrize(("outcome", "code"), [("Applied", 0), ("Stale", 4), ("Refused", 4)])
def test_the_operators_answer_is_told(run, place, cluster, namespace, monkeypatch, outcome, code):
    """The answer comes while the command waits."""
    from modelrelease.cli.cluster import Cluster

    place("canary, baking")
    create = Cluster.create_decision

    async def answered(self, body):
        made = await create(self, body)
        answer = {"status": {"outcome": outcome, "message": "so it is"}}
        cluster.patch("mdec", namespace, made["metadata"]["name"], answer, status=True)
        return made

    monkeypatch.setattr(Cluster, "create_decision", answered)
    result = run("rollback", "radar", "--reason", "x", "--wait", "20")
    assert result.exit_code == code
    assert f"{outcome}: so it is" in result.stdout


def test_a_decision_whose_answer_cannot_be_read_is_made_all_the_same(run, place, cluster, namespace):
    """By somebody who may decide and not look: it has not failed, and nobody is to decide twice."""
    place("canary, baking")
    cluster.kubectl("create", "role", "looks", "-n", namespace, "--verb=get", "--resource=modelreleases")
    cluster.kubectl("create", "role", "decides", "-n", namespace, "--verb=create", "--resource=releasedecisions")
    for role in ("looks", "decides"):
        cluster.kubectl("create", "rolebinding", role, "-n", namespace, f"--role={role}", "--user=robot")
    who = ["--as", "robot", "--as-group", "system:authenticated"]
    result = run("rollback", "radar", "--reason", "x", "--wait", "0.5", *who)
    assert result.exit_code == 0, result.output
    assert "the decision is made, and what becomes of it cannot be read: " in result.stderr
    assert 'User "robot" cannot get resource "releasedecisions"' in result.stderr
    assert len(decisions(cluster, namespace)) == 1


def test_who_may_not_is_told_so(cluster, namespace, place, tmp_path):
    """A user of the namespace who may look and not decide."""
    place("canary, baking")
    cluster.kubectl("create", "serviceaccount", "viewer", "-n", namespace)
    cluster.kubectl("create", "role", "viewer", "-n", namespace, "--verb=get,list", "--resource=modelreleases")
    cluster.kubectl(
        "create", "rolebinding", "viewer", "-n", namespace, "--role=viewer", f"--serviceaccount={namespace}:viewer"
    )
    config = json.loads(cluster.server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", "viewer", "-n", namespace).strip()}
    config["contexts"][0]["context"]["namespace"] = namespace
    (tmp_path / "viewer").write_text(json.dumps(config))

    def run(*words):
        return CliRunner().invoke(app, [*words, "--kubeconfig", str(tmp_path / "viewer")])

    assert run("explain", "radar").exit_code == 0
    refused = run("rollback", "radar", "--reason", "x")
    assert refused.exit_code == 3
    assert (
        f'User "system:serviceaccount:{namespace}:viewer" cannot create resource "releasedecisions"' in refused.stderr
    )
    assert run("suspend", "radar", "--reason", "x").exit_code == 3
    assert cluster.get("mrel", namespace, "radar")["spec"].get("suspend") is None


def test_people_with_the_roles_of_the_chart(cluster, namespace, office, tmp_path):
    """The approver's decision passes the admission policy: it is in the name that the API server knows them by."""
    _, status = stored("canary, baking", namespace)
    cluster.patch("mrel", namespace, "radar", {"status": status}, status=True)

    def run(role, *words):
        config = json.loads(cluster.server.kubeconfig.read_text())
        account = f"serviceaccount={namespace}:{role}"
        cluster.kubectl("create", "serviceaccount", role, "-n", namespace)
        cluster.kubectl(
            "create", "rolebinding", f"is-{role}", "-n", namespace, f"--clusterrole=modelrelease-{role}", f"--{account}"
        )
        config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", role, "-n", namespace).strip()}
        (tmp_path / role).write_text(json.dumps(config))
        return CliRunner().invoke(app, [*words, "-n", namespace, "--kubeconfig", str(tmp_path / role)])

    decided = run("approver", "rollback", "radar", "--reason", "looks odd", "--wait", "0")
    assert decided.exit_code == 0, decided.output
    (spec,) = decisions(cluster, namespace)
    assert spec["approvedBy"] == f"system:serviceaccount:{namespace}:approver"
    assert run("editor", "suspend", "radar", "--reason", "incident").exit_code == 0
    assert run("viewer", "explain", "radar").exit_code == 0
    for role, words in (("editor", ["rollback"]), ("viewer", ["suspend"]), ("viewer", ["rollback"])):
        config = str(tmp_path / role)
        asked = [*words, "radar", "--reason", "x", "-n", namespace, "--kubeconfig", config]
        refused = CliRunner().invoke(app, asked)
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (3, 1)


def test_options_are_those_of_kubectl(cluster, namespace, place, tmp_path):
    """A context's namespace, another context, all namespaces, several files in KUBECONFIG, in somebody else's name."""
    place("canary, baking")
    config = json.loads(cluster.server.kubeconfig.read_text())
    (only,) = config["contexts"]
    here = {"name": "here", "context": {**only["context"], "namespace": namespace}}
    away = {"name": "away", "context": {**only["context"], "namespace": "kube-public"}}
    both = {**config, "contexts": [here, away], "current-context": "away"}
    (tmp_path / "config").write_text(json.dumps(both))

    def run(*words):
        return CliRunner().invoke(app, [*words])

    file = ("--kubeconfig", str(tmp_path / "config"))
    assert "no ModelRelease in namespace kube-public" in run("get", *file).stdout
    assert "radar" in run("get", "--context", "here", *file).stdout
    assert "radar" in run("get", "-n", namespace, *file).stdout
    everywhere = run("get", "-A", *file).stdout.splitlines()
    assert everywhere[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert [namespace, "radar"] in [line.split()[:2] for line in everywhere]
    several = {**os.environ, "KUBECONFIG": f"{tmp_path / 'none'}:{tmp_path / 'config'}"}
    program = Path(sys.executable).parent / "modelrelease"
    assert "radar" in subprocess.check_output([program, "get", "--context", "here"], env=several, text=True)
    told = run("explain", "radar", "--context", "here", "--as", "ana maria", "--as-group", "system:masters", *file)
    assert told.exit_code == 0, told.output
    again = f"--context here --kubeconfig {tmp_path / 'config'} --as 'ana maria' --as-group system:masters"
    assert f"modelrelease watch radar {again}" in " ".join(told.stdout.split())


def test_somebody_elses_name(run, place, cluster, namespace):
    """Impersonated, with every group: the API server decides what they may, and who approved."""
    place("canary, baking")
    refused = run("rollback", "radar", "--reason", "x", "--as", "ana@example.com")
    assert refused.exit_code == 3
    assert 'User "ana@example.com" cannot' in refused.stderr
    cluster.kubectl("create", "role", "of-the-team", "-n", namespace, "--verb=get", "--resource=modelreleases")
    cluster.kubectl("create", "role", "on-call", "-n", namespace, "--verb=create,get", "--resource=releasedecisions")
    for group in ("of-the-team", "on-call"):
        cluster.kubectl("create", "rolebinding", group, "-n", namespace, f"--role={group}", f"--group=team:{group}")
    groups = ["--as-group", "team:of-the-team", "--as-group", "team:on-call"]
    who = ["--as", "ana@example.com", *groups, "--as-group", "system:authenticated"]
    decided = run("rollback", "radar", "--reason", "looks odd", "--wait", "0", *who)
    assert decided.exit_code == 0, decided.output
    assert [spec["approvedBy"] for spec in decisions(cluster, namespace)] == ["ana@example.com"]
    alone = run("get", "--as-group", "team:on-call")
    assert (alone.exit_code, alone.stderr.strip()) == (2, "--as-group: say with --as which user is in it")


def test_diff_against_the_live_object(run, place, tmp_path):
    place("canary, baking")
    spec = a_state("canary, baking")["spec"]

    def diff(version, *options):
        body = {**a_body(), "metadata": {"name": "radar"}, "spec": {**spec, "model": {"version": version}}}
        (tmp_path / "release.yaml").write_text(yaml.safe_dump(body))
        return run("diff", str(tmp_path / "release.yaml"), *options)

    assert diff("2").exit_code == 0
    changed = diff("3", "-o", "json")
    assert changed.exit_code == 1
    (found,) = json.loads(changed.stdout)
    assert (found["effect"], found["changes"]) == (
        "new revision",
        [{"path": "spec.model.version", "before": "2", "after": "3"}],
    )
    assert "ModelRelease/radar: cancel: the rollout of version 2 ends" in diff("1").stdout
    refused = diff("")
    assert refused.exit_code == 2
    assert "refused: spec.model.version" in refused.stdout


def test_a_cluster_that_is_not_there(tmp_path):
    """One line and exit code 3, whatever is wrong."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    gone = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "config")])
    assert (gone.exit_code, len(gone.stderr.splitlines())) == (3, 1)
    assert "the API server cannot be reached" in gone.stderr
    none = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "nothing")])
    assert (none.exit_code, none.stderr.strip()) == (3, f"no kubeconfig at {tmp_path / 'nothing'}")
    other = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "config"), "--context", "y"])
    assert other.exit_code == 3
