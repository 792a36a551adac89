"""
``make soak-cluster``: releases one after the other, of which we know whether they are good, while things are killed.

    releases   the same good model again and again, or the one that harms a group: one revision each
    faults     at random moments: a pod of the model, the operator, Prometheus
    users      real applications through the Gateway; the client counts what it lost, and when

Every good one has to complete and every bad one has to be rolled back for its contract. A request may be lost by a pod
that was killed with it, never by a change of the route: that is told apart by time. Which faults come, and which
releases are bad, follows from ``--seed``; when they hit, from the machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.console import Console
from rich.table import Table

from e2e.cluster.paths import LOGS
from e2e.cluster.progress import ClusterError
from e2e.containers import process_of
from e2e.demo import throwaway
from e2e.watch import route_log
from e2e.world import (
    BAD,
    GOOD,
    NAMESPACE,
    OPERATOR_NAMESPACE,
    RELEASE,
    Object,
    World,
    loans,
    traffic,
    wait_until,
)

RATE: Final = 150.0
REPLICAS: Final = 2
"""Pods of each revision, so that one of them can be killed while the other serves."""

LONGEST_MINUTES: Final = 40
"""The sender stops by itself after an hour, and the last release may take a quarter of one."""

LIMIT: Final = timedelta(minutes=15)
"""How long one release may take, faults included."""

PAUSE_SECONDS: Final = (30.0, 70.0)
"""Between two faults."""

FAULTS: Final = ("model", "model", "model", "operator", "operator", "operator", "prometheus")
"""What is killed, as often as it stands here; a container that is killed often is restarted late."""

ROUTE_SETTLES: Final = timedelta(seconds=3)
"""A request that was under way from a second before a change of the route until this after it met the change."""

POD_SETTLES: Final = timedelta(seconds=20)
"""How long the Gateway may go on sending users to a pod that was killed."""

_KUBECTL_FAILED = (LookupError, RuntimeError, KeyError, subprocess.TimeoutExpired)


@dataclass(frozen=True, slots=True)
class Loss:
    """A request that got no decision: when it was sent, when it was given up, and why."""

    sent: datetime
    ended: datetime
    why: str

    def met(self, moment: datetime, *, before: timedelta, after: timedelta) -> bool:
        """Return whether it was under way near *moment*."""
        return self.sent <= moment + after and self.ended >= moment - before


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was killed."""

    what: str
    name: str
    when: datetime


@dataclass(frozen=True, slots=True)
class Trial:
    """
    One release and how it ended.

    Attributes:
        number: Counted from 1.
        good: What it truly is.
        outcome: ``Completed``, ``RolledBack``, or where it was when its time was over.
        reason: Why it was rolled back, and the worst slice.
        seconds: How long it took.
    """

    number: int
    good: bool
    outcome: str
    reason: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether a good one completed, or a bad one was rolled back for what is bad about it."""
        if self.good:
            return self.outcome == "Completed"
        return self.outcome == "RolledBack" and self.reason.startswith("ContractBreached")


@dataclass
class Soak:
    """
    What happened.

    Attributes:
        trials: The releases.
        faults: What was killed, in order.
        changes: When the route became another.
        losses: What the client lost.
        total: The client's own last line; "" when there is none.
    """

    trials: list[Trial] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    changes: list[datetime] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    total: str = ""

    @property
    def pods_killed(self) -> list[datetime]:
        """When a pod that serves users was killed; without the operator or Prometheus they are served all the same."""
        return [fault.when for fault in self.faults if fault.what == "model"]

    def problems(self) -> list[str]:
        """Return what was not as promised."""
        wrong = [trial for trial in self.trials if not trial.right]
        found = [
            f"release {trial.number} is {_truth(trial)} and ended: {trial.outcome} {trial.reason}" for trial in wrong
        ]
        causes = explained(self.losses, self.changes, self.pods_killed)
        unforgiven = [cause for cause in ("a change of the route", "nothing that we did") if causes[cause]]
        found += [f"{causes[cause]} requests were lost by {cause}" for cause in unforgiven]
        if not self.total:
            found.append("the client ended early and counted nothing")
        if len({trial.good for trial in self.trials}) < 2:
            found.append("not both a good and a bad release were tried: run it for longer")
        if not clean(self.changes, self.pods_killed):
            found.append(
                "the route never changed away from a killed pod, so nothing is proved about it: run it for longer"
            )
        return found


def explained(losses: Iterable[Loss], changes: Sequence[datetime], pods_killed: Sequence[datetime]) -> Counter[str]:
    """Return how many requests each cause has lost; a pod that was killed explains more than a route that changed."""
    second = timedelta(seconds=1)
    causes: Counter[str] = Counter()
    for loss in losses:
        if any(loss.met(moment, before=second, after=POD_SETTLES) for moment in pods_killed):
            causes["a pod that was killed"] += 1
        elif any(loss.met(moment, before=second, after=ROUTE_SETTLES) for moment in changes):
            causes["a change of the route"] += 1
        else:
            causes["nothing that we did"] += 1
    return causes


def clean(changes: Iterable[datetime], pods_killed: Sequence[datetime]) -> list[datetime]:
    """Return the changes of the route during which no loss could be put down to a killed pod."""
    return [
        moment
        for moment in changes
        if not any(killed - ROUTE_SETTLES <= moment <= killed + POD_SETTLES for killed in pods_killed)
    ]


def changes_of(seen: Sequence[tuple[datetime, dict[str, int]]]) -> list[datetime]:
    """Return when the shares became other than they were, in what a watcher of the route has seen."""
    return [when for (_, before), (when, after) in itertools.pairwise(seen) if before != after]


def read_client(log: str) -> tuple[list[Loss], str]:
    """Return the losses and the last line of what the client has printed."""
    losses, total = [], ""
    for line in log.splitlines():
        if line.startswith("lost "):
            _, sent, ended, why = line.split(" ", 3)
            losses.append(Loss(datetime.fromisoformat(sent), datetime.fromisoformat(ended), why))
        elif line.startswith("total "):
            total = line.removeprefix("total ")
    return losses, total


def truths(seed: int) -> Iterator[bool]:
    """Yield whether the next release is good: one of each first, then two good ones for each bad one."""
    chance = random.Random(seed)
    yield True
    yield False
    while True:
        yield chance.random() < 2 / 3


def ended(release: Object) -> str | None:
    """Return how the release ended that was applied last; None while it runs or has not been seen."""
    status = release.get("status") or {}
    if status.get("observedGeneration") != release["metadata"]["generation"]:
        return None
    return status["stage"] if status.get("stage") in ("Completed", "RolledBack") else None


def victims(pods: Iterable[Object]) -> list[str]:
    """Return the names of pods that can be killed while another pod of their revision serves."""
    ready: dict[str, list[str]] = {}
    for pod in pods:
        meta = pod["metadata"]
        conditions = (pod.get("status") or {}).get("conditions") or []
        serves = any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)
        if serves and "deletionTimestamp" not in meta:
            ready.setdefault(meta["labels"]["modelrelease.dev/revision"], []).append(meta["name"])
    return sorted(name for names in ready.values() if len(names) > 1 for name in names)


# Acting.


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak-cluster", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help=f"how long, at most {LONGEST_MINUTES}; default 30")
    parser.add_argument("--seed", type=int, default=0, help="which releases are bad and what is killed; default 0")
    given = parser.parse_args()
    if not 0 < given.minutes <= LONGEST_MINUTES:
        parser.error(f"--minutes: {given.minutes:g} is outside 0..{LONGEST_MINUTES}")
    console = Console(highlight=False)
    try:
        with throwaway(console) as world:
            soak = run(world, console, minutes=given.minutes, seed=given.seed)
    except (ClusterError, TimeoutError, RuntimeError, LookupError, subprocess.CalledProcessError) as error:
        console.print(f"the soak stopped: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; nothing is proved by half a soak")
        return 130
    return report(soak, console)


def run(world: World, console: Console, *, minutes: float, seed: int) -> Soak:
    """Release and kill for *minutes*, and let the last release end."""
    soak = Soak()
    log = LOGS / "soak-traffic.log"
    world.kubectl.run("-n", NAMESPACE, "delete", "mrel", RELEASE, "--ignore-not-found", "--wait=true")
    wait_until("the pods of an earlier run are gone", lambda: not world.pods(), seconds=120)
    with traffic(world.gateway_address(), rate=RATE, seconds=3600, log=log):
        at_once: list[Object] = [{"name": "full", "full": {}, "bake": "1s"}]
        world.kubectl.apply(loans(GOOD, stages=at_once, replicas=REPLICAS))
        wait_until("the first version is the release", lambda: ended(world.release()) == "Completed", seconds=240)
        world.kubectl.apply(loans(GOOD, replicas=REPLICAS))
        wait_until("it stays the release", lambda: ended(world.release()) == "Completed", seconds=60)
        began, served_since = time.monotonic(), datetime.now(UTC)
        with killing(world, random.Random(seed), soak.faults, console):
            for number, good in enumerate(truths(seed), start=1):
                if time.monotonic() - began > 60 * minutes:
                    break
                console.print(f"release {number}: {'good' if good else 'bad'}")
                with route_log(world) as routes:
                    soak.trials.append(attempt(world, number, good=good))
                    time.sleep(5)
                soak.changes += changes_of(routes.seen)
                console.print(f"  {soak.trials[-1].outcome} after {soak.trials[-1].seconds:.0f} s")
    losses, soak.total = read_client(log.read_text())
    # Before the first version served there was nobody to lose a request.
    soak.losses = [loss for loss in losses if loss.sent >= served_since]
    return soak


def attempt(world: World, number: int, *, good: bool) -> Trial:
    """Release once and wait for the end."""
    started = time.monotonic()
    body = loans(GOOD if good else BAD, attempt=f"soak-{number}", replicas=REPLICAS)
    wait_until("the API server takes the release", lambda: world.kubectl.apply(body), seconds=60)
    release: Object = {}
    while time.monotonic() - started < LIMIT.total_seconds():
        time.sleep(1)
        try:
            release = world.release()
        except _KUBECTL_FAILED:
            continue
        if outcome := ended(release):
            return Trial(number, good, outcome, _why(release, outcome), time.monotonic() - started)
    where = (release.get("status") or {}).get("stage", "unseen")
    return Trial(number, good, f"stuck in {where}", "", time.monotonic() - started)


def _why(release: Object, outcome: str) -> str:
    if outcome != "RolledBack":
        return ""
    entry = release["status"]["rejected"][-1]
    return f"{entry['reason']} in {entry['stage']} {entry.get('slice', '')}".strip()


@contextmanager
def killing(world: World, chance: random.Random, faults: list[Fault], console: Console) -> Iterator[None]:
    """Kill something every minute or so while the block runs; what was killed is added to *faults*."""
    stop = threading.Event()

    def kill_now_and_then() -> None:
        while not stop.wait(chance.uniform(*PAUSE_SECONDS)):
            what = chance.choice(FAULTS)
            when = datetime.now(UTC)
            try:
                name = _KILL[what](world, chance)
            except (*_KUBECTL_FAILED, OSError) as error:
                console.print(f"  nothing killed ({what}): {error}", markup=False)
                continue
            faults.append(Fault(what, name, when))
            console.print(f"  killed {name}", markup=False)

    killer = threading.Thread(target=kill_now_and_then, name="killer", daemon=True)
    killer.start()
    try:
        yield
    finally:
        stop.set()
        killer.join(timeout=150)


def _kill_model(world: World, chance: random.Random) -> str:
    found = world.kubectl.get("-n", NAMESPACE, "pods", "-l", f"modelrelease.dev/release={RELEASE}") or {}
    names = victims(found.get("items", []))
    if not names:
        raise LookupError("no revision has a pod to spare")
    return _delete(world, NAMESPACE, chance.choice(names))


def _kill_operator(world: World, chance: random.Random) -> str:
    selector = "app.kubernetes.io/name=modelrelease-operator"
    found = world.kubectl.get("-n", OPERATOR_NAMESPACE, "pods", "-l", selector) or {}
    names = sorted(pod["metadata"]["name"] for pod in found.get("items", []))
    if not names:
        raise LookupError("the operator has no pod")
    return _delete(world, OPERATOR_NAMESPACE, chance.choice(names))


def _kill_prometheus(world: World, chance: random.Random) -> str:
    """Kill the process; its container comes back at the same address, and what it had stored is lost."""
    del chance
    found = world.kubectl.get("-n", "monitoring", "pods") or {}
    for pod in found.get("items", []):
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            if container["name"] == "prometheus" and container.get("ready"):
                os.kill(process_of(container["containerID"]), signal.SIGKILL)
                return f"monitoring/{pod['metadata']['name']}"
    raise LookupError("Prometheus is not ready")


def _delete(world: World, namespace: str, pod: str) -> str:
    """End a pod without a grace period; its controller makes another, which no back-off delays."""
    world.kubectl.run("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    return f"{namespace}/{pod}"


_KILL: Final = {"model": _kill_model, "operator": _kill_operator, "prometheus": _kill_prometheus}


# Telling.


def report(soak: Soak, console: Console) -> int:
    """Print what happened; return 1 when it was not as promised."""
    table = Table(title="releases")
    for column in ("#", "truth", "outcome", "why", "seconds", ""):
        table.add_column(column)
    for trial in soak.trials:
        verdict = "right" if trial.right else "WRONG"
        table.add_row(f"{trial.number}", _truth(trial), trial.outcome, trial.reason, f"{trial.seconds:.0f}", verdict)
    console.print(table)
    killed = Counter(fault.what for fault in soak.faults)
    console.print(f"killed: {', '.join(f'{what} {times}' for what, times in sorted(killed.items())) or 'nothing'}")
    away = len(clean(soak.changes, soak.pods_killed))
    console.print(f"route changes: {len(soak.changes)}, {away} of them away from a killed pod")
    causes = explained(soak.losses, soak.changes, soak.pods_killed)
    lost = ", ".join(f"{times} by {cause}" for cause, times in sorted(causes.items())) or "none"
    console.print(f"requests lost: {lost}\nclient: {soak.total}", markup=False)
    problems = soak.problems()
    for problem in problems:
        console.print(f"NOT AS PROMISED: {problem}", markup=False)
    return 1 if problems else 0


def _truth(trial: Trial) -> str:
    return "good" if trial.good else "bad"


if __name__ == "__main__":
    sys.exit(main())
