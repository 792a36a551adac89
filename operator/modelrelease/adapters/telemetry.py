"""
What the operator says of itself: metrics for Prometheus, lines for a log.

One line per decision that is new, not one per tick; one traceback per fault, not one per retry. The metrics count all.
"""

import logging
import sys
from collections.abc import Callable
from typing import Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from structlog.typing import Processor

from modelrelease.adapters.errors import AdapterError, Conflict, NotFound, NotLeading, Refused, Unreachable
from modelrelease.api.parse import InvalidSpec, Release
from modelrelease.core.decide import Decision

Key = tuple[str, str]

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def configure_logging(form: Literal["json", "text"], level: str) -> None:
    """Send every line, those of libraries too, to standard error: one JSON object each, or for a terminal."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if form == "text":
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Every event and every request is a line otherwise.
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class Telemetry:
    """
    The operator's own metrics and log lines.

    Args:
        registry: Where the metrics are registered; one a process, or one a test.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register every metric."""
        self.registry = registry
        self._log = structlog.get_logger("modelrelease")
        self._decided: dict[Key, tuple[str, str, str]] = {}
        self._failed: dict[Key, str] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._reconciles = Counter(
            "modelrelease_reconciles", "Reconciles, by how they ended.", ["outcome"], registry=registry
        )
        self._seconds = Histogram(
            "modelrelease_reconcile_duration_seconds", "Length of a reconcile.", buckets=_SECONDS, registry=registry
        )
        self._decisions = Counter(
            "modelrelease_decisions", "Decisions taken, by kind; a Hold is one too.", ["decision"], registry=registry
        )
        self._conflicts = Counter(
            "modelrelease_status_conflicts", "Writes refused because the object had changed.", registry=registry
        )
        self._events_failed = Counter(
            "modelrelease_events_failed", "Kubernetes Events that could not be written.", registry=registry
        )
        self._bad_samples = Counter(
            "modelrelease_bad_samples", "Samples from Prometheus that were no usable numbers.", registry=registry
        )
        self._stage = Gauge(
            "modelrelease_release_info",
            "1 for the stage that each release is in.",
            ["namespace", "release", "stage"],
            registry=registry,
        )
        self._depth = Gauge("modelrelease_queue_depth", "Releases in the queue or running.", registry=registry)
        self._overdue = Gauge(
            "modelrelease_queue_overdue_seconds", "How long the longest-waiting release waits.", registry=registry
        )
        self._failing = Gauge(
            "modelrelease_releases_failing", "Releases whose last reconcile raised.", registry=registry
        )
        self._leader = Gauge(
            "modelrelease_leader", "1 on the replica that acts, 0 on one that stands by.", registry=registry
        )

    def watch_leadership(self, leads: Callable[[], bool]) -> None:
        """Ask whether this replica leads whenever somebody asks for the metrics."""
        self._leader.set_function(lambda: float(leads()))

    def watch_queue(
        self, *, depth: Callable[[], float], overdue: Callable[[], float], failing: Callable[[], float]
    ) -> None:
        """Read the queue's numbers whenever somebody asks for the metrics."""
        self._depth.set_function(depth)
        self._overdue.set_function(overdue)
        self._failing.set_function(failing)

    def decided(self, release: Release | InvalidSpec, stage: str, decision: Decision) -> None:
        """Count a decision, and log it if it is not the one of the tick before."""
        kind, reason = type(decision).__name__, str(getattr(decision, "reason", ""))
        self._decisions.labels(kind).inc()
        key = (release.namespace, release.name)
        before = self._decided.get(key)
        if before == (stage, kind, reason):
            return
        self._decided[key] = (stage, kind, reason)
        if before:
            self._remove_stage(key, before[0])
        self._stage.labels(*key, stage).set(1)
        self._log.info(
            "decided",
            release="/".join(key),
            generation=release.generation,
            stage=stage,
            decision=kind,
            reason=reason,
            message=decision.message,
        )

    def forgot(self, key: Key) -> None:
        """Forget a release that is gone."""
        self._failed.pop(key, None)
        if before := self._decided.pop(key, None):
            self._remove_stage(key, before[0])

    def _remove_stage(self, key: Key, stage: str) -> None:
        self._stage.remove(*key, stage)

    def reconciled(self, key: Key, seconds: float) -> None:
        """Count a reconcile that ended well; say so if the one before did not."""
        self._reconciles.labels("ok").inc()
        self._seconds.observe(seconds)
        if self._failed.pop(key, None):
            self._log.info("reconciles again", release="/".join(key))

    def failed(self, key: Key, seconds: float, error: Exception, *, attempt: int) -> None:
        """Count a reconcile that raised, and log it unless the attempt before failed in the same way."""
        outcome = _outcome(error)
        self._reconciles.labels(outcome).inc()
        self._seconds.observe(seconds)
        if outcome == "conflict":
            self._conflicts.inc()
        text = f"{type(error).__name__}: {error}"
        if self._failed.get(key) == text:
            return
        self._failed[key] = text
        # What the outside does to us is told in a line; a fault of our own needs the traceback.
        fault = error if outcome == "fault" else None
        level = logging.ERROR if fault else logging.WARNING
        self._log.log(
            level,
            "reconcile failed",
            release="/".join(key),
            outcome=outcome,
            error=text,
            attempt=attempt,
            exc_info=fault,
        )

    def event_failed(self) -> None:
        """Count a Kubernetes Event that could not be written."""
        self._events_failed.inc()

    def bad_samples(self, number: int) -> None:
        """Count samples that were no usable numbers."""
        self._bad_samples.inc(number)


def _outcome(error: Exception) -> str:
    match error:
        case Conflict():
            return "conflict"
        case NotFound():
            return "not_found"
        case Refused():
            return "refused"
        case NotLeading():
            return "not_leading"
        case Unreachable() | AdapterError():
            return "unreachable"
        case TimeoutError():
            return "timeout"
        case _:
            return "fault"
