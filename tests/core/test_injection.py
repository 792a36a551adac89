"""
Nobody's text becomes PromQL: whatever is written as a selector, or counted as a label value, our questions stay ours.

Users write selectors, and others choose label values (a country, the address of a pod). Every question that is built
from them must parse, and every series in it must be of this release, of its arms, and no more.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import promql_parser
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelrelease.api.parse import InvalidSpec, Release, parse
from modelrelease.api.selectors import parse_selector, quoted, selector_problem
from modelrelease.core.noise import noise_queries
from modelrelease.core.queries import StageWindow, half_queries, stage_queries
from tests.builders import a_body

pytestmark = pytest.mark.slow

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
WINDOW = StageWindow("canary-10", "canary", START, START + timedelta(minutes=10), 10)
NOTHING = timedelta(0)

EXAMPLES = int(os.environ.get("FUZZ_SPECS", "400"))
"""How many selectors are tried; ``make fuzz`` tries more."""

SPECIAL = "\"'`\\{}()[],=~!@#\n\t\x00 aé€𝄞.-+*|$^/%5"
values = st.one_of(st.text(max_size=12), st.text(SPECIAL, max_size=16))
names = st.sampled_from(
    ("x", "x_total", "a:b", "namespace", "release", "revision", "country", "le", "__name__", "or", "é")
)
operators = st.sampled_from(("=", "!=", "=~", "!~"))


@st.composite
def selectors(draw: st.DrawFn) -> str:
    """Return what may be meant as a selector, whole or with something thrown into it."""
    matchers = draw(st.lists(st.tuples(names, operators, values), max_size=3))
    quote = draw(st.sampled_from((quoted, lambda value: f"'{value}'", lambda value: f"`{value}`", repr)))
    text = f"{draw(names)}{{{', '.join(f'{name}{op}{quote(value)}' for name, op, value in matchers)}}}"
    for piece in draw(
        st.lists(
            st.sampled_from(
                (
                    '"',
                    "'",
                    "`",
                    "\\",
                    "}",
                    "{",
                    ") or vector(1",
                    "[5m]",
                    " offset 1d",
                    ' or up{release="other"}',
                    "@ 0",
                    "#",
                    "\n",
                    ',"',
                    "=~",
                )
            ),
            max_size=2,
        )
    ):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + piece + text[at:]
    return text


def _series(part: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Yield every selector of a parsed question."""
    match part:
        case promql_parser.VectorSelector():
            yield part
        case promql_parser.MatrixSelector():
            yield part.vector_selector
        case promql_parser.Call():
            for argument in part.args:
                yield from _series(argument)
        case promql_parser.BinaryExpr():
            yield from _series(part.lhs)
            yield from _series(part.rhs)
        case promql_parser.AggregateExpr() | promql_parser.SubqueryExpr() | promql_parser.ParenExpr():
            yield from _series(part.expr)
        case promql_parser.UnaryExpr():
            yield from _series(part.expr)
        case promql_parser.StringLiteral() | promql_parser.NumberLiteral():
            return
        case _:
            raise AssertionError(part)


def _is_ours(text: str, revisions: set[str]) -> None:
    """Fail unless every series of the question *text* is of fraud/radar and of one of *revisions*."""
    series = list(_series(promql_parser.parse(text)))
    assert series
    for selector in series:
        matched = [(it.name, str(it.op), it.value) for it in selector.matchers.matchers]
        assert selector.matchers.or_matchers == []
        pinned = {name: [(op, value) for it, op, value in matched if it == name] for name in ("namespace", "release")}
        assert pinned == {"namespace": [("MatchOp.Equal", "fraud")], "release": [("MatchOp.Equal", "radar")]}, text
        ((operator, pattern),) = [(op, value) for name, op, value in matched if name == "revision"]
        assert operator == "MatchOp.Re"
        assert {it for it in (*revisions, "other", "") if re.fullmatch(pattern, it)} <= revisions


def _release(events: str, of: str = "d_total") -> Release | InvalidSpec:
    contract = a_body()["spec"]["contract"]
    metric = {"name": "block-rate", "ratio": {"events": events, "of": of}}
    return parse(a_body(contract={**contract, "metrics": [metric, contract["metrics"][1]]}))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=selectors(), more=st.booleans())
@example(text="x{x_total='`\"'}", more=False)
def test_what_users_write_stays_a_selector(text, more):
    """It is refused with where, what and what is allowed, or every question that it leads to is about this release."""
    release = _release(text)
    if isinstance(release, InvalidSpec):
        assert "spec.contract.metrics[0].ratio.events: " in release.message
        assert re.search("allowed (is|are)|leave it out", release.message), release.message
        assert selector_problem(text, frozenset({"country"}))
        return
    asked = stage_queries(release, WINDOW, "old", "new", lag=NOTHING, interval=timedelta(seconds=5))
    noise = noise_queries(release, WINDOW, "old", lag=NOTHING, interval=timedelta(seconds=5))
    for query in (*asked.queries, asked.newest, *noise.ranges):
        _is_ours(query.text, {"old", "new"})
    again = parse_selector(str(parse_selector(text)))
    assert again == parse_selector(text), "written anew, it means the same"


@settings(max_examples=EXAMPLES // 4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(pods=st.lists(values, min_size=2, max_size=4, unique=True))
def test_what_pods_are_called_stays_a_value(pods):
    """Addresses of pods come from Prometheus and go back to it, inside of a regular expression inside of a string."""
    release = _release('d_total{decision="block"}')
    asked = half_queries(release, WINDOW, "old", (pods[:1], pods[1:]), lag=NOTHING)
    for query in asked.queries:
        _is_ours(query.text, {"old"})


@pytest.mark.parametrize("text", ['x{a="1"} or vector(1)', 'x{a="1"}) or (up{b="2"}', 'x{release="other"}', "x[5m]"])
def test_the_usual_tricks_are_refused(text):
    """Each says what is allowed."""
    assert isinstance(_release(text), InvalidSpec)
