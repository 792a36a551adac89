"""No field shows as a difference for ever: what a tool applies is what it finds, in every example and state."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.cluster import binaries
from tests.docs.recorded import PAGES
from tests.docs.test_api_pages import examples
from tests.gitops.states import place, recorded

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
README = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
MANIFESTS = [yaml.safe_load_all(path.read_text()) for path in (ROOT / "e2e" / "manifests").glob("*.yaml")]
WHOLE = [yaml.safe_load(text) for text in README] + [body for bodies in MANIFESTS for body in bodies]
EXAMPLES = [body for body in WHOLE if body and body.get("kind") == "ModelRelease"]
EXAMPLES += [body for page in PAGES for body in examples(page)]
"""README, the demo, and the pages of the API."""


@pytest.fixture
def difference(cluster):
    """What ``kubectl diff --server-side`` shows."""

    def ask(*bodies):
        done = subprocess.run(
            [binaries.ensure("kubectl"), "--kubeconfig", cluster.server.kubeconfig, "diff", "--server-side", "-f", "-"],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    return ask


def _apply(cluster, *bodies):
    cluster.kubectl(
        "apply", "--server-side", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(bodies)}
    )


def test_every_example_is_what_it_was(cluster, namespace, difference):
    """Applied, then compared: nothing was added to any spec."""
    bodies = [
        {**body, "metadata": {"name": f"example-{number}", "namespace": namespace}}
        for number, body in enumerate(EXAMPLES)
    ]
    assert len(bodies) > 10
    _apply(cluster, *bodies)
    assert difference(*bodies) == ""
    for body in bodies:
        assert cluster.get(body["kind"], namespace, body["metadata"]["name"])["spec"] == body["spec"]


def test_a_change_is_a_difference(cluster, namespace, difference):
    """The comparison sees what there is to see."""
    body = {**EXAMPLES[0], "metadata": {"name": "radar", "namespace": namespace}}
    _apply(cluster, body)
    changed = {**body, "spec": {**body["spec"], "owner": "somebody-else"}}
    assert "somebody-else" in difference(changed)


@pytest.mark.parametrize("state", ["completed", "canary", "rolled-back"])
def test_a_status_is_no_difference(cluster, namespace, difference, state):
    """What the operator has written does not show in what a tool applies again."""
    release = recorded(state)
    place(cluster, namespace, "radar", release)
    ordered = {**release.body, "metadata": {"name": "radar", "namespace": namespace}}
    ordered.pop("status")
    # The object was made by another tool: taking it over changes nobody's value.
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=ordered)
    assert difference(ordered) == ""
