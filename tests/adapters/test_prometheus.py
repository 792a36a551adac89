"""
The Prometheus adapter against a server that misbehaves: whatever happens is a sentence, never an exception.

The server speaks real HTTP and Prometheus' real JSON; the counts themselves are tested against the real one in
tests/prometheus.
"""

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from modelrelease.adapters import prometheus
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.queries import StageWindow
from tests.builders import a_release

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
NOW = START + timedelta(seconds=60)
WINDOWS = (StageWindow("shadow", "shadow", START, NOW),)

LATENCY = {
    "metrics": [{"name": "latency", "quantile": {"histogram": "d_seconds", "q": "0.99"}}],
    "clauses": [{"name": "fast", "metric": "latency", "noWorse": "20%"}],
}

NEWEST = "max by (revision, instance) (timestamp("
"""How the question begins when the newest samples were scraped; answers of counts tell it beside them."""

Reply = Callable[[BaseHTTPRequestHandler, str], None]


def vector(*values: tuple[dict[str, str], str], **more: Any) -> dict[str, Any]:
    """Return an answer as Prometheus gives it: numbers are strings."""
    result = [{"metric": labels, "value": [NOW.timestamp(), value]} for labels, value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


def healthy(query: str) -> dict[str, Any]:
    """Return 10 of 100 for both arms, scraped just now."""
    if query.startswith(NEWEST):
        return vector(({}, str(NOW.timestamp() - 1)))
    value = "10" if "decision=" in query or "code=" in query else "100"
    return vector(({"revision": "old", "country": "FR"}, value), ({"revision": "new", "country": "FR"}, value))


def says(body: Any, *, status: int = 200, **headers: str) -> Reply:
    """Return a reply with this body: bytes as they are, else JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def reply(request: BaseHTTPRequestHandler, _: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return reply


def is_healthy(request: BaseHTTPRequestHandler, query: str) -> None:
    says(healthy(query))(request, query)


def is_quiet(request: BaseHTTPRequestHandler, query: str) -> None:
    """Tell of a baseline without history, and with one pod."""
    matrix = {"status": "success", "data": {"resultType": "matrix", "result": []}}
    says(vector(({"instance": "a:1"}, "1")) if query.startswith("group by") else matrix)(request, query)


class Server:
    """
    Answers as ``reply`` says, and ``noise`` what is asked about noise alone; remembers path, parameters, headers.
    It takes lines up to the ``longest``, and refuses forms with the status ``no_forms`` where that is one.
    """

    def __init__(self) -> None:
        self.reply: Reply = is_healthy
        self.noise: Reply = is_quiet
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.longest = 8192
        self.no_forms = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if server.no_forms:
                    self.send_error(server.no_forms)
                    return
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.path += f"?{form}"
                self.do_GET()

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if len(self.requestline) > server.longest:
                    self.send_error(414)
                    return
                parameters = {name: values[0] for name, values in parse_qs(url.query).items()}
                with server._lock:
                    server.asked.append((url.path, parameters, dict(self.headers)))
                query = parameters.get("query", "")
                about_noise = url.path.endswith("/query_range") or query.startswith("group by (instance)")
                swings = query.startswith("count by (revision, instance) ((count_over_time(")
                nothing = says(vector())
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    (nothing if swings else server.noise if about_noise else server.reply)(self, query)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def read(server: Server):
    """Read the evidence of a rollout in shadow, with these settings."""
    readers = []

    async def read_with(windows=WINDOWS, **settings: Any):
        reader = PrometheusReader(PrometheusSettings(**{"url": server.url, **settings}))
        readers.append(reader)
        return await reader.read(a_release(), windows, "old", "new")

    yield read_with
    for reader in readers:
        reader.close()


async def test_counts_of_every_question_are_read(server, read):
    """
    Each question once, at the end of the window, with a limit for the server; only whether a sample has come is asked
    before and after.
    """
    (stage,) = await read()
    assert [[10, 10]] == stage.counts["block-rate", "country"].events.tolist()
    assert [[100, 100]] == stage.counts["block-rate", "country"].of.tolist()
    questions = [parameters["query"] for path, parameters, _ in server.asked if path == "/api/v1/query"]
    newest = [question for question in questions if question.startswith(NEWEST)]
    assert (2, 1) == (len(newest), len(set(newest)))
    assert len(set(questions)) == len(questions) - 1 == 8 + 3
    path, parameters, _ = server.asked[0]
    assert ("/api/v1/query", f"{NOW.timestamp():.3f}", "8s") == (path, parameters["time"], parameters["timeout"])


async def test_native_histograms_are_read(server):
    """As Prometheus 3 writes them: edges and counts are strings, a histogram without observations has no buckets."""
    histogram = {"count": "7", "sum": "5.5", "buckets": [[3, "-0.001", "0.001", "2"], [0, "0.5", "+Inf", "5"]]}
    elements = [
        {"metric": {"revision": "old"}, "histogram": [NOW.timestamp(), histogram]},
        {"metric": {"revision": "new"}, "histogram": [NOW.timestamp(), {"count": "0", "sum": "0"}]},
    ]

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        answer = {"status": "success", "data": {"resultType": "vector", "result": elements}}
        native = "d_seconds{" in query and not query.startswith(NEWEST)
        says(answer if native else vector(({}, str(NOW.timestamp()))) if "timestamp(" in query else vector())(
            request, query
        )

    server.reply = reply
    reader = PrometheusReader(PrometheusSettings(server.url))
    (stage,) = await reader.read(a_release(contract=LATENCY), WINDOWS, "old", "new")
    reader.close()
    counts = stage.histograms["latency", ""]
    assert [-0.001, 0.001, 0.5] == counts.bounds.tolist()
    assert [[0, 2, 0, 5], [0, 0, 0, 0]] == counts.bins[0].T.tolist()


async def test_stages_are_read_in_the_same_bins(server):
    """The judge adds their evidence; a bound that splits the observations of one of them is none."""
    first, later = WINDOWS[0], StageWindow("canary", "canary", NOW, NOW + timedelta(seconds=1))

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        bounds = {"0.5": "3", "1": "4", "+Inf": "9"} if "[60s]" in query else {"1": "1", "2": "2", "+Inf": "5"}
        counts = [({"revision": "new", "le": bound}, value) for bound, value in bounds.items()]
        newest = vector(({}, str(NOW.timestamp() + 1)))
        says(newest if query.startswith(NEWEST) else vector(*counts) if "_bucket{" in query else vector())(
            request, query
        )

    server.reply = reply
    reader = PrometheusReader(PrometheusSettings(server.url))
    for _ in range(2):
        stages = await reader.read(a_release(contract=LATENCY), (first, later), "old", "new")
        read = [stage.histograms["latency", ""] for stage in stages]
        assert [[1], [1]] == [counts.bounds.tolist() for counts in read]
        assert [[4, 5], [1, 4]] == [counts.bins[0, :, 1].tolist() for counts in read]
    reader.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(says(b"<html>log in</html>"), "answered 200 with no JSON: '<html>", id="HTML"),
        pytest.param(says(b""), "with no JSON", id="nothing"),
        pytest.param(says([]), "JSON that is no object", id="another JSON"),
        pytest.param(
            says({"status": "error", "errorType": "execution", "error": "too many samples"}),
            "answered 200: execution: too many samples",
            id="200 with an error",
        ),
        pytest.param(
            says({"status": "error", "errorType": "bad_data", "error": "parse error"}, status=400),
            "answered 400: bad_data: parse error",
            id="400",
        ),
        pytest.param(says(b"no", status=401), "answered 401", id="not allowed"),
        pytest.param(
            says(b"", status=302, Location="http://127.0.0.1:1/"), "answered 302", id="a redirect is not followed"
        ),
        pytest.param(says(b"x", status=503, Retry_After="86400"), "answered 503", id="hostile Retry-After"),
        pytest.param(says(b"x", status=429, Retry_After="86400"), "answered 429", id="too many requests"),
        pytest.param(says(vector(isPartial=True)), "says is partial", id="partial in other words"),
        pytest.param(says(vector(warnings=["store down"])), "with warnings: ['store down']", id="warnings are partial"),
        pytest.param(
            says({"status": "success", "data": {"resultType": "matrix", "result": []}}), "type 'matrix'", id="matrix"
        ),
        pytest.param(says({"status": "success", "data": None}), "type None", id="no data"),
        *[
            pytest.param(
                says({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, **value}]}}),
                "something other than a counter or histogram",
                id=f"element {value}",
            )
            for value in (
                {"value": [0]},
                {"value": [0, "x"]},
                {"value": None},
                {"histogram": []},
                {"histogram": [0, {}]},
                {"histogram": [0, {"count": "1", "buckets": [[0, "1", "2"]]}]},
                {"histogram": [0, "x"]},
            )
        ],
        pytest.param(says(b" " * 10_000_001), "more than 10 MB", id="endless"),
        pytest.param(says(b"{}", Content_Encoding="gzip"), "cannot be asked", id="not what its encoding says"),
        pytest.param(says(b"{}", Content_Length="100"), "cannot be", id="cut off"),
    ],
)
async def test_what_is_not_a_whole_answer_is_no_evidence(server, read, reply, message):
    """Said in a sentence that names the server."""
    server.reply = reply
    began = time.monotonic()
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert result.message.startswith(f"Prometheus at {server.url} ")
    assert message in result.message
    assert time.monotonic() - began < 5


async def test_one_failed_question_leaves_no_part(server, read):
    """Counts of one metric without the other would be judged as silence."""

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        says(vector(), status=400)(request, query) if "code=" in query else is_healthy(request, query)

    server.reply = reply
    assert isinstance(await read(), MetricsUnavailable)


async def test_infos_are_fine(server, read):
    """Prometheus 3 remarks on names of metrics; that changes no value."""
    server.reply = lambda request, query: says({**healthy(query), "infos": ["not a counter?"]})(request, query)
    assert not isinstance(await read(), MetricsUnavailable)


async def test_nobody_there(read):
    """Connection refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await read(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(result, MetricsUnavailable)
    assert result.message.endswith(" cannot be reached: Connection refused"), "whoever is woken reads no questions"


async def test_nobody_of_that_name(read):
    """A name that does not resolve is told without the question that was to be asked there."""
    result = await read(url="http://prometheus.invalid:9090")
    assert isinstance(result, MetricsUnavailable)
    assert "cannot be reached: " in result.message
    assert "query" not in result.message


@pytest.mark.parametrize("url", ["http://", "gopher://x", "http://[::1", "no-url"])
async def test_an_address_that_is_none(read, url):
    """A bad setting is told like an outage."""
    result = await read(url=url)
    assert isinstance(result, MetricsUnavailable)
    assert "cannot be" in result.message


async def test_a_server_that_hangs_is_given_up(server, read, monkeypatch):
    """The tick goes on without it."""
    monkeypatch.setattr(prometheus, "READ_SECONDS", 0.2)
    released = threading.Event()
    server.reply = lambda request, query: (released.wait(5), None)[1]
    began = time.monotonic()
    result = await read()
    released.set()
    assert isinstance(result, MetricsUnavailable)
    assert time.monotonic() - began < 2


async def test_a_server_that_drips_is_given_up(server, read, monkeypatch):
    """A byte now and then keeps a socket alive for ever, not a question."""
    monkeypatch.setattr(prometheus, "READ_SECONDS", 0.3)
    monkeypatch.setattr(prometheus, "CONNECT_SECONDS", 0.3)

    def drip(request: BaseHTTPRequestHandler, _: str) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for _ in range(60):
            request.wfile.write(b"1\r\n \r\n")
            time.sleep(0.05)

    server.reply = drip
    began = time.monotonic()
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert "did not finish its answer" in result.message
    assert time.monotonic() - began < 3


async def test_old_samples_are_no_evidence(server, read):
    """Newest sample older than two scrape intervals."""

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        newest = query.startswith(NEWEST)
        says(vector(({}, str(NOW.timestamp() - 11))) if newest else healthy(query))(request, query)

    server.reply = reply
    result = await read(scrape_interval=timedelta(seconds=5))
    assert isinstance(result, MetricsUnavailable)
    assert "11 s old" in result.message
    assert not isinstance(await read(scrape_interval=timedelta(seconds=10)), MetricsUnavailable)


async def test_bad_samples_are_told(server):
    """NaN is missing, and somebody counts it."""
    told = []
    nan = [({"revision": "old", "country": "FR"}, "NaN"), ({"revision": "new", "country": "FR"}, "+Inf")]
    newest = vector(({}, str(NOW.timestamp())))
    server.reply = lambda request, query: says(newest if query.startswith(NEWEST) else vector(*nan))(request, query)
    reader = PrometheusReader(PrometheusSettings(server.url), on_bad_sample=told.append)
    (stage,) = await reader.read(a_release(), WINDOWS, "old", "new")
    reader.close()
    assert not stage.counts["block-rate", "country"].of.any()
    assert [3 * 4] == told


def scraping(server: Server, *moments: float) -> None:
    """Have the newest sample be of these moments, one after the other; before the last one nothing was blocked."""
    left = list(moments)

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        if query.startswith(NEWEST):
            moment = left.pop(0) if len(left) > 1 else left[0]
            says(vector(({"revision": "old", "instance": "a"}, str(moment))))(request, query)
        elif "decision=" in query and len(left) > 1:
            says(vector())(request, query)
        else:
            is_healthy(request, query)

    server.reply = reply


async def test_counts_from_before_and_after_a_scrape_are_not_mixed(server, read):
    """A numerator of nothing and a denominator of 100 were never true together: all is read again."""
    now = NOW.timestamp()
    scraping(server, now - 6, now - 1)
    (stage,) = await read()
    assert [[10, 10]] == stage.counts["block-rate", "country"].events.tolist()
    assert [[100, 100]] == stage.counts["block-rate", "country"].of.tolist()


async def test_what_never_belongs_together_is_no_evidence(server, read):
    scraping(server, *(NOW.timestamp() - 6 + number / 10 for number in range(20)))
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert "got new samples while the counts were read, 4 times" in result.message


async def test_finished_stages_are_read_once(server):
    """Their counts do not change; the current stage is read at every tick."""
    reader = PrometheusReader(PrometheusSettings(server.url))
    later = StageWindow("canary", "canary", NOW, NOW + timedelta(seconds=1))
    server.reply = lambda request, query: says(
        vector(({}, str(NOW.timestamp() + 1))) if "timestamp(" in query else healthy(query)
    )(request, query)
    first = await reader.read(a_release(), (*WINDOWS, later), "old", "new")
    asked = len(server.asked)
    second = await reader.read(a_release(), (*WINDOWS, later), "old", "new")
    reader.close()
    about_noise = 6 + 1
    assert (6 + 11 + about_noise, 11) == (asked, len(server.asked) - asked)
    assert ["shadow", "canary"] == [stage.stage for stage in second]
    assert first[0] is second[0]


# What the baseline tells of noise.


def matrix(*values: tuple[dict[str, str], list[float]], first: float = 0, step: float = 10) -> dict[str, Any]:
    """Return an answer with a history of each series."""
    result = [
        {"metric": labels, "values": [[first + step * index, str(value)] for index, value in enumerate(series)]}
        for labels, series in values
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def bursty(request: BaseHTTPRequestHandler, query: str) -> None:
    """Tell of two pods whose rate of blocks jumps between 10 and 30 % from step to step; of errors there were none."""
    if query.startswith("group by"):
        says(vector(({"instance": "a:1"}, "1"), ({"instance": "b:1"}, "1")))(request, query)
        return
    parameters = parse_qs(urlsplit(request.path).query)
    first, last, step = (float(parameters[name][0].removesuffix("s")) for name in ("start", "end", "step"))
    moments = range(int((last - first) / step) + 1)
    blocks = [(10 if moment % 2 else 30) for moment in moments]
    events = 'decision="block"' in query.split(" - ", maxsplit=1)[0]
    if "r_total" in query:
        says(matrix())(request, query)
        return
    says(matrix(({"country": "FR"}, blocks if events else [100] * len(blocks)), first=first, step=step))(request, query)


def halved(request: BaseHTTPRequestHandler, query: str) -> None:
    """Tell of 30 blocks in the first half of the pods, of 10 in the second; else be healthy."""
    if "modelrelease_half" not in query:
        is_healthy(request, query)
        return
    counts = (30, 10) if "decision=" in query else (50, 50)
    halves = zip(("first", "second", ""), (*counts, 7), strict=True)
    labels = {"country": "FR"} if "(modelrelease_half, country)" in query else {}
    says(vector(*(({"modelrelease_half": half, **labels}, str(value)) for half, value in halves)))(request, query)


async def test_the_baseline_tells_how_noisy_it_is(server, read):
    """How much its rate jumps, and how its pods differ; a pod that is in neither half is not counted."""
    server.reply, server.noise = halved, bursty
    (stage,) = await read()
    assert {"block-rate"} == set(stage.noise.design_effects)
    # Each jump of 0.2 against the variance of a difference of two binomial rates at p = 0.2.
    assert pytest.approx(0.2**2 / (0.2 * 0.8 * 2 / 100)) == stage.noise.design_effects["block-rate"]
    halves = stage.noise.halves
    assert ("shadow", "shadow", 660) == (halves.stage, halves.kind, halves.seconds)
    assert {("block-rate", ""), ("block-rate", "country")} == set(halves.counts), "a limit is compared with nothing"
    assert [[30, 10]] == halves.counts["block-rate", "country"].events.tolist()
    assert [[50, 50]] == halves.counts["block-rate", ""].of.tolist()


async def test_history_is_asked_for_by_range(server, read):
    await read()
    asked = [parameters for path, parameters, _ in server.asked if path == "/api/v1/query_range"]
    assert 6 == len({parameters["query"] for parameters in asked})
    times = {(it["start"], it["end"], it["step"], it["timeout"]) for it in asked}
    assert {(f"{NOW.timestamp() - 650:.0f}", f"{NOW.timestamp():.0f}", "10s", "8s")} == times


async def test_a_single_pod_has_no_halves(server, read):
    (stage,) = await read()
    assert ({}, None) == (stage.noise.design_effects, stage.noise.halves)


async def test_without_a_baseline_there_is_no_noise(server):
    reader = PrometheusReader(PrometheusSettings(server.url))
    (stage,) = await reader.read(a_release(), WINDOWS, None, "new")
    reader.close()
    assert stage.noise is None
    assert 11 == len(server.asked)


async def test_noise_is_known_of_the_current_stage_only(server, read):
    server.reply = lambda request, query: says(
        vector(({}, str(NOW.timestamp() + 1))) if "timestamp(" in query else healthy(query)
    )(request, query)
    first, second = await read((*WINDOWS, StageWindow("canary", "canary", NOW, NOW + timedelta(seconds=1))))
    assert first.noise is None
    assert second.noise is not None


async def test_noise_is_read_twice_a_minute(server):
    """By the time of the evidence, whichever way it goes; of each release and stage by itself."""
    server.reply = lambda request, query: says(vector(({}, "1e12")) if query.startswith(NEWEST) else healthy(query))(
        request, query
    )
    reader = PrometheusReader(PrometheusSettings(server.url))

    async def noise_asked(seconds: float, stage: str = "shadow", version: str = "2") -> int:
        before = len(server.asked)
        window = StageWindow(stage, "shadow", START, NOW + timedelta(seconds=seconds))
        assert not isinstance(await reader.read(a_release(version), [window], "old", "new"), MetricsUnavailable)
        return len(server.asked) - before - 11

    assert [7, 0, 0, 7, 0, 0, 7] == [await noise_asked(at) for at in (0, 10, 29, 30, 59, 1, 0)]
    assert 7 == await noise_asked(0, "shadow-2")
    assert 0 == await noise_asked(0)
    reader.close()


@pytest.mark.parametrize("failing", ["offset 10s) >= 0", "group by (instance)", "modelrelease_half"])
async def test_noise_that_cannot_be_read_is_no_evidence(server, read, failing):
    """Never taken for a quiet baseline."""

    def unless_failing(answer: Reply) -> Reply:
        broken = says(b"no", status=500)
        return lambda request, query: (broken if failing in query else answer)(request, query)

    server.reply, server.noise = unless_failing(halved), unless_failing(bursty)
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert "answered 500" in result.message


@pytest.mark.parametrize(
    "element",
    [
        {"metric": {}},
        {"metric": {}, "values": [[0]]},
        {"metric": {}, "values": [[0, "x"]]},
        {"metric": {}, "values": [["+Inf", "1"]]},
        {"metric": {}, "histograms": []},
    ],
)
async def test_a_history_of_something_else_is_no_evidence(server, read, element):
    server.noise = says({"status": "success", "data": {"resultType": "matrix", "result": [element]}})
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert "something other than a counter's history" in result.message


async def test_an_instant_where_a_history_is_wanted_is_no_evidence(server, read):
    server.noise = says(vector())
    result = await read()
    assert isinstance(result, MetricsUnavailable)
    assert "gave a result of type 'vector', wanted is 'matrix'" in result.message


async def test_questions_in_flight_are_capped(server, read):
    """Prometheus is shared with others."""
    lock, in_flight, seen = threading.Lock(), [0], []

    def slowly(then: Reply) -> Reply:
        def reply(request: BaseHTTPRequestHandler, query: str) -> None:
            with lock:
                in_flight[0] += 1
                seen.append(in_flight[0])
            time.sleep(0.05)
            # Before the answer, which lets the next question go.
            with lock:
                in_flight[0] -= 1
            then(request, query)

        return reply

    server.reply, server.noise = slowly(is_healthy), slowly(is_quiet)
    assert not isinstance(await read(concurrency=2), MetricsUnavailable)
    assert 2 == max(seen)


async def test_a_failing_server_is_left_alone_for_a_while(server):
    """Three failures in a row; then pauses that grow, and one success ends it."""
    now = [0.0]
    settings = PrometheusSettings(server.url, concurrency=1)
    reader = PrometheusReader(settings, clock=lambda: now[0], jitter=lambda: 1.0)

    async def asked_while() -> tuple[int, object]:
        before = len(server.asked)
        result = await reader.read(a_release(), WINDOWS, "old", "new")
        return len(server.asked) - before, result

    server.reply = says(b"busy", status=503)
    assert [1, 1, 1] == [(await asked_while())[0] for _ in range(3)]
    count, result = await asked_while()
    assert 0 == count
    assert "left alone for 1.0 s after 3 failures in a row; the last: answered 503" in result.message
    now[0] += 1.0
    assert 1 == (await asked_while())[0]
    now[0] += 1.5
    assert 0 == (await asked_while())[0]
    now[0] += 0.5
    server.reply = is_healthy
    count, result = await asked_while()
    reader.close()
    assert 11 + 7 == count
    assert not isinstance(result, MetricsUnavailable)


async def test_a_bad_question_does_not_close_the_server_for_others(server):
    """A selector that Prometheus refuses is one release's problem."""
    reader = PrometheusReader(PrometheusSettings(server.url))
    server.reply = says({"status": "error", "errorType": "bad_data", "error": "x"}, status=400)
    await reader.read(a_release(), WINDOWS, "old", "new")
    server.reply = is_healthy
    assert not isinstance(await reader.read(a_release(), WINDOWS, "old", "new"), MetricsUnavailable)
    reader.close()


@pytest.fixture
async def a_slow_release(server, monkeypatch):
    """Of the releases of one reader, "heavy" asks for so many series that each of its questions fails after a while."""
    monkeypatch.setattr(prometheus, "SLOW_SECONDS", 0.5)
    timed_out = says({"status": "error", "errorType": "timeout", "error": "query timed out"}, status=503)

    def reply(request: BaseHTTPRequestHandler, query: str) -> None:
        if 'release="heavy"' in query:
            time.sleep(1)
            timed_out(request, query)
        else:
            is_healthy(request, query)

    server.reply = reply
    reader = PrometheusReader(PrometheusSettings(server.url))
    heavy = replace(a_release(), name="heavy")

    async def keep_asking() -> None:
        while True:
            await reader.read(heavy, WINDOWS, "old", "new")

    asking = [asyncio.create_task(keep_asking()) for _ in range(10)]
    await asyncio.sleep(2.5)
    yield reader
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    reader.close()


async def test_one_release_that_asks_too_much_does_not_keep_others_from_being_judged(a_slow_release):
    """Neither do its questions stand before theirs, nor are its timeouts taken for a server to be left alone."""
    for _ in range(10):
        began = time.monotonic()
        evidence = await a_slow_release.read(a_release(), WINDOWS, "old", "new")
        assert not isinstance(evidence, MetricsUnavailable), evidence.message
        assert time.monotonic() - began < 0.9, "less than one of the slow questions takes"


async def test_the_token_is_read_anew(server, tmp_path):
    """Tokens of service accounts rotate; a missing one is told, not raised."""
    file = tmp_path / "token"
    reader = PrometheusReader(PrometheusSettings(server.url, token_file=file))
    missing = await reader.read(a_release(), WINDOWS, "old", "new")
    assert isinstance(missing, MetricsUnavailable)
    assert "No such file" in missing.message
    for token in ("first", "second"):
        file.write_text(token + "\n")
        await reader.read(a_release(), WINDOWS, "old", "new")
        assert f"Bearer {token}" == server.asked[-1][2]["Authorization"]
    reader.close()


async def test_name_and_password_are_read_anew(server, tmp_path):
    """Of basic authentication; neither is ever told."""
    name, password = tmp_path / "username", tmp_path / "password"
    name.write_text("ana\n")
    reader = PrometheusReader(PrometheusSettings(server.url, username_file=name, password_file=password))
    missing = await reader.read(a_release(), WINDOWS, "old", "new")
    assert isinstance(missing, MetricsUnavailable)
    for secret in ("first", "zweites Pässwort: ü"):
        password.write_text(secret)
        await reader.read(a_release(), WINDOWS, "old", "new")
        scheme, _, given = server.asked[-1][2]["Authorization"].partition(" ")
        assert ("Basic", f"ana:{secret}") == (scheme, base64.b64decode(given).decode())
    reader.close()


@pytest.mark.parametrize("token", ["se\ncret", "secret\x00", "secret ü", ""])
async def test_a_token_that_is_none_is_not_shown(server, read, tmp_path, token):
    """The message goes into a status that many may read."""
    file = tmp_path / "token"
    file.write_text(token)
    result = await read(token_file=file)
    assert isinstance(result, MetricsUnavailable)
    assert "does not hold one token alone" in result.message
    assert "cret" not in result.message
    assert not server.asked


async def test_headers_are_sent_with_every_question(server, read):
    """A Mimir wants to know whose series are asked for."""
    await read(headers={"X-Scope-OrgID": "fraud"})
    assert {"fraud"} == {headers.get("X-Scope-OrgID") for _, _, headers in server.asked}


async def test_a_prefix_stays_in_front(server, read):
    """As ``--web.route-prefix`` and the paths of a Mimir have it."""
    await read(url=f"{server.url}/prometheus/")
    assert {"/prometheus/api/v1/query", "/prometheus/api/v1/query_range"} == {path for path, _, _ in server.asked}


async def test_an_unknown_ca_file_is_told(read, tmp_path):
    """A wrong path is a sentence, too."""
    result = await read(url="https://127.0.0.1:1", ca_file=tmp_path / "absent.pem")
    assert isinstance(result, MetricsUnavailable)
    assert "cannot be asked" in result.message


MANY_NAMES = [f"model_decisions_by_segment_{number}_total" for number in range(8)]
MANY_COUNTERS = {
    "metrics": [
        {"name": f"m{n}", "ratio": {"events": f'{it}{{decision="x"}}', "of": it}} for n, it in enumerate(MANY_NAMES)
    ],
    "clauses": [{"name": f"c{n}", "metric": f"m{n}", "within": "5%"} for n in range(len(MANY_NAMES))],
}


async def test_a_long_question_fits_through_a_proxy(server):
    """An nginx refuses lines of more than 8 KiB; one question is about the counters of all metrics."""
    reader = PrometheusReader(PrometheusSettings(server.url))
    evidence = await reader.read(a_release(contract=MANY_COUNTERS), WINDOWS, "old", "new")
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    (swings,) = {parameters["query"] for _, parameters, _ in server.asked if len(parameters["query"]) > 8192}
    assert all(name in swings for name in MANY_NAMES)


@pytest.mark.parametrize("refusal", [403, 404, 405, 501])
async def test_a_long_question_fits_where_no_forms_are_passed_on(server, refusal):
    """Some proxies take a form for a write; their lines may be longer."""
    server.no_forms, server.longest = refusal, 65_536
    reader = PrometheusReader(PrometheusSettings(server.url))
    evidence = await reader.read(a_release(contract=MANY_COUNTERS), WINDOWS, "old", "new")
    reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence


async def test_the_environment_is_not_asked(server, read, monkeypatch):
    """No proxy and no .netrc: address and credentials are the operator's settings."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert not isinstance(await read(), MetricsUnavailable)
