"""
Asking Prometheus. What goes wrong is a value with a sentence for whoever is on call: never an exception, never a part.

    questions of a tick, each once -> pool of a few threads -> PrometheusConnect -> a session that refuses what is not
    one whole, plain answer: errors, warnings, redirects, pages of HTML, endless bodies

The library asks; it has no retries here (the next tick is the retry), and always a timeout. It would drop the warnings
of an answer, so the session that it is given looks at the whole JSON first.
Counts of finished stages do not change, so they are kept; what the baseline tells of noise is kept for a while. A
server that fails several times in a row is left alone for a while. A release whose questions take long shares half of
the threads with its like, so that it does not keep all others from being judged.
"""

import asyncio
import io
import json
import random
import re
import threading
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from modelrelease.api.parse import Release
from modelrelease.core.answers import Bucket, Sample, Vector, observed, same_samples, stage_counts, stale, torn
from modelrelease.core.bins import aligned
from modelrelease.core.counts import Evidence, MetricsUnavailable, Noise, StageCounts
from modelrelease.core.noise import (
    Matrix,
    RangeQuery,
    Series,
    design_effects,
    half_stage_queries,
    noise_queries,
)
from modelrelease.core.queries import Query, StageQueries, StageWindow, stage_queries

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
SERVER_SECONDS: Final = 8.0
MOST_BYTES: Final = 10_000_000
MOST_KEPT_ROWS: Final = 200_000

LONGEST_LINE: Final = 6_000
"""Characters of a question in an address; a longer one is sent as a form. An nginx takes 8 KiB, address included."""

_NO_FORMS: Final = (403, 404, 405, 501)
"""How a proxy says that it passes on no forms: some allow what reads, and take a form for a write."""

MOST_READINGS: Final = 4
"""How often counts are read until no sample arrives meanwhile; each time, fewer scrapes of that moment are open."""

NOISE_SECONDS: Final = 30.0
"""How long what the baseline tells of noise is good for; by then, there is a little more history."""

SLOW_SECONDS: Final = 1.0
"""A question that takes longer makes its release a slow one."""

SLOW_MEMORY_SECONDS: Final = 60.0
"""How long a release counts as slow after its last slow question."""

_FAILURES_TO_OPEN: Final = 3
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SHOWN: Final = 300

_Who = tuple[str, str]
"""Namespace and name of the release that a question is about."""

_Question = TypeVar("_Question", Query, RangeQuery)
_Answer = TypeVar("_Answer", Vector, Matrix)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """
    Where Prometheus is and how to ask it; from the operator's configuration, never from a ModelRelease.

    Attributes:
        url: Address, such as ``http://prometheus.monitoring:9090``; a path in front of ``/api`` may follow.
        scrape_interval: How often the model servers are scraped.
        lag: Evidence younger than this is not asked for. None is needed for right counts: a sample that arrives while
            they are read has them read again. For stores that many writers feed.
        headers: Sent with every question, such as the tenant of a store that has several.
        token_file: File with a bearer token, read for every question because tokens rotate.
        username_file, password_file: Files with what basic authentication wants, read for every question, too.
        ca_file: PEM file with the authorities that may have signed the server's certificate; None for the usual ones.
        client_certificate, client_key: PEM files by which the operator identifies itself.
        concurrency: Most questions in flight, for all releases together.
    """

    url: str
    scrape_interval: timedelta = timedelta(seconds=5)
    lag: timedelta = timedelta(0)
    headers: Mapping[str, str] = field(default_factory=dict)
    token_file: Path | None = None
    username_file: Path | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    concurrency: int = 4


@dataclass(frozen=True, slots=True)
class _Reading:
    """
    Counts as read once; whether they belong together is another question.

    Attributes:
        asked: The questions by stage.
        evidence: The counts by stage.
        bad: How many samples were no counts.
        torn: Whether events and requests of a ratio are not of the same samples.
    """

    asked: tuple[StageQueries, ...]
    evidence: tuple[StageCounts, ...]
    bad: int
    torn: bool


@dataclass(frozen=True, slots=True)
class _FoundNoise:
    """What a baseline told of noise: what it was asked about, and when, in Unix seconds."""

    about: tuple[str, ...]
    until: float
    noise: Noise


class PrometheusReader:
    """
    Reads the counts that gates are judged on.

    All questions of a reading are for one moment, and yet a sample can arrive between two of them. A numerator from
    before it and a denominator from after it are no ratio: so the pods' newest samples are asked for before and after,
    and when they differ, everything is read again. So it is when the two say that they are of different samples: two
    replicas behind one Service may answer in turn, and each scrapes at moments of its own.
    """

    def __init__(
        self,
        settings: PrometheusSettings,
        *,
        on_bad_sample: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask nothing yet; *on_bad_sample* is told how many samples of an answer were no counts."""
        self._settings = settings
        self._on_bad_sample = on_bad_sample
        self._finished: _Kept[StageQueries, StageCounts] = _Kept()
        self._noises: _Kept[tuple[str, ...], _FoundNoise] = _Kept()
        self._lanes = _Lanes(settings.concurrency, clock=clock, jitter=jitter)
        self._thread = threading.local()

    async def read(
        self, release: Release, windows: Sequence[StageWindow], baseline: str | None, candidate: str
    ) -> Evidence:
        """
        Return the counts of every stage in *windows*, the current one last, or why they cannot be had.

        Args:
            release: Whose contract says what to count.
            windows: The stages so far; all but the last have ended.
            baseline: Revision of the first column; None at an initial release leaves it 0.
            candidate: Revision of the second column.
        """
        lag, interval = self._settings.lag, self._settings.scrape_interval
        ended = [stage_queries(release, it, baseline, candidate, lag=lag) for it in windows[:-1]]
        open_ = [stage_queries(release, it, baseline, candidate, lag=lag, interval=interval) for it in windows[-1:]]
        asked = ended + open_
        newest = next((it.newest for it in reversed(asked) if it.newest), None)
        who = (release.namespace, release.name)
        if newest is None:
            reading = await self._reading(asked, who)
            return reading if isinstance(reading, MetricsUnavailable) else self._kept(reading)
        before = await self._one(newest, who)
        for _ in range(MOST_READINGS):
            if isinstance(before, MetricsUnavailable):
                return before
            reading = await self._reading(asked, who)
            if isinstance(reading, MetricsUnavailable):
                return reading
            compared = baseline if asked[-1].newest else None
            noise = await self._noise(release, windows[-1], compared) if compared is not None else None
            if isinstance(noise, MetricsUnavailable):
                return noise
            after = await self._one(newest, who)
            if not isinstance(after, MetricsUnavailable) and same_samples(before, after) and not reading.torn:
                problem = stale(asked[-1], reading.evidence[-1], after, interval)
                return problem or self._kept(reading, noise)
            before = after
        return MetricsUnavailable(
            f"Prometheus at {self._settings.url} got new samples while the counts were read, {MOST_READINGS} times: "
            "they do not belong together. Does it answer slowly, do scrapes take long, or do several servers with "
            "scrapes of their own answer in turn?"
        )

    async def _reading(self, asked: Sequence[StageQueries], who: _Who) -> "_Reading | MetricsUnavailable":
        """Return the counts of all stages, read once; those of finished stages if they are not known."""
        finished = {it: known for it in asked[:-1] if (known := self._finished.get(it))}
        questions = {query for it in asked if it not in finished for query in it.queries}
        answers = await self._all(self._ask_now, questions, who)
        if isinstance(answers, MetricsUnavailable):
            return answers
        evidence: list[StageCounts] = []
        bad = 0
        for it in asked:
            understood = (finished[it], 0) if it in finished else stage_counts(it, answers)
            if isinstance(understood, MetricsUnavailable):
                return understood
            evidence.append(understood[0])
            bad += understood[1]
        if asked:
            evidence[-1] = observed(asked[-1], evidence[-1], answers)
        apart = any(torn(it, answers) for it in asked if it not in finished)
        return _Reading(tuple(asked), tuple(evidence), bad, apart)

    def _kept(self, reading: "_Reading", noise: "_FoundNoise | None" = None) -> Evidence:
        """Return the evidence of a reading whose parts belong together, and remember what will not change."""
        if reading.bad:
            self._on_bad_sample(reading.bad)
        for it, counts in zip(reading.asked[:-1], reading.evidence[:-1], strict=True):
            self._finished.put(it, counts, _rows(counts))
        evidence = list(reading.evidence)
        if noise:
            self._noises.put(noise.about, noise, _rows(noise.noise.halves) if noise.noise.halves else 1)
            evidence[-1] = replace(evidence[-1], noise=noise.noise)
        return aligned(evidence)

    def close(self) -> None:
        """Let go of the threads; questions in flight end by their timeouts."""
        self._lanes.close()

    async def _noise(self, release: Release, window: StageWindow, baseline: str) -> "_FoundNoise | MetricsUnavailable":
        """Return what *baseline* tells of noise now, or told a moment ago."""
        lag, interval = self._settings.lag, self._settings.scrape_interval
        asked = noise_queries(release, window, baseline, lag=lag, interval=interval)
        known = self._noises.get(asked.about)
        if known and abs(known.until - asked.until) < NOISE_SECONDS:
            return known
        history = await self._all(self._ask_history, asked.ranges, (release.namespace, release.name))
        if isinstance(history, MetricsUnavailable):
            return history
        halves = await self._halves(release, window, baseline, asked.pods) if asked.pods else None
        if isinstance(halves, MetricsUnavailable):
            return halves
        return _FoundNoise(asked.about, asked.until, Noise(design_effects(asked, history), halves))

    async def _halves(
        self, release: Release, window: StageWindow, baseline: str, pods: Query
    ) -> StageCounts | MetricsUnavailable | None:
        """Return the counts of two halves of the baseline's pods; None when it has a single one."""
        who = (release.namespace, release.name)
        found = await self._one(pods, who)
        if isinstance(found, MetricsUnavailable):
            return found
        asked = half_stage_queries(release, window, baseline, found, lag=self._settings.lag)
        if asked is None:
            return None
        answers = await self._all(self._ask_now, asked.queries, who)
        if isinstance(answers, MetricsUnavailable):
            return answers
        understood = stage_counts(asked, answers)
        # Samples that are no counts are told when the baseline is counted as a whole.
        return understood if isinstance(understood, MetricsUnavailable) else aligned([understood[0]])[0]

    async def _one(self, query: Query, who: _Who) -> Vector | MetricsUnavailable:
        """Return the answer to one question, or what went wrong."""
        answers = await self._all(self._ask_now, {query}, who)
        return answers if isinstance(answers, MetricsUnavailable) else answers[query]

    async def _all(
        self,
        ask: "Callable[[_Question], _Answer | _Failure]",
        questions: Iterable[_Question],
        who: _Who,
    ) -> dict[_Question, _Answer] | MetricsUnavailable:
        """Return the answer to every question, or the first thing that went wrong."""
        queries = sorted(questions, key=lambda query: query.text)
        answers = await asyncio.gather(*(self._lanes.answer(who, partial(ask, query)) for query in queries))
        answered: dict[_Question, _Answer] = {}
        for query, answer in zip(queries, answers, strict=True):
            if isinstance(answer, _Failure):
                return MetricsUnavailable(f"Prometheus at {self._settings.url} {answer.message}")
            answered[query] = answer
        return answered

    # In a thread of the pool.

    def _ask_now(self, query: Query) -> "Vector | _Failure":
        parameters = {"time": f"{query.at / 1000:.3f}", "timeout": f"{SERVER_SECONDS:g}s"}

        def ask() -> Vector:
            result = self._connection().custom_query(query.text, params=parameters)
            return tuple(_sample(element) for element in result)

        return _asked(ask)

    def _ask_history(self, query: RangeQuery) -> "Matrix | _Failure":
        first, last = (datetime.fromtimestamp(moment, UTC) for moment in (query.start, query.end))
        parameters = {"timeout": f"{SERVER_SECONDS:g}s"}

        def ask() -> Matrix:
            result = self._connection().custom_query_range(
                query.text, start_time=first, end_time=last, step=f"{query.step}s", params=parameters
            )
            return tuple(_series(element) for element in result)

        return _asked(ask)

    def _connection(self) -> PrometheusConnect:
        """Return this thread's connection: a requests session is not made for several threads."""
        if not hasattr(self._thread, "connection"):
            self._thread.connection = PrometheusConnect(
                url=self._settings.url.rstrip("/"),
                session=_session(self._settings),
                headers=dict(self._settings.headers),
                auth=_authentication(self._settings),
                retry=Retry(total=0),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
        connection: PrometheusConnect = self._thread.connection
        return connection


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a question has no answer, and whether that says something of the server."""

    message: str
    servers_fault: bool


def _asked(ask: Callable[[], _Answer]) -> _Answer | _Failure:
    try:
        return ask()
    except _Unusable as error:
        return _Failure(str(error), error.servers_fault)
    except requests.exceptions.RequestException as error:
        return _Failure(_reason(error), servers_fault=True)
    except (PrometheusApiClientException, HTTPError, OSError, ValueError) as error:
        return _Failure(f"cannot be asked: {error}", servers_fault=False)


def _sample(element: dict[str, Any]) -> Sample:
    """
    Return one element of an instant vector; numbers come as strings, also NaN and +Inf.

    Raises:
        _Unusable: It is neither a number nor a histogram.
    """
    try:
        if "histogram" not in element:
            return Sample(labels=element["metric"], value=float(element["value"][1]))
        histogram = element["histogram"][1]
        buckets = tuple(_bucket(bucket) for bucket in histogram.get("buckets", ()))
        return Sample(labels=element["metric"], value=float(histogram["count"]), buckets=buckets)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _Unusable(f"gave something other than a counter or histogram: {str(element)[:_SHOWN]}") from error


def _bucket(element: list[Any]) -> Bucket:
    _, left, right, count = element  # The first says to which bucket the edges belong.
    return float(left), float(right), float(count)


def _series(element: dict[str, Any]) -> Series:
    """
    Return one element of a matrix.

    Raises:
        _Unusable: It has something other than numbers.
    """
    try:
        values = {round(float(moment)): float(value) for moment, value in element["values"]}
        return Series(labels=element["metric"], values=values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _Unusable(f"gave something other than a counter's history: {str(element)[:_SHOWN]}") from error


def _reason(error: requests.exceptions.RequestException) -> str:
    match error:
        case requests.exceptions.SSLError():
            return f"has a certificate that is not trusted, or wants one: {_root(error)}"
        case requests.exceptions.ConnectTimeout():
            return f"cannot be connected to within {CONNECT_SECONDS:g} s"
        case requests.exceptions.Timeout():
            return f"did not answer within {READ_SECONDS:g} s"
        case requests.exceptions.ConnectionError():
            return f"cannot be reached: {_root(error)}"
        case _:
            return f"cannot be asked: {error}"


def _root(error: BaseException) -> str:
    """Return what the operating system said; the errors around it repeat the whole question."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# What an answer must be.


class _Unusable(Exception):  # noqa: N818 - reads as what it is
    """An answer that must not be used; *servers_fault* when asking again soon only makes it worse."""

    def __init__(self, message: str, *, servers_fault: bool = False) -> None:
        super().__init__(message)
        self.servers_fault = servers_fault


class _Bearer(AuthBase):
    """The token as it is in its file now; being set, it also keeps requests from looking into ``.netrc``."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = _secret(self._file)
        if not _TOKEN.fullmatch(token):  # else the error would show it, and every status would show the error
            raise _Unusable(f"cannot be asked: {self._file} does not hold one token alone")
        request.headers["Authorization"] = f"Bearer {token}"
        return request


class _Basic(AuthBase):
    """Name and password as they are in their files now."""

    def __init__(self, username_file: Path, password_file: Path) -> None:
        self._username_file = username_file
        self._password_file = password_file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        name, password = (_secret(file).encode() for file in (self._username_file, self._password_file))
        request.headers["Authorization"] = f"Basic {b64encode(name + b':' + password).decode()}"
        return request


_TOKEN: Final = re.compile(r"[!-~]+")


def _secret(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _authentication(settings: PrometheusSettings) -> AuthBase | None:
    if settings.token_file:
        return _Bearer(settings.token_file)
    if settings.username_file and settings.password_file:
        return _Basic(settings.username_file, settings.password_file)
    return None


def _session(settings: PrometheusSettings) -> requests.Session:
    session = _CarefulSession()
    # Address and credentials come from the operator's settings alone: no proxy, no .netrc of the environment.
    session.trust_env = False
    session.verify = str(settings.ca_file) if settings.ca_file else True
    if settings.client_certificate:
        certificate, key = settings.client_certificate, settings.client_key
        session.cert = (str(certificate), str(key)) if key else str(certificate)
    return session


class _CarefulSession(requests.Session):
    """Reads an answer with bounds on size and time, follows no redirect, and refuses what is not whole."""

    def request(self, method: str, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]  # noqa: ANN401 - as requests has it
        """
        Return the answer if it is a whole instant vector, or matrix of a range query.

        Raises:
            _Unusable: It is anything else.
        """
        deadline = time.monotonic() + CONNECT_SECONDS + READ_SECONDS
        parameters = kwargs.pop("params", None) or {}
        ways: list[dict[str, Any]] = [{"method": method, "params": parameters}]
        if len(urlencode(parameters)) > LONGEST_LINE:
            ways.insert(0, {"method": "POST", "data": parameters})
        for way in ways:
            with super().request(url=url, **{**kwargs, **way, "stream": True, "allow_redirects": False}) as response:
                body = _bounded(response, deadline)
            if response.status_code not in _NO_FORMS:
                break
        _check(response.status_code, body, wanted="matrix" if str(url).endswith("/query_range") else "vector")
        whole = requests.Response()
        whole.status_code = response.status_code
        whole.raw = io.BytesIO(body)
        return whole


def _bounded(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(65_536):
        body += chunk
        if len(body) > MOST_BYTES:
            raise _Unusable(f"gave more than {MOST_BYTES // 1_000_000} MB: does a slice label have too many values?")
        if time.monotonic() > deadline:
            raise _Unusable(f"did not finish its answer within {READ_SECONDS:g} s", servers_fault=True)
    return bytes(body)


def _check(status: int, body: bytes, *, wanted: str) -> None:
    broken = status >= 500 or status == 429
    try:
        answer = json.loads(body)
    except ValueError as error:
        # 503 is a query that took too long or was cancelled, 422 one that cannot be carried out; both come as JSON.
        shown = body[:_SHOWN].decode(errors="replace")
        raise _Unusable(f"answered {status} with no JSON: {shown!r}", servers_fault=broken) from error
    if not isinstance(answer, dict):
        raise _Unusable(f"answered {status} with JSON that is no object", servers_fault=broken)
    if status != 200 or answer.get("status") != "success":
        said = f"{answer.get('errorType', 'unknown')}: {answer.get('error', 'no reason given')}"
        raise _Unusable(f"answered {status}: {said[:_SHOWN]}", servers_fault=broken)
    if warnings := answer.get("warnings"):
        raise _Unusable(f"gave an answer that may be partial, with warnings: {str(warnings)[:_SHOWN]}")
    if answer.get("isPartial"):  # as VictoriaMetrics says that a part of its stores did not answer
        raise _Unusable("gave an answer that it says is partial")
    data = answer.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind != wanted or not isinstance(result, list):
        raise _Unusable(f"gave a result of type {kind!r}, wanted is {wanted!r}")


# Who may ask, and when.


class _Lanes:
    """
    The threads that ask, shared among releases.

        any release                                   all threads, a breaker for all
        one with a slow question in the last minute   half of them, with all its like; a breaker of its own

    One team's questions about thousands of series would keep every other team's breach from being seen otherwise: they
    would stand before all others, and their timeouts would look like a server that must be left alone.
    """

    def __init__(self, threads: int, *, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._permits = threading.BoundedSemaphore(threads)
        self._quick = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._patient = ThreadPoolExecutor(max(1, threads // 2), thread_name_prefix="prometheus-slow")
        self._new_breaker = partial(_Breaker, clock=clock, jitter=jitter)
        self._breaker = self._new_breaker()
        self._slow: dict[_Who, _Slow] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        for pool in (self._quick, self._patient):
            pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, who: _Who, ask: Callable[[], _Answer | _Failure]) -> _Answer | _Failure:
        """Return what *ask* returns, called in a thread when it is the turn of *who*."""
        loop = asyncio.get_running_loop()
        if not self._slow_now(who):
            # Its questions before this one may turn out slow while this one waits.
            answered = await loop.run_in_executor(self._quick, self._unless_slow, who, ask)
            if answered:
                return answered[0]
        return await loop.run_in_executor(self._patient, self._timed, who, ask)

    def _unless_slow(self, who: _Who, ask: Callable[[], _Answer | _Failure]) -> tuple[_Answer | _Failure] | None:
        return None if self._slow_now(who) else (self._timed(who, ask),)

    def _timed(self, who: _Who, ask: Callable[[], _Answer | _Failure]) -> _Answer | _Failure:
        slow = self._slow_now(who)
        breaker = slow.breaker if slow else self._breaker
        if message := breaker.refuses():
            return _Failure(message, servers_fault=False)
        with self._permits:
            began = self._clock()
            answer = ask()
            ended = self._clock()
        if ended - began > SLOW_SECONDS:
            breaker = self._note_slow(who, ended)
        if not isinstance(answer, _Failure):
            breaker.succeeded()
        elif answer.servers_fault:
            breaker.failed(answer.message)
        return answer

    def _slow_now(self, who: _Who) -> "_Slow | None":
        with self._lock:
            slow = self._slow.get(who)
            return slow if slow and slow.until > self._clock() else None

    def _note_slow(self, who: _Who, now: float) -> "_Breaker":
        with self._lock:
            self._slow = {it: slow for it, slow in self._slow.items() if slow.until > now}
            before = self._slow.get(who)
            self._slow[who] = _Slow(now + SLOW_MEMORY_SECONDS, before.breaker if before else self._new_breaker())
            return self._slow[who].breaker


@dataclass(frozen=True, slots=True)
class _Slow:
    """Until when a release counts as slow, and how the server takes its questions."""

    until: float
    breaker: "_Breaker"


# What is remembered between ticks.


@dataclass(slots=True)
class _Breaker:
    """
    Leaves a struggling server alone: after three failures in a row for a second, then twice as long, up to 5.

    Half of each pause is random, so that many operators do not come back at once. Used by all threads of the pool.
    """

    clock: Callable[[], float]
    jitter: Callable[[], float]
    _failures: int = 0
    _closed_at: float = 0.0
    _last: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuses(self) -> str | None:
        """Return why nothing is asked now; None when asking is fine."""
        with self._lock:
            left = self._closed_at - self.clock()
            if self._failures < _FAILURES_TO_OPEN or left <= 0:
                return None
            return f"is left alone for {left:.1f} s after {self._failures} failures in a row; the last: {self._last}"

    def failed(self, message: str) -> None:
        """Note a failure."""
        with self._lock:
            self._failures += 1
            self._last = message
            over = self._failures - _FAILURES_TO_OPEN
            if over >= 0:
                pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(over, 10), _LONGEST_PAUSE_SECONDS)
                self._closed_at = self.clock() + pause * (0.5 + 0.5 * self.jitter())

    def succeeded(self) -> None:
        """Note that the server answers."""
        with self._lock:
            self._failures = 0


@dataclass(slots=True)
class _Kept(Generic[_Key, _Value]):
    """Values by what was asked; the longest unused go first when they have too many rows."""

    _values: OrderedDict[_Key, tuple[_Value, int]] = field(default_factory=OrderedDict)
    _rows: int = 0

    def get(self, key: _Key) -> _Value | None:
        """Return what was kept."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: _Key, value: _Value, rows: int) -> None:
        """Keep *value* in place of an earlier one."""
        self._rows += rows - self._values.pop(key, (value, 0))[1]
        self._values[key] = (value, rows)
        while self._rows > MOST_KEPT_ROWS:
            self._rows -= self._values.popitem(last=False)[1][1]


def _rows(counts: StageCounts) -> int:
    bins = sum(len(it.slices) * (len(it.bounds) + 1) for it in counts.histograms.values())
    return 1 + sum(len(it.slices) for it in counts.counts.values()) + bins
