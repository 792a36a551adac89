"""
A crash of ``up`` leaves nothing that the next command cannot remove.

The node under test has its own names, addresses and folder, so that a cluster that is up stays untouched.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster.binaries import locked

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]

# Run in a process of its own, because it is killed, and because names must be set before node.py reads them.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
from e2e.cluster import network, paths
paths.STATE, paths.LOGS = Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "logs"
network.NAMESPACE, network.HOST_DEVICE = "mreltest", "mreltest-host"
network.NAMESPACE_FILE = Path("/run/netns/mreltest")
network.HOST_ADDRESS, network.NODE_ADDRESS = "10.94.0.1", "10.94.0.2"
network.SERVICE_RANGE, network.SERVICES_AND_PODS = "10.92.0.0/16", "10.92.0.0/15"
from e2e.cluster import node
node.CGROUP = "mreltest"

def create():
    paths.STATE.mkdir(exist_ok=True)
    node.create()
    # A part that leaves the process group, mounts something and joins a cgroup, as containers do.
    script = "mkdir -p /run/x && mount -t tmpfs t /run/x && echo 0 > /sys/fs/cgroup/memory/mreltest/sub/cgroup.procs; "
    (Path("/sys/fs/cgroup/memory/mreltest/sub")).mkdir(exist_ok=True)
    node.ensure_part("orphan", ["setsid", "sh", "-c", script + f"setsid sleep {sys.argv[3]} & wait"])

def remove():
    node.remove()
    node.remove_state()

def left():
    print(*node.left_behind(), sep="\\n", end="")

def crash():
    # Killed when the first process is started and not yet recorded.
    node._record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    create()

{"create": create, "remove": remove, "left": left, "crash": crash}[sys.argv[2]]()
"""


def driver(folder: Path, command: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", DRIVER, str(folder), command, sleep_seconds(folder)]
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    return out


def sleep_seconds(folder: Path) -> str:
    """Return a number of seconds that only this test's orphan sleeps."""
    return f"3600.{sum(str(folder).encode()):d}"


def orphans(folder: Path) -> list[str]:
    return running(f"sleep\0{sleep_seconds(folder)}".encode())


def running(marker: bytes) -> list[str]:
    """Return the processes whose command line has the *marker*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


@pytest.fixture
def folder(tmp_path):
    # Every case makes the node of the same name, so one at a time, whatever runs tests in parallel.
    with locked(Path("/run/lock/modelrelease-test-node")):
        yield tmp_path
        finished(driver(tmp_path, "remove"))


def test_a_node_that_runs_is_removed_with_everything_it_started(folder):
    """An orphan in another session, a mount and a cgroup all go with the node's first process."""
    finished(driver(folder, "create"))
    until(lambda: orphans(folder))
    assert {"/run/netns/mreltest", "network device mreltest-host"} <= set(finished(driver(folder, "left")).splitlines())
    finished(driver(folder, "remove"))
    assert not orphans(folder)
    assert "" == finished(driver(folder, "left"))
    assert not (folder / "state").exists()


def test_what_is_not_recorded_yet_ends_with_who_started_it(folder):
    """Else it would begin to live after the removal that did not know of it."""
    crashing = driver(folder, "crash")
    crashing.communicate()
    assert -signal.SIGKILL == crashing.returncode
    until(lambda: not running(str(folder / "state" / "init.json").encode()))
    finished(driver(folder, "remove"))
    assert "" == finished(driver(folder, "left"))


@pytest.mark.parametrize("milliseconds", [60, 100, 140, 180, 220, 260, 320, 400])
def test_a_crash_while_making_the_node_leaves_nothing_that_cannot_be_removed(folder, milliseconds):
    """Killed with -9 at any moment: one removal, and the next node can be made."""
    crashing = driver(folder, "create")
    time.sleep(milliseconds / 1000)
    crashing.kill()
    crashing.communicate()
    finished(driver(folder, "remove"))
    assert "" == finished(driver(folder, "left"))
    finished(driver(folder, "create"))
    until(lambda: orphans(folder))
    finished(driver(folder, "remove"))
    assert not orphans(folder)
    assert "" == finished(driver(folder, "left"))


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
