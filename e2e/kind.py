"""
The demo on kind, where a container engine runs. Untested on the machines that build this project: none runs there.

Envoy Gateway and Prometheus come from their usual images; operator and model server are built with docker.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from e2e.cluster.paths import PACKAGE, REPOSITORY, STATE
from e2e.install import IMAGE_TAG, OPERATOR_IMAGE, install
from e2e.world import Kubectl, World

NAME: Final = "modelrelease"
IMAGES: Final = {
    OPERATOR_IMAGE: "operator/Dockerfile",
    "localhost/modelrelease-model-server": "model-server/Dockerfile",
}
PUBLISHED_IMAGES: Final = {
    "localhost/prometheus:1": "docker.io/prom/prometheus:v3.5.0",
    "localhost/envoy:1": "docker.io/envoyproxy/envoy:distroless-v1.37.0",
}
ENVOY_GATEWAY: Final = ("oci://docker.io/envoyproxy/gateway-helm", "v1.9.1")


def kubeconfig() -> Path:
    """Return the kubeconfig of the kind cluster."""
    return STATE.with_name("modelrelease-kind") / "kubeconfig"


GATEWAY_PORT: Final = 18080
PROMETHEUS_PORT: Final = 19090


@contextmanager
def world(console: Console) -> Iterator[World]:
    """Bring up the kind cluster with the operator on it; its Services are reached through kubectl port-forward."""
    _up(console)
    inside = World(Kubectl(kubeconfig()))
    install(inside, console, in_cluster_images=False)
    selector = "gateway.envoyproxy.io/owning-gateway-name=public"
    found = inside.kubectl.get("-n", "envoy-gateway-system", "services", "-l", selector) or {}
    service = found["items"][0]["metadata"]["name"]
    forwards = [
        _forward(inside, "envoy-gateway-system", service, f"{GATEWAY_PORT}:80"),
        _forward(inside, "monitoring", "prometheus", f"{PROMETHEUS_PORT}:9090"),
    ]
    try:
        yield World(inside.kubectl, f"127.0.0.1:{GATEWAY_PORT}", f"http://127.0.0.1:{PROMETHEUS_PORT}")
    finally:
        for forward in forwards:
            forward.terminate()
            forward.wait()


def _forward(inside: World, namespace: str, service: str, ports: str) -> subprocess.Popen[bytes]:
    command = [str(inside.kubectl.binary), f"--kubeconfig={inside.kubectl.kubeconfig}", "-n", namespace]
    return subprocess.Popen([*command, "port-forward", f"service/{service}", ports], stdout=subprocess.DEVNULL)


def _up(console: Console) -> None:
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
    for manifest in ("prometheus.yaml", "gateway-class.yaml"):
        text = (PACKAGE / "manifests" / manifest).read_text()
        for ours, published in PUBLISHED_IMAGES.items():
            text = text.replace(ours, published)
        Kubectl(kubeconfig()).run("apply", "--server-side", "-f", "-", text=text)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=REPOSITORY)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
