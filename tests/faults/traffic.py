"""
Users of model servers, without the servers: requests follow the routes, and are counted as the pods would count them.

Every release gets its requests at a constant rate, shared as its HTTPRoute says. How many of them a revision blocks is
up to the test. The counters of all pods are on one page that a real Prometheus scrapes.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from aiohttp import web

RATE = 1_000_000.0
"""Requests a second: so many that a gate can be judged on two scrapes."""

COUNTRIES = {"FR": 0.6, "DE": 0.4}
HEALTHY = 0.1
"""Share of requests that a good revision blocks."""

Moment = Literal["shadow", "canary", "full"]


@dataclass
class Flow:
    """
    The requests of one release.

    Attributes:
        weights: Share of users by revision; *copies* the same of mirrored requests. In percent.
        spoiled: Share of requests that a revision blocks, by revision and what it is used for.
        silent: Revisions that are not scraped.
        counters: Requests by (revision, country, decision).
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    copies: Mapping[str, float] = field(default_factory=dict)
    spoiled: dict[tuple[str, Moment], float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    counters: defaultdict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))

    def run(self, seconds: float) -> None:
        for revision, weight in self.weights.items():
            self._count(revision, "full" if weight == 100 else "canary", seconds * weight / 100)
        for revision, percent in self.copies.items():
            self._count(revision, "shadow", seconds * percent / 100)

    def _count(self, revision: str, moment: Moment, seconds: float) -> None:
        blocked = self.spoiled.get((revision, moment), HEALTHY)
        for country, share in COUNTRIES.items():
            self.counters[revision, country, "block"] += RATE * seconds * share * blocked
            self.counters[revision, country, "allow"] += RATE * seconds * share * (1 - blocked)


class Traffic:
    """All requests, and the page on which they are counted."""

    def __init__(self) -> None:
        self.flows: dict[tuple[str, str], Flow] = {}
        self._at = time.monotonic()

    def flow(self, namespace: str, release: str) -> Flow:
        return self.flows.setdefault((namespace, release), Flow())

    def route(self, namespace: str, release: str, weights: Mapping[str, float], copies: Mapping[str, float]) -> None:
        """Send requests elsewhere from now on."""
        self.catch_up()
        flow = self.flow(namespace, release)
        flow.weights, flow.copies = weights, copies

    def catch_up(self) -> None:
        """Count what has been asked until now."""
        now = time.monotonic()
        for flow in self.flows.values():
            flow.run(now - self._at)
        self._at = now

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        self.catch_up()
        lines = ["# TYPE d_total counter"]
        for (namespace, release), flow in self.flows.items():
            for (revision, country, decision), value in flow.counters.items():
                if revision not in flow.silent:
                    labels = f'namespace="{namespace}",release="{release}",revision="{revision}"'
                    lines.append(f'd_total{{{labels},country="{country}",decision="{decision}"}} {int(value)}')
        return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": "text/plain; version=0.0.4"})
