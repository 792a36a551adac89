"""
Replay real loan applications at a bounded rate: ``python -m modelserver.traffic --url http://127.0.0.1:3000/decide``.

The applications are the half of the data that no version was trained on, in a shuffled order that is the same every
time, from the start again when they run out. The sender is open-loop: a request leaves when it is due, whether or not
earlier ones were answered, as users do; when `--connections` are busy the due request is dropped and counted, never
queued. Every request without a decision is told with its times, so that somebody can ask what happened then. It sends
only to the given URL, follows no redirect, uses no proxy, and stops by itself.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from modelserver import loans

_SHUFFLE_SEED = 0
_REPORT_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to send.

    Attributes:
        url: Where every request goes.
        host: Value of the Host header, or None for the URL's own.
        rate: Requests per second.
        seconds: How long to send.
        connections: Largest number of requests that may wait for an answer at once.
    """

    url: str
    host: str | None
    rate: float
    seconds: float
    connections: int


@dataclass(slots=True)
class Tally:
    """What came back since the last report; `errors` by HTTP status code or exception name."""

    sent: int = 0
    dropped: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add what another tally counted."""
        self.sent += other.sent
        self.dropped += other.dropped
        self.errors += other.errors
        self.decisions += other.decisions
        self.versions += other.versions
        self.seconds += other.seconds

    def line(self) -> str:
        """Return the tally as one line of text."""
        ok = self.decisions.total()
        refer = f"{self.decisions['refer'] / ok:.1%}" if ok else "-"
        return (
            f"sent={self.sent} ok={ok} errors={_counts(self.errors, total=True)} dropped={self.dropped} refer={refer} "
            f"p50={_quantile(self.seconds, 0.5)} p99={_quantile(self.seconds, 0.99)} versions={_counts(self.versions)}"
        )


def _counts(counter: Counter[str], *, total: bool = False) -> str:
    parts = ",".join(f"{name}:{count}" for name, count in sorted(counter.items()))
    if not total:
        return parts or "-"
    return f"{counter.total()}({parts})" if parts else "0"


def _quantile(seconds: Sequence[float], q: float) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    return f"{ordered[min(int(q * len(ordered)), len(ordered) - 1)] * 1000:.1f}ms"


def shuffled_requests() -> list[bytes]:
    """Return the traffic half as JSON bodies, in the order of the replay."""
    _, traffic = loans.split(loans.read())
    requests = loans.as_requests(traffic.applications)
    random.Random(_SHUFFLE_SEED).shuffle(requests)
    return [json.dumps(request).encode() for request in requests]


async def replay(
    plan: Plan,
    bodies: Sequence[bytes],
    stop: asyncio.Event,
    report: Callable[[str], None],
    lost: Callable[[str], None] = lambda _: None,
) -> Tally:
    """
    Send *bodies* in order as planned, report every 5 s, and return the tally of everything.

    *lost* is told at once of each request that got no decision: when it was sent, when it was given up, and why.
    """
    sender = _Sender(plan, report, lost)
    headers = {"Content-Type": "application/json"} | ({"Host": plan.host} if plan.host else {})
    connector = aiohttp.TCPConnector(limit=plan.connections)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
        asyncio.TaskGroup() as answers,
    ):
        number = 0
        while not stop.is_set() and number < plan.rate * plan.seconds:
            await _wait_until_due(sender.began + number / plan.rate, stop)
            sender.report_when_due()
            if sender.waiting < plan.connections:
                sender.waiting += 1
                answers.create_task(sender.send(session, bodies[number % len(bodies)]))
            else:
                sender.now.dropped += 1
            number += 1
    sender.report_rest()
    return sender.total


async def _wait_until_due(due: float, stop: asyncio.Event) -> None:
    delay = due - time.monotonic()
    if delay <= 0:
        await asyncio.sleep(0)  # let answers be read when the sender is behind
        return
    try:
        await asyncio.wait_for(stop.wait(), delay)
    except TimeoutError:
        return


class _Sender:
    def __init__(self, plan: Plan, report: Callable[[str], None], lost: Callable[[str], None]) -> None:
        self._plan = plan
        self._report = report
        self._lost = lost
        self.began = self._reported = time.monotonic()
        self.waiting = 0
        self.now = Tally()
        self.total = Tally()

    async def send(self, session: aiohttp.ClientSession, body: bytes) -> None:
        started, sent = time.monotonic(), datetime.now(UTC)
        try:
            async with session.post(self._plan.url, data=body, allow_redirects=False) as response:
                answer = await response.read()
            self._count(response.status, answer, sent)
            self.now.seconds.append(time.monotonic() - started)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(type(error).__name__, sent)
        finally:
            self.now.sent += 1
            self.waiting -= 1

    def _count(self, status: int, answer: bytes, sent: datetime) -> None:
        if status != 200:
            self._fail(str(status), sent)
            return
        try:
            decided = json.loads(answer)
            decision, version = decided["decision"], decided["version"]
        except (ValueError, KeyError, TypeError):
            self._fail("not a decision", sent)
            return
        self.now.decisions[decision] += 1
        self.now.versions[version] += 1

    def _fail(self, why: str, sent: datetime) -> None:
        self.now.errors[why] += 1
        self._lost(f"lost {sent.isoformat()} {datetime.now(UTC).isoformat()} {why}")

    def report_when_due(self) -> None:
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self.report_rest()

    def report_rest(self) -> None:
        self._reported = time.monotonic()
        self._report(f"t={self._reported - self.began:.0f}s {self.now.line()}")
        self.total.add(self.now)
        self.now = Tally()


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay as the arguments say; 1 when nothing was answered with a decision."""
    plan = _parse(arguments)
    total = asyncio.run(_replay_until_told(plan))
    print(f"total {total.line()}", flush=True)
    if not total.decisions:
        print(f"{plan.url}: no request was answered with a decision", file=sys.stderr)
        return 1
    return 0


async def _replay_until_told(plan: Plan) -> Tally:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await replay(plan, shuffled_requests(), stop, _print, _print)


def _print(line: str) -> None:
    print(line, flush=True)


def _parse(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m modelserver.traffic", description="Replay real loan applications at a bounded rate."
    )
    parser.add_argument("--url", required=True, help="where every request goes, path included")
    parser.add_argument("--host", help="Host header, for a gateway that routes by name")
    parser.add_argument("--rate", type=_up_to(500), default=80, help="requests per second, at most 500")
    parser.add_argument("--seconds", type=_up_to(3600), default=600, help="how long to send, at most 3600")
    parser.add_argument("--connections", type=int, default=64, help="largest number of requests in flight")
    return Plan(**vars(parser.parse_args(arguments)))


def _up_to(largest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = float(text)
        if not 0 < number <= largest:
            raise argparse.ArgumentTypeError(f"{text} is outside 0..{largest:g}")
        return number

    return parse


if __name__ == "__main__":
    sys.exit(main())
