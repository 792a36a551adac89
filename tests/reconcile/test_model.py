"""
Whatever happens, in whatever order: every promise holds after every reconcile.

The same runs each time, 100,000 steps in about three minutes; ``make soak`` draws other ones, and more (MODEL_RUNS).
"""

import os
import time
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.reconcile.machine import TALLY, Releases
from tests.reconcile.memory import remembering

RUNS = int(os.environ.get("MODEL_RUNS", "0"))
CI_RUNS, CI_STEPS = 910, 100_000
STEPS = 50
LONGEST_SHRINKING_SECONDS = 120


@pytest.mark.slow
def test_nothing_is_lost(capsys: pytest.CaptureFixture[str]):
    """A broken promise is told within minutes, with the shortest way to it that was found by then."""
    began = time.process_time()
    runs = settings(
        max_examples=RUNS or CI_RUNS,
        stateful_step_count=STEPS,
        derandomize=not RUNS,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        with (
            remembering(),
            mock.patch("hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS", LONGEST_SHRINKING_SECONDS),
        ):
            run_state_machine_as_test(Releases, settings=runs)
    finally:
        with capsys.disabled():
            print(f"\n{TALLY}\n  in {time.process_time() - began:.0f} s of one core")
    assert TALLY.reconciles > 20 * (RUNS or CI_RUNS), "most runs end before they have begun"
    assert RUNS or TALLY.steps + TALLY.reconciles >= CI_STEPS
    wanted = {"Advance", "Complete", "Start", "Prepare", "Cancel", "RollBack ContractBreached", "died"}
    wanted |= {"Hold AwaitingApproval", "RollBack Requested", "Approved", "RetryRequested", "PromotionRequested"}
    assert wanted <= set(TALLY.happened), "what never happens is not tested"
