"""kstatus, computed by cli-utils' own code, of a release in every state on a real API server."""

import json
import subprocess

import pytest

from e2e.cluster import binaries
from tests.gitops.states import STATES, place, recorded

pytestmark = pytest.mark.apiserver

INVENTORY = "cli-utils.sigs.k8s.io/inventory-id"


@pytest.fixture
def kapply_status(cluster, namespace, tmp_path):
    """``kapply status`` of releases: their kstatus and its message by name."""

    def ask(names):
        # kapply looks at what an inventory lists; its own "apply" would store one just so.
        listed = {f"{namespace}_{name}_modelrelease.dev_ModelRelease": "" for name in names}
        metadata = {"name": "inventory", "namespace": namespace, "labels": {INVENTORY: namespace}}
        inventory = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        cluster.create({**inventory, "data": listed})
        (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
        done = subprocess.run(
            [
                binaries.ensure("kapply"), "--kubeconfig", cluster.server.kubeconfig,
                "status", tmp_path, "--output", "json", "--poll-until", "known", "--timeout", "60s",
            ],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return {e["name"]: (e["status"], e.get("message", "")) for e in events if e.get("kind") == "ModelRelease"}

    return ask


def test_kstatus_of_every_state(cluster, namespace, kapply_status):
    """The table of the API, as ``kubectl wait``, Flux and every other user of kstatus sees it."""
    stored = {name: place(cluster, namespace, name, recorded(name)) for name in STATES}
    seen = kapply_status(STATES)
    assert {name: state.kstatus for name, state in STATES.items()} == {name: seen[name][0] for name in STATES}
    for name, body in stored.items():
        stalled = [c["message"] for c in body["status"].get("conditions", []) if c["type"] == "Stalled"]
        assert stalled == [seen[name][1]] * len(stalled), "a failure says what the condition says"
