"""Where the operator's own ports are open: pods have an IPv4 address, an IPv6 address or both."""

import itertools
import socket

import aiohttp
from prometheus_client import CollectorRegistry

from e2e.cluster.ports import free_port
from modelrelease.__main__ import _serving
from modelrelease.adapters.telemetry import Telemetry
from modelrelease.config import Settings
from modelrelease.engine import Health
from modelrelease.probes import application


async def test_metrics_and_probes_are_served_by_whatever_address():
    """Of every family that the machine has; where it has no IPv6, IPv4 alone must do."""
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    ports = {"metrics": free_port("127.0.0.1"), "healthz": free_port("127.0.0.1")}
    settings = Settings(prometheus_url="http://x", probe_port=ports["healthz"], metrics_port=ports["metrics"])
    probes = application(lambda: Health(0, 0, 0, 0, 0, 0), lambda: None, lambda: None)

    async with (
        _serving(settings, Telemetry(CollectorRegistry()), probes),
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        for host, (path, port) in itertools.product(hosts, ports.items()):
            async with session.get(f"http://{host}:{port}/{path}") as answer:
                assert answer.status == 200, (host, path)
