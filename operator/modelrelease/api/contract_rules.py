"""
Rules of a contract: what makes its slices, metrics and clauses fit each other.

A margin means what the kind of its metric makes of it, so its unit is checked where clause and metric are both known:

    metric         within, noWorse           atMost, atLeast       similar
    ratio          5%, 0.5pp, 0.005          0.1%, 0.001           -
    quantile       10%, or in its unit       in its unit           -
    rate           20%                       events per second     -
    distribution   -                         -                     a stability index

What ``assure`` excludes is written as its clause's margin is; of a ratio's limit in points, too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelrelease.api.contract import (
    Clause,
    Contract,
    Distribution,
    Metric,
    Quantile,
    Ratio,
    Similar,
    SliceDimension,
)
from modelrelease.api.quantities import MARGIN, parse_margin
from modelrelease.api.rule import Rule, Words, cel_count, words_if
from modelrelease.api.selectors import INJECTED_LABELS, NO_HISTOGRAM

# Labels that the operator matches itself, and the one that a histogram needs.
RESERVED_LABELS: Final = (*sorted(INJECTED_LABELS), "le")

_MetricKind = Literal["ratio", "quantile", "distribution", "rate"]

_KINDS: Final = ("ratio", "quantile", "distribution", "rate")
_VERBS: Final = ("within", "noWorse", "improves", "atMost", "atLeast", "similar")
_CEL_KINDS: Final = cel_count(*_KINDS)
_CEL_VERBS: Final = cel_count(*_VERBS)
_CEL_METRICS: Final = "self.metrics.map(m, m.name)"
_CEL_SLICES: Final = "(has(self.slices) ? self.slices.map(s, s.name) : [])"
_CEL_UNKNOWN_METRIC: Final = f"self.clauses.filter(c, !(c.metric in {_CEL_METRICS}))"
_CEL_UNKNOWN_SLICE: Final = f"self.clauses.filter(c, has(c.per) && !c.per.all(p, p in {_CEL_SLICES}))"
_CEL_RESERVED: Final = f"self.labels.filter(l, l in {list(RESERVED_LABELS)} || l.startsWith('__'))"
_CEL_WRONG_PARTS: Final = "self.expected.filter(v, v.split(',').size() != self.labels.size())"


def _cel_about(condition: str) -> str:
    """Return CEL that is true when a clause ``c`` is about a metric ``m`` for which *condition* holds."""
    return f"self.metrics.exists(m, {condition} && m.name == c.metric)"


_CEL_DISTRIBUTIONS: Final = "self.metrics.filter(m, has(m.distribution)).map(m, m.name)"
_CEL_WRONGLY_SIMILAR: Final = f"self.clauses.filter(c, has(c.similar) && {_cel_about('!has(m.distribution)')})"
_CEL_NOT_SIMILAR: Final = f"self.clauses.filter(c, !has(c.similar) && {_cel_about('has(m.distribution)')})"


def _kinds(metric: Metric) -> Words | None:
    count = sum(kind is not None for kind in (metric.ratio, metric.quantile, metric.distribution, metric.rate))
    return words_if(count != 1, count)


def _verbs(clause: Clause) -> Words | None:
    verbs = (clause.within, clause.no_worse, clause.improves, clause.at_most, clause.at_least, clause.similar)
    count = sum(verb is not None for verb in verbs)
    return words_if(count != 1, count)


def _unknown_metric(contract: Contract) -> Words | None:
    names = [metric.name for metric in contract.metrics]
    wrong = [clause.name for clause in contract.clauses if clause.metric not in names]
    return words_if(wrong, wrong, names)


def _unknown_slice(contract: Contract) -> Words | None:
    names = [dimension.name for dimension in contract.slices or []]
    wrong = [clause.name for clause in contract.clauses if not set(clause.per or []) <= set(names)]
    return words_if(wrong, wrong, names)


def _wrongly_similar(contract: Contract) -> Words | None:
    others = [metric.name for metric in contract.metrics if metric.distribution is None]
    wrong = [clause.name for clause in contract.clauses if clause.similar and clause.metric in others]
    return words_if(wrong, wrong, _named(contract, "distribution"))


def _not_similar(contract: Contract) -> Words | None:
    distributions = _named(contract, "distribution")
    wrong = [clause.name for clause in contract.clauses if not clause.similar and clause.metric in distributions]
    return words_if(wrong, wrong)


def _named(contract: Contract, kind: _MetricKind) -> list[str]:
    """Return the names of the metrics of a kind."""
    return [metric.name for metric in contract.metrics if getattr(metric, kind) is not None]


def _wrong_parts(dimension: SliceDimension) -> Words | None:
    if len(dimension.labels) == 1:
        return None
    wrong = [value for value in dimension.expected or [] if len(value.split(",")) != len(dimension.labels)]
    return words_if(wrong, wrong, dimension.labels)


def _reserved_label(dimension: SliceDimension) -> Words | None:
    wrong = [label for label in dimension.labels if label in RESERVED_LABELS or label.startswith("__")]
    return words_if(wrong, wrong)


@dataclass(frozen=True, slots=True)
class _Margin:
    """
    A margin of a clause that may be absent.

    Attributes:
        cel: CEL of it, given a clause ``c``.
        given: CEL that is true when it is there.
        of: The same in Python.
    """

    cel: str
    given: str
    of: Callable[[Clause], str | None]

    def cel_unless(self, allowed: str) -> str:
        """Return CEL that is true when it is a margin, but not one that *allowed* matches whole."""
        return f"({self.given} && {_cel_matches(self.cel, MARGIN.pattern)} && !{_cel_matches(self.cel, allowed)})"

    def unless(self, allowed: str, clause: Clause) -> str | None:
        """Return it when it is a margin, but not one that *allowed* matches whole."""
        text = self.of(clause)
        return text if text and re.fullmatch(MARGIN.pattern, text) and not re.fullmatch(allowed, text) else None


def _cel_matches(text: str, pattern: str) -> str:
    return f"{text}.matches(r'^({pattern})$')"


_WITHIN: Final = _Margin("c.within", "has(c.within)", lambda clause: clause.within)
_NO_WORSE: Final = _Margin("c.noWorse", "has(c.noWorse)", lambda clause: clause.no_worse)
_AT_MOST: Final = _Margin("c.atMost", "has(c.atMost)", lambda clause: clause.at_most)
_AT_LEAST: Final = _Margin("c.atLeast", "has(c.atLeast)", lambda clause: clause.at_least)
_OVERALL: Final = _Margin(
    "c.assure.overall",
    "has(c.assure) && has(c.assure.overall)",
    lambda clause: clause.assure.overall if clause.assure else None,
)
_SLICES: Final = _Margin(
    "c.assure.slices",
    "has(c.assure) && has(c.assure.slices)",
    lambda clause: clause.assure.slices if clause.assure else None,
)


@dataclass(frozen=True, slots=True)
class _Unit:
    """
    How margins are written in clauses of one sort: about one kind of metric, against the baseline or against a limit.

    Attributes:
        kind: Kind of the metric.
        limit: Whether the verb is atMost or atLeast.
        allowed: Regular expression of the margins that mean something, among all that are spelled well.
        wanted: The same in words.
    """

    kind: _MetricKind
    limit: bool
    allowed: str
    wanted: str


# Up to 100 and up to 1, as spelled: digits are compared, so that nothing is rounded in one of the two languages.
_BELOW_100: Final = r"0*[0-9]{1,2}(\.[0-9]+)?"
_UP_TO_100: Final = rf"(0*100(\.0+)?|{_BELOW_100})"
_BELOW_1: Final = r"0*0(\.[0-9]+)?"
_UP_TO_1: Final = rf"(0*1(\.0+)?|{_BELOW_1})"
_DECIMAL: Final = r"[0-9.]+"

_RATIO_CHANGE: Final = _Unit(
    "ratio",
    limit=False,
    # No two shares differ by more than all, and no requests could ever show it.
    allowed=f"{_DECIMAL}%|{_BELOW_100}pp|{_BELOW_1}",
    wanted="5% (of the baseline), or a share of events below 100pp or 1, such as 0.5pp or 0.005",
)
_RATIO_LIMIT: Final = _Unit(
    "ratio",
    limit=True,
    allowed=f"{_UP_TO_100}%|{_UP_TO_1}",
    wanted="a share of events up to 100% or 1, such as 0.1% or 0.001",
)
_RATIO_ASSURED: Final = _Unit("ratio", limit=True, allowed=f"{_UP_TO_100}(%|pp)|{_UP_TO_1}", wanted=_RATIO_LIMIT.wanted)
_QUANTILE_CHANGE: Final = _Unit(
    "quantile",
    limit=False,
    allowed=f"{_DECIMAL}%?",
    wanted="10% (of the baseline), or a decimal in the histogram's unit, such as 0.05",
)
_QUANTILE_LIMIT: Final = _Unit(
    "quantile", limit=True, allowed=_DECIMAL, wanted="a decimal in the histogram's unit, such as 0.5"
)
_RATE_CHANGE: Final = _Unit("rate", limit=False, allowed=f"{_DECIMAL}%", wanted="20% (of the baseline)")
_RATE_LIMIT: Final = _Unit("rate", limit=True, allowed=_DECIMAL, wanted="a decimal, events per second, such as 5")
_DISTANCE: Final = _Unit(
    "distribution", limit=False, allowed=_DECIMAL, wanted="a stability index, a decimal such as 0.2"
)


def _margin_rule(unit: _Unit) -> Rule[Contract]:
    """Rule of the margins that the verbs themselves have."""
    what = "limit a {} to" if unit.limit else "let a {} change by"
    return _unit_rule(
        unit,
        margins=(_AT_MOST, _AT_LEAST) if unit.limit else (_WITHIN, _NO_WORSE),
        says=f"clauses {{}} {what.format(unit.kind)} {{}}: write {unit.wanted}",
    )


def _assure_rule(unit: _Unit) -> Rule[Contract]:
    """Rule of what a pass has to exclude, which is written as the margin of the clause's verb."""
    what = "limit a {}" if unit.limit else "compare a {} with the baseline's"
    return _unit_rule(
        unit,
        margins=(_OVERALL, _SLICES),
        says=f"clauses {{}} {what.format(unit.kind)} and assure {{}}: write none, or {unit.wanted}",
    )


def _unit_rule(unit: _Unit, margins: tuple[_Margin, _Margin], says: str) -> Rule[Contract]:
    first, second = margins
    limit = "(has(c.atMost) || has(c.atLeast))"
    wrong = f"({first.cel_unless(unit.allowed)} || {second.cel_unless(unit.allowed)})"
    about = _cel_about(f"has(m.{unit.kind})")
    broken = f"{limit if unit.limit else f'!{limit}'} && {wrong} && {about}"
    # Not filter().map(): the API server counts a text out of a filtered list as endless, and matching it as well.
    return Rule(
        on=Contract,
        path=".clauses",
        says=says,
        cel=f"!self.clauses.exists(c, {broken})",
        words=(
            f"self.clauses.map(c, {broken}, c.name)",
            f"self.clauses.map(c, {broken}, {first.cel_unless(unit.allowed)} ? {first.cel} : {second.cel})",
        ),
        broken=lambda contract: _wrong_units(contract, unit, margins),
    )


def _wrong_units(contract: Contract, unit: _Unit, margins: tuple[_Margin, _Margin]) -> Words | None:
    names = _named(contract, unit.kind)
    about = [c for c in contract.clauses if c.metric in names and c.needs_baseline != unit.limit]
    wrong = [
        (clause.name, text)
        for clause in about
        if (text := next(filter(None, (margin.unless(unit.allowed, clause) for margin in margins)), None))
    ]
    return words_if(wrong, [name for name, _ in wrong], [text for _, text in wrong])


def _histogram_rule(on: type[Quantile] | type[Distribution]) -> Rule[Any]:
    """Rule of a histogram's name; how else a selector can name one, only a PromQL parser knows."""
    series = r"^[a-zA-Z0-9_:]*_(bucket|count|sum)([^a-zA-Z0-9_:]|$)"
    return Rule(
        on=on,
        path=".histogram",
        says=NO_HISTOGRAM,
        cel=f"!self.histogram.matches(r'{series}')",
        words=("self.histogram",),
        broken=lambda metric: words_if(re.match(series, metric.histogram), metric.histogram),
    )


CONTRACT_RULES: Final[tuple[Rule[Any], ...]] = (
    # One kind, one verb.
    Rule(
        on=Metric,
        path="",
        says=f"has {{}} kinds, allowed is exactly one of {', '.join(_KINDS)}",
        cel=f"{_CEL_KINDS} == 1",
        words=(_CEL_KINDS,),
        broken=_kinds,
    ),
    Rule(
        on=Clause,
        path="",
        says=f"has {{}} verbs, allowed is exactly one of {', '.join(_VERBS)}",
        cel=f"{_CEL_VERBS} == 1",
        words=(_CEL_VERBS,),
        broken=_verbs,
    ),
    # What they refer to.
    Rule(
        on=Contract,
        path=".clauses",
        says="clauses {} judge metrics that do not exist, allowed: {}",
        cel=f"{_CEL_UNKNOWN_METRIC}.size() == 0",
        words=(f"{_CEL_UNKNOWN_METRIC}.map(c, c.name)", _CEL_METRICS),
        broken=_unknown_metric,
    ),
    Rule(
        on=Contract,
        path=".clauses",
        says="clauses {} judge per slices that do not exist, allowed: {}",
        cel=f"{_CEL_UNKNOWN_SLICE}.size() == 0",
        words=(f"{_CEL_UNKNOWN_SLICE}.map(c, c.name)", _CEL_SLICES),
        broken=_unknown_slice,
    ),
    Rule(
        on=Contract,
        path=".clauses",
        says="clauses {} judge by similar what is no distribution, allowed: {}",
        cel=f"{_CEL_WRONGLY_SIMILAR}.size() == 0",
        words=(f"{_CEL_WRONGLY_SIMILAR}.map(c, c.name)", _CEL_DISTRIBUTIONS),
        broken=_wrongly_similar,
    ),
    Rule(
        on=Contract,
        path=".clauses",
        says='clauses {} judge distributions without similar, their only verb: write such as similar: {{psi: "0.2"}}',
        cel=f"{_CEL_NOT_SIMILAR}.size() == 0",
        words=(f"{_CEL_NOT_SIMILAR}.map(c, c.name)",),
        broken=_not_similar,
    ),
    # Margins.
    _margin_rule(_RATIO_CHANGE),
    _margin_rule(_RATIO_LIMIT),
    _margin_rule(_QUANTILE_CHANGE),
    _margin_rule(_QUANTILE_LIMIT),
    _margin_rule(_RATE_CHANGE),
    _margin_rule(_RATE_LIMIT),
    _assure_rule(_RATIO_CHANGE),
    _assure_rule(_RATIO_ASSURED),
    _assure_rule(_QUANTILE_CHANGE),
    _assure_rule(_QUANTILE_LIMIT),
    _assure_rule(_RATE_CHANGE),
    _assure_rule(_RATE_LIMIT),
    _assure_rule(_DISTANCE),
    Rule(
        on=Clause,
        path=".improves",
        says="false promises nothing, allowed is true",
        cel="!has(self.improves) || self.improves",
        words=(),
        broken=lambda clause: () if clause.improves is False else None,
    ),
    Rule(
        on=Clause,
        path=".within",
        says="'{}' forbids every change, which no new model keeps: write more than 0, such as 5%",
        cel="!has(self.within) || self.within.matches('[1-9]')",
        words=("self.within",),
        broken=lambda clause: words_if(clause.within and parse_margin(clause.within).value == 0, clause.within),
    ),
    Rule(
        on=Similar,
        path=".psi",
        says="'{}' forbids every difference, which no two samples keep: write more than 0, such as 0.2",
        cel="!self.psi.matches(r'^[0.]+$')",
        words=("self.psi",),
        broken=lambda similar: words_if(float(similar.psi) == 0, similar.psi),
    ),
    # What is measured.
    Rule(
        on=Contract,
        path=".metrics",
        says="only rates, which do not tell how many requests there were: add a ratio, a quantile or a distribution",
        cel="!self.metrics.all(m, has(m.rate))",
        words=(),
        broken=lambda contract: words_if(all(metric.rate for metric in contract.metrics)),
    ),
    Rule(
        on=Ratio,
        path="",
        says="events and of are the same selector: of must count more than events, for example without a label",
        cel="self.events != self.of",
        words=(),
        broken=lambda ratio: words_if(ratio.events == ratio.of),
    ),
    _histogram_rule(Quantile),
    _histogram_rule(Distribution),
    # How the traffic is cut.
    Rule(
        on=SliceDimension,
        path=".labels",
        says=f"{{}} cannot cut the traffic: {', '.join(RESERVED_LABELS)} and labels that start with __ are taken",
        cel=f"{_CEL_RESERVED}.size() == 0",
        words=(_CEL_RESERVED,),
        broken=_reserved_label,
    ),
    Rule(
        on=SliceDimension,
        path=".expected",
        says="{} need one value, joined by commas, for each of the labels {}",
        cel=f"!has(self.expected) || self.labels.size() == 1 || {_CEL_WRONG_PARTS}.size() == 0",
        words=(_CEL_WRONG_PARTS, "self.labels"),
        broken=_wrong_parts,
    ),
    Rule(
        on=SliceDimension,
        path=".atMost",
        says="{} is fewer than the {} expected values: write at least as many",
        cel="!has(self.expected) || !has(self.atMost) || self.expected.size() <= self.atMost",
        words=("self.atMost", "self.expected.size()"),
        broken=lambda dimension: words_if(
            dimension.at_most and len(dimension.expected or []) > dimension.at_most,
            dimension.at_most or 0,
            len(dimension.expected or []),
        ),
    ),
)
