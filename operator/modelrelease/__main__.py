"""
``python -m modelrelease``: the operator, in a pod or at a desk.

Everything is put together here: settings, the one API client, election, engine, informer, probes and metrics.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, start_http_server
from pydantic import ValidationError

from modelrelease.adapters.errors import AdapterError
from modelrelease.adapters.kube import KubeCluster, connect
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.adapters.telemetry import Telemetry, configure_logging
from modelrelease.clock import Clock
from modelrelease.config import Settings, complaint
from modelrelease.election import Elector, LeadershipLost, Terms
from modelrelease.engine import Engine, Key
from modelrelease.handlers import Informer
from modelrelease.probes import application
from modelrelease.reconcile import World, reconcile


def main() -> int:
    """Run the operator until it is told to stop; return the exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"modelrelease: bad settings\n{complaint(error)}", file=sys.stderr)
        return 2
    configure_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(operate(settings))
    except (AdapterError, LeadershipLost) as error:
        print(f"modelrelease: {error}", file=sys.stderr)
        return 1
    return 0


def paced(again_in: timedelta, took: timedelta) -> timedelta:
    """
    Return how long to wait when looks are to begin *again_in* apart and this one *took* its time.

    Never less than a quarter of it, so that slow looks do not follow each other without a break.
    """
    return max(again_in - took, again_in / 4)


async def operate(settings: Settings) -> None:
    """
    Run the operator until SIGTERM or SIGINT.

    Raises:
        Refused: There is no cluster to talk to.
        LeadershipLost: Another replica acts, or may soon.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    telemetry = Telemetry(CollectorRegistry())
    clock = Clock(lambda: datetime.now(UTC), time.monotonic)
    async with await connect() as api:
        identity = f"{os.environ.get('HOSTNAME', 'modelrelease')}_{secrets.token_hex(4)}"
        kube = KubeCluster(
            api,
            clock=clock.now,
            instance=identity,
            seconds_left=lambda: elector.seconds_left,
            event_failed=telemetry.event_failed,
        )
        elector = Elector(kube, identity, _terms(settings), clock=_uptime, now=lambda: datetime.now(UTC))
        prometheus = PrometheusReader(_prometheus(settings), on_bad_sample=telemetry.bad_samples)
        world = World(
            kube=kube,
            metrics=prometheus,
            log=telemetry,
            drain=settings.drain,
            scrape_interval=settings.prometheus_scrape_interval,
        )

        async def tick(key: Key) -> timedelta | None:
            began = time.monotonic()
            again_in = await reconcile(*key, world, clock.now(), clock.jumps)
            if again_in is not None:
                again_in = paced(again_in, timedelta(seconds=time.monotonic() - began))
            if not kube.exists(*key):
                engine.forget(key)
                telemetry.forgot(key)
            return again_in

        engine = Engine(tick, telemetry, clock=time.monotonic, random=random.random, concurrency=settings.concurrency)

        informer = Informer(
            engine.trigger,
            kube.missing_kinds,
            settings.watch_namespaces,
            hurry=engine.hurry,
            unknown_fields=kube.unknown_fields,
        )
        telemetry.watch_queue(
            depth=lambda: engine.health.known,
            overdue=lambda: engine.health.overdue,
            failing=lambda: engine.health.failing,
        )
        telemetry.watch_leadership(lambda: elector.standing_by is None)
        probes = application(lambda: engine.health, lambda: informer.problem, lambda: elector.standing_by)
        async with _serving(settings, telemetry, probes):
            await _first_of(stopped.wait(), _lead(elector, engine), informer.run())
        prometheus.close()


def _prometheus(settings: Settings) -> PrometheusSettings:
    return PrometheusSettings(
        url=str(settings.prometheus_url).rstrip("/"),
        scrape_interval=settings.prometheus_scrape_interval,
        lag=settings.prometheus_lag,
        headers=settings.prometheus_headers,
        token_file=settings.prometheus_token_file,
        username_file=settings.prometheus_username_file,
        password_file=settings.prometheus_password_file,
        ca_file=settings.prometheus_ca_file,
        client_certificate=settings.prometheus_client_certificate_file,
        client_key=settings.prometheus_client_key_file,
        concurrency=settings.prometheus_concurrency,
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        duration=settings.lease_duration,
        renew_deadline=settings.lease_renew_deadline,
        retry=settings.lease_retry,
    )


def _uptime() -> float:
    """Return seconds since the machine started, those included in which it slept: a lease runs out in them too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@asynccontextmanager
async def _serving(settings: Settings, telemetry: Telemetry, probes: web.Application) -> AsyncIterator[None]:
    """Serve the probes and the operator's own metrics."""
    # The library's own default is IPv4 alone: nobody could scrape a pod that has an IPv6 address.
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - a pod's port
    server, thread = start_http_server(settings.metrics_port, addr=everywhere, registry=telemetry.registry)
    runner = web.AppRunner(probes, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=settings.probe_port, shutdown_timeout=1.0).start()
    try:
        yield
    finally:
        await runner.cleanup()
        await asyncio.to_thread(server.shutdown)
        thread.join()


async def _lead(elector: Elector, engine: Engine) -> None:
    """Act once and as long as this replica leads; give the lease back only when nothing is under way any more."""
    await elector.acquire()
    try:
        await _first_of(engine.run(), elector.hold())
    finally:
        await elector.release()


async def _first_of(*parts: Coroutine[Any, Any, object]) -> None:
    """Run all until one ends, end the others, and raise what the one that ended raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        await task


if __name__ == "__main__":
    sys.exit(main())
