"""When to look again: often where it matters, quietly elsewhere."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.attention import look_again
from modelrelease.core.decide import Hold, RollBack
from modelrelease.core.plan import Plan
from modelrelease.core.verdict import ClauseVerdict
from tests.builders import NO_METRICS, NOW, a_release, a_status, a_verdict

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
BAKING = Hold(Reason.BAKING, "bakes")


def _wait(status, *, finding=None, decision=BAKING, prune_after=None):
    planned = Plan(traffic=None, manifests=(), prune=(), prune_after=prune_after)
    release = a_release(analysis={"interval": "30s"})
    return look_again(release, status, decision, finding, planned, NOW, shortest=5 * SECOND)


def _with_evidence(log_e: float):
    clause = ClauseVerdict.__new__(ClauseVerdict)
    object.__setattr__(clause, "log_e", log_e)
    return replace(a_verdict(Outcome.INCONCLUSIVE), clauses=(clause,))


@pytest.mark.parametrize(
    ("status", "options", "want"),
    [
        pytest.param(a_status(entered=MINUTE), {}, 5 * SECOND, id="a fresh stage: every scrape"),
        pytest.param(a_status(entered=5 * MINUTE), {}, 30 * SECOND, id="an older stage: every interval"),
        pytest.param(
            a_status(entered=5 * MINUTE),
            {"finding": _with_evidence(2.4)},
            2.5 * SECOND,
            id="evidence on its way to a breach",
        ),
        pytest.param(
            a_status(entered=5 * MINUTE), {"finding": _with_evidence(2.2)}, 30 * SECOND, id="evidence that is weak"
        ),
        pytest.param(a_status(entered=5 * MINUTE), {"finding": NO_METRICS}, 30 * SECOND, id="no metrics: no hurry"),
        pytest.param(
            a_status(entered=10 * MINUTE - 7 * SECOND),
            {},
            (7 + 5 + 1) * SECOND,
            id="the bake ends before the interval; it began a scrape and a second later than the stage",
        ),
        pytest.param(a_status("Pending"), {}, 5 * SECOND, id="pods start"),
        pytest.param(a_status("Completed", candidate=None), {}, None, id="nothing to wait for"),
        pytest.param(
            a_status("Completed", candidate=None), {"prune_after": 4 * SECOND}, 4 * SECOND, id="old pods drain"
        ),
        pytest.param(a_status(), {"decision": RollBack(Reason.CONTRACT_BREACHED, "")}, SECOND, id="after a step"),
        pytest.param(
            a_status("Completed"),
            {"decision": Hold(Reason.GATEWAY_NOT_FOUND, "", stalled=True)},
            30 * SECOND,
            id="something that is not watched has to change",
        ),
        pytest.param(
            a_status("RolledBack"),
            {"decision": Hold(Reason.ROLLED_BACK, "", stalled=True)},
            None,
            id="only another order ends it",
        ),
    ],
)
def test_how_long_to_wait(status, options, want):
    """Looking often costs questions, never errors; so it is done where a bad candidate would show."""
    assert want == _wait(status, **options)
