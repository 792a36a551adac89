"""
What runs on the cluster before anything of ours: DNS, Envoy Gateway with the Gateway API, Prometheus.

Envoy Gateway comes from its own Helm chart, which lies in the source of its Go module together with every CRD.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from e2e.cluster import binaries, kubernetes, node, paths, progress
from e2e.cluster.progress import ClusterError

GATEWAY_NAMESPACE = "envoy-gateway-system"
DEPLOYMENTS = (("kube-system", "coredns"), ("monitoring", "prometheus"), (GATEWAY_NAMESPACE, "envoy-gateway"))

_READY_SECONDS = 180.0
_GATEWAY_MODULE = "github.com/envoyproxy/gateway"
_GATEWAY_IMAGE = "localhost/envoy-gateway:1"


def install() -> None:
    """Install all of it; what is there already is brought up to date. Returns when everything is ready."""
    with progress.step("waiting for the node to become Ready"):
        _wait(["node", kubernetes.NODE_NAME, "--for=condition=Ready"])
    with progress.step("installing DNS and Prometheus"):
        apply(paths.MANIFESTS / "coredns.yaml")
        apply(paths.MANIFESTS / "prometheus.yaml")
        _wait_for_deployment("kube-system", "coredns")
    with progress.step("installing Envoy Gateway and the Gateway API with its Helm chart", log=paths.LOGS / "helm.log"):
        _install_gateway()
    with progress.step("waiting for Prometheus, Envoy Gateway and the GatewayClass"):
        for namespace, name in DEPLOYMENTS:
            _wait_for_deployment(namespace, name)
        _wait(["gatewayclass", "envoy", "--for=condition=Accepted"])


def apply(manifest: Path) -> None:
    """Create or update everything in *manifest*.

    Tried again for half a minute, because a CRD takes a moment to serve.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            progress.output(kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifest)))
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def kubectl(*arguments: str) -> list[str]:
    """Return a kubectl command for this cluster."""
    return [str(binaries.ensure("kubectl")), "--kubeconfig", str(kubernetes.KUBECONFIG), *arguments]


def helm(*arguments: str) -> list[str]:
    """Return a helm command for this cluster."""
    return [str(binaries.ensure("helm")), "--kubeconfig", str(kubernetes.KUBECONFIG), *arguments]


def unhealthy() -> list[str]:
    """Name every deployment of ours that is not available, and the node if it is not Ready."""
    found = []
    for namespace, name in DEPLOYMENTS:
        answer = _ask("-n", namespace, "get", "deployment", name, "-o", "jsonpath={.status.availableReplicas}")
        if answer in ("", "0"):
            found.append(f"deployment {namespace}/{name}")
    condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    if _ask("get", "node", kubernetes.NODE_NAME, "-o", condition) != "True":
        found.append(f"node {kubernetes.NODE_NAME}")
    return found


def _ask(*arguments: str) -> str:
    done = subprocess.run(kubectl("--request-timeout=5s", *arguments), capture_output=True, text=True, check=False)
    return done.stdout


def _install_gateway() -> None:
    chart = paths.STATE / "gateway-helm"
    source = binaries.module_source(binaries.MODULES["envoy-gateway"], _GATEWAY_MODULE)
    shutil.rmtree(chart, ignore_errors=True)
    shutil.copytree(source / "charts" / "gateway-helm", chart)
    for folder, _, _ in os.walk(chart):
        Path(folder).chmod(0o755)  # the module cache is read-only
    values = (chart / "values.tmpl.yaml").read_text()
    values = values.replace("${GatewayImagePullPolicy}", "IfNotPresent").replace("${GatewayImage}", _GATEWAY_IMAGE)
    (chart / "values.yaml").write_text(values)
    progress.run(
        helm("upgrade", "--install", "eg", str(chart), "--namespace", GATEWAY_NAMESPACE, "--create-namespace"),
        log=paths.LOGS / "helm.log",
    )
    apply(paths.MANIFESTS / "gateway-class.yaml")


def _wait_for_deployment(namespace: str, name: str) -> None:
    _wait(["-n", namespace, f"deployment/{name}", "--for=condition=Available"])


def _wait(what: list[str]) -> None:
    """``kubectl wait``, in slices, so that a part that ended is noticed at once and not after minutes."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        done = subprocess.run(kubectl("wait", "--timeout=3s", *what), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        for part in kubernetes.PARTS:
            node.check_part(part)
        if time.monotonic() > deadline:
            state = _ask("get", "pods", "-A", "-o", "wide")
            events = "\n".join(_ask("get", "events", "-A", "--sort-by=.lastTimestamp").splitlines()[-15:])
            raise ClusterError(f"{' '.join(what)}: {done.stderr.strip()}\n{state}\n{events}\nlogs: {paths.LOGS}")
        time.sleep(0.3)
