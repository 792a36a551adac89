"""
One cluster for the whole suite, brought up once and left as it was found; one release at a time.

The suite fails, never skips, when the cluster cannot be had.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from e2e.cluster.paths import LOGS, REPOSITORY, STATE
from e2e.install import install
from e2e.world import FIRST, NAMESPACE, RELEASE, Kubectl, World, kubeconfig, loans, traffic, wait_until

RATE: Final = 500.0
"""Requests per second: evidence is what most of the suite waits for, and two processors can answer so many."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below e2e/ needs the cluster; what judges all that the operator did comes last."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: item.path.name == "test_rbac.py")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The cluster with the operator on it, and traffic through the Gateway."""
    was_up = (STATE / "kubeconfig").exists()
    subprocess.run([sys.executable, "-m", "e2e.cluster", "up"], check=True, cwd=REPOSITORY)
    try:
        world = World(Kubectl(kubeconfig()))
        install(world, Console(highlight=False), in_cluster_images=True)
        yield world
    finally:
        if not was_up:
            subprocess.run([sys.executable, "-m", "e2e.cluster", "down"], check=True, cwd=REPOSITORY)


@pytest.fixture(scope="session")
def sender(world: World) -> Iterator[None]:
    """Real applications through the Gateway for the whole session."""
    with traffic(world.gateway_address(), rate=RATE, seconds=3600, log=LOGS / "e2e-traffic.log"):
        yield


@pytest.fixture
def stable(world: World, sender: None) -> World:  # noqa: ARG001 - traffic has to flow
    """A cluster on which the first version is the release, and nothing else was ever tried."""
    return only(world, FIRST)


def only(world: World, version: str) -> World:
    """Make *version* the release as if nothing else had ever been tried."""
    world.kubectl.run("-n", NAMESPACE, "delete", "mrel", RELEASE, "--ignore-not-found", "--wait=true")
    wait_until("the old pods are gone", lambda: not world.pods(), seconds=90)
    world.kubectl.apply(loans(version, stages=[{"name": "full", "full": {}, "bake": "1s"}]))
    wait_until("the first version is the release", lambda: completed(world, version), seconds=180)
    return world


def completed(world: World, version: str) -> bool:
    """Return whether *version* is the release."""
    status = world.status()
    return status.get("stage") == "Completed" and status["stable"]["version"] == version
