"""
How many releases one operator holds: its processor time, memory and questions at rest and in rollouts, and how fast it
still is.

    python bench/bench_scale.py                       # 10, 50 and 200 releases, each in a canary at the same time
    python bench/bench_scale.py --releases 20

Real are the operator's process with its default settings, the API server and Prometheus. Played are pods, which only
count, Deployments' status, and the Gateway's answer to a route. Both servers are asked through a proxy that counts.

Each row is one minute. ``rest``: every release is completed. ``canary``: every release is in a fresh canary, which is
when gates are judged most often. Then some candidates turn bad, and the last column says how long users stayed: until
the next scrape (1 s apart here), until the operator looks, until the route is written.
"""

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console
from rich.table import Table

from e2e.cluster.apiserver import ApiServer
from tests.apiserver import Cluster
from tests.faults.proxy import Behaviour, Call, faithful
from tests.faults.scene import Place, a_place, a_scene, a_spec, revision

WATCHED_SECONDS = 60.0
SPOILED = 5
"""Candidates that turn bad, at most."""
PATIENCE = 900.0

Object = dict[str, Any]

PLAN: list[Object] = [
    {"name": "canary", "canary": {"percent": 10}, "bake": "1h", "deadline": "4h"},
    {"name": "full", "full": {}, "bake": "1h", "deadline": "4h"},
]
FIRST_PLAN: list[Object] = [{"name": "full", "full": {}, "bake": "1s"}]


@dataclass(frozen=True, slots=True)
class Minute:
    """
    What the operator needed while it was watched.

    Attributes:
        processor: Seconds of one core per second.
        mebibytes: Resident at the end.
        api, prometheus: Questions per second; watches are one each.
    """

    processor: float
    mebibytes: float
    api: float
    prometheus: float


class Bench:
    """One operator with its releases."""

    def __init__(self, place: Place, releases: int) -> None:
        self._place = place
        self.names = [f"release-{number}" for number in range(releases)]
        self._asked: Counter[str] = Counter()
        place.api.behaviour = self._counting("api")
        place.prometheus.behaviour = self._counting("prometheus")

    async def first(self) -> float:
        """Create every release and return the seconds until all are completed."""
        began = time.monotonic()
        for name in self.names:
            await self._place.create(name, {**a_spec("1", FIRST_PLAN), "analysis": {}})
        for name in self.names:
            await self._place.reached(name, "Completed", "1", PATIENCE)
        return time.monotonic() - began

    async def canaries(self) -> float:
        """Give every release a new version and return the seconds until all are in canary."""
        began = time.monotonic()
        for name in self.names:
            await self._place.edit(name, model={"version": "2"}, stages=PLAN)
        for name in self.names:
            await self._place.reached(name, "canary", "2", PATIENCE)
        return time.monotonic() - began

    async def minute(self) -> Minute:
        """Watch the operator for a while."""
        operator = self._place.operator
        began, used, asked = time.monotonic(), operator.processor_seconds, Counter(self._asked)
        await asyncio.sleep(WATCHED_SECONDS)
        seconds, asked = time.monotonic() - began, self._asked - asked
        return Minute(
            (operator.processor_seconds - used) / seconds,
            operator.resident,
            asked["api"] / seconds,
            asked["prometheus"] / seconds,
        )

    async def breaches(self) -> list[float]:
        """Let some candidates turn bad, one after the other, and return how long each kept its users, in seconds."""
        took = []
        for name in random.sample(self.names, min(SPOILED, len(self.names))):
            await asyncio.sleep(random.uniform(0, 5))
            self._place.scene.traffic.catch_up()
            self._place.flow(name).spoiled[revision("2"), "canary"] = 0.2
            took.append(await self._place.scene.until(partial(self._back, name), f"{name} is back", PATIENCE))
        return took

    def _back(self, name: str) -> bool:
        return self._place.flow(name).weights == {revision("1"): 100}

    def _counting(self, server: str) -> Behaviour:
        async def counting(call: Call) -> web.StreamResponse:
            self._asked[server] += 1
            return await faithful(call)

        return counting


@asynccontextmanager
async def operating(cluster: Cluster, folder: Path, releases: int) -> AsyncIterator[Bench]:
    """Run an operator in a namespace of its own."""
    async with a_scene(cluster) as scene, a_place(scene, f"scale-{releases}", folder) as place:
        bench = Bench(place, releases)
        place.operator.start()
        yield bench


async def measure(cluster: Cluster, folder: Path, releases: int, table: Table, console: Console) -> None:
    """Add the rows of one number of releases to *table*."""
    async with operating(cluster, folder, releases) as bench:
        started = await bench.first()
        console.print(f"{releases} releases are completed after {started:.0f} s")
        _row(table, releases, "rest", await bench.minute(), "")
        canaries = await bench.canaries()
        console.print(f"{releases} releases are in canary after {canaries:.0f} s")
        minute = await bench.minute()
        took = await bench.breaches()
        _row(table, releases, "canary", minute, f"{statistics.median(took):.1f} s, longest {max(took):.1f} s")


def _row(table: Table, releases: int, state: str, minute: Minute, took: str) -> None:
    share = f"{100 * minute.processor:.1f} %"
    asked = (f"{minute.api:.1f}", f"{minute.prometheus:.1f}")
    table.add_row(f"{releases}", state, share, f"{minute.mebibytes:.0f} MiB", *asked, took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, nargs="+", default=[10, 50, 200], help="default 10 50 200")
    given = parser.parse_args()
    if min(given.releases) < 1:
        parser.error(f"--releases: {min(given.releases)} is less than 1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    console = Console(highlight=False, width=120)
    table = Table("releases", "state", "of a core", "memory", "API calls/s", "Prometheus calls/s", "users stayed")
    with ApiServer() as server, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(server)
        cluster.install_releases()
        cluster.install_gateway_api()
        for releases in given.releases:
            asyncio.run(measure(cluster, Path(folder), releases, table, console))
    console.print(table)


if __name__ == "__main__":
    main()
