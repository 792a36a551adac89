"""The real BentoML service: what it exposes is what was sent."""

import contextlib
import http.client
import importlib
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.modelserver


@pytest.fixture(scope="module")
def new(start):
    """A service, and its first scrape: nobody has asked it anything by then."""
    with start(MODELRELEASE_NAME="loans", MODELRELEASE_REVISION="7f3c9b1") as running:
        yield running, running.scraped()


@pytest.fixture(scope="module")
def server(new):
    return new[0]


@pytest.fixture(scope="module")
def two_workers(start):
    with start(MODELSERVER_WORKERS="2") as running:
        running.wait_until("two workers", lambda: len(running.workers()) == 2)
        yield running


def send(server, applications) -> Counter:
    """Send applications over a few connections and count the answers by (code, decision)."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.decide, applications))
    return Counter((code, answer.get("decision")) for code, answer in answers)


def test_an_idle_connection_stays_open(server):
    """
    A connection that a proxy keeps for the next request is not closed under it.

    uvicorn closes one after 5 idle seconds by default, Envoy uses one for an hour: a request that was on its way at
    that moment was lost (a 503 every minute in the soak).
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=7)
    with contextlib.closing(connection):
        for _ in range(2):
            connection.request("GET", "/livez")
            with connection.getresponse() as response:
                assert (200, False) == (response.status, response.will_close)
                response.read()
            with pytest.raises(TimeoutError):
                connection.sock.recv(1)  # b"" at once, when the server has closed it


def test_series_are_there_before_the_first_request(new):
    """The first scrape of a new pod shows every known slice at 0."""
    _, page = new
    series = [line for line in page.text.splitlines() if line.startswith("model_decisions_total{")]
    assert (4 * 3 * 12 * 2, True) == (len(series), all(line.endswith(" 0.0") for line in series))


def test_an_answer_is_the_models(server, models, requests):
    """Through HTTP the same decision, score and version as in the model."""
    model = models["2026-11-05"]
    for request in requests[:20]:
        score = model.score(request)
        want = {"decision": model.decide(score), "score": pytest.approx(score), "version": "2026-11-05"}
        assert (200, want) == server.decide(request)


def test_counts_equal_what_was_sent(server, requests):
    """Every counter, overall and by slice, equals the requests and their answers, with one worker."""
    check_counts(server, requests[:400])


def test_counts_equal_what_was_sent_to_two_workers(two_workers, requests):
    """The workers' counts are merged."""
    check_counts(two_workers, requests[:400])


def counted_between(before, after):
    """Return what counts how much more there is in a later scrape."""
    return lambda name, **labels: after.count(name, **labels) - before.count(name, **labels)


def check_counts(server, sent) -> None:
    before = server.scraped()
    answers = send(server, sent)
    counted = counted_between(before, server.scraped())
    assert {200} == {code for code, _ in answers}
    for name in ("model_decisions_total", "model_decisions_by_state_total", "model_requests_total",
                 "model_latency_seconds_count", "model_score_count"):  # fmt: skip
        assert len(sent) == counted(name), name
    for decision in ("approve", "refer"):
        assert answers[200, decision] == counted("model_decisions_total", decision=decision)
    for dimension in ("loan_purpose", "homeownership", "application_type"):
        for value, count in Counter(request[dimension] for request in sent).items():
            assert count == counted("model_decisions_total", **{dimension: value}), value
            assert count == counted("model_requests_total", code="200", **{dimension: value}), value
    for state, count in Counter(request["state"] for request in sent).items():
        assert count == counted("model_decisions_by_state_total", state=state), state
    assert 0 == counted("model_unknown_slice_values_total")


def test_a_killed_worker_takes_no_counts_with_it(two_workers, requests):
    """Counts are in files: kill -9 of a worker loses nothing, and its successor goes on counting."""
    server = two_workers
    before = server.scraped()
    answers = send(server, requests[:300])
    victim, survivor = sorted(server.workers())
    os.kill(victim, signal.SIGKILL)
    server.wait_until("a successor", lambda: len(server.workers() - {victim}) == 2 and survivor in server.workers())
    server.wait_until("counts to be readable", lambda: server.get("/readyz")[0] == 200)
    after = counted_between(before, server.scraped())
    assert 300 == after("model_decisions_total")
    assert answers[200, "refer"] == after("model_decisions_total", decision="refer")

    send(server, requests[300:500])
    after = counted_between(before, server.scraped())
    assert 500 == after("model_decisions_total")
    assert 500 == after("model_latency_seconds_count")


@pytest.mark.parametrize(
    "body", [pytest.param(b'{"term":', id="not JSON"), pytest.param({"term": 36}, id="fields missing")]
)
def test_refused_requests_are_counted(server, body):
    """A request that never reaches the model is in the requests, with its code, and in no decision."""
    before = server.count("model_requests_total", code="400"), server.count("model_decisions_total")
    code, _ = server.decide(body)
    after = server.count("model_requests_total", code="400"), server.count("model_decisions_total")
    assert (400, before[0] + 1, before[1]) == (code, *after)


def test_values_never_seen_count_as_other(server, requests):
    """A new loan purpose is answered, counted as other, and told."""
    before = server.count("model_decisions_total", loan_purpose="other")
    assert 200 == server.decide(requests[0] | {"loan_purpose": "space_travel"})[0]
    assert before + 1 == server.count("model_decisions_total", loan_purpose="other")
    assert 1 == server.count("model_unknown_slice_values_total", slice="loan_purpose")


def test_info_tells_the_release(server):
    """One series, whatever the number of workers, with what the operator injected."""
    assert 1 == server.count("model_info")
    assert 1 == server.count("model_info", release="loans", revision="7f3c9b1", version="2026-11-05")


def test_only_decisions_are_counted(server):
    """Probes and scrapes are no requests to the model."""
    before = server.count("model_requests_total")
    for path in ("/livez", "/healthz", "/readyz"):
        assert 200 == server.get(path)[0]
    assert before == server.count("model_requests_total")


def test_a_readiness_fault_keeps_traffic_away(start):
    """DEMO_FAIL_READINESS: alive, never ready."""
    with start(live="/livez", DEMO_FAIL_READINESS="1") as server:
        assert (503, 200) == (server.get("/readyz")[0], server.get("/livez")[0])


def test_an_error_fault_is_counted_as_errors(start, requests):
    """DEMO_ERROR_FRACTION: that share is answered with 500, counted so, and never as a decision."""
    with start(DEMO_ERROR_FRACTION="0.5") as server:
        answers = Counter(code for code, _ in (server.decide(request) for request in requests[:200]))
        assert 60 < answers[500] < 140
        assert answers[500] == server.count("model_requests_total", code="500")
        assert answers[200] == server.count("model_decisions_total")


@pytest.mark.parametrize("pieces", [[b"all at once"], [b"in ", b"pieces"]])
async def test_an_answer_is_counted_before_the_client_has_it(pieces, models_folder, monkeypatch):
    """A worker that is killed between the two had answered a request that it never counted."""
    monkeypatch.setenv("MODELSERVER_MODELS", str(models_folder))
    monkeypatch.setenv("MODELRELEASE_VERSION", "2026-11-05")
    service = importlib.import_module("modelserver.service")
    happened = []
    monkeypatch.setattr(service, "metrics", SimpleNamespace(observe=lambda **seen: happened.append(seen["code"])))

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for number, piece in enumerate(pieces, start=1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    async def to_client(message):
        happened.append(message.get("body", b"start"))

    await service.CountRequests(app)({"type": "http", "path": service.DECIDE_PATH}, None, to_client)
    assert [b"start", *pieces[:-1], 200, pieces[-1]] == happened


def test_an_unknown_version_ends_the_process_with_the_known_ones_named(models_folder, tmp_path):
    """The container stops at once, with a sentence, instead of restarting workers for ever."""
    environ = {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(tmp_path),
        "MODELSERVER_MODELS": str(models_folder),
        "MODELRELEASE_VERSION": "2027-01-01",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "modelserver.service:LoanDecisions"],
        cwd=tmp_path, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 != ended.returncode
    assert "'2027-01-01' is not known" in ended.stderr
    assert "2026-10-01, 2026-11-05, 2026-11-20" in ended.stderr
