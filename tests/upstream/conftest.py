"""Small servers for what is tested of other people's parts."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kopf
import pytest

Query = dict[str, str]
Reply = Callable[[BaseHTTPRequestHandler, str, Query], None]
"""Answers a request, given its path and parameters."""


@dataclass
class Server:
    """
    A server that does as it is told, and remembers what it was asked.

    Attributes:
        reply: What it does.
        asked: Path and parameters of every request.
        ended: Set when hanging requests are to end.
    """

    reply: Reply = lambda request, path, query: answer(request, {})
    asked: list[tuple[str, Query]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""


def answer(request: BaseHTTPRequestHandler, body: Any, status: int = 200, **headers: str) -> None:
    """Send JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on loopback."""
    it = Server()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            it.asked.append((parts.path, query))
            it.reply(self, parts.path, query)

        do_PUT = do_PATCH = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        it.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield it
        it.ended.set()
        http.shutdown()
        thread.join()


@dataclass
class Run:
    """A run of kopf: whether it has ended, and by which error."""

    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


def quiet_settings() -> kopf.OperatorSettings:
    """Return settings with which kopf tells and asks no more than its handlers need."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    return settings


@contextmanager
def kopf_running(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings | None = None, **options: Any
) -> Iterator[Run]:
    """Run kopf in a thread of its own, until the end of the block; quietly, unless *settings* say otherwise."""
    run, stop, ready = Run(), threading.Event(), threading.Event()
    settings = settings or quiet_settings()

    def target() -> None:
        operator = kopf.operator(
            registry=registry,
            settings=settings,
            clusterwide=True,
            stop_flag=stop,
            ready_flag=ready,
            **{"identity": "upstream", **options},
        )
        try:
            asyncio.run(operator)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            run.error = error
        finally:
            run.ended.set()

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        yield run
    finally:
        stop.set()
        thread.join(timeout=15)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
