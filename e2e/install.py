"""Install the operator from its Helm chart, and the Gateway of the demo, as a user would."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from rich.console import Console

from e2e.cluster import binaries
from e2e.cluster.paths import REPOSITORY
from e2e.world import MANIFESTS, NAMESPACE, OPERATOR_NAMESPACE, World, wait_until

CHART: Final = REPOSITORY / "charts" / "modelrelease-operator"
OPERATOR_IMAGE: Final = "localhost/modelrelease-operator"
IMAGE_TAG: Final = "dev"


def install(world: World, console: Console, *, in_cluster_images: bool) -> None:
    """
    Bring operator and Gateway to readiness; running it again changes nothing.

    Args:
        world: The cluster.
        console: Where progress is shown.
        in_cluster_images: Build and import both images first; otherwise they are in the cluster already.
    """
    if in_cluster_images:
        for image in ("operator", "model-server"):
            subprocess.run([sys.executable, "-m", "e2e.cluster", "load", image], check=True, cwd=REPOSITORY)
    console.print("installing the operator from its chart")
    if world.kubectl.get("-n", OPERATOR_NAMESPACE, "deployment", "modelrelease-operator"):
        # The tag of the images stays the same, so a running operator would stay what it was.
        world.kubectl.run("-n", OPERATOR_NAMESPACE, "rollout", "restart", "deployment/modelrelease-operator")
    helm(
        world,
        "upgrade",
        "--install",
        "modelrelease",
        str(CHART),
        f"--namespace={OPERATOR_NAMESPACE}",
        "--create-namespace",
        f"--set=image.repository={OPERATOR_IMAGE},image.tag={IMAGE_TAG},image.pullPolicy=IfNotPresent",
        "--set=prometheus.url=http://prometheus.monitoring.svc:9090",
        "--wait",
        "--timeout=180s",
    )
    # Helm installs a chart's crds/ once and never upgrades them.
    world.kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    world.kubectl.run("apply", "--server-side", "-f", str(MANIFESTS / "gateway.yaml"))
    console.print("waiting for the Gateway")
    wait_until("the Gateway gets an address", world.gateway_address, seconds=180)
    world.kubectl.run("-n", NAMESPACE, "wait", "--for=condition=Programmed", "gateway/public", "--timeout=110s")


def helm(world: World, *arguments: str) -> str:
    """Run helm against the cluster and return what it printed; raise with its message when it fails."""
    command = [str(binaries.ensure("helm")), f"--kubeconfig={world.kubectl.kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"helm {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
