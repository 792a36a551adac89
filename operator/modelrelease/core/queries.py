"""
Which questions to ask Prometheus about a stage. Pure; an adapter does the asking, ``answers`` understands.

One question per counter and set of slice labels, whatever the number of slices, for both columns at one moment:

    sum by (revision, <slice labels>) (parts of the rise in the window; see counting)

A ratio is two counters; a rate is one, and time. Two questions may be answered by two servers, or before and after a
scrape: so both answers of a ratio also tell when the newest samples of its pods were scraped. A histogram is asked for
twice, once for its buckets as counters, with their bound ``le`` as one more label, and once as native histograms: only
Prometheus knows which of the two it has.

The columns are usually two revisions, told apart by the label ``revision``. They can also be two halves of one
revision's pods: the same questions, with the half in place of the revision.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from modelrelease.api.contract import Clause, Contract, Distribution, Quantile, Rate, Ratio
from modelrelease.api.parse import Release
from modelrelease.api.selectors import Matcher, Selector, parse_selector, quoted
from modelrelease.api.status import StageRecord
from modelrelease.core.counting import Frame, counter_rise, duration, histogram_rise
from modelrelease.core.counts import OVERALL_DIMENSION

REVISION: Final = "revision"
BOUND: Final = "le"

SCRAPED: Final = "modelrelease_scraped"
"""Label of what an answer says about its samples and not about counts."""

LEAST_SILENCE_SCRAPES: Final = 4
"""Scrapes for which no request may come in the shortest of bakes."""

SWINGS_SPAN: Final = "10m"
"""Time before the end of a window in which counters are looked at for swings."""

MOST_SWINGS: Final = 2
"""Swings of a counter in that time that are let pass, however few scrapes there were."""

SCRAPES_A_SWING: Final = 16
"""A counter that swings more often than once in so many scrapes counts nothing."""

_HALF: Final = "modelrelease_half"
_HALVES: Final = ("first", "second")


@dataclass(frozen=True, slots=True)
class StageWindow:
    """
    The time of a stage.

    Attributes:
        name: Name of the stage.
        kind: ``shadow``, ``canary`` or ``full``.
        start, end: When it began, and when it ended or now; UTC.
        percent: Share of the requests, or of their copies, that the candidate is to get; None when it is not known.
        served_before: Whether baseline and candidate had served requests before it began: what they count then is no
            part of it.
    """

    name: str
    kind: str
    start: datetime
    end: datetime
    percent: int | None = None
    served_before: tuple[bool, bool] = (False, False)


def begins_after(scrape_interval: timedelta) -> timedelta:
    """Return how long after the start of a stage, a whole second, its evidence begins."""
    return scrape_interval + timedelta(seconds=1)


def evidence_window(
    stage: StageRecord, now: datetime, scrape_interval: timedelta, *, first: bool = False
) -> StageWindow:
    """
    Return the window of a stage's evidence, up to *now* while it is open; before its *first* one, no request reaches a
    candidate.

    It begins a scrape after the stage did, whose start is a whole second. A rise counts from the last sample before its
    window: by then each pod has one that was taken after the route had come into place, so no request counts that was
    shared as an earlier stage asked.
    """
    end = stage.end_time or now
    start = stage.start_time + begins_after(scrape_interval)
    return StageWindow(stage.name, stage.kind, min(start, end), end, stage.percent, served_before=(True, not first))


@dataclass(frozen=True, slots=True)
class Query:
    """
    An instant query.

    Attributes:
        text: PromQL.
        at: Moment of evaluation in Unix milliseconds.
    """

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class RatioQueries:
    """
    The two counters of a ratio, cut by one dimension.

    Attributes:
        metric: Name of the metric.
        dimension: Name of the dimension; ``""`` is all traffic.
        labels: Labels that name its slices.
        events, of: The questions; the answers also tell of which samples they are.
    """

    metric: str
    dimension: str
    labels: tuple[str, ...]
    events: Query
    of: Query

    @property
    def queries(self) -> tuple[Query, ...]:
        """Both questions."""
        return (self.events, self.of)


@dataclass(frozen=True, slots=True)
class RateQueries:
    """
    The counter of a rate, cut by one dimension.

    Attributes:
        metric, dimension, labels: As of a ratio.
        events: The question.
        seconds: By column, the time in which it would have seen all of the traffic.
    """

    metric: str
    dimension: str
    labels: tuple[str, ...]
    events: Query
    seconds: tuple[float, float]

    @property
    def queries(self) -> tuple[Query, ...]:
        """The question."""
        return (self.events,)


@dataclass(frozen=True, slots=True)
class HistogramQueries:
    """
    A histogram, cut by one dimension.

    Attributes:
        metric, dimension, labels: As of a ratio.
        classic: Asks for its buckets, by bound.
        native: Asks for it as native histograms.
    """

    metric: str
    dimension: str
    labels: tuple[str, ...]
    classic: Query
    native: Query

    @property
    def queries(self) -> tuple[Query, ...]:
        """Both questions."""
        return (self.classic, self.native)


MetricQueries = RatioQueries | RateQueries | HistogramQueries


@dataclass(frozen=True, slots=True)
class StageQueries:
    """
    All questions about one stage.

    Attributes:
        stage, kind, percent: The stage.
        seconds: Length of the window.
        until: End of the window, Unix seconds.
        label: The label of an answer that tells its column.
        columns: Its values, baseline and candidate; None leaves a column 0.
        metrics: Questions by metric and dimension; none when the window is still empty.
        newest: Asks for the Unix time of every pod's newest sample; None when the window is empty, or nobody cares.
        coverage: Asks in how many steps of the window the candidate was scraped; None likewise.
        service: Asks in how many of them requests had reached it a short while ago; None likewise.
        step: Length of such a step in seconds.
        known: Asks which columns had samples when the window began; None likewise, or when none had to have any.
        served_before: Which of them had to.
        swings: Asks which targets have counters that swing up and down, as none does that counts; None likewise.
    """

    stage: str
    kind: str
    percent: int | None
    seconds: float
    until: float
    label: str
    columns: tuple[str | None, str | None]
    metrics: tuple[MetricQueries, ...]
    newest: Query | None
    coverage: Query | None = None
    service: Query | None = None
    step: float = 0.0
    known: Query | None = None
    served_before: tuple[bool, bool] = (False, False)
    swings: Query | None = None

    @property
    def queries(self) -> frozenset[Query]:
        """The questions about counts, coverage, service, what was known before, and swings, each once."""
        counts = frozenset(query for it in self.metrics for query in it.queries)
        return counts | {it for it in (self.coverage, self.service, self.known, self.swings) if it}


def stage_queries(
    release: Release,
    window: StageWindow,
    baseline: str | None,
    candidate: str,
    *,
    lag: timedelta,
    interval: timedelta | None = None,
) -> StageQueries:
    """
    Return what to ask about *window*, read *lag* before its end so that scrapes under way are in.

    With scrapes every *interval*, also ask how much of the window they cover.
    """
    until = window.end - lag
    frame = Frame.of(window.start, until)
    contract = release.contract
    matchers = arms(release, *([baseline] if baseline is not None else []), candidate)
    pairs = needed(contract, window.kind) if frame else ()
    metrics = {metric for metric, _ in pairs}
    asking = _Asking(contract, frame, matchers, REVISION, window) if frame else None
    candidates = arms(release, candidate)
    return StageQueries(
        stage=window.name,
        kind=window.kind,
        percent=window.percent,
        seconds=frame.width / 1000 if frame else 0.0,
        until=until.timestamp(),
        label=REVISION,
        columns=(baseline, candidate),
        metrics=asking.about(pairs) if asking else (),
        newest=asking.newest(metrics) if asking else None,
        coverage=asking.coverage(metrics, candidates, interval) if asking and interval else None,
        service=(
            asking.service(metrics, candidates, interval, longest_silence(release, window.name, interval))
            if asking and interval
            else None
        ),
        step=frame.step / 1000 if frame else 0.0,
        known=asking.known(metrics) if asking and any(window.served_before) else None,
        served_before=window.served_before,
        swings=asking.swings(metrics, interval) if asking and interval else None,
    )


def longest_silence(release: Release, stage: str, interval: timedelta) -> timedelta:
    """
    Return how long no request may reach the candidate before time does not count for the bake of *stage* any more.

    A quarter of the bake: users who are gone do not bake anything, and neither nights nor few users stop a long watch.
    """
    bakes = (it.bake_time for it in release.spec.plan_stages if it.name == stage)
    return max(next(bakes, timedelta(0)) / 4, LEAST_SILENCE_SCRAPES * interval)


def half_queries(
    release: Release, window: StageWindow, revision: str, pods: tuple[Sequence[str], Sequence[str]], *, lag: timedelta
) -> StageQueries | None:
    """Return what to ask about two halves of a revision's *pods* (label ``instance``); None if there is nothing."""
    until = window.end - lag
    frame = Frame.of(window.start, until)
    contract = release.contract
    pairs = comparable(contract, window.kind)
    if frame is None or not pairs:
        return None
    halves = tuple("|".join(map(re.escape, half)) for half in pods)
    return StageQueries(
        stage=window.name,
        kind=window.kind,
        percent=None,
        seconds=frame.width / 1000,
        until=until.timestamp(),
        label=_HALF,
        columns=_HALVES,
        metrics=_Asking(contract, frame, arms(release, revision), _HALF, window, halves).about(pairs),
        newest=None,
    )


def needed(contract: Contract, kind: str) -> tuple[tuple[str, str], ...]:
    """
    Return the (metric, dimension) pairs that stages of this *kind* are judged on, each once; ``""`` is all traffic.

    Traffic is always counted, if only by the first metric that can: it has to be seen to flow, and a rate counts events
    without knowing whether there were any requests.
    """
    pairs = judged(contract.clauses, kind)
    counting = [metric.name for metric in contract.metrics if not metric.rate]
    if not {metric for metric, _ in pairs}.isdisjoint(counting):
        return pairs
    return (*pairs, (counting[0], OVERALL_DIMENSION))


def comparable(contract: Contract, kind: str) -> tuple[tuple[str, str], ...]:
    """
    Return the (metric, dimension) pairs of which two halves of the baseline tell something in stages of this *kind*.

    That is what is compared with the baseline. What half of the pods must be to have half of the traffic, a rate cannot
    tell; and at full nobody is left on the baseline.
    """
    pairs = judged((clause for clause in contract.clauses if clause.needs_baseline), kind) if kind != "full" else ()
    return tuple((metric, dimension) for metric, dimension in pairs if not contract.metric(metric).rate)


def judged(clauses: Iterable[Clause], kind: str) -> tuple[tuple[str, str], ...]:
    """Return the (metric, dimension) pairs that *clauses* judge in stages of this *kind*, each once."""
    there = [clause for clause in clauses if clause.judged_in(kind)]
    return tuple(dict.fromkeys((it.metric, name) for it in there for name in (OVERALL_DIMENSION, *(it.per or ()))))


def arms(release: Release, *revisions: str) -> tuple[Matcher, ...]:
    """Return what the series of *revisions* have in common."""
    return (
        Matcher("namespace", "=", release.namespace),
        Matcher("release", "=", release.name),
        Matcher(REVISION, "=~", "|".join(map(re.escape, revisions))),
    )


def witnesses(contract: Contract, metrics: Iterable[str], matchers: Sequence[Matcher]) -> list[Selector]:
    """Return few series of every pod that counts any of *metrics*, each selector once, in a fixed order."""
    found: set[Selector] = set()
    for name in metrics:
        match contract.metric(name).measured:
            case Ratio(of=text) | Rate(events=text):
                found.add(parse_selector(text).narrowed(*matchers))
            case Quantile(histogram=text) | Distribution(histogram=text):
                native = parse_selector(text).narrowed(*matchers)
                found |= {native, _buckets(native).narrowed(Matcher(BOUND, "=", "+Inf"))}
    return sorted(found, key=str)


def _buckets(histogram: Selector) -> Selector:
    """Return the buckets of a classic histogram."""
    return Selector(f"{histogram.metric}_bucket", histogram.matchers)


@dataclass(frozen=True, slots=True)
class _Asking:
    """
    What all questions about one window have in common.

    Attributes:
        contract: Says what to count.
        frame: The window.
        matchers: Which series.
        column: Label that tells the columns apart.
        window: The stage.
        halves: Regular expressions of the pods of each half, when the columns are halves.
    """

    contract: Contract
    frame: Frame
    matchers: tuple[Matcher, ...]
    column: str
    window: StageWindow
    halves: tuple[str, ...] = ()

    def about(self, pairs: Iterable[tuple[str, str]]) -> tuple[MetricQueries, ...]:
        """Return the questions about *pairs* of metric and dimension."""
        return tuple(asked for metric, dimension in pairs if (asked := self._metric(metric, dimension)))

    def newest(self, metrics: Iterable[str]) -> Query:
        """Return the question when the newest sample of any of *metrics* was scraped, pod by pod."""
        series = (f"{it}{self.frame.offset()}" for it in witnesses(self.contract, metrics, self.matchers))
        moments = " or ".join(f"timestamp({it})" for it in series)
        return Query(f"max by ({REVISION}, instance) ({moments})", self.frame.at)

    def known(self, metrics: Iterable[str]) -> Query:
        """
        Return the question which revisions had a sample of any of *metrics*, or were scraped, when the window began.

        A pod that has not counted anything yet is known by ``up``, where the labels of its revision are its target's.
        """
        asked = [Selector("up", self.matchers), *witnesses(self.contract, metrics, self.matchers)]
        then = " or ".join(self.frame.last(it, back=self.frame.width) for it in asked)
        return Query(f"group by ({REVISION}) ({then})", self.frame.at)

    def swings(self, metrics: Iterable[str], interval: timedelta) -> Query:
        """
        Return the question which targets have a counter of any of *metrics* that swings, scraped every *interval*.

        When several processes answer one target in turn, each with its own counts, most falls are counted as restarts,
        and a hundred requests as thousands. What tells them from a process that crashes again and again: one scrape
        later the counter is back where it was before the fall, or it was there for one scrape alone.
        """
        step = round(1000 * interval.total_seconds())
        found = []
        for series, then in self._series(metrics, step):
            now, before, earlier = then
            swing = f"{now} >= {earlier} and ({before} < {earlier} or {before} > {now})"
            span = f"[{SWINGS_SPAN}:{duration(step)}]{self.frame.offset()}"
            swung, scrapes = f"count_over_time(({swing}){span})", f"count_over_time({series})"
            found.append(f"({swung} > {MOST_SWINGS} and {SCRAPES_A_SWING} * {swung} > {scrapes})")
        return Query(f"count by ({REVISION}, instance) ({' or '.join(found)})", self.frame.at)

    def _series(self, metrics: Iterable[str], step: int) -> Iterator[tuple[str, list[str]]]:
        """Yield each counter with its samples in the span, and its value now, a *step* (ms) before, and two before."""
        offsets = ["", *(f" offset {duration(back * step)}" for back in (1, 2))]
        histograms = {
            parse_selector(it.histogram).narrowed(*self.matchers)
            for it in (self.contract.metric(name).measured for name in metrics)
            if isinstance(it, Quantile | Distribution)
        }
        for it in witnesses(self.contract, metrics, self.matchers):
            # Of a native histogram nothing but its count can be compared.
            value = "histogram_count({})" if it in histograms else "{}"
            yield f"{it}[{SWINGS_SPAN}]{self.frame.offset()}", [value.format(f"{it}{offset}") for offset in offsets]

    def coverage(self, metrics: Iterable[str], candidate: Sequence[Matcher], interval: timedelta) -> Query:
        """
        Return the question in how many steps of the window *candidate* had a sample of any of *metrics*.

        With scrapes every *interval*, a sample counts for two of these, so that a late scrape is no gap.
        """
        counts = max(self.frame.step, round(2000 * interval.total_seconds()))
        pods = " or ".join(self.frame.last(it, counts) for it in witnesses(self.contract, metrics, candidate))
        return self._steps(f"group({pods})")

    def service(
        self, metrics: Iterable[str], candidate: Sequence[Matcher], interval: timedelta, silence: timedelta
    ) -> Query:
        """
        Return the question in how many steps of the window *candidate* had counted a request within *silence*.

        With scrapes every *interval*: nobody has asked while every pod counts what it had counted *silence* before. A
        pod that restarts, or was not scraped then, passes for one that was asked, for as long as a silence counts.
        """
        span, back = max(self.frame.step, round(2000 * interval.total_seconds())), round(silence.total_seconds()) * 1000
        counting = [it for it in metrics if not self.contract.metric(it).rate]  # a rate does not know of requests
        asked = []
        for it in witnesses(self.contract, counting, candidate):
            now, then = (self._observed(it, span, moment) for moment in (0, back))
            asked += [f"({now} != {then})", f"({now} > 0 unless {then})"]
        return self._steps(f"group({' or '.join(asked)})")

    def _observed(self, witness: Selector, span: int, back: int) -> str:
        """Return how many requests a series has counted, be it a counter or a native histogram."""
        value = self.frame.last(witness, span, back)
        return f"histogram_count({value})" if self._native(witness) else value

    def _native(self, witness: Selector) -> bool:
        """Return whether a witness is a native histogram, if it is anything; the buckets of a classic one are not."""
        measured = (metric.measured for metric in self.contract.metrics)
        histograms = [it.histogram for it in measured if isinstance(it, Quantile | Distribution)]
        return witness.metric in {parse_selector(text).metric for text in histograms}

    def _steps(self, condition: str) -> Query:
        """Return the question in how many steps of the window *condition* had any value."""
        steps = f"{duration(self.frame.width - 1)}:{duration(self.frame.step)}"
        return Query(f"count_over_time({condition}[{steps}])", self.frame.at)

    def _metric(self, metric: str, dimension: str) -> MetricQueries | None:
        """Return the questions about one metric; None for a rate when the share of the traffic is not known."""
        labels = tuple(self.contract.dimension(dimension).labels) if dimension else ()
        match self.contract.metric(metric).measured:
            case Ratio(events=events, of=of):
                counters = (self._counter(self._selector(text), labels) for text in (events, of))
                return RatioQueries(
                    metric, dimension, labels, *(self._dated(it, self._selector(of)) for it in counters)
                )
            case Rate(events=events):
                seconds = exposure(self.window, self.frame.width / 1000)
                question = self._counter(self._selector(events), labels)
                return RateQueries(metric, dimension, labels, question, seconds) if seconds else None
            case Quantile(histogram=text) | Distribution(histogram=text):
                native = self._selector(text)
                classic = self._counter(_buckets(native), (*labels, BOUND))
                return HistogramQueries(
                    metric, dimension, labels, classic, self._sum(histogram_rise(native, self.frame), labels)
                )

    def _selector(self, text: str) -> Selector:
        return parse_selector(text).narrowed(*self.matchers)

    def _counter(self, selector: Selector, labels: Sequence[str]) -> Query:
        return self._sum(counter_rise(selector, self.frame), labels)

    def _dated(self, counter: Query, series: Selector) -> Query:
        """Return the question about *counter* that also asks when the newest sample of *series* was scraped."""
        if self.column != REVISION:
            return counter
        moments = f"max by ({REVISION}, instance) (timestamp({series}{self.frame.offset()}))"
        return replace(counter, text=f'{counter.text} or label_replace({moments}, "{SCRAPED}", "last", "", "")')

    def _sum(self, parts: str, labels: Sequence[str]) -> Query:
        for name, pods in zip(_HALVES, self.halves, strict=False):
            parts = f'label_replace({parts}, "{_HALF}", "{name}", "instance", {quoted(pods)})'
        return Query(f"sum by ({', '.join((self.column, *labels))}) ({parts})", self.frame.at)


def exposure(window: StageWindow, seconds: float) -> tuple[float, float] | None:
    """
    Return the time in which baseline and candidate would each have seen all of the traffic; None when nobody knows.

    Copies of all requests are assumed of a shadow whose share is not known: it is what shadows are for.
    """
    percent = window.percent
    match window.kind:
        case "shadow":
            return seconds, seconds * (100 if percent is None else percent) / 100
        case "canary":
            return None if percent is None else (seconds * (100 - percent) / 100, seconds * percent / 100)
        case _:
            return 0.0, seconds
