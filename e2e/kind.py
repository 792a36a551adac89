"""
The demo on kind, where a container engine runs. Untested on the machines that build this project: none runs there.

Envoy Gateway and Prometheus come from their usual images; operator and model server are built with docker.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from rich.console import Console

from e2e.cluster.paths import PACKAGE, REPOSITORY, STATE
from e2e.install import IMAGE_TAG, OPERATOR_IMAGE

NAME: Final = "modelrelease"
IMAGES: Final = {
    OPERATOR_IMAGE: "operator/Dockerfile",
    "localhost/modelrelease-model-server": "model-server/Dockerfile",
}
ENVOY_GATEWAY: Final = ("oci://docker.io/envoyproxy/gateway-helm", "v1.9.1")


def kubeconfig() -> Path:
    """Return the kubeconfig of the kind cluster."""
    return STATE.with_name("modelrelease-kind") / "kubeconfig"


def up(console: Console) -> None:
    """Create the kind cluster with everything that the demo needs."""
    missing = [tool for tool in ("kind", "docker", "helm", "kubectl") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"CLUSTER=kind needs {', '.join(missing)} on the PATH; CLUSTER=here installs what it needs")
    kubeconfig().parent.mkdir(parents=True, exist_ok=True)
    if NAME not in _output("kind", "get", "clusters").split():
        console.print("creating the kind cluster")
        _run("kind", "create", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig()), "--wait", "120s")
    for image, dockerfile in IMAGES.items():
        console.print(f"building {image}")
        _run("docker", "build", "--tag", f"{image}:{IMAGE_TAG}", "--file", dockerfile, str(REPOSITORY))
        _run("kind", "load", "docker-image", f"{image}:{IMAGE_TAG}", "--name", NAME)
    console.print("installing Envoy Gateway and Prometheus")
    chart, version = ENVOY_GATEWAY
    flags = ["--namespace=envoy-gateway-system", "--create-namespace", f"--kubeconfig={kubeconfig()}", "--wait"]
    _run("helm", "upgrade", "--install", "eg", chart, f"--version={version}", *flags)
    for manifest in ("gatewayclass-kind.yaml", "prometheus.yaml"):
        _run("kubectl", f"--kubeconfig={kubeconfig()}", "apply", "-f", str(PACKAGE / "manifests" / manifest))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=REPOSITORY)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
