"""
What the operator would refuse in a file, and what it would take and somebody will regret. Pure.

A refusal comes from the operator's own parser. A warning is about something that can be carried out and does not do
what it seems to: a promise that nothing judges, a proof that no traffic can give, users who are nobody's baseline.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from modelrelease.api.contract import Assure, Clause, Contract, OnBreach
from modelrelease.api.parse import InvalidSpec, Release, named_contract, parse, parse_decision, spec_of
from modelrelease.api.quantities import parse_duration, parse_margin
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ApprovalMode, OnInconclusive, ReleaseSpec, Stage, StageKind
from modelrelease.cli.contract_file import release_around
from modelrelease.cli.object_rules import object_problems
from modelrelease.cli.template_rules import TEMPLATE, template_problems, unknown_fields


class Severity(StrEnum):
    """How bad it is."""

    REFUSED = "refused"
    """The operator, or the API server before it, does not carry it out."""
    WARNING = "warning"
    """It is carried out, and may not do what it seems to."""


@dataclass(frozen=True, slots=True)
class Remark:
    """
    Something about a file.

    Attributes:
        severity: How bad it is.
        path: The field, such as ``spec.stages[1].canary.percent``.
        message: What is wrong, and what is allowed or better.
    """

    severity: Severity
    path: str
    message: str


KINDS: Final = ("ModelRelease", "ModelContract", "ReleaseDecision")
"""The kinds that are looked at."""


Contracts = Mapping[tuple[str | None, str], Mapping[str, Any]]
"""ModelContracts by namespace and name; None is the namespace that whoever applies the files will name."""


def lint(body: object, contracts: Contracts) -> list[Remark]:
    """
    Return what there is to say about one object; refusals keep warnings from being looked for.

    Args:
        body: The object.
        contracts: The ModelContracts of the same files; a release may refer to one of its namespace.
    """
    if not isinstance(body, Mapping):
        return [_refused("", "is not a mapping, an object is allowed")]
    problems = [_refused(*problem) for problem in object_problems(body, KINDS)]
    if body.get("kind") not in KINDS or not isinstance(body.get("spec"), Mapping):
        return problems
    if problems:
        of_the_spec = _of_spec({**body, "metadata": {"name": "sound"}}, contracts)
        return problems + [it for it in of_the_spec if it.severity is Severity.REFUSED]
    return _of_spec(body, contracts)


def key_of(body: Mapping[str, Any], name: str) -> tuple[str | None, str]:
    """Return under which key a contract called *name* stands that *body* means, or is."""
    namespace = body["metadata"].get("namespace")
    return namespace if isinstance(namespace, str) else None, name


def _of_spec(body: Mapping[str, Any], contracts: Contracts) -> list[Remark]:
    match body["kind"]:
        case "ModelContract":
            return _of_contract(body["spec"])
        case "ReleaseDecision":
            asked = parse_decision({**body, "metadata": _IDENTITY}).spec
            return [_refused(*it) for it in _problems(asked)] if isinstance(asked, str) else []
        case _:
            said = _of_release(body, contracts)
            before = [it for it in said if it.severity is Severity.REFUSED]
            paths = {it.path for it in before}
            refused = [_refused(*it) for it in template_problems(body["spec"]) if it[0] not in paths]
            return [*before, *refused] if refused else said


_IDENTITY: Final = {"name": "decision", "uid": "", "creationTimestamp": "2000-01-01T00:00:00Z"}
"""What a decision gets when it is created."""


def _refused(path: str, message: str) -> Remark:
    return Remark(Severity.REFUSED, path, message)


def _warning(path: str, message: str) -> Remark:
    return Remark(Severity.WARNING, path, message)


def _of_release(body: Mapping[str, Any], contracts: Contracts) -> list[Remark]:
    name = named_contract(body)
    found = parse(body, contracts.get(key_of(body, name)) if name else None)
    match found:
        case Release():
            own = _of_promises(found.contract, "spec.contract") if name is None else ()
            judged = (*_unjudged_stages(found.spec, found.contract), *_unjudged_clauses(found.spec, found.contract))
            return [*_of_plan(found.spec), *judged, *_of_pods(found.spec), *own]
        case InvalidSpec(reason=Reason.CONTRACT_NOT_FOUND):
            spec = spec_of(body["spec"])
            what = f"ModelContract {name!r} of the same namespace is in none of these files: not looked at"
            return [_warning("spec.contractRef.name", what), *_of_plan(spec), *_of_pods(spec)]
        case InvalidSpec(reason=Reason.CONTRACT_INVALID):
            return [_refused("spec.contractRef.name", f"ModelContract {name!r} is refused itself")]
        case InvalidSpec():
            return [_refused(*problem) for problem in dict.fromkeys(_problems_of_parts(body))]


def _problems_of_parts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Yield the problems of the whole, of the contract on its own, and of the rest with a sound contract.

    The parser looks for what does not fit together only where every field is what its type allows; a person wants to
    see all of it at once.
    """
    contract = body["spec"].get("contract")
    parts: list[Mapping[str, Any]] = [body]
    if isinstance(contract, Mapping):
        parts += [release_around(contract), {**body, "spec": {**body["spec"], "contract": _SOUND_CONTRACT}}]
    for part in parts:
        found = parse(part)
        if isinstance(found, InvalidSpec):
            yield from _problems(found.message)


_SOUND_CONTRACT: Final = {
    "metrics": [{"name": "sound", "ratio": {"events": "events_total", "of": "all_total"}}],
    "clauses": [{"name": "sound", "metric": "sound", "atMost": "1%"}],
}


def _of_contract(spec: Mapping[str, Any]) -> list[Remark]:
    found = parse(release_around(spec))
    if isinstance(found, InvalidSpec):
        return [_refused(f"spec{path.removeprefix('spec.contract')}", what) for path, what in _problems(found.message)]
    return list(_of_promises(found.contract, "spec"))


def _problems(message: str) -> Iterator[tuple[str, str]]:
    """Yield path and message of each problem; a line that names no field belongs to the one before."""
    lines: list[str] = []
    for line in message.splitlines():
        if lines and not line.startswith(("spec", "metadata.")):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    for line in lines:
        path, _, what = line.partition(": ")
        yield path, what


# Warnings.


def _of_plan(spec: ReleaseSpec) -> Iterator[Remark]:
    if spec.suspend:
        yield _warning("spec.suspend", "true: nothing moves, not even on a breach, until it is taken out")
    kinds = {stage.kind for stage in spec.plan_stages}
    if kinds == {StageKind.FULL}:
        yield _warning(
            "spec.stages",
            "only a full stage: all users get every new version at once, and nothing is compared; add shadow or canary",
        )
    canaries = [(index, stage.canary.percent) for index, stage in enumerate(spec.stages or []) if stage.canary]
    if canaries and canaries[0][1] >= _MANY_USERS:
        index, percent = canaries[0]
        yield _warning(
            f"spec.stages[{index}].canary.percent", f"{percent}: so many users are the first to meet a new version"
        )
    for index, stage in enumerate(spec.stages or []):
        if stage.kind is StageKind.FULL and stage.bake and not parse_duration(stage.bake):
            yield _warning(
                f"spec.stages[{index}].bake",
                f"{stage.bake}: the watch ends as soon as all users are on the candidate",
            )
    if spec.on_inconclusive is OnInconclusive.ADVANCE:
        yield _warning(
            "spec.analysis.onInconclusive",
            "Advance: at a stage's deadline users go on to a version of which nothing was proved",
        )
    if spec.approval and spec.approval.automate_after and spec.approval_mode is not ApprovalMode.SUGGEST:
        yield _warning(
            "spec.approval.automateAfter", f"nothing is counted in mode {spec.approval_mode}, only in Suggest"
        )


_MANY_USERS: Final = 50


def _judges(clause: Clause, stage: Stage) -> bool:
    """Return whether *clause* is judged in *stage*: at full nobody is left on the old revision to compare with."""
    compared = not (clause.needs_baseline and stage.kind is StageKind.FULL)
    return compared and clause.judged_in(stage.kind)


def _unjudged_stages(spec: ReleaseSpec, contract: Contract) -> Iterator[Remark]:
    for index, stage in enumerate(spec.plan_stages):
        if any(_judges(clause, stage) for clause in contract.clauses):
            continue
        path = f"spec.stages[{index}]" if spec.stages else "spec.stages"
        relative = any(clause.judged_in(stage.kind) for clause in contract.clauses)
        if stage.kind is StageKind.FULL and relative:
            yield _warning(
                path,
                f"nothing is judged in stage {stage.name}: its clauses compare with the baseline, and at full nobody "
                "is left there; add a clause with atMost or atLeast, or the watch sees nothing",
            )
        else:
            yield _warning(
                path,
                f"no clause is judged in stage {stage.name}: it passes when its bake is over; take it out, or give a "
                f"clause that is judged in {stage.kind} stages",
            )


def _unjudged_clauses(spec: ReleaseSpec, contract: Contract) -> Iterator[Remark]:
    plan = spec.plan_stages
    kinds = ", ".join(dict.fromkeys(stage.kind.value for stage in plan))
    for index, clause in enumerate(contract.clauses):
        if any(_judges(clause, stage) for stage in plan):
            continue
        why = f"the plan has {kinds}"
        if any(clause.judged_in(stage.kind) for stage in plan):
            why = "at full nobody is left on the old revision to compare with"
        path = f"spec.contract.clauses[{index}].stages" if spec.contract else "spec.stages"
        yield _warning(path, f"no stage judges clause {clause.name}: {why}")


def _of_pods(spec: ReleaseSpec) -> Iterator[Remark]:
    if spec.replicas == 1:
        yield _warning(
            "spec.server.replicas",
            "1: users are without a model whenever the pod restarts, and how much equal pods differ cannot be told",
        )
    for path, what in unknown_fields(spec.server.template):
        yield _warning(path, what)
    where = f"{TEMPLATE}.spec.containers"
    containers = spec.server.template["spec"]["containers"]
    for index, container in enumerate(containers):
        if _floats(container["image"]):
            yield _warning(
                f"{where}[{index}].image",
                f"{container['image']!r} names no fixed image: pods of one revision may differ, and a rollback may not "
                "bring the old image back; give a tag that never moves, or a digest",
            )
    if not any(container.get("readinessProbe") for container in containers):
        yield _warning(
            f"{where}[0]",
            "no readinessProbe: a pod gets users as soon as it runs, be the model loaded or not",
        )


def _floats(image: str) -> bool:
    """Return whether what an image's name means may change."""
    if "@" in image:
        return False
    _, _, tag = image.rpartition("/")[2].partition(":")
    return tag in {"", "latest"}


def _of_promises(contract: Contract, where: str) -> Iterator[Remark]:
    """Yield what is odd about the contract alone, whose place is *where*."""
    judged_slices = {name for clause in contract.clauses for name in clause.per or []}
    for index, dimension in enumerate(contract.slices or []):
        if dimension.name not in judged_slices:
            yield _warning(
                f"{where}.slices[{index}]", f"no clause judges per {dimension.name}: add it to a clause's per"
            )
        elif not dimension.expected:
            yield _warning(
                f"{where}.slices[{index}]",
                f"no expected values of {dimension.name}: a group that falls silent is not missed, and one with less "
                "than 1 % of the events is not assured on its own; list those that must never be missed",
            )
    judged_metrics = {clause.metric for clause in contract.clauses}
    for index, metric in enumerate(contract.metrics):
        if metric.name not in judged_metrics:
            yield _warning(f"{where}.metrics[{index}]", f"no clause judges metric {metric.name}")
    for index, clause in enumerate(contract.clauses):
        yield from _unprovable(clause, f"{where}.clauses[{index}]")
    if all(clause.on_breach in (OnBreach.HOLD, OnBreach.WARN) for clause in contract.clauses):
        yield _warning(
            f"{where}.clauses", "no clause rolls back: a breach leaves users where they are until somebody comes"
        )


def _unprovable(clause: Clause, where: str) -> Iterator[Remark]:
    """Yield the margins that no amount of traffic can prove of a candidate that changes nothing."""
    for field, text in (
        ("assure.overall", _assured(clause, lambda assure: assure.overall)),
        ("assure.slices", _assured(clause, lambda assure: assure.slices)),
    ):
        if text and _never(clause, text):
            yield _warning(f"{where}.{field}", _endless(clause, text))
    if clause.improves or (clause.assure and clause.assure.overall):
        return
    for field, text in (("noWorse", clause.no_worse), ("atMost", clause.at_most), ("atLeast", clause.at_least)):
        if text and _never(clause, text):
            yield _warning(f"{where}.{field}", _endless(clause, text))


def _assured(clause: Clause, part: Callable[[Assure], str | None]) -> str | None:
    text = part(clause.assure) if clause.assure else None
    return None if text == "none" else text


def _never(clause: Clause, text: str) -> bool:
    """Return whether *text* leaves no room between what is allowed and what a sound candidate is."""
    margin = parse_margin(text)
    if clause.at_least is not None:
        return margin.value >= 1 and text.endswith("%")
    return margin.value == 0


def _endless(clause: Clause, text: str) -> str:
    if clause.at_least is not None or clause.at_most is not None:
        return f"{text}: no amount of traffic proves it, so the gate never passes; leave room, or write assure"
    return (
        f"{text}: of a candidate that changes nothing no amount of traffic proves it, so the gate never passes; leave "
        "room, or write a wider assure"
    )
