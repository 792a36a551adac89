"""Intervals of the change: they hold what was seen, and lie beyond the limit exactly where a slice is named."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelrelease.api.contract import Contract
from modelrelease.api.quantities import Unit, parse_margin
from modelrelease.api.reasons import Outcome
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, StageCounts
from modelrelease.core.judge import judge
from modelrelease.core.report import signed
from tests.core.judging import clause_of, table


def verdict_of(metric, clause, *stages, design_effect=1.0):
    """Return what *clause* finds over all traffic, from the (events, of) of both arms in each stage."""
    contract = Contract.model_validate(
        {
            "metrics": [
                {"name": "errors", "ratio": {"events": "errors", "of": "requests"}},
                {"name": "crashes", "rate": {"events": "crashes"}},
            ],
            "clauses": [{"name": "it", "metric": metric, **clause}],
        }
    )
    evidence = tuple(
        StageCounts(f"canary-{i}", "canary", 600, {(metric, OVERALL_DIMENSION): table({OVERALL: arms})})
        for i, arms in enumerate(stages)
    )
    verdict = judge(contract, evidence, error_budget=0.01, has_baseline=True, design_effect=design_effect)
    return clause_of(verdict, "it").overall


NOTHING = (0.0, 0.0)


@pytest.mark.parametrize(
    ("metric", "clause", "events", "of", "low", "high"),
    [
        pytest.param("crashes", {"atMost": "5"}, 1, 600, -5.0, -4.98, id="far below a high limit"),
        pytest.param("crashes", {"atMost": "0.01"}, 600, 60_000, -0.00142, 0.00157, id="at a low limit"),
        pytest.param("crashes", {"atMost": "0"}, 1, 600, 0.0, 0.0154, id="none is allowed"),
        pytest.param("crashes", {"atLeast": "2000"}, 6e8, 60_000, 7999, 8001, id="ten thousand a second"),
        pytest.param("crashes", {"atMost": "0.5"}, 0, 600, -0.5, -0.48, id="nothing was seen"),
        pytest.param("errors", {"atMost": "0.005%"}, 800, 1e7, 2.0e-5, 4.1e-5, id="a small share"),
        pytest.param("errors", {"atLeast": "99.99%"}, 9_999_500, 1e7, 4e-5, 6e-5, id="nearly all"),
    ],
)
def test_an_interval_is_as_exact_as_its_limit_is_small(metric, clause, events, of, low, high):
    part = verdict_of(metric, clause, (NOTHING, (events, of)))
    assert part.low <= part.change <= part.high
    assert (part.low, part.high) == pytest.approx((low, high), rel=0.05, abs=1e-6)


def test_a_small_difference_has_a_small_interval():
    """0.001 pp of ten thousand million requests."""
    part = verdict_of("errors", {"within": "0.001pp"}, ((1e5, 1e10), (1.2e5, 1e10)))
    assert 1e-6 < part.low < part.change < part.high < 3e-6


_CLAUSES = {
    "errors": st.sampled_from(
        [
            *({"within": "5%"}, {"noWorse": "2%"}, {"within": "0.01pp"}, {"noWorse": "1pp"}, {"atMost": "0"}),
            *({"atMost": "0.001%"}, {"atMost": "3%"}, {"atLeast": "40%"}, {"atLeast": "99.9%"}, {"atLeast": "100%"}),
        ]
    ),
    "crashes": st.sampled_from(
        [
            *({"within": "5%"}, {"noWorse": "200%"}, {"atMost": "0"}, {"atMost": "0.0001"}, {"atMost": "0.01"}),
            *({"atMost": "5"}, {"atMost": "100000"}, {"atLeast": "0.002"}, {"atLeast": "7"}),
        ]
    ),
}


@st.composite
def _cases(draw):
    """Return metric, clause and two arms with rates of all sizes, over one event to a million millions."""
    metric = draw(st.sampled_from(sorted(_CLAUSES)))
    largest = 0 if metric == "errors" else 4

    def arm():
        of = float(round(10 ** draw(st.floats(0, 12))))
        rate = draw(st.sampled_from([0.0, 1.0]) | st.floats(-9, largest).map(lambda power: 10.0**power))
        return float(round(rate * of)), of

    return metric, draw(_CLAUSES[metric]), (arm(), arm()), draw(st.sampled_from([1.0, 3.7]))


def _named(part, clause):
    """Return whether the interval lies beyond the limit of *clause*; of nothing (or all), whether that was missed."""
    ((verb, text),) = clause.items()
    if verb in {"atMost", "atLeast"}:
        if text in {"0", "100%"}:
            return part.candidate != parse_margin(text).value
        return part.low > 0 if verb == "atMost" else part.high < 0
    margin = parse_margin(text).value
    return part.low > margin or (verb == "within" and part.high < -margin)


# With a design effect, the estimate that an end rests on is rounded in another way than the one that is shown.
@example(("errors", {"atMost": "0"}, ((0.0, 1.0), (321570.0, 321577.0)), 3.7))
@given(_cases())
@settings(max_examples=300, deadline=None)
def test_an_interval_holds_what_was_seen_and_excludes_the_limit_exactly_at_a_breach(case):
    metric, clause, arms, design_effect = case
    part = verdict_of(metric, clause, arms, design_effect=design_effect)
    if part.change is not None:
        assert part.low <= part.change <= part.high
        assert _named(part, clause) == (part.outcome is Outcome.BREACH)


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (0.123, "+12 pp"),
        (0.0123, "+1.2 pp"),
        (0.00123, "+0.12 pp"),
        (-0.0000123, "-0.0012 pp"),
        (3e-8, "+0.0000030 pp"),
        (1e-12, "+0.00 pp"),
        (0.0, "+0.00 pp"),
    ],
)
def test_small_differences_are_shown_with_two_digits(points, text):
    assert text == signed(points, Unit.POINTS)
