"""
Rules between the fields of a spec, beyond the types: what must hold for the operator to carry it out.

Each rule stands here twice, side by side: as CEL, which the API server checks at admission, and as a Python function,
for the parser and the command line, which see specs that no API server has admitted. Both give the same sentence; a
table of bad specs holds the two together. Every list and string that CEL iterates is bounded in the models: the API
server refuses a CRD whose rules could cost too much.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from modelrelease.api.constraints import Spelling, cel_string
from modelrelease.api.contract import Clause, Contract, Ratio, SliceDimension
from modelrelease.api.quantities import MARGIN, PERCENT, Unit, parse_duration, parse_fraction, parse_margin
from modelrelease.api.release import (
    DEFAULT_BAKE,
    Analysis,
    Canary,
    GatewayAPI,
    ReleaseSpec,
    Server,
    Stage,
    StageKind,
)
from modelrelease.api.selectors import INJECTED_LABELS, selector_problem
from modelrelease.api.template import (
    OWN_ENVIRONMENT,
    OWN_LABELS,
    EnvironmentVariable,
    PodMetadata,
    PodTemplateFields,
)

Model = TypeVar("Model", bound=BaseModel)
Words = tuple[str | int | list[str] | list[int], ...]

# A Service's name is a DNS label of at most 63 characters; ours end in "-" and a revision of seven.
RELEASE_NAME: Final = Spelling(
    pattern=r"[a-z]([-a-z0-9]{0,53}[a-z0-9])?",
    wanted="a release's name: use at most 55 lower-case letters, digits and inner dashes, a letter first, "
    "because Services are named after it",
)

# Labels that the operator matches itself, and the one that a histogram needs.
RESERVED_LABELS: Final = (*sorted(INJECTED_LABELS), "le")


@dataclass(frozen=True, slots=True)
class Rule(Generic[Model]):
    """
    What must hold between the fields of one model.

    Attributes:
        on: The model.
        path: The field that the problem is about, such as ``.deadline``; the whole object when empty.
        says: The problem and what is allowed; every ``{}`` stands for one word.
        cel: CEL over ``self`` that is true when all is well.
        words: CEL of each word: a string, a number or a list.
        broken: The words in Python when the rule is broken, else None.
    """

    on: type[Model]
    path: str
    says: str
    cel: str
    words: tuple[str, ...]
    broken: Callable[[Model], Words | None]

    def as_json(self) -> dict[str, str]:
        """Return the entry of ``x-kubernetes-validations``."""
        path = {"fieldPath": self.path} if self.path else {}
        if not self.words:
            return {"rule": self.cel, "message": self.says.format(), **path}
        # Only format() is cheap in the API server's estimate: + and join() count a filtered list as endless.
        sentence = cel_string(self.says.replace("%", "%%").format(*("%s" for _ in self.words)))
        return {"rule": self.cel, "messageExpression": f"{sentence}.format([{', '.join(self.words)}])", **path}

    def problem(self, model: Model) -> str | None:
        """Return what is wrong with *model*, if anything is."""
        words = self.broken(model)
        return None if words is None else self.says.format(*map(_as_cel_prints, words))


def problems_of(spec: ReleaseSpec) -> list[str]:
    """Return every problem of *spec*, each as ``where: what, what is allowed``; none when it can be carried out."""
    return [*_broken_rules(spec), *_selector_problems(spec.contract)]


def _broken_rules(spec: ReleaseSpec) -> Iterator[str]:
    for where, model in models_of(spec):
        yield from _duplicates(model, where)
        for rule in RULES:
            if isinstance(model, rule.on) and (problem := rule.problem(model)):
                yield f"{where}{rule.path}: {problem}"


def models_of(model: BaseModel, where: str = "spec") -> Iterator[tuple[str, BaseModel]]:
    """Yield *model*, whose place is *where*, and every model in it, with its place."""
    yield where, model
    if isinstance(model, Server):
        yield from models_of(PodTemplateFields.model_validate(model.template), f"{where}.template")
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        place = f"{where}.{field.alias}"
        if isinstance(value, BaseModel):
            yield from models_of(value, place)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from models_of(item, f"{place}[{index}]")


def _duplicates(model: BaseModel, where: str) -> Iterator[str]:
    """Yield what the list types of the schema refuse: two items with one name, or one value twice."""
    for name, field in type(model).model_fields.items():
        list_type = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("x-kubernetes-list-type")
        if not list_type:
            continue
        seen = set()
        for index, item in enumerate(getattr(model, name) or []):
            key = item.name if list_type == "map" else item
            if key in seen:
                yield f"{where}.{field.alias}[{index}]: duplicate value '{key}', allowed is once"
            seen.add(key)


def _selector_problems(contract: Contract) -> Iterator[str]:
    """Yield what only a PromQL parser knows."""
    dimensions = contract.slices or []
    forbidden = INJECTED_LABELS | {label for dimension in dimensions for label in dimension.labels}
    for index, metric in enumerate(contract.metrics):
        for path, text in metric.selectors:
            if problem := selector_problem(text, forbidden):
                yield f"spec.contract.metrics[{index}].{path}: {problem}"


# CEL has no weeks and days, so durations are added up unit by unit; "ms" goes first, because it ends in "s".
_MILLISECONDS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


def _cel_milliseconds(text: str) -> str:
    def part(subject: str, unit: str) -> str:
        return f"int('0' + {subject}.find('[0-9]{{1,5}}{unit}').replace('{unit}', ''))"

    without = f"{text}.replace('ms', '!')"
    whole = " + ".join(f"{part(without, unit)} * {length}" for unit, length in _MILLISECONDS.items())
    return f"({whole} + {part(text, 'ms')})"


_CEL_KIND: Final = "(has(self.shadow) ? '{shadow}' : has(self.canary) ? '{canary}' : '{full}')"
_CEL_BAKE: Final = f"(has(self.bake) ? self.bake : {_CEL_KIND.format(**DEFAULT_BAKE)})"
_CEL_VERBS: Final = (
    "[has(self.within), has(self.noWorse), has(self.improves), has(self.atMost), has(self.atLeast)]"
    ".filter(given, given).size()"
)
_CEL_KINDS: Final = "[has(self.shadow), has(self.canary), has(self.full)].filter(given, given).size()"
_CEL_PERCENTS: Final = "self.stages.filter(s, has(s.canary)).map(s, s.canary.percent)"
_CEL_METRICS: Final = "self.metrics.map(m, m.name)"
_CEL_SLICES: Final = "(has(self.slices) ? self.slices.map(s, s.name) : [])"
_CEL_UNKNOWN_METRIC: Final = f"self.clauses.filter(c, !(c.metric in {_CEL_METRICS}))"
_CEL_UNKNOWN_SLICE: Final = f"self.clauses.filter(c, has(c.per) && !c.per.all(p, p in {_CEL_SLICES}))"
_CEL_RESERVED: Final = f"self.labels.filter(l, l in {list(RESERVED_LABELS)} || l.startsWith('__'))"
_CEL_WRONG_PARTS: Final = "self.expected.filter(v, v.split(',').size() != self.labels.size())"


def _cel_wrong_number(field: str) -> str:
    """CEL that is true when the margin *field* is given and is more than the whole: 100%, 100pp or 1."""
    text = f"self.{field}"
    number = f"double({text}.replace('%', '').replace('pp', ''))"
    return (
        f"(has({text}) && {text}.matches(r'^({MARGIN.pattern})$') && {number} > ({text}.matches('[%p]') ? 100.0 : 1.0))"
    )


def _limit_rules(field: str) -> tuple[Rule[Clause], ...]:
    """Rules of the absolute verbs; *field* is atMost or atLeast."""

    def given(clause: Clause) -> str | None:
        return clause.at_most if field == "atMost" else clause.at_least

    return (
        Rule(
            on=Clause,
            path=f".{field}",
            says="'{}' compares with a baseline, which " + field + " does not: write 0.1% or a decimal such as 0.001",
            cel=f"!has(self.{field}) || !self.{field}.endsWith('pp')",
            words=(f"self.{field}",),
            broken=lambda clause: _if((text := given(clause)) and parse_margin(text).unit is Unit.POINTS, text),
        ),
        Rule(
            on=Clause,
            path=f".{field}",
            says="'{}' is more than a share of events can be: write at most 100% or 1, such as 5% or 0.05",
            cel=f"!{_cel_wrong_number(field)}",
            words=(f"self.{field}",),
            broken=lambda clause: _if((text := given(clause)) and parse_margin(text).value > 1, text),
        ),
    )


def _change_rule(field: str) -> Rule[Clause]:
    """Rule of the relative verbs; *field* is within or noWorse."""

    def given(clause: Clause) -> str | None:
        return clause.within if field == "within" else clause.no_worse

    def too_large(text: str | None) -> bool:
        return text is not None and (margin := parse_margin(text)).unit is not Unit.RELATIVE and margin.value > 1

    return Rule(
        on=Clause,
        path=f".{field}",
        says="'{}' is more than a share of events can change: write 5% (of the baseline), 0.5pp or 0.005",
        cel=f"!has(self.{field}) || self.{field}.endsWith('%') || !{_cel_wrong_number(field)}",
        words=(f"self.{field}",),
        broken=lambda clause: _if(too_large(given(clause)), given(clause)),
    )


def _if(broken: object, *words: str | int | list[str] | list[int] | None) -> Words | None:
    return tuple(word for word in words if word is not None) if broken else None


def _as_cel_prints(word: str | int | list[str] | list[int]) -> str:
    return json.dumps(word) if isinstance(word, list) else str(word)


def _verbs(clause: Clause) -> Words | None:
    verbs = (clause.within, clause.no_worse, clause.improves, clause.at_most, clause.at_least)
    count = sum(verb is not None for verb in verbs)
    return _if(count != 1, count)


def _kinds(stage: Stage) -> Words | None:
    count = sum(kind is not None for kind in (stage.shadow, stage.canary, stage.full))
    return _if(count != 1, count)


def _bake_longer(stage: Stage) -> Words | None:
    bake = stage.bake or DEFAULT_BAKE[stage.kind]
    return _if(stage.deadline and parse_duration(stage.deadline) < stage.bake_time, stage.deadline, bake, bake)


def _order(spec: ReleaseSpec) -> Words | None:
    kinds = [stage.kind for stage in spec.stages or []]
    return _if(kinds != sorted(kinds, key=list(StageKind).index), [str(kind) for kind in kinds])


def _not_rising(spec: ReleaseSpec) -> Words | None:
    percents = [stage.canary.percent for stage in spec.stages or [] if stage.canary]
    return _if(percents != sorted(set(percents)), percents)


def _unknown_metric(contract: Contract) -> Words | None:
    names = [metric.name for metric in contract.metrics]
    wrong = [clause.name for clause in contract.clauses if clause.metric not in names]
    return _if(wrong, wrong, names)


def _unknown_slice(contract: Contract) -> Words | None:
    names = [dimension.name for dimension in contract.slices or []]
    wrong = [clause.name for clause in contract.clauses if not set(clause.per or []) <= set(names)]
    return _if(wrong, wrong, names)


def _wrong_parts(dimension: SliceDimension) -> Words | None:
    if len(dimension.labels) == 1:
        return None
    wrong = [value for value in dimension.expected or [] if len(value.split(",")) != len(dimension.labels)]
    return _if(wrong, wrong, dimension.labels)


def _reserved_label(dimension: SliceDimension) -> Words | None:
    wrong = [label for label in dimension.labels if label in RESERVED_LABELS or label.startswith("__")]
    return _if(wrong, wrong)


def _interval_outside(analysis: Analysis) -> Words | None:
    inside = analysis.interval is None or (
        timedelta(seconds=1) <= parse_duration(analysis.interval) <= timedelta(hours=1)
    )
    return _if(not inside, analysis.interval)


def _budget_outside(analysis: Analysis) -> Words | None:
    inside = analysis.error_budget is None or 0 < parse_fraction(analysis.error_budget) <= 0.2
    return _if(not inside, analysis.error_budget)


def _own_label(metadata: PodMetadata) -> Words | None:
    own = sorted(label for label in metadata.labels or {} if label.startswith(OWN_LABELS))
    return _if(own)


RULES: Final[tuple[Rule[Any], ...]] = (
    # The plan.
    Rule(
        on=Stage,
        path="",
        says="has {} kinds, allowed is exactly one of shadow, canary, full",
        cel=f"{_CEL_KINDS} == 1",
        words=(_CEL_KINDS,),
        broken=_kinds,
    ),
    Rule(
        on=Stage,
        path=".deadline",
        says="'{}' is shorter than the stage's bake, {}: write {} or longer",
        cel=f"!has(self.deadline) || {_cel_milliseconds('self.deadline')} >= {_cel_milliseconds(_CEL_BAKE)}",
        words=("self.deadline", _CEL_BAKE, _CEL_BAKE),
        broken=_bake_longer,
    ),
    Rule(
        on=Canary,
        path=".percent",
        says="100 leaves no baseline to compare with: write 1..99, or a full stage",
        cel="self.percent != 100",
        words=(),
        broken=lambda canary: _if(canary.percent == 100),
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="the last stage is not full: a plan ends with one, such as {{name: full, full: {{}}}}",
        cel="!has(self.stages) || self.stages.size() == 0 || has(self.stages[self.stages.size() - 1].full)",
        words=(),
        broken=lambda spec: _if(spec.stages and spec.stages[-1].full is None),
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="several stages are full, allowed is one, the last",
        cel="!has(self.stages) || self.stages.filter(s, has(s.full)).size() <= 1",
        words=(),
        broken=lambda spec: _if(sum(stage.full is not None for stage in spec.stages or []) > 1),
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="the order is {}, allowed is shadow stages, then canary stages, then full",
        cel="!has(self.stages) || self.stages.map(s, has(s.shadow) ? 0 : has(s.canary) ? 1 : 2).isSorted()",
        words=("self.stages.map(s, has(s.shadow) ? 'shadow' : has(s.canary) ? 'canary' : 'full')",),
        broken=_order,
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="canary percents {} do not rise: write them from small to large, each once",
        cel=f"!has(self.stages) || ({_CEL_PERCENTS}.isSorted() && "
        f"{_CEL_PERCENTS}.all(p, {_CEL_PERCENTS}.exists_one(q, q == p)))",
        words=(_CEL_PERCENTS,),
        broken=_not_rising,
    ),
    # The contract.
    Rule(
        on=Clause,
        path="",
        says="has {} verbs, allowed is exactly one of within, noWorse, improves, atMost, atLeast",
        cel=f"{_CEL_VERBS} == 1",
        words=(_CEL_VERBS,),
        broken=_verbs,
    ),
    Rule(
        on=Clause,
        path=".improves",
        says="false promises nothing, allowed is true",
        cel="!has(self.improves) || self.improves",
        words=(),
        broken=lambda clause: () if clause.improves is False else None,
    ),
    *_limit_rules("atMost"),
    *_limit_rules("atLeast"),
    _change_rule("within"),
    _change_rule("noWorse"),
    Rule(
        on=Clause,
        path=".within",
        says="'{}' forbids every change, which no new model keeps: write more than 0, such as 5%",
        cel="!has(self.within) || self.within.matches('[1-9]')",
        words=("self.within",),
        broken=lambda clause: _if(clause.within and parse_margin(clause.within).value == 0, clause.within),
    ),
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
        broken=lambda dimension: _if(
            dimension.at_most and len(dimension.expected or []) > dimension.at_most,
            dimension.at_most or 0,
            len(dimension.expected or []),
        ),
    ),
    Rule(
        on=Ratio,
        path="",
        says="events and of are the same selector: of must count more than events, for example without a label",
        cel="self.events != self.of",
        words=(),
        broken=lambda ratio: _if(ratio.events == ratio.of),
    ),
    # How gates are judged.
    Rule(
        on=Analysis,
        path=".interval",
        says="'{}' is outside 1s..1h",
        cel=f"!has(self.interval) || ({_cel_milliseconds('self.interval')} >= 1000 && "
        f"{_cel_milliseconds('self.interval')} <= 3600000)",
        words=("self.interval",),
        broken=_interval_outside,
    ),
    Rule(
        on=Analysis,
        path=".errorBudget",
        says="'{}' is outside 0%..20%, 0% excluded: no evidence would ever be enough",
        cel=f"!has(self.errorBudget) || !self.errorBudget.matches(r'^({PERCENT.pattern})$') || "
        "(double(self.errorBudget.replace('%', '')) > 0.0 && double(self.errorBudget.replace('%', '')) <= 20.0)",
        words=("self.errorBudget",),
        broken=_budget_outside,
    ),
    # The pods and the route.
    Rule(
        on=Server,
        path=".shadowReplicas",
        says="{} is more than replicas, {}: write at most as many",
        cel="!has(self.shadowReplicas) || self.shadowReplicas <= (has(self.replicas) ? self.replicas : 1)",
        words=("self.shadowReplicas", "(has(self.replicas) ? self.replicas : 1)"),
        broken=lambda server: _if(
            (server.shadow_replicas or 1) > (server.replicas or 1), server.shadow_replicas or 1, server.replicas or 1
        ),
    ),
    Rule(
        on=PodMetadata,
        path=".labels",
        says=f"the operator sets the labels that start with {OWN_LABELS}: use another prefix",
        cel=f"!has(self.labels) || self.labels.all(label, !label.startsWith('{OWN_LABELS}'))",
        words=(),
        broken=_own_label,
    ),
    Rule(
        on=EnvironmentVariable,
        path=".name",
        says=f"'{{}}' is the operator's: use a name that does not start with {OWN_ENVIRONMENT}",
        cel=f"!self.name.startsWith('{OWN_ENVIRONMENT}')",
        words=("self.name",),
        broken=lambda variable: _if(variable.name.startswith(OWN_ENVIRONMENT), variable.name),
    ),
    Rule(
        on=GatewayAPI,
        path=".parentRefs",
        says="two parentRefs are equal: write each once",
        cel="self.parentRefs.all(p, self.parentRefs.exists_one(q, q == p))",
        words=(),
        broken=lambda gateway: _if(
            any(ref in gateway.parent_refs[:index] for index, ref in enumerate(gateway.parent_refs))
        ),
    ),
)
