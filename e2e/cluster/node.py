"""
The node: one set of namespaces, and the long-running parts in it.

    up ── nsenter ── unshare ── init (process 1 inside)      record: STATE/init.json
     └─── nsenter ── etcd, kube-apiserver, containerd ...    record: STATE/parts/NAME.json, log: LOGS/NAME.log

Each part dies with its ``nsenter`` (``setpriv --pdeathsig``), whose identity is recorded; all of them die with init.
So one recorded process ends the whole node, and nothing on the machine is ever looked up by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import network, paths
from e2e.cluster.processes import Identity, end
from e2e.cluster.progress import ClusterError, tail

CGROUP = "modelrelease"
_STARTER = paths.STATE / "starter.json"
_INIT = paths.STATE / "init.json"
_PARTS = paths.STATE / "parts"
_SYSCTLS = paths.STATE / "sysctls.json"
_CGROUP_ROOT = Path("/sys/fs/cgroup")

# The kubelet sets these for the whole machine; ``remove`` puts the old values back.
_KUBELET_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def create() -> None:
    """
    Make the namespaces and start init in them.

    Raises:
        ClusterError: The kernel refuses one of them.
    """
    _PARTS.mkdir(parents=True, exist_ok=True)
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    _remember_sysctls()
    _make_cgroups()
    network.create()
    log = paths.LOGS / "init.log"
    command = [
        *(
            "nsenter",
            f"--net={network.NAMESPACE_FILE}",
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
        ),
        *(sys.executable, "-m", "e2e.cluster.init", str(_INIT)),
    ]
    # It waits to be told, and ends when nobody is left to tell it: what nobody has recorded nobody could remove.
    starter = _spawn(["sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh", *command], log, stdin=subprocess.PIPE)
    _record(starter, _STARTER)
    assert starter.stdin is not None
    with starter.stdin as told, contextlib.suppress(BrokenPipeError):
        told.write(b"go\n")
    deadline = time.monotonic() + 20
    while not _INIT.with_suffix(".ready").exists():
        if starter.poll() is not None or time.monotonic() > deadline:
            raise ClusterError(f"the node's first process did not start; end of {log}:\n{tail(log)}")
        time.sleep(0.02)


def remove() -> None:
    """
    End every process of the node and undo what it did to the machine; what is not there is fine.

    Raises:
        ClusterError: A process cannot be ended.
    """
    # Neither heeds SIGTERM; and the first is there before the second could write its record.
    first = _recorded(_STARTER, _INIT)
    for identity in first:
        identity.send(signal.SIGKILL)
    end([*first, *_recorded(*_PARTS.glob("*.json"))])
    network.remove()
    _remove_mount_points()
    _remove_cgroups()
    _restore_sysctls()


def alive() -> bool:
    """Tell whether the node's first process runs."""
    init = Identity.read(_INIT)
    return init is not None and init.alive()


def left_behind() -> list[str]:
    """Name what of the node still exists on the machine."""
    found = network.left_behind()
    found += [str(folder) for folder in _CGROUP_ROOT.glob(f"*/{CGROUP}")]
    mounts = Path("/proc/self/mounts").read_text()
    found += [line.split()[1] for line in mounts.splitlines() if str(paths.STATE) in line]
    return found


def enter(command: Sequence[str | Path]) -> list[str]:
    """Return *command* so that it runs inside the node's namespaces."""
    init = Identity.read(_INIT)
    if init is None or not init.alive():
        raise ClusterError("no cluster is up; run: python3 -m e2e.cluster up")
    return ["nsenter", "--target", str(init.pid), "--mount", "--pid", "--net", "--", *map(str, command)]


def ensure_part(name: str, command: Sequence[str | Path]) -> None:
    """Start the part *name* unless it runs already."""
    if part_alive(name):
        return
    started = _spawn(enter(["setpriv", "--pdeathsig", "KILL", "--", *command]), paths.LOGS / f"{name}.log")
    _record(started, _PARTS / f"{name}.json")


def part_alive(name: str) -> bool:
    """Tell whether the part *name* runs."""
    identity = Identity.read(_PARTS / f"{name}.json")
    return identity is not None and identity.alive()


def check_part(name: str) -> None:
    """Raise ClusterError with the end of its log if the part *name* has ended."""
    if not part_alive(name):
        log = paths.LOGS / f"{name}.log"
        raise ClusterError(f"{name} has ended; end of {log}:\n{tail(log)}")


def _record(started: subprocess.Popen[bytes], record: Path) -> None:
    identity = Identity.of(started.pid)
    if identity is None:
        raise ClusterError(f"{record.stem} ended at once, see its log in {paths.LOGS}")
    identity.write(record)


def _recorded(*records: Path) -> list[Identity]:
    return [identity for record in records if (identity := Identity.read(record)) is not None]


def _spawn(command: Sequence[str], log: Path, *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            command,
            cwd=paths.REPOSITORY,
            # No proxy or registry setting of the machine may leak into the cluster.
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(paths.STATE)},
            stdin=stdin,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends ``up``, not the cluster
        )


def _remove_mount_points() -> None:
    made = _INIT.with_suffix(".made")
    for folder in made.read_text().split() if made.exists() else []:
        with contextlib.suppress(OSError):  # not empty: then it is in use by someone else since
            Path(folder).rmdir()


def _make_cgroups() -> None:
    for controller in _CGROUP_ROOT.iterdir():
        if (controller / "cgroup.procs").exists():
            (controller / CGROUP).mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (controller / CGROUP / setting).write_text((controller / setting).read_text())


def _remove_cgroups() -> None:
    for top in _CGROUP_ROOT.glob(f"*/{CGROUP}"):
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_cgroup(Path(folder))


def _remove_cgroup(folder: Path) -> None:
    # The kernel lets go of the last process of a group a moment after its end.
    for _ in range(100):
        with contextlib.suppress(OSError):
            folder.rmdir()
        if not folder.exists():
            return
        time.sleep(0.02)
    raise ClusterError(f"{folder}: cannot be removed, it still holds processes")


def _remember_sysctls() -> None:
    if _SYSCTLS.exists():
        return
    values = {name: (Path("/proc/sys") / name).read_text() for name in _KUBELET_SYSCTLS}
    scratch = _SYSCTLS.with_suffix(".new")
    scratch.write_text(json.dumps(values))
    scratch.replace(_SYSCTLS)


def _restore_sysctls() -> None:
    if not _SYSCTLS.exists():
        return
    for name, value in json.loads(_SYSCTLS.read_text()).items():
        if (Path("/proc/sys") / name).read_text() != value:
            (Path("/proc/sys") / name).write_text(value)


def remove_state() -> None:
    """Delete the state folder; everything in it belongs to processes that have ended."""
    shutil.rmtree(paths.STATE, ignore_errors=True)
    if paths.STATE.exists():
        raise ClusterError(f"{paths.STATE}: cannot be removed; is something mounted or running in it?")
