"""A process is its id and its start: nothing else is ever signalled."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster.processes import Child, Identity, end
from e2e.cluster.progress import ClusterError


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity_of(pid: int) -> Identity:
    identity = Identity.of(pid)
    assert identity is not None
    return identity


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"started": 1}, id="the id was given to a later process"),
        pytest.param({"boot": "another"}, id="the record is from before a reboot"),
    ],
)
def test_a_process_that_only_has_the_same_id_is_left_alone(sleeper, change):
    """Ending a stale record ends nobody."""
    stale = dataclasses.replace(identity_of(sleeper.pid), **change)
    end([stale])
    assert sleeper.poll() is None


def test_the_recorded_process_is_ended(sleeper, tmp_path):
    """A record written and read back ends its process."""
    identity_of(sleeper.pid).write(tmp_path / "sleep.json")
    recorded = Identity.read(tmp_path / "sleep.json")
    assert recorded is not None
    end([recorded])
    assert -signal.SIGTERM == sleeper.wait(timeout=5)


def test_a_process_that_ignores_sigterm_is_killed():
    """Politeness has a limit."""
    with subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; sleep 60 & wait; wait"], stdout=subprocess.PIPE
    ) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        end([identity_of(deaf.pid)], grace_seconds=0.2)
        assert -signal.SIGKILL == deaf.wait(timeout=5)


def test_a_zombie_has_ended(sleeper):
    """A process whose parent has not collected it yet runs no more."""
    sleeper.kill()
    deadline = time.monotonic() + 5
    while Identity.of(sleeper.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("content", ["", '{"pid": 1', '{"pid": 1}', "[]"])
def test_a_record_cut_off_by_a_crash_names_nobody(tmp_path, content):
    """Half a record is no record."""
    (tmp_path / "half.json").write_text(content)
    assert Identity.read(tmp_path / "half.json") is None


def test_a_name_with_blanks_and_parentheses_does_not_shift_the_start_time(tmp_path):
    """/proc/PID/stat holds the program's name unquoted."""
    program = tmp_path / "a ) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as odd:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert identity_of(odd.pid).started == pytest.approx(uptime * 100, abs=500)
        odd.kill()


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path):
    """kill -9 of a test run leaves no server behind."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from e2e.cluster.processes import Child\n"
        f"child = Child(['sleep', '60'], log=Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = identity_of(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 5
    while child.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_that_ended_says_why(tmp_path):
    """The error carries the exit code and the end of the log."""
    child = Child(["sh", "-c", "echo 'address in use'; exit 3"], log=tmp_path / "log")
    deadline = time.monotonic() + 5
    while Identity.of(child.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ClusterError, match=r"(?s)ended with code 3.*address in use"):
        child.check()
