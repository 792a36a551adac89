"""What the operator says of itself."""

import json
import logging
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from modelrelease.adapters.errors import Conflict, NotFound, NotLeading, Overtaken, Refused, Unreachable
from modelrelease.adapters.telemetry import Telemetry
from modelrelease.api.reasons import Reason
from modelrelease.core.decide import Complete, Hold
from tests.builders import a_release

KEY = ("fraud", "radar")
BAKING = Hold(Reason.BAKING, "it bakes")


@pytest.fixture
def telemetry():
    return Telemetry(CollectorRegistry())


def value(telemetry, name, **labels):
    return telemetry.registry.get_sample_value(name, labels)


def test_a_decision_is_logged_once_and_counted_always(telemetry):
    """Ten ticks of baking are one line."""
    with capture_logs() as lines:
        for _ in range(10):
            telemetry.decided(a_release(), "shadow", BAKING)
        telemetry.decided(a_release(), "full", Complete("done"))
    assert [(line["decision"], line["reason"], line["stage"]) for line in lines] == [
        ("Hold", "Baking", "shadow"),
        ("Complete", "", "full"),
    ]
    assert lines[0]["release"] == "fraud/radar"
    assert value(telemetry, "modelrelease_decisions_total", decision="Hold") == 10


def test_a_release_is_shown_in_one_stage_only(telemetry):
    """The metric follows the release, and goes with it."""
    stages = "modelrelease_release_info"
    labels = {"namespace": "fraud", "release": "radar"}
    telemetry.decided(a_release(), "shadow", BAKING)
    telemetry.decided(a_release(), "full", BAKING)
    assert value(telemetry, stages, **labels, stage="shadow") is None
    assert value(telemetry, stages, **labels, stage="full") == 1
    telemetry.forgot(KEY)
    assert value(telemetry, stages, **labels, stage="full") is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(Conflict("changed"), "conflict", id="conflict"),
        pytest.param(Overtaken("changed"), "conflict", id="overtaken"),
        pytest.param(NotLeading("not sent"), "not_leading", id="no lease"),
        pytest.param(NotFound("gone"), "not_found", id="not found"),
        pytest.param(Refused("no"), "refused", id="refused"),
        pytest.param(Unreachable("away"), "unreachable", id="unreachable"),
        pytest.param(TimeoutError(), "timeout", id="timeout"),
        pytest.param(KeyError("x"), "fault", id="a fault of our own"),
    ],
)
def test_failures_are_counted_by_kind_and_logged_once(telemetry, error, outcome):
    """The same trouble again and again is one line; only our own faults bring a traceback."""
    with capture_logs() as lines:
        for attempt in range(1, 4):
            telemetry.failed(KEY, 0.1, error, attempt=attempt)
        telemetry.reconciled(KEY, 0.1)
        telemetry.reconciled(KEY, 0.1)
    assert [line["event"] for line in lines] == ["reconcile failed", "reconciles again"]
    assert (lines[0]["exc_info"] is not None) is (outcome == "fault")
    assert value(telemetry, "modelrelease_reconciles_total", outcome=outcome) == 3
    assert value(telemetry, "modelrelease_reconciles_total", outcome="ok") == 2


def test_the_queue_is_read_when_asked(telemetry):
    """Gauges follow the queue without anybody setting them."""
    depth = [1.0]
    telemetry.watch_queue(depth=lambda: depth[0], overdue=lambda: 0.0, failing=lambda: 0.0)
    depth[0] = 7.0
    assert value(telemetry, "modelrelease_queue_depth") == 7


def test_the_one_that_acts_is_shown(telemetry):
    """One of the replicas has a 1."""
    leads = [False]
    telemetry.watch_leadership(lambda: leads[0])
    assert value(telemetry, "modelrelease_leader") == 0
    leads[0] = True
    assert value(telemetry, "modelrelease_leader") == 1


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_of_all_libraries_have_one_form(form):
    """structlog's and the standard library's lines go the same way, tracebacks included."""
    program = (
        "import logging, structlog\n"
        "from modelrelease.adapters.telemetry import configure_logging\n"
        f"configure_logging({form!r}, 'info')\n"
        "structlog.get_logger('ours').info('decided', release='fraud/radar')\n"
        "logging.getLogger('kopf').warning('theirs %s', 1)\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
        "    structlog.get_logger('ours').error('broken', exc_info=error)\n"
        "structlog.get_logger('ours').debug('too little')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "too little" not in done.stderr
    assert "ZeroDivisionError" in done.stderr
    if form == "json":
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == [
            ("decided", "info"),
            ("theirs 1", "warning"),
            ("broken", "error"),
        ]
        assert all("timestamp" in line for line in lines)


def test_configuring_is_left_to_the_process():
    """Importing the module changes nobody's logging."""
    assert logging.getLogger("aiohttp.access").level == logging.NOTSET
