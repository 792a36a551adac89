"""What lint says of a pod template is what the cluster answers when the operator applies it."""

import json
import subprocess

import pytest

from e2e.cluster import binaries
from modelrelease.cli.lint import lint
from tests.api.specs import changed

TEMPLATE = "spec.server.template"
CONTAINER = f"{TEMPLATE}.spec.containers[0]"


def said(change):
    """Return severity and message by path."""
    return {it.path: (it.severity.value, it.message) for it in lint(changed(change), {})}


@pytest.fixture
def applied(cluster, namespace):
    """Apply a Deployment with the template as the operator does: by the server, with no validation by kubectl."""

    def applied(change):
        template = changed(change)["spec"]["server"]["template"]
        labels = {"test": "radar"}
        meta = template.get("metadata") or {}
        template = {**template, "metadata": {**meta, "labels": {**meta.get("labels", {}), **labels}}}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "radar", "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        return subprocess.run(
            [
                binaries.ensure("kubectl"), "--kubeconfig", cluster.server.kubeconfig,
                "apply", "--server-side", "--dry-run=server", "--validate=ignore", "--filename=-",
            ],
            input=json.dumps(deployment), capture_output=True, text=True, check=False,
        )  # fmt: skip

    return applied


@pytest.mark.apiserver
def test_a_sound_template_is_taken(applied):
    """So that the others are refused for their own reason."""
    done = applied({})
    assert done.returncode == 0, done.stderr
    assert not [path for path, (severity, _) in said({}).items() if severity == "refused"]


@pytest.mark.apiserver
@pytest.mark.parametrize(
    ("change", "path", "severity", "says", "answer"),
    [
        pytest.param({f"{CONTAINER}.imagee": "x"}, f"{CONTAINER}.imagee", "warning", "did you mean image?",
                     "imagee: field not declared in schema", id="a field of a container"),
        pytest.param({f"{TEMPLATE}.spec.containerz": []}, f"{TEMPLATE}.spec.containerz", "warning",
                     "did you mean containers?", "containerz: field not declared in schema", id="a field of the pod"),
        pytest.param({f"{CONTAINER}.readinessProbe": {"httpget": {"path": "/", "port": 80}}},
                     f"{CONTAINER}.readinessProbe.httpget", "warning", "did you mean httpGet?",
                     "httpget: field not declared in schema", id="a field of a probe"),
        pytest.param({f"{TEMPLATE}.metadata.labels.app": "a b"}, f"{TEMPLATE}.metadata.labels.app", "refused",
                     "'a b' is not a label's value", "Invalid value", id="a label's value"),
        pytest.param({f"{TEMPLATE}.metadata.labels": {"a b": "c"}}, f"{TEMPLATE}.metadata.labels", "refused",
                     "'a b' is not a key", "Invalid value", id="a label's key"),
        pytest.param({f"{TEMPLATE}.metadata.annotations": {"a": 5}}, f"{TEMPLATE}.metadata.annotations.a", "refused",
                     "5 is not a string", "expected string", id="an annotation that is a number"),
        pytest.param({f"{CONTAINER}.name": "Server_1"}, f"{CONTAINER}.name", "refused",
                     "'Server_1' is not a name", "RFC 1123 label", id="a container's name"),
        pytest.param({f"{TEMPLATE}.spec.initContainers": [{"name": "In.it", "image": "a:1"}]},
                     f"{TEMPLATE}.spec.initContainers[0].name", "refused", "'In.it' is not a name", "RFC 1123 label",
                     id="an init container's name"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_template_is_refused_by_the_cluster(applied, change, path, severity, says, answer):
    assert says in said(change)[path][1]
    assert said(change)[path][0] == severity
    done = applied(change)
    assert done.returncode != 0
    assert answer in done.stderr


def test_what_the_parser_refuses_is_not_told_twice():
    found = lint(changed({f"{TEMPLATE}.metadata.labels.app": True}), {})
    assert [it.path for it in found] == [f"{TEMPLATE}.metadata.labels.app"]


def test_fields_that_kubernetes_has_are_not_spoken_of():
    """Of every depth, and with the keys that are anybody's own."""
    pod = {
        "containers": [
            {
                "name": "server",
                "image": "radar:1",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"limits": {"cpu": 1, "nvidia.com/gpu": 1}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
            }
        ],
        "nodeSelector": {"a.example.com/b": "c"},
        "volumes": [{"name": "cache", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["A"]}}}}],
        "topologySpreadConstraints": [{"maxSkew": 1, "labelSelector": {"matchLabels": {"x": "y"}}}],
    }
    found = said({f"{TEMPLATE}.spec": pod, f"{TEMPLATE}.metadata.annotations": {"a.example.com/b": "any text"}})
    assert not [message for _, message in found.values() if "no such field" in message]
