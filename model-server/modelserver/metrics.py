"""
Slice metrics: what a model server must expose so that a release of it can be judged slice by slice.

Two rules shape this module.

Every request is counted exactly once in each counter, so that both ``sum(model_decisions_total)`` and
``sum by (country) (model_decisions_total)`` are true numbers of requests. Narrow dimensions are therefore *crossed*:
they are labels of one counter. A wide dimension (50 states) would multiply every other one, so it gets its own counter:

    model_decisions_total{decision, country, channel}      crossed dimensions
    model_requests_total{code, country, channel}           the same, failed requests included
    model_decisions_by_state_total{decision, state}        one counter per wide dimension
    model_latency_seconds, model_score                     histograms over all requests, no slice labels
    model_unknown_slice_values_total{slice}                how many undeclared values were counted as "other"
    model_info{release, revision, version}                 always 1

Every known series exists, at 0, from the first scrape: Prometheus cannot see the first value of a series that is born
with it. Every series that can ever exist is bounded when the process starts: values that were not declared are counted
as ``other``, and a product of dimensions beyond `MAX_CELLS` is refused with the advice to declare the widest as wide.

Workers: in a server with several processes prometheus_client merges the files of ``PROMETHEUS_MULTIPROC_DIR`` (BentoML
sets it); what a killed worker counted stays in its file. ``release`` and ``revision`` are no labels here: the scrape
copies them from the pod's labels.
"""

import itertools
import math
import os
from collections.abc import Mapping, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

OTHER = "other"
MAX_CELLS = 500
"""Largest product of crossed dimensions, ``other`` included; each cell is 2 to 5 series in every process."""

TAKEN_LABELS = frozenset({"code", "decision", "instance", "job", "le", "namespace", "pod", "release", "revision"})
"""No slice can be named so: Prometheus would call it ``exported_...``, or prometheus_client refuse it."""

LATENCY_BUCKETS = tuple(round(0.001 * 2 ** (eighth / 8), 6) for eighth in range(97))
"""1 ms to 4.1 s in steps of 9 %: a quantile can be told within 20 % of a 10 % margin, which `quantile` clauses need."""

SCORE_BUCKETS = tuple(step / 20 for step in range(1, 21))
"""Scores in [0, 1] in steps of 0.05."""


class SliceMetrics:
    """The metrics of one model server, registered and at 0 from the start."""

    def __init__(
        self,
        slices: Mapping[str, Sequence[str]],
        decisions: Sequence[str],
        *,
        wide: Mapping[str, Sequence[str]] | None = None,
        codes: Sequence[int] = (200, 500),
        registry: CollectorRegistry = REGISTRY,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """
        Register the metrics and write their zeros.

        Args:
            slices: Crossed dimensions: label name to its known values.
            decisions: What the model can decide; each is a value of the label ``decision``.
            wide: Dimensions with many values, each in a counter of its own, not crossed with anything.
            codes: HTTP status codes whose counters start at 0; others appear when first seen.
            registry: Where to register; prometheus_client's default unless a test gives its own.
            environ: Where ``MODELRELEASE_NAME``, ``_REVISION`` and ``_VERSION`` are read, as the operator sets them.

        Raises:
            ValueError: The crossed dimensions have more than `MAX_CELLS` combinations.
        """
        self._crossed = {name: _with_other(values) for name, values in slices.items()}
        self._wide = {name: _with_other(values) for name, values in (wide or {}).items()}
        self._decisions = frozenset(decisions)
        _refuse_taken_names([*self._crossed, *self._wide])
        _refuse_overlap(self._crossed, self._wide)
        _refuse_explosion(self._crossed)

        self._decisions_total = Counter(
            "model_decisions", "Decisions made.", ["decision", *self._crossed], registry=registry
        )
        self._requests_total = Counter(
            "model_requests", "Requests answered, by HTTP status code.", ["code", *self._crossed], registry=registry
        )
        self._by_wide_total = {
            name: Counter(f"model_decisions_by_{name}", f"Decisions made, by {name}.", ["decision", name],
                          registry=registry)
            for name in self._wide
        }  # fmt: skip
        self._unknown_total = Counter(
            "model_unknown_slice_values", "Slice values counted as other.", ["slice"], registry=registry
        )
        self._latency = Histogram(
            "model_latency_seconds", "Time to answer a request.", buckets=LATENCY_BUCKETS, registry=registry
        )
        self._score = Histogram("model_score", "Scores the model gave.", buckets=SCORE_BUCKETS, registry=registry)
        self._start_at_zero(decisions, codes)
        self._expose_info(registry, environ)

    def observe(
        self,
        *,
        slices: Mapping[str, object],
        seconds: float,
        code: int = 200,
        decision: str | None = None,
        score: float | None = None,
    ) -> None:
        """
        Count one request.

        Args:
            slices: Dimension to the request's value; one that is absent, None or not declared counts as ``other``,
                whatever a request may hold there: a list is no reason to fail it.
            seconds: Time to answer.
            code: HTTP status code of the answer, 100 to 599.
            decision: What the model decided; None when it did not come to a decision.
            score: What the decision was made from, in [0, 1]. One that is no number lies beyond all buckets: a model
                that gives none must not look like one that gives fewer.

        Raises:
            ValueError: *slices* names a dimension that was not declared, or *code* is no HTTP status code.
        """
        if undeclared := slices.keys() - self._crossed.keys() - self._wide.keys():
            known = ", ".join([*self._crossed, *self._wide])
            raise ValueError(f"slices: {sorted(undeclared)} not declared; declared are {known}")
        if not 100 <= code <= 599:
            raise ValueError(f"code: {code} is outside 100..599")

        cell = [self._known_value(name, slices.get(name)) for name in self._crossed]
        self._requests_total.labels(code, *cell).inc()
        self._latency.observe(seconds)
        if score is not None:
            self._score.observe(math.inf if math.isnan(score) else score)
        if decision is not None:
            named = decision if decision in self._decisions else OTHER
            self._decisions_total.labels(named, *cell).inc()
            for name, counter in self._by_wide_total.items():
                counter.labels(named, self._known_value(name, slices.get(name))).inc()

    def _known_value(self, name: str, value: object) -> str:
        known = self._crossed.get(name) or self._wide[name]
        if value is None:
            return OTHER
        if str(value) in known:
            return str(value)
        self._unknown_total.labels(name).inc()
        return OTHER

    def _start_at_zero(self, decisions: Sequence[str], codes: Sequence[int]) -> None:
        # Creating a child is what exposes it, and writes it to the worker's file in multi-process mode.
        for cell in itertools.product(*self._crossed.values()):
            for decision in decisions:
                self._decisions_total.labels(decision, *cell)
            for code in codes:
                self._requests_total.labels(code, *cell)
        for name, counter in self._by_wide_total.items():
            for decision, value in itertools.product(decisions, self._wide[name]):
                counter.labels(decision, value)
        for name in (*self._crossed, *self._wide):
            self._unknown_total.labels(name)

    def _expose_info(self, registry: CollectorRegistry, environ: Mapping[str, str]) -> None:
        # "max" merges the workers into one series; the default would add a pid label.
        info = Gauge(
            "model_info",
            "The release that this server belongs to.",
            ["release", "revision", "version"],
            registry=registry,
            multiprocess_mode="max",
        )
        info.labels(*(environ.get(f"MODELRELEASE_{key}", "") for key in ("NAME", "REVISION", "VERSION"))).set(1)


def _with_other(values: Sequence[str]) -> dict[str, None]:
    """Return the values in order and without repetition, `OTHER` last unless declared."""
    return dict.fromkeys([*map(str, values), OTHER])


def _refuse_taken_names(names: Sequence[str]) -> None:
    if taken := sorted(set(names) & TAKEN_LABELS):
        raise ValueError(
            f"slices: {taken} are labels that these metrics or the scrape set themselves, and a contract would not see "
            "yours; choose other names"
        )


def _refuse_overlap(crossed: Mapping[str, object], wide: Mapping[str, object]) -> None:
    if both := crossed.keys() & wide.keys():
        raise ValueError(f"slices: {sorted(both)} declared both as crossed and as wide; choose one")


def _refuse_explosion(crossed: Mapping[str, Mapping[str, None]]) -> None:
    sizes = {name: len(values) for name, values in crossed.items()}
    cells = math.prod(sizes.values())
    if cells > MAX_CELLS:
        widest = max(sizes, key=lambda name: sizes[name])
        product = " x ".join(f"{name} ({size})" for name, size in sizes.items())
        raise ValueError(
            f"slices: {product} = {cells} combinations, at most {MAX_CELLS} allowed (other included); "
            f"declare {widest!r} as wide= to give it a counter of its own"
        )
