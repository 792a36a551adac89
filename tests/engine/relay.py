"""A reverse proxy in front of the real API server that knows its clients, keeps a diary of writes, and can be cruel."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from e2e.cluster.apiserver import ApiServer


@dataclass
class Write:
    """A request that was no GET; times in seconds of the monotonic clock, None until it is answered."""

    client: str
    method: str
    path: str
    body: dict[str, Any]
    sent: float
    answered: float | None = None
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def of_lease(self) -> bool:
        """Whether it is about who leads."""
        return "/leases" in self.path

    @property
    def accepted(self) -> bool:
        """Whether the API server has carried it out."""
        return self.status is not None and self.status < 300


class Hold:
    """Keeps the first write that matches on the way, until it is let go."""

    def __init__(self, loop: asyncio.AbstractEventLoop, matches: Callable[[Write], bool]) -> None:
        self.matches = matches
        self.caught = threading.Event()
        self.write: Write | None = None
        self.gate = asyncio.Event()
        self._loop = loop

    def let_go(self) -> None:
        """Send it on to the API server, whatever has become of its sender."""
        self._loop.call_soon_threadsafe(self.gate.set)


class Relay:
    """Runs in a thread of its own, so that a test may block."""

    def __init__(self, server: ApiServer) -> None:
        self.writes: list[Write] = []
        self._server = server
        self._ssl = ssl.create_default_context(cafile=str(server.ca_file))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runners: list[web.AppRunner] = []
        self._holds: list[Hold] = []
        self._cut: set[str] = set()
        self._open: dict[str, set[asyncio.Transport]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.let_go()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl)
        )

    async def _end(self) -> None:
        await self._session.close()
        for runner in self._runners:
            await runner.cleanup()

    def address(self, client: str) -> str:
        """Return a new address of the API server, for this client only."""
        return str(self._do(self._listen(client)))

    async def _listen(self, client: str) -> str:
        app = web.Application(client_max_size=2**24)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(client, request)

        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def hold(self, matches: Callable[[Write], bool]) -> Hold:
        """Keep the next write that matches on the way."""
        hold = Hold(self._loop, matches)
        self._holds.append(hold)
        return hold

    def cut(self, client: str) -> None:
        """Have the client's connections end, and every new one, as in an outage for it alone."""
        self._cut.add(client)
        for transport in self._open.get(client, set()):
            self._loop.call_soon_threadsafe(transport.abort)

    async def _handle(self, client: str, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        if client in self._cut:
            transport.abort()
            return web.Response(status=503)
        self._open.setdefault(client, set()).add(transport)
        data = await request.read()
        write = None
        if request.method != "GET":
            body = json.loads(data) if data else {}
            write = Write(client, request.method, request.path, body, time.monotonic())
            self.writes.append(write)
            await self._held(write)
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        url = URL(self._server.url + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=data or None) as answer:
            if "watch" in request.query:
                return await self._stream(request, answer)
            text = await answer.read()
        if write:
            write.answered, write.status = time.monotonic(), answer.status
            write.answer = json.loads(text)
        return web.Response(status=answer.status, body=text, content_type=answer.content_type)

    async def _held(self, write: Write) -> None:
        for hold in self._holds:
            if hold.write is None and hold.matches(write):
                hold.write = write
                hold.caught.set()
                await hold.gate.wait()

    @staticmethod
    async def _stream(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await stream.prepare(request)
        try:
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
        except (aiohttp.ClientError, ConnectionError):
            pass  # one of the two is gone
        return stream
