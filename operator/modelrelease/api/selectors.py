"""
PromQL selectors as users write them: one counter or histogram, and matchers on its labels, such as
``requests_total{code=~"5.."}``.

They are parsed when the spec is read, and what is sent to Prometheus is written anew from the parsed parts: text of a
user never becomes PromQL by itself. The operator adds which release, which arms, which window, and the aggregation;
so a selector may have no function, range, offset or ``@``, and may not pin a label that tells arms or slices apart.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

import promql_parser

INJECTED_LABELS: Final = frozenset({"release", "namespace", "revision"})
"""Labels that the operator matches itself."""

NO_HISTOGRAM: Final = (
    "'{}' names a series of a histogram and not the histogram: write it without _bucket, _count or _sum"
)

_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NAME: Final = "__name__"
_WANTED: Final = """allowed is one selector such as requests_total{code=~"5.."}"""
_OPERATORS: Final = (
    (promql_parser.MatchOp.Equal, "="),
    (promql_parser.MatchOp.NotEqual, "!="),
    (promql_parser.MatchOp.Re, "=~"),
    (promql_parser.MatchOp.NotRe, "!~"),
)


@dataclass(frozen=True, slots=True)
class Matcher:
    """
    A condition on one label.

    Attributes:
        label: Name of the label.
        operator: ``=``, ``!=``, ``=~`` or ``!~``.
        value: The value or regular expression itself, without quotes and escapes.
    """

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        """Return it as PromQL."""
        label = self.label if _LABEL_NAME.fullmatch(self.label) else quoted(self.label)
        return f"{label}{self.operator}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """
    A metric and conditions on its labels.

    Attributes:
        metric: Name of the metric.
        matchers: All of them must hold.
    """

    metric: str
    matchers: tuple[Matcher, ...]

    def narrowed(self, *more: Matcher) -> "Selector":
        """Return the selector for which *more* must hold too."""
        return Selector(self.metric, (*more, *self.matchers))

    def __str__(self) -> str:
        """Return it as PromQL."""
        bare = _METRIC_NAME.fullmatch(self.metric) is not None
        matchers = self.matchers if bare else (Matcher(_NAME, "=", self.metric), *self.matchers)
        return f"{self.metric if bare else ''}{{{','.join(map(str, matchers))}}}"


def quoted(value: str) -> str:
    """Return *value* as a PromQL string: JSON's escapes are known there, and the parser wants no bare backtick."""
    return json.dumps(value, ensure_ascii=False).replace("`", r"\x60")


def selector_problem(text: str, forbidden_labels: frozenset[str]) -> str | None:
    """Return why *text* cannot be used, given labels that it must not match; None when it can."""
    try:
        selector = parse_selector(text)
    except ValueError as error:
        return str(error)
    forbidden = forbidden_labels | INJECTED_LABELS
    pinned = sorted({matcher.label for matcher in selector.matchers if matcher.label in forbidden})
    if pinned:
        return (
            f"{text!r} matches the label {', '.join(pinned)}, which the operator matches itself or which names slices: "
            "leave it out"
        )
    return None


def histogram_problem(text: str, forbidden_labels: frozenset[str]) -> str | None:
    """Return why *text* cannot select a histogram, given labels that it must not match; None when it can."""
    if problem := selector_problem(text, forbidden_labels):
        return problem
    selector = parse_selector(text)
    if selector.metric.endswith(("_bucket", "_count", "_sum")):
        return NO_HISTOGRAM.format(text)
    if any(matcher.label == "le" for matcher in selector.matchers):
        return f"{text!r} matches the label le, which names the buckets, and all of them are needed: leave it out"
    return None


def parse_selector(text: str) -> Selector:
    """
    Return the one instant vector selector that *text* is.

    Raises:
        ValueError: It does not parse, or is anything else; the message says what is allowed.
    """
    if "`" in text and "\\" in text:
        # The parser looks for escapes inside backticks, where Prometheus knows none: most such texts do not parse.
        raise ValueError(f'{text!r} has a backslash and backticks, allowed are double quotes, such as "\\\\d+"')
    try:
        parsed = promql_parser.parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not PromQL: {error}; {_WANTED}") from error
    if not isinstance(parsed, promql_parser.VectorSelector):
        problem = f"{text!r} is {_kind(parsed)}, {_WANTED}; the operator adds window and aggregation"
        raise ValueError(problem)  # noqa: TRY004 - the text is wrong, not its type
    if parsed.offset is not None or parsed.at is not None:
        raise ValueError(f"{text!r} has an offset or @, {_WANTED}; the operator chooses the time")
    if parsed.matchers.or_matchers:
        raise ValueError(f"{text!r} has an 'or' between matchers, which Prometheus does not know; {_WANTED}")
    matchers = tuple(Matcher(m.name, _operator(m.op), m.value) for m in parsed.matchers.matchers)
    names = [matcher for matcher in matchers if matcher.label == _NAME]
    metric = parsed.name or next((matcher.value for matcher in names if matcher.operator == "="), "")
    if not metric or len(names) > (0 if parsed.name else 1):
        raise ValueError(f"{text!r} does not name one metric, {_WANTED}")
    return Selector(metric, tuple(matcher for matcher in matchers if matcher.label != _NAME))


def _operator(operation: object) -> str:
    return next(text for known, text in _OPERATORS if known == operation)


def _kind(parsed: promql_parser.Expr) -> str:
    match parsed:
        case promql_parser.MatrixSelector():
            return "a selector with a range"
        case promql_parser.SubqueryExpr():
            return "a subquery"
        case promql_parser.AggregateExpr():
            return "an aggregation"
        case promql_parser.Call():
            return "a function call"
        case promql_parser.BinaryExpr():
            return "an operation on two expressions"
        case promql_parser.ParenExpr():
            return "in parentheses"
        case _:
            return "no selector"
