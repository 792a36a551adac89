"""
``make demo``: three releases of a real model on a throwaway cluster, with a live table.

A loan-application model replaces its predecessor; then a version that is fine on average and wrong for one small group
of applicants is caught twice: in shadow, before any user saw it, and, released without a shadow stage, in canary.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.rule import Rule

from e2e import kind
from e2e.cluster.progress import ClusterError
from e2e.install import install
from e2e.latency import seconds_to_route
from e2e.watch import follow, route_log
from e2e.world import (
    BAD,
    FIRST,
    GOOD,
    HOSTNAME,
    NAMESPACE,
    RATE,
    RELEASE,
    Kubectl,
    Object,
    World,
    kubeconfig,
    loans,
    moment,
    traffic,
    wait_until,
)

CANARY_ONLY: list[Object] = [
    {"name": "canary-50", "canary": {"percent": 50}, "bake": "5m", "deadline": "15m"},
    {"name": "full", "full": {}, "bake": "30s", "deadline": "15m"},
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--cluster", choices=["here", "kind"], default="here")
    cluster = parser.parse_args().cluster
    console = Console(highlight=False)
    started = time.monotonic()
    console.print(
        "ModelRelease demo: a credit model is released three times; the third version is fine on average and refers\n"
        "one small group of applicants three times as often. It takes about 10 minutes once everything is built;\n"
        "the very first time, the cluster is built from source before (about 25 minutes on 2 cores).\n"
    )
    try:
        with kind.world(console) if cluster == "kind" else throwaway(console) as world:
            show(world, console)
            console.print(Rule(f"done in {time.monotonic() - started:.0f} s"))
            farewell(console, world)
    except (ClusterError, TimeoutError, RuntimeError, LookupError, subprocess.CalledProcessError) as error:
        console.print(f"[bold red]the demo stopped:[/] {error}", markup=True)
        console.print("logs: python3 -m e2e.cluster status; make demo-down removes everything")
        return 1
    return 0


@contextmanager
def throwaway(console: Console) -> Iterator[World]:
    """Bring up the throwaway cluster of this machine with the operator on it; it is left up."""
    subprocess.run([sys.executable, "-m", "e2e.cluster", "up"], check=True)
    world = World(Kubectl(kubeconfig()))
    install(world, console, in_cluster_images=True)
    yield world


def show(world: World, console: Console) -> None:
    """Drive the releases, one after the other."""
    console.print(f"sending {RATE:.0f} real loan applications a second through the Gateway")
    with traffic(world.gateway_address(), rate=RATE, seconds=1500):
        first_version(world, console)
        good_version(world, console)
        bad_version_in_shadow(world, console)
        bad_version_in_canary(world, console)


def first_version(world: World, console: Console) -> None:
    console.print(Rule(f"1. First release: version {FIRST}"))
    console.print("Nothing to compare with: straight to full, watched for a moment.")
    # What an earlier demo left behind would make it another story.
    world.kubectl.run("-n", NAMESPACE, "delete", "mrel", RELEASE, "--ignore-not-found", "--wait=true")
    wait_until("the pods of an earlier demo are gone", lambda: not world.pods(), seconds=90)
    world.kubectl.apply(loans(FIRST))
    follow(world, console, _is_release(FIRST), seconds=180)
    console.print(f"version {FIRST} answers at http://{world.gateway_address()}/decide")


def good_version(world: World, console: Console) -> None:
    console.print(Rule(f"2. A better model: version {GOOD}"))
    console.print("shadow: copies only -> canary 10 % -> canary 50 % -> full, the old one kept warm -> completed")
    world.kubectl.apply(loans(GOOD))
    follow(world, console, _is_release(GOOD), seconds=600)


def bad_version_in_shadow(world: World, console: Console) -> None:
    console.print(Rule(f"3. Fine on average, wrong for one group: version {BAD}"))
    console.print("A new intake form sends the term of medical loans in months where years were expected.")
    world.kubectl.apply(loans(BAD))
    release = follow(world, console, _is_rolled_back, seconds=300)
    _report(world, console, release)
    console.print("No user saw it: it only got copies of requests.")


def bad_version_in_canary(world: World, console: Console) -> None:
    console.print(Rule(f"4. The same version {BAD}, released without a shadow stage"))
    before = loans(GOOD, stages=CANARY_ONLY)
    world.kubectl.apply(before)
    follow(world, console, _is_release(GOOD), seconds=60)
    with route_log(world) as log:
        world.kubectl.apply(loans(BAD, stages=CANARY_ONLY, attempt="without-shadow"))
        release = follow(world, console, _is_rolled_back, seconds=420)
        time.sleep(2)
    _report(world, console, release)
    delay = seconds_to_route(world, release, log)
    console.print(
        f"breach visible in Prometheus at {delay.visible:%H:%M:%S}, route written at {delay.written:%H:%M:%S}: "
        f"[bold]{delay.seconds:.1f} s[/] (analysis.interval {delay.interval / timedelta(seconds=1):.0f} s; "
        f"the first moment that showed a breach was {delay.seconds_since_first:.1f} s before)"
    )


def _is_release(version: str) -> Callable[[Object], bool]:
    def arrived(release: Object) -> bool:
        status = release.get("status") or {}
        done = status.get("observedGeneration") == release["metadata"]["generation"]
        return bool(done and status.get("stage") == "Completed" and status["stable"]["version"] == version)

    return arrived


def _is_rolled_back(release: Object) -> bool:
    status = release.get("status") or {}
    done = status.get("observedGeneration") == release["metadata"]["generation"]
    return bool(done and status.get("stage") == "RolledBack")


def _report(world: World, console: Console, release: Object) -> None:
    """Show what kubectl shows, and both numbers: the slice's and the average's."""
    console.print(f"\n$ kubectl -n {NAMESPACE} get mrel")
    console.print(world.kubectl.run("-n", NAMESPACE, "get", "mrel"), soft_wrap=True)
    rejected = release["status"]["rejected"][-1]
    console.print(f"[bold red]{rejected['reason']}[/] in stage {rejected['stage']}: {rejected['message']}")
    for clause in release["status"]["gate"]["clauses"]:
        for part in [clause.get("overall"), *clause.get("worst", [])[:2]]:
            if part and part.get("change"):
                console.print(
                    f"  {clause['name']:<22} {part['slice'] or 'all traffic':<24} {part.get('baseline', '-'):>7} -> "
                    f"{part['candidate']:>7}  {part['change']:>7}  limit {part['limit']:<5} {part['verdict']}",
                    soft_wrap=True,
                )
    started = next(e for e in reversed(release["status"]["history"]) if e["outcome"] == "RolledBack")
    took = moment(started["endTime"]) - moment(started["startTime"])
    console.print(f"caught {took.total_seconds():.0f} s after the rollout began\n")


def farewell(console: Console, world: World) -> None:
    console.print(
        "The cluster is still up. What to type next:\n"
        f"  export KUBECONFIG={world.kubectl.kubeconfig} PATH={world.kubectl.binary.parent}:$PATH\n"
        f"  kubectl -n {NAMESPACE} get mrel -w\n"
        f"  kubectl -n {NAMESPACE} describe mrel {RELEASE}\n"
        f"  kubectl -n {NAMESPACE} edit mrel {RELEASE}      # spec.model.version: {FIRST}, {GOOD}, {BAD}\n"
        f"  .venv/bin/python -m modelserver.traffic --url http://{world.gateway_address()}/decide "
        f"--host {HOSTNAME} --rate {RATE:.0f} --seconds 600   # the demo's traffic has stopped\n"
        "  make demo-down      # remove every trace",
        soft_wrap=True,  # a command that is wrapped here cannot be copied
    )


if __name__ == "__main__":
    sys.exit(main())
