"""What a rollout's stages can prove is told while the candidate's pods start: when it is asked, and in which words."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from modelrelease.api.status import PENDING
from modelrelease.core.announce import announce
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, BinCounts, SliceCounts, StageCounts
from modelrelease.core.decide import Cancel, Hold, Start, decide
from modelrelease.core.observation import Workload
from modelrelease.core.outlook import HISTORY, history_window, stage_forecasts
from modelrelease.core.transition import transition
from tests.builders import NO_METRICS, NOW, a_release, a_situation, a_status, revision_of, seen
from tests.core.judging import country

HALF_HOUR = 1800.0
BUSY = {"DE": 900.0, "FR": 100.0}
"""Requests a second by country."""


def a_history(per_second=None, *, rate=0.02, errors=0.0001, seconds=HALF_HOUR):
    """Return what the baseline alone saw under all of the traffic."""
    per_second = BUSY if per_second is None else per_second
    parts = tuple(country(name) for name in per_second)
    of = np.array([[n * seconds, 0.0] for n in per_second.values()])
    whole = of.sum(axis=0, keepdims=True)
    counts = {
        ("block-rate", "country"): SliceCounts(parts, rate * of, of),
        ("block-rate", OVERALL_DIMENSION): SliceCounts((OVERALL,), rate * whole, whole),
        ("error-rate", OVERALL_DIMENSION): SliceCounts((OVERALL,), errors * whole, whole),
    }
    return StageCounts("history", "canary", seconds, counts)


def contract_with(**clause):
    """Return the contract of ``a_release`` with other promises about the block rate."""
    contract = a_release().spec.contract.model_dump(by_alias=True, exclude_none=True)
    contract["clauses"][0] = {"name": "steady", "metric": "block-rate", "per": ["country"], **clause}
    return contract


EASY = contract_with(within="20%")
HARD = contract_with(within="1.5%")


def pending(**changes):
    """Return the status of a rollout whose candidate's pods are starting."""
    return a_status(PENDING, **changes)


# When the history is read.


@pytest.mark.parametrize(
    ("status", "pods", "want"),
    [
        pytest.param(pending(entered=timedelta(hours=2)), 0, HISTORY, id="half an hour"),
        pytest.param(pending(entered=timedelta(minutes=5)), 0, timedelta(minutes=5), id="a young stable revision"),
        pytest.param(pending(entered=timedelta(seconds=59)), 0, None, id="too young to tell anything"),
        pytest.param(pending(entered=timedelta(hours=2)), 2, HISTORY, id="a pod is missing still"),
        pytest.param(pending(entered=timedelta(hours=2), replicas=3), 3, None, id="the rollout can go on"),
        pytest.param(pending(stable=None), 0, None, id="nothing to compare with"),
        pytest.param(a_status("shadow"), 0, None, id="a stage is open"),
        pytest.param(a_status("Completed", candidate=None), 0, None, id="no rollout"),
        pytest.param(pending(candidate="3", entered=timedelta(hours=2)), 0, None, id="another revision is wanted"),
    ],
)
def test_the_history_is_read_while_the_candidate_starts(status, pods, want):
    """Of the last half hour, or of the time for which the stable revision is what it is."""
    name = revision_of("2").name
    if status.candidate:
        status = status.model_copy(update={"candidate": status.candidate.model_copy(update={"replicas": 3})})
    workloads = {name: Workload(name, 3, available=pods, serving=pods, message="")}
    window = history_window(a_release(), status, workloads, NOW)
    assert (window and window.end - window.start) == want
    assert window is None or window.end == NOW


def test_a_candidate_without_a_deployment_is_not_there_yet():
    assert history_window(a_release(), pending(entered=timedelta(hours=2)), {}, NOW) is not None


def test_a_forecast_is_made_once_a_rollout():
    status = pending(entered=timedelta(hours=2))
    told = status.model_copy(update={"forecast": stage_forecasts(a_release(), a_history())})
    assert history_window(a_release(), told, {}, NOW) is None


# What it says.


def test_every_stage_tells_its_slowest_clause_and_slice():
    shadow, canary_10, canary_50, full = stage_forecasts(a_release(contract=EASY), a_history())
    assert [it.stage for it in (shadow, canary_10, canary_50, full)] == ["shadow", "canary-10", "canary-50", "full"]
    assert canary_10.slowest == "clause steady country=FR"
    assert (
        canary_10.message == f"clause steady needs about {canary_10.passes_after} in country=FR; the deadline is 60 min"
    )
    assert canary_10.deadline == "60 min"
    # At full nobody is left to compare with.
    assert full.slowest == "clause errors all traffic"


def test_more_traffic_needs_less_time():
    slow, fast = (
        stage_forecasts(a_release(contract=EASY), a_history({"DE": n}))[1].passes_after for n in (200.0, 1000.0)
    )
    assert slow.endswith(" min")
    assert fast.endswith((" s", " min"))
    assert stage_forecasts(a_release(contract=EASY), a_history({"DE": 200.0}))[1].in_time


def test_a_stage_that_cannot_conclude_says_how_long_it_needs():
    _, canary, *_ = stage_forecasts(a_release(contract=HARD), a_history())
    assert not canary.in_time
    assert canary.slowest == "clause steady all traffic"
    assert canary.passes_after.endswith((" h", " days"))
    assert canary.message == f"clause steady needs about {canary.passes_after} in all traffic; the deadline is 60 min"


def test_what_never_passes_has_no_time():
    """A baseline above the limit: the candidate can only be as bad."""
    shadow, *_ = stage_forecasts(a_release(contract=EASY), a_history(errors=0.002))
    assert (shadow.in_time, shadow.passes_after) == (False, None)
    assert shadow.message.startswith("clause errors cannot pass in all traffic at the baseline's rates and traffic; ")


def test_an_expected_slice_that_is_silent_has_nothing_to_judge():
    contract = contract_with(within="20%")
    contract["slices"][0]["expected"] = ["DE", "MT"]
    shadow, *_ = stage_forecasts(a_release(contract=contract), a_history())
    assert (shadow.in_time, shadow.slowest) == (False, "clause steady country=MT")
    assert "clause steady has nothing to judge in country=MT; " in shadow.message


def test_thin_slices_are_not_waited_for():
    shadow, *_ = stage_forecasts(a_release(contract=EASY), a_history({**BUSY, "MT": 0.01}))
    assert shadow.slowest != "clause steady country=MT"


def test_several_slices_that_are_too_slow_are_counted():
    canary = stage_forecasts(a_release(contract=contract_with(within="50%")), a_history({"DE": 3.0, "FR": 2.0}))[1]
    assert canary.slowest == "clause steady country=FR"
    assert " in country=FR (and 3 more); " in canary.message


def test_a_histogram_too_coarse_is_told_before_anything_is_released():
    release = a_release(
        contract={
            "metrics": [{"name": "latency", "quantile": {"histogram": "latency_seconds", "q": "0.99"}}],
            "clauses": [{"name": "fast", "metric": "latency", "noWorse": "10%"}],
        }
    )
    bins = np.array([[[9e5, 0.0], [9e4, 0.0], [1e4, 0.0]]])
    counted = {("latency", OVERALL_DIMENSION): BinCounts((OVERALL,), np.array([0.1, 1.0]), bins)}
    shadow, *_ = stage_forecasts(release, StageCounts("history", "canary", HALF_HOUR, {}, counted))
    assert shadow.message.startswith("clause fast cannot pass in all traffic: the histogram's buckets are too wide; ")


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(StageCounts("history", "canary", HALF_HOUR, {}), id="nothing was asked"),
        pytest.param(a_history({"DE": 0.0}), id="nothing was counted"),
    ],
)
def test_without_a_history_nothing_is_told(history):
    assert stage_forecasts(a_release(), history) == []


def test_a_clause_whose_metric_was_not_counted_is_left_out():
    """The history is read like a canary: what is judged in other stages only is not known, which is not never."""
    contract = contract_with(within="20%", stages=["full"])
    history = a_history()
    counts = {key: table for key, table in history.counts.items() if key[0] != "block-rate"}
    told = stage_forecasts(a_release(contract=contract), replace(history, counts=counts))
    assert {it.slowest for it in told} == {"clause errors all traffic"}


def test_an_absolute_clause_needs_nothing_of_the_baseline():
    """The candidate may count what the baseline does not; a comparison without a baseline never ends."""
    history = a_history()
    nothing = SliceCounts((OVERALL,), np.zeros((1, 2)), np.zeros((1, 2)))
    for silent, want in (("error-rate", True), ("block-rate", False)):
        counts = {key: nothing if key == (silent, OVERALL_DIMENSION) else it for key, it in history.counts.items()}
        told = stage_forecasts(a_release(contract=EASY), replace(history, counts=counts))
        assert told[0].in_time is want


# From status to status.


def tick(status, history, *, release=None, pods=0):
    """Return the status after a tick that read *history*, and its events."""
    release = release or a_release(contract=HARD)
    observation = replace(seen(available={"1": 3, "2": pods}), history=history)
    situation = a_situation(status, release=release, observation=observation)
    after = transition(situation, decide(situation))
    return after, [event for event in announce(status, after) if event.reason == "StageMayNotConclude"]


def test_the_forecast_is_recorded_and_warned_of_once():
    """Whatever else the tick does; Ready, and when the rollout goes on, is no matter of the forecast."""
    before = pending(entered=timedelta(hours=2), unavailable=timedelta(minutes=1))
    after, events = tick(before, (a_history(),))
    assert [stage.stage for stage in after.forecast if not stage.in_time] == ["shadow", "canary-10", "canary-50"]
    (event,) = events
    assert event.type == "Warning"
    assert event.message == f"stage shadow: {after.forecast[0].message}; nor may canary-10, canary-50"
    without, _ = tick(before, None)
    assert after.conditions == without.conditions
    again, events = tick(after, (a_history(),))
    assert (again.forecast, events) == (after.forecast, [])


def test_stages_that_conclude_are_no_event():
    before = pending(entered=timedelta(hours=2), unavailable=timedelta(minutes=1))
    after, events = tick(before, (a_history(errors=0.0),), release=a_release(contract=EASY))
    assert all(stage.in_time for stage in after.forecast)
    assert after.forecast
    assert events == []


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(None, id="not asked"),
        pytest.param(NO_METRICS, id="Prometheus is away"),
        pytest.param((), id="no answer"),
        pytest.param((a_history({"DE": 0.0}),), id="nothing counted"),
    ],
)
def test_what_is_not_known_is_not_told(history):
    before = pending(entered=timedelta(hours=2), unavailable=timedelta(minutes=1))
    after, events = tick(before, history)
    assert (after.forecast, events, after.metrics_missing_since) == ([], [], None)


def test_a_forecast_outlives_its_rollout_and_goes_with_the_next_candidate():
    told = stage_forecasts(a_release(contract=HARD), a_history())
    in_canary = a_status().model_copy(update={"forecast": told})
    situation = a_situation(in_canary)
    assert transition(situation, decide(situation)).forecast == told
    assert transition(situation, Cancel("back")).forecast == told
    assert transition(situation, Start("anew")).forecast == []
    done = a_situation(a_status("Completed", stable="2", candidate=None).model_copy(update={"forecast": told}))
    assert isinstance(decide(done), Hold)
    assert transition(done, decide(done)).forecast == told
