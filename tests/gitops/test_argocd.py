"""The health check for Argo CD, run by a real Lua interpreter on what the operator writes."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lupa import lua51

from e2e.cluster import binaries
from tests.apiserver import Cluster
from tests.gitops.states import STATES, recorded

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "gitops" / "argocd" / "health.lua"
PAGE = ROOT / "docs" / "spec" / "v1alpha1" / "modelreleases.md"
KEY = "resource.customizations.health.modelrelease.dev_ModelRelease"


def health(body: dict[str, Any]) -> tuple[str, str]:
    """Return status and message, as Argo CD gets them: Lua 5.1, with the global ``obj`` and no library."""
    lua = lua51.LuaRuntime()
    # Argo CD opens these alone, unless it is told otherwise.
    for library in ("os", "io", "debug", "coroutine", "python", "require", "dofile", "loadfile"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(body, recursive=True)
    answer = lua.execute(SCRIPT.read_text(encoding="utf-8"))
    return answer["status"], answer["message"]


@pytest.mark.parametrize("name", STATES)
def test_health_of_every_state(name: str) -> None:
    """Healthy, Progressing, Suspended or Degraded, and why."""
    status, message = health(recorded(name).body)
    assert STATES[name].argo == status
    assert message


@pytest.mark.parametrize(
    ("name", "condition", "has"),
    [
        pytest.param("rolled-back", "Stalled", "clause steady", id="the clause that was broken"),
        pytest.param("invalid-spec", "Stalled", "spec.contract.metrics[0].ratio.events", id="where the spec is wrong"),
        pytest.param("breach-held", "AwaitingApproval", "clause steady", id="what a person has to decide on"),
        pytest.param("suspended", "Reconciling", "spec.suspend is true", id="why nothing moves"),
        pytest.param("too-little-traffic", "Reconciling", "events", id="what evidence is lacking"),
        pytest.param("completed", "Ready", "version 2026-11-20", id="the version that is the release"),
        pytest.param("without-pods", "Available", "no pod of version 2026-11-05", id="who is not served"),
    ],
)
def test_the_message_is_the_operators_own(name: str, condition: str, has: str) -> None:
    """Argo CD shows what the condition says, word for word."""
    body = recorded(name).body
    written = next(c["message"] for c in body["status"]["conditions"] if c["type"] == condition)
    _, message = health(body)
    assert written == message
    assert has in message


def test_the_default_status_of_a_new_object_is_progressing() -> None:
    """What the API server stores before the operator has looked: observedGeneration -1 and no conditions."""
    body = {**recorded("not-seen").body, "status": {"observedGeneration": -1}}
    assert "Progressing" == health(body)[0]


def test_an_edit_of_a_rolled_back_release_is_no_longer_degraded() -> None:
    """A push repairs: until the operator has seen it, the old verdict does not stand against it."""
    body = recorded("rolled-back").body
    metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
    assert "Progressing" == health({**body, "metadata": metadata})[0]


@pytest.mark.apiserver
def test_the_page_says_how_it_is_installed(cluster: Cluster, namespace: str) -> None:
    """The command of the page, as it stands there: one key more in Argo CD's configuration, and the rest as it was."""
    section = PAGE.read_text(encoding="utf-8").partition("### With Argo CD\n")[2]
    shown = re.search(r"^```console\n\$ (.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert shown, "the page shows a command"
    command = shown[1].replace("-n argocd ", f"-n {namespace} ")
    metadata = {"name": "argocd-cm", "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "argocd"}}
    before = {"url": "https://argocd.example.com", "resource.customizations.health.batch_Job": "return {}"}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": before})
    path = f"{binaries.ensure('kubectl').parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.server.kubeconfig)}
    for _ in range(2):  # an upgrade is the same command once more
        subprocess.run(["bash", "-eo", "pipefail", "-c", command], cwd=ROOT, env=environment, check=True)
    stored = cluster.get("configmap", namespace, "argocd-cm")
    assert {**before, KEY: SCRIPT.read_text(encoding="utf-8")} == stored["data"]
    assert metadata["labels"] == stored["metadata"]["labels"]
