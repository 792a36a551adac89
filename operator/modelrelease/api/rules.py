"""
Rules between the fields of a spec, beyond the types: what must hold for the operator to carry it out.

Here are those of the plan, the analysis, the pods and the route; those of the contract have a module of their own. What
only a PromQL parser knows is no rule: it is found here, when a spec is read.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel

from modelrelease.api.constraints import Spelling
from modelrelease.api.contract import Contract
from modelrelease.api.contract_rules import CONTRACT_RULES
from modelrelease.api.decision import DecisionSpec, Verb
from modelrelease.api.quantities import PERCENT, parse_duration, parse_fraction
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
from modelrelease.api.rule import Rule, Words, cel_count, words_if
from modelrelease.api.selectors import histogram_problem, selector_problem
from modelrelease.api.template import (
    OWN_ENVIRONMENT,
    OWN_LABELS,
    EnvironmentVariable,
    PodMetadata,
    PodTemplateFields,
)

# A Service's name is a DNS label of at most 63 characters; ours end in "-" and a revision of seven.
RELEASE_NAME: Final = Spelling(
    pattern=r"[a-z]([-a-z0-9]{0,53}[a-z0-9])?",
    wanted="a release's name: use at most 55 lower-case letters, digits and inner dashes, a letter first, "
    "because Services are named after it",
)


def problems_of(spec: ReleaseSpec) -> list[str]:
    """Return every problem of *spec*, each as ``where: what, what is allowed``; none when it can be carried out."""
    selectors = _selector_problems(spec.contract, "spec.contract") if spec.contract else ()
    # A rule and the parser may say the same of a histogram's name.
    return list(dict.fromkeys([*_broken_rules(spec), *selectors]))


def contract_problems(contract: Contract) -> list[str]:
    """Return every problem of the spec of a ModelContract, as ``problems_of`` does."""
    return list(dict.fromkeys([*_broken_rules(contract), *_selector_problems(contract, "spec")]))


def decision_problems(decision: DecisionSpec) -> list[str]:
    """Return every problem of the spec of a ReleaseDecision, as ``problems_of`` does."""
    return list(_broken_rules(decision))


def _broken_rules(spec: BaseModel) -> Iterator[str]:
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


def _selector_problems(contract: Contract, where: str) -> Iterator[str]:
    """Yield what only a PromQL parser knows of the contract whose place is *where*."""
    labels = frozenset(label for dimension in contract.slices or [] for label in dimension.labels)
    for index, metric in enumerate(contract.metrics):
        for path, text in metric.selectors:
            problem_of = histogram_problem if path.endswith(".histogram") else selector_problem
            if problem := problem_of(text, labels):
                yield f"{where}.metrics[{index}].{path}: {problem}"


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
_CEL_KINDS: Final = cel_count("shadow", "canary", "full")
_CEL_CONTRACTS: Final = cel_count("contract", "contractRef")
_CEL_PERCENTS: Final = "self.stages.filter(s, has(s.canary)).map(s, s.canary.percent)"


def _kinds(stage: Stage) -> Words | None:
    count = sum(kind is not None for kind in (stage.shadow, stage.canary, stage.full))
    return words_if(count != 1, count)


def _contracts(spec: ReleaseSpec) -> Words | None:
    count = sum(given is not None for given in (spec.contract, spec.contract_ref))
    return words_if(count != 1, count)


def _bake_longer(stage: Stage) -> Words | None:
    bake = stage.bake or DEFAULT_BAKE[stage.kind]
    return words_if(stage.deadline and parse_duration(stage.deadline) < stage.bake_time, stage.deadline, bake, bake)


def _order(spec: ReleaseSpec) -> Words | None:
    kinds = [stage.kind for stage in spec.stages or []]
    return words_if(kinds != sorted(kinds, key=list(StageKind).index), [str(kind) for kind in kinds])


def _not_rising(spec: ReleaseSpec) -> Words | None:
    percents = [stage.canary.percent for stage in spec.stages or [] if stage.canary]
    return words_if(percents != sorted(set(percents)), percents)


def _interval_outside(analysis: Analysis) -> Words | None:
    inside = analysis.interval is None or (
        timedelta(seconds=1) <= parse_duration(analysis.interval) <= timedelta(hours=1)
    )
    return words_if(not inside, analysis.interval)


def _budget_outside(analysis: Analysis) -> Words | None:
    inside = analysis.error_budget is None or 0 < parse_fraction(analysis.error_budget) <= 0.2
    return words_if(not inside, analysis.error_budget)


def _own_label(metadata: PodMetadata) -> Words | None:
    own = sorted(label for label in metadata.labels or {} if label.startswith(OWN_LABELS))
    return words_if(own)


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
        broken=lambda canary: words_if(canary.percent == 100),
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="the last stage is not full: a plan ends with one, such as {{name: full, full: {{}}}}",
        cel="!has(self.stages) || self.stages.size() == 0 || has(self.stages[self.stages.size() - 1].full)",
        words=(),
        broken=lambda spec: words_if(spec.stages and spec.stages[-1].full is None),
    ),
    Rule(
        on=ReleaseSpec,
        path=".stages",
        says="several stages are full, allowed is one, the last",
        cel="!has(self.stages) || self.stages.filter(s, has(s.full)).size() <= 1",
        words=(),
        broken=lambda spec: words_if(sum(stage.full is not None for stage in spec.stages or []) > 1),
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
        on=ReleaseSpec,
        path="",
        says="has {} contracts, allowed is exactly one of contract, contractRef",
        cel=f"{_CEL_CONTRACTS} == 1",
        words=(_CEL_CONTRACTS,),
        broken=_contracts,
    ),
    *CONTRACT_RULES,
    # What people decide.
    Rule(
        on=DecisionSpec,
        path=".stage",
        says="an Approve is for one stage: write its name, as status.stage shows it",
        cel="self.decision != 'Approve' || has(self.stage)",
        words=(),
        broken=lambda decision: words_if(decision.decision is Verb.APPROVE and decision.stage is None),
    ),
    Rule(
        on=DecisionSpec,
        path=".stage",
        says="a {} is for the whole rollout: leave stage out",
        cel="self.decision == 'Approve' || !has(self.stage)",
        words=("self.decision",),
        broken=lambda decision: words_if(
            decision.decision is not Verb.APPROVE and decision.stage is not None, decision.decision
        ),
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
        broken=lambda server: words_if(
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
        broken=lambda variable: words_if(variable.name.startswith(OWN_ENVIRONMENT), variable.name),
    ),
    Rule(
        on=GatewayAPI,
        path=".parentRefs",
        says="two parentRefs are equal: write each once",
        cel="self.parentRefs.all(p, self.parentRefs.exists_one(q, q == p))",
        words=(),
        broken=lambda gateway: words_if(
            any(ref in gateway.parent_refs[:index] for index, ref in enumerate(gateway.parent_refs))
        ),
    ),
)
