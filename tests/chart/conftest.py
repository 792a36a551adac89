"""Helm, and what it renders."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries, paths

CHART = paths.REPOSITORY / "charts" / "modelrelease-operator"
URL = "http://prometheus.monitoring:9090"

Helm = Callable[..., subprocess.CompletedProcess[str]]
Objects = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Run helm, and return how it went."""
    program = binaries.ensure("helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> Callable[..., Objects]:
    """Return the objects of the chart by ``Kind namespace/name``, rendered with values such as ``log.level=debug``."""

    def render(*values: str) -> Objects:
        settings = [f"--set={value}" for value in (f"prometheus.url={URL}", *values)]
        done = helm("template", "modelrelease", str(CHART), "--namespace=system", *settings)
        assert done.returncode == 0, done.stderr
        bodies = [body for body in yaml.safe_load_all(done.stdout) if body]
        return {_title(body): body for body in bodies}

    return render


def _title(body: dict[str, Any]) -> str:
    meta = body["metadata"]
    return (
        f"{body['kind']} {meta['namespace']}/{meta['name']}"
        if "namespace" in meta
        else f"{body['kind']} {meta['name']}"
    )
