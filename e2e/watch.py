"""
Looking at a release while it moves: a live table for people, and one line a change for logs.

The table shows what ``kubectl get mrel`` shows, once a second, with the events below it.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from e2e.world import NAMESPACE, RELEASE, Object, World

_COLOURS = {"Pass": "green", "Breach": "bold red", "Inconclusive": "yellow"}


@dataclass(frozen=True, slots=True)
class Sight:
    """What is shown of a release at one moment."""

    stage: str
    stable: str
    candidate: str
    weight: str
    verdict: str
    worst: str
    message: str

    @classmethod
    def of(cls, release: Object) -> Sight:
        """Return what is shown of this ModelRelease."""
        status = release.get("status") or {}
        stable, candidate, gate = (status.get(part) or {} for part in ("stable", "candidate", "gate"))
        ready: Object = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
        return cls(
            stage=status.get("stage") or "-",
            stable=f"{stable.get('version', '-')}",
            candidate=candidate.get("version", "-"),
            weight=f"{candidate['weight']} %" if candidate else "-",
            verdict=gate.get("verdict", "-"),
            worst=gate.get("worst") or "-",
            message=f"{ready.get('reason', '')}: {ready.get('message', '')}" if ready else "",
        )

    @property
    def milestone(self) -> tuple[str, ...]:
        """What makes a new line in a log."""
        return (self.stage, self.stable, self.candidate, self.weight, self.verdict)


def table(sight: Sight, events: list[str], started: float) -> Group:
    """Return the live table."""
    grid = Table(expand=True)
    for column in ("elapsed", "stage", "stable", "candidate", "weight", "verdict"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("worst slice")
    grid.add_row(
        f"{time.monotonic() - started:4.0f} s",
        sight.stage,
        sight.stable,
        sight.candidate,
        sight.weight,
        Text(sight.verdict, style=_COLOURS.get(sight.verdict, "")),
        sight.worst,
    )
    return Group(grid, Text(sight.message[:400], style="dim"), *[Text(line[:200]) for line in events[-6:]])


def follow(world: World, console: Console, until: Callable[[Object], bool], *, seconds: float) -> Object:
    """
    Show the release until *until* says that it has arrived, and return it.

    Raises:
        TimeoutError: It did not arrive within *seconds*.
    """
    started = time.monotonic()
    shown: tuple[str, ...] = ()
    with Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else nullcontext() as live:
        while time.monotonic() - started < seconds:
            release = world.release()
            sight = Sight.of(release)
            if live is not None:
                live.update(table(sight, event_lines(world), started))
            elif sight.milestone != shown:
                shown = sight.milestone
                console.print(
                    f"{time.monotonic() - started:5.0f} s  {sight.stage:<12} weight {sight.weight:<6} "
                    f"{sight.verdict:<13} {sight.worst}",
                    highlight=False,
                    soft_wrap=True,
                )
            if until(release):
                return release
            time.sleep(1.0)
    raise TimeoutError(f"{NAMESPACE}/{RELEASE} did not arrive within {seconds:.0f} s: {Sight.of(world.release())}")


def event_lines(world: World) -> list[str]:
    """Return the release's events, a line each."""
    return [f"{event['type']:<8} {event['reason']:<18} {event['message']}" for event in world.events()]


@dataclass
class RouteLog:
    """
    When the route was written, as a watcher of the API server sees it.

    Attributes:
        seen: Moments and the candidate Services' weights at that moment, in order.
    """

    seen: list[tuple[datetime, dict[str, int]]] = field(default_factory=list)

    def emptied(self, service: str, *, after: datetime) -> datetime | None:
        """Return when *service* first left the route after that moment: neither users nor copies; None if never."""
        return next((when for when, shares in self.seen if when >= after and not shares.get(service)), None)


@contextmanager
def route_log(world: World) -> Iterator[RouteLog]:
    """Watch the HTTPRoute for as long as the block runs."""
    log = RouteLog()
    command = [str(world.kubectl.binary), f"--kubeconfig={world.kubectl.kubeconfig}", "-n", NAMESPACE]
    command += ["get", "httproute", RELEASE, "--watch", "-o", "json"]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def read() -> None:
        assert watcher.stdout is not None
        text = ""
        for line in watcher.stdout:
            text += line
            if line.startswith("}"):  # kubectl indents: only the end of an object begins a line with it
                log.seen.append((datetime.now(UTC), _shares(json.loads(text))))
                text = ""

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield log
    finally:
        watcher.terminate()
        watcher.wait(timeout=10)
        reader.join(timeout=10)


def _shares(route: Object) -> dict[str, int]:
    """Return the weights of a route by Service, -1 for one that only gets copies."""
    rules = route["spec"]["rules"]
    mirrors = {f["requestMirror"]["backendRef"]["name"]: -1 for rule in rules for f in rule.get("filters") or []}
    return mirrors | {ref["name"]: ref.get("weight", 1) for rule in rules for ref in rule["backendRefs"]}
