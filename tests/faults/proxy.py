"""
A reverse proxy that does as it is told with each call: pass it on, refuse it, stall, cut it off, or worse.

What it is told is one function from a call to an answer. It hears every call in order, so it also knows every write.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web
from yarl import URL

_NOT_PASSED_ON = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=10)

Kind = Literal["read", "write", "watch"]


@dataclass(frozen=True)
class Call:
    """A request on its way, and the means to send it on."""

    request: web.Request
    body: bytes
    session: aiohttp.ClientSession
    upstream: str

    @property
    def kind(self) -> Kind:
        if self.request.method != "GET":
            return "write"
        return "watch" if self.request.query.get("watch") in {"true", "1"} else "read"

    async def fetch(self) -> tuple[int, dict[str, str], bytes]:
        """Send the request on and return the whole answer, not compressed."""
        async with self._sent(Accept_Encoding="identity") as answer:
            return answer.status, _passed_on(answer.headers), await answer.read()

    async def forward(self, *, most: int | None = None) -> web.StreamResponse:
        """Send the request on and the answer back as it comes; cut the line after *most* bytes."""
        async with self._sent() as answer:
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(self.request)
            sent = 0
            async for chunk in answer.content.iter_any():
                part = chunk if most is None else chunk[: most - sent]
                await response.write(part)
                sent += len(part)
                if most is not None and sent >= most:
                    return self.cut()
            await response.write_eof()
            return response

    def cut(self) -> web.Response:
        """Reset the connection."""
        if self.request.transport is not None:
            self.request.transport.abort()
        return web.Response()

    def _sent(self, **headers: str) -> "aiohttp.client._RequestContextManager":
        return self.session.request(
            self.request.method,
            URL(self.upstream + self.request.raw_path, encoded=True),
            data=self.body or None,
            headers=_passed_on(self.request.headers) | {it.replace("_", "-"): text for it, text in headers.items()},
            allow_redirects=False,
        )


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


Behaviour = Callable[[Call], Awaitable[web.StreamResponse]]


async def faithful(call: Call) -> web.StreamResponse:
    return await call.forward()


class Proxy:
    """
    Listens on loopback, plain HTTP, in front of *upstream*.

    Attributes:
        behaviour: What is done with each call from now on.
        broken: What went wrong in the proxy itself; no fault that anybody ordered.
        url: Where it listens.
    """

    def __init__(self, upstream: str, trust: ssl.SSLContext | None = None) -> None:
        self.behaviour: Behaviour = faithful
        self.broken: list[Exception] = []
        self._upstream = upstream
        self._trust = trust
        self._watches: list[web.Request] = []
        self._hole: list[socket.socket] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._trust or True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_ENDLESS, auto_decompress=False)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Who hangs up is not served on: a watch of a dead operator ends at the API server too.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen(0)
        self._port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def _listen(self, port: int) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()

    async def __aexit__(self, *_: object) -> None:
        self._fill_hole()
        await self._runner.cleanup()
        await self._session.close()

    async def end(self) -> None:
        """Be a process that has ended: its connections are reset, and new ones are refused."""
        await self._site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def vanish(self) -> None:
        """Be a host that is gone: who connects hears nothing."""
        await self.end()
        hole = socket.socket()
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", self._port))
        hole.listen(0)
        self._hole = [hole]
        # One that nobody accepts fills the queue; from then on, the system drops what comes.
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self._port))
            self._hole.append(waiting)
        await asyncio.sleep(0.1)

    async def come_back(self) -> None:
        """Listen again after ``end`` or ``vanish``."""
        self._fill_hole()
        await self._listen(self._port)

    def _fill_hole(self) -> None:
        while self._hole:
            self._hole.pop().close()

    def cut_watches(self) -> None:
        """Reset every watch that is open, so that the next ones meet the behaviour of now."""
        for request in self._watches:
            if request.transport is not None:
                request.transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, await request.read(), self._session, self._upstream)
        if call.kind == "watch":
            self._watches.append(request)
        try:
            return await self.behaviour(call)
        except (aiohttp.ClientError, ConnectionResetError):
            return call.cut()  # the server behind, or the client, has gone: so it looks to the other
        except Exception as error:
            self.broken.append(error)
            raise
        finally:
            self._watches = [it for it in self._watches if it is not request]


# What can go wrong, whoever is asked.


def answer(status: int, text: str, content_type: str = "application/json", **headers: str) -> Behaviour:
    """Answer without asking."""

    async def answering(_: Call) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, content_type=content_type, headers=named)

    return answering


async def stall(_: Call) -> web.StreamResponse:
    """Take the request and never answer it."""
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits for so long")


async def reset(call: Call) -> web.StreamResponse:
    """Reset the connection; nothing was done."""
    return call.cut()


async def reset_when_done(call: Call) -> web.StreamResponse:
    """Do what was asked, and lose the answer."""
    await call.fetch()
    return call.cut()


def slow(seconds: float) -> Behaviour:
    """Wait, then do what was asked."""

    async def waiting(call: Call) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await call.forward()

    return waiting
