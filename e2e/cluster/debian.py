"""
The Debian packages that the cluster needs: name the missing ones, install them, start none of their services.

Several packages (prometheus, containerd) start a service when installed. A temporary ``policy-rc.d`` that says no,
Debian's own way, prevents that on machines with an init system; a policy that is already there is left alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import paths, progress
from e2e.cluster.progress import ClusterError

_POLICY = Path("/usr/sbin/policy-rc.d")

PYTHON = Path("/usr/bin/python3")  # has pip once ``python3-pip`` is there; a virtual environment may have none

FOR_API_SERVER = ("openssl",)
FOR_CLUSTER = (
    "buildah",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "gcc",
    "iproute2",
    "iptables",
    "libc6-dev",
    "openssl",
    "python3-pip",
    "python3-venv",
    "runc",
)
FOR_TESTS = ("prometheus",)


def missing(*packages: str) -> list[str]:
    """Return those of *packages* that are not installed."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,  # exit code 1 means that some are unknown, which is what we ask
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def ensure(*packages: str) -> None:
    """
    Install those of *packages* that are missing.

    Raises:
        ClusterError: apt-get failed, or we are not root.
    """
    absent = missing(*packages)
    if not absent:
        return
    if os.geteuid() != 0:
        raise ClusterError(f"debian packages are missing and only root can install them: {' '.join(absent)}")
    log = paths.CACHE / "logs" / "apt.log"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"installing Debian packages: {' '.join(absent)}"), _no_services():
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
        for command in (["apt-get", "update"], install):
            progress.run(command, log=log, env=environment, interruptible=False)


def mirror(codename: str) -> str:
    """
    Return the address from which this machine installs Debian *codename*, for debootstrap.

    Raises:
        ClusterError: The machine's apt sources name no such release.
    """
    listed = progress.output(["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"])
    for line in listed.splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == (codename, "main"):
            return address
    raise ClusterError(f"apt sources: no entry for {codename} main, from which the Python base image is made")


def prometheus() -> Path:
    """Return Debian's Prometheus (2.42 on bookworm), installed if need be, its service not started."""
    ensure(*FOR_TESTS)
    return Path("/usr/bin/prometheus")


@contextmanager
def _no_services() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
