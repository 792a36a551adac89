"""The replay: bounded, open-loop, only to the URL it was given."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from aiohttp import web

from modelserver import traffic
from modelserver.traffic import Plan, replay

BODIES = [json.dumps({"number": number}).encode() for number in range(10)]


class Answers:
    """A local server that keeps what it was sent."""

    def __init__(self, *, status: int = 200, delay: float = 0, body: object = None, location: str = "") -> None:
        self.got: list[tuple[str, int]] = []
        self.waiting = self.most_waiting = 0
        self._reply = {"status": status, "headers": {"Location": location} if location else None}
        self._body = {"decision": "refer", "score": 0.4, "version": "v1"} if body is None else body
        self._delay = delay

    async def _answer(self, request: web.Request) -> web.Response:
        self.got.append((request.headers["Host"], (await request.json())["number"]))
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        await asyncio.sleep(self._delay)
        self.waiting -= 1
        return web.json_response(self._body, **self._reply)

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_post("/decide", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/decide"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def run(url: str, *, stop: asyncio.Event | None = None, lines: list[str] | None = None, **given):
    plan = Plan(**({"url": url, "host": None, "rate": 100, "seconds": 0.3, "connections": 16} | given))
    return await replay(plan, BODIES, stop or asyncio.Event(), (lines if lines is not None else []).append)


async def test_the_applications_start_again_when_they_run_out():
    """30 requests from 10 applications are each of them three times."""
    server = Answers()
    async with server as url:
        await run(url)
    assert dict.fromkeys(range(10), 3) == Counter(number for _, number in server.got)


async def test_the_host_header_is_the_one_given():
    """A gateway routes by name while the address is an IP."""
    server = Answers()
    async with server as url:
        await run(url, host="loans.example.com")
    assert {"loans.example.com"} == {host for host, _ in server.got}


async def test_the_rate_is_kept():
    """100 a second for 0.5 s are 50 requests, and they take 0.5 s."""
    server = Answers()
    async with server as url:
        began = time.monotonic()
        total = await run(url, seconds=0.5)
    assert 50 == total.sent == len(server.got)
    assert 0.45 < time.monotonic() - began < 3


async def test_a_slow_server_is_neither_waited_for_nor_buried():
    """Requests leave when due; beyond the connections they are dropped and counted."""
    server = Answers(delay=0.2)
    async with server as url:
        total = await run(url, rate=200, seconds=0.5, connections=8)
    assert 8 == server.most_waiting
    assert 100 == total.sent + total.dropped
    assert total.dropped > 50


@pytest.mark.parametrize(
    ("server", "error"),
    [
        pytest.param(Answers(status=503), "503", id="an error by its code"),
        pytest.param(Answers(status=307, location="http://127.0.0.1:9/"), "307", id="a redirect is not followed"),
        pytest.param(Answers(body=["ok"]), "not a decision", id="another server's answer"),
    ],
)
async def test_answers_that_are_no_decision_are_errors(server, error):
    """Only a decision is ok."""
    async with server as url:
        total = await run(url)
    assert ({error: 30}, 0) == (dict(total.errors), total.decisions.total())


async def test_every_lost_request_is_told_with_its_times():
    """When it was sent, when it was given up, and why: as many as are counted."""
    lost: list[str] = []
    before = datetime.now(UTC)
    async with Answers(status=503) as url:
        plan = Plan(url=url, host=None, rate=100, seconds=0.1, connections=16)
        total = await replay(plan, BODIES, asyncio.Event(), lambda _: None, lost.append)
    assert {"503": len(lost)} == total.errors
    for line in lost:
        word, sent, ended, why = line.split(" ")
        assert ("lost", "503") == (word, why)
        assert before <= datetime.fromisoformat(sent) <= datetime.fromisoformat(ended) <= datetime.now(UTC)


async def test_it_stops_when_told():
    """A signal ends the replay at once, with what was counted."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    async with Answers() as url:
        began = time.monotonic()
        total = await run(url, seconds=60, stop=stop)
    assert time.monotonic() - began < 5
    assert 0 < total.sent < 100


async def test_a_line_says_what_came_back():
    """One line: sent, ok, errors, refer rate, latency, versions."""
    lines: list[str] = []
    async with Answers() as url:
        await run(url, lines=lines)
    (line,) = lines
    assert "sent=30 ok=30 errors=0 dropped=0 refer=100.0% p50=" in line
    assert line.endswith("versions=v1:30")


def test_the_order_is_shuffled_and_fixed(requests):
    """Two replays send the same applications in the same order, which is not the data's."""
    bodies = traffic.shuffled_requests()
    assert bodies == traffic.shuffled_requests()
    assert bodies != [json.dumps(request).encode() for request in requests]
    assert sorted(bodies) == sorted(json.dumps(request).encode() for request in requests)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "100000"], "100000 is outside 0..500"),
        (["--seconds", "86400"], "86400 is outside 0..3600"),
        (["--rate", "0"], "0 is outside 0..500"),
    ],
)
def test_load_is_bounded(arguments, message, capsys):
    """Nobody floods a server by a typing error."""
    with pytest.raises(SystemExit):
        traffic.main(["--url", "http://127.0.0.1:9/decide", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_answered_is_a_failure(free_port):
    """The command fails when there is nobody at the URL."""
    ended = subprocess.run(
        [sys.executable, "-m", "modelserver.traffic", "--url", f"http://127.0.0.1:{free_port()}/decide",
         "--rate", "20", "--seconds", "0.5"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 1 == ended.returncode
    assert "no request was answered with a decision" in ended.stderr
    assert "ClientConnectorError" in ended.stdout


@pytest.mark.modelserver
def test_the_replay_reaches_the_real_service(start):
    """Real applications through the command to the real service: all answered, all counted."""
    with start() as server:
        ended = subprocess.run(
            [sys.executable, "-m", "modelserver.traffic", "--url", server.url, "--rate", "40", "--seconds", "2"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert 0 == ended.returncode, ended.stderr
        assert "total sent=80 ok=80 errors=0 dropped=0" in ended.stdout
        assert "versions=2026-11-05:80" in ended.stdout
        assert 80 == server.count("model_decisions_total")
