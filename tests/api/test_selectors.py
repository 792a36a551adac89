"""Selectors of users: one counter and matchers on its labels, read by a parser and written anew."""

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.api.selectors import Matcher, Selector, parse_selector, selector_problem

FORBIDDEN = frozenset({"release", "revision", "country"})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("d_total", Selector("d_total", ()), id="a metric alone"),
        pytest.param("d_total{}", Selector("d_total", ()), id="empty braces"),
        pytest.param(
            'r_total{code=~"5..",path!="/health"}',
            Selector("r_total", (Matcher("code", "=~", "5.."), Matcher("path", "!=", "/health"))),
            id="matchers in order",
        ),
        pytest.param('{__name__="d_total"}', Selector("d_total", ()), id="the name as a matcher"),
        pytest.param('{"d.total",a="b"}', Selector("d.total", (Matcher("a", "=", "b"),)), id="a quoted name"),
        pytest.param("a{b='\\\\d+'}", Selector("a", (Matcher("b", "=", "\\d+"),)), id="single quotes, escapes"),
        pytest.param("a{b=`x y`}", Selector("a", (Matcher("b", "=", "x y"),)), id="backticks"),
        pytest.param("ns:rate:sum # a comment", Selector("ns:rate:sum", ()), id="recording rules, comments"),
    ],
)
def test_a_selector_is_understood(text, want):
    """What Prometheus would read, without quotes and escapes."""
    assert want == parse_selector(text)
    assert selector_problem(text, FORBIDDEN) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a{", "unexpected end of input", id="does not parse, in the parser's words"),
        pytest.param("", "no expression", id="nothing"),
        pytest.param('a{b=~"("}', "illegal regex", id="a regular expression that is none"),
        pytest.param("a[5m]", "is a selector with a range", id="range"),
        pytest.param("a[5m:1m]", "is a subquery", id="subquery"),
        pytest.param("sum(a)", "is an aggregation", id="aggregation"),
        pytest.param("rate(a[5m])", "is a function call", id="function"),
        pytest.param("a / b", "is an operation on two expressions", id="operation"),
        pytest.param("(a)", "is in parentheses", id="parentheses"),
        pytest.param("1", "is no selector", id="number"),
        pytest.param("a offset 5m", "has an offset or @", id="offset"),
        pytest.param("a @ 100", "has an offset or @", id="at"),
        pytest.param("a @ start()", "has an offset or @", id="at the start"),
        pytest.param('{b="c"}', "does not name one metric", id="no metric"),
        pytest.param('{__name__=~"a.*"}', "does not name one metric", id="many metrics"),
        pytest.param('{__name__="a",__name__!="b"}', "name", id="two names"),
        pytest.param('a{b="c" or d="e"}', "'or' between matchers", id="or, which Prometheus lacks"),
        pytest.param("a{b=`\\d+`}", "allowed are double quotes", id="backslash in backticks"),
        pytest.param('a{revision="7f3c9b1"}', "label revision", id="pins the revision"),
        pytest.param('a{release!="x"}', "label release", id="pins the release"),
        pytest.param('a{namespace=~".*"}', "label namespace", id="pins the namespace"),
        pytest.param('a{country="FR",release="x"}', "label country, release", id="pins a slice"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(text, says):
    """Where, what, and what is allowed."""
    problem = selector_problem(text, FORBIDDEN)
    assert problem is not None
    assert says in problem
    assert repr(text) in problem


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(value=VALUES, label=st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True))
def test_written_and_read_again_it_is_the_same(value, label):
    """No value can end its string and become PromQL."""
    selector = Selector("a", (Matcher(label, "=", value), Matcher("last", "!=", "")))
    written = promql_parser.parse(str(selector))
    assert ["a", value, ""] == [written.name, *(matcher.value for matcher in written.matchers.matchers)]


@given(st.text(max_size=40) | st.text(alphabet='a{}="~!,()[]5m@ \\`', max_size=40))
def test_any_text_is_read_or_refused(text):
    """The parser never ends the operator."""
    problem = selector_problem(text, FORBIDDEN)
    if problem is None:
        assert parse_selector(str(parse_selector(text))) == parse_selector(text)
