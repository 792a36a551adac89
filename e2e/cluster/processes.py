"""
Start long-running processes so that exactly they, and nothing else, can be ended later.

A process id alone is not an identity: the kernel reuses it. The id together with the start time (clock ticks since
boot, field 22 of /proc/PID/stat) is. Every signal sent from this package goes to an identity whose start time still
matches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.progress import ClusterError, die_with_parent, tail


@dataclass(frozen=True, slots=True)
class Identity:
    """
    One process for as long as the machine runs.

    Attributes:
        pid: The process id.
        started: Clock ticks between boot and its start.
        boot: The kernel's id of this boot: a record from before a reboot names nobody.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a living process, ``None`` if there is none (a zombie has ended too)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may itself hold blanks and parentheses; fields are counted after the last one.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return cls(pid=pid, started=int(fields[19]), boot=boot_id())

    @classmethod
    def read(cls, record: Path) -> Identity | None:
        """Return what *record* holds; ``None`` if it is absent or was cut off by a crash."""
        try:
            return cls(**json.loads(record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, record: Path) -> None:
        """Write the record in one piece, so that no reader sees half of it."""
        scratch = record.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.replace(record)

    def alive(self) -> bool:
        """Tell whether this very process runs."""
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal this very process; do nothing if it has ended."""
        if not self.alive():
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return


def boot_id() -> str:
    """Return the kernel's random id of the current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def end(identities: Iterable[Identity], *, grace_seconds: float = 5.0) -> None:
    """
    Ask each process to end, wait, then kill what is left.

    Raises:
        ClusterError: A process outlived SIGKILL by five seconds (stuck in the kernel).
    """
    everyone = list(identities)
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        for identity in everyone:
            identity.send(number)
        everyone = _left_after(everyone, seconds)
        if not everyone:
            return
    raise ClusterError(f"processes {[identity.pid for identity in everyone]} did not end after SIGKILL")


def _left_after(identities: list[Identity], seconds: float) -> list[Identity]:
    deadline = time.monotonic() + seconds
    left = [identity for identity in identities if identity.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [identity for identity in left if identity.alive()]
    return left


class Child:
    """
    A server that belongs to this Python process and dies with it, even if this process is killed with -9.

    ``setpriv --pdeathsig`` asks the kernel for that; the kernel watches the thread that started the child, so start
    it from a thread that lives as long as the server is needed.
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path) -> None:
        """Start *command*, its output appended to *log*."""
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                die_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise ClusterError with the end of the log if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise ClusterError(f"{self.name} ended with code {code}; end of {self.log}:\n{tail(self.log)}")

    def stop(self, *, grace_seconds: float = 0.0) -> None:
        """End it: politely for *grace_seconds*, then at once."""
        if grace_seconds:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace_seconds)
        self._process.kill()
        self._process.wait()
