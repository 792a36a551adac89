"""
Say what is happening: one line per step, a heartbeat while it lasts, the seconds it took.

Long commands write to a log file; on failure the end of that file is part of the error, so that the reader needs no
second look.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_SECONDS = 15.0

# The shell runs the command only if the parent lived long enough for the kernel to note whose death to watch.
_DIE_WITH_PARENT = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("sh", "-c", 'parent=$1; shift; [ "$PPID" = "$parent" ] && exec "$@"', "sh"),
)
_BEGAN = time.monotonic()


class ClusterError(Exception):
    """A step failed; the message says which, why, and where the log is."""


def say(text: str) -> None:
    """Print one line with the seconds since this command began."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, *, log: Path | None = None) -> Iterator[None]:
    """Announce *what* and its *log*, repeat it every 15 s while it lasts, and say how long it took."""
    began = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"... {what}: still working, {time.monotonic() - began:.0f} s")

    say(f"{what} (log: {log})" if log else what)
    pulse = threading.Thread(target=beat, daemon=True)
    pulse.start()
    try:
        yield
    finally:
        done.set()
        pulse.join()
    say(f"    {what}: done in {time.monotonic() - began:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    interruptible: bool = True,
) -> None:
    """
    Run *command* to its end with all its output in *log* (appended).

    Args:
        command: The program and its arguments.
        log: Where its output goes.
        cwd: Its folder; this process's if absent.
        env: Its whole environment; this process's if absent.
        interruptible: Whether it is killed when this process is; not so for apt-get, which would leave packages half
            installed.

    Raises:
        ClusterError: It cannot be started or its exit code is not 0; carries the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(words)}\n".encode())
        sink.flush()
        try:
            done = subprocess.run(
                die_with_parent(words) if interruptible else words,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            raise ClusterError(f"{words[0]}: cannot be started: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(words)[:200]}: exit code {done.returncode}; end of {log}:\n{tail(log)}")


def output(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str:
    """
    Return what *command* prints on stdout.

    Raises:
        ClusterError: It cannot be started or its exit code is not 0; carries its stderr.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterError(f"{words[0]}: cannot be started: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(words)[:200]}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def die_with_parent(command: Sequence[str | Path]) -> list[str]:
    """Return *command* so that the kernel kills it when the calling thread ends, whatever ends that."""
    return [*_DIE_WITH_PARENT, str(os.getpid()), *map(str, command)]


def tail(log: Path, lines: int = 25) -> str:
    """Return the last *lines* of a log, or a word that says it is absent."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
