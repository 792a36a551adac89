"""
Reading a ModelRelease: a Release, or an InvalidSpec that says where, what and what is allowed.

The schema and the CEL rules of the CRD refuse most mistakes at admission. What they cannot know (PromQL that does not
parse, a pod template that is none) is found here.
The same goes for the ModelContract that it may refer to.
A bad spec is a value, never an exception: the cluster stays as it is.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelrelease.api.contract import Contract
from modelrelease.api.decision import DecisionSpec
from modelrelease.api.reasons import Reason
from modelrelease.api.release import OBJECT_NAME, ReleaseSpec
from modelrelease.api.revision import Revision
from modelrelease.api.rules import RELEASE_NAME, contract_problems, decision_problems, problems_of

Spec = TypeVar("Spec", bound=BaseModel)

MOST_BYTES: Final = 262_144
"""Size of a spec, as JSON. The API server stores 1.5 MB at most, and a status that does not fit could not roll back."""


@dataclass(frozen=True, slots=True)
class Release:
    """
    A ModelRelease whose spec can be carried out.

    Attributes:
        namespace, name, uid: Identity of the object.
        generation: Generation of the spec.
        spec: The parsed spec.
        contract: What must hold: the spec's own contract, or the one that it names.
        desired: The revision that the spec asks for.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ReleaseSpec
    contract: Contract
    desired: Revision


@dataclass(frozen=True, slots=True)
class InvalidSpec:
    """
    A ModelRelease whose spec cannot be carried out.

    Attributes:
        namespace, name, uid: Identity of the object.
        generation: Generation of the spec.
        message: Every problem, one a line: where, what, what is allowed.
        reason: What is wrong: the spec itself, or the contract that it names.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    message: str
    reason: Reason = Reason.INVALID_SPEC


def named_contract(body: Mapping[str, Any]) -> str | None:
    """Return the name of the ModelContract that *body*, a ModelRelease, refers to; None when there is none to read."""
    spec = body.get("spec")
    reference = spec.get("contractRef") if isinstance(spec, Mapping) else None
    name = reference.get("name") if isinstance(reference, Mapping) else None
    return name if isinstance(name, str) and OBJECT_NAME.problem(name) is None else None


def parse(body: Mapping[str, Any], named: Mapping[str, Any] | None = None) -> Release | InvalidSpec:
    """
    Return the release that the object *body* describes, or what is wrong with it.

    Args:
        body: A ModelRelease.
        named: The ModelContract that it refers to; None when it refers to none, or when that does not exist.
    """
    meta, found = _identity(body.get("metadata"))
    identity: dict[str, Any] = {key: meta.get(key) or "" for key in ("namespace", "name", "uid")}
    generation = meta.get("generation") or 0
    if found or (found := _unreadable(body.get("spec")) or _too_large(body.get("spec"))):
        return InvalidSpec(**identity, generation=generation, message=found)
    try:
        spec = spec_of(_given(body.get("spec")))
    except ValidationError as error:
        return InvalidSpec(**identity, generation=generation, message=_message(error))
    if problems := problems_of(spec):
        return InvalidSpec(**identity, generation=generation, message="\n".join(problems))
    contract = spec.contract or _contract(spec, identity["namespace"], named)
    if not isinstance(contract, Contract):
        reason, message = contract
        return InvalidSpec(**identity, generation=generation, message=message, reason=reason)
    return Release(**identity, generation=generation, spec=spec, contract=contract, desired=Revision.of(spec))


def _identity(meta: object) -> tuple[Mapping[str, Any], str]:
    """Return what can be used of an object's metadata, and what is wrong with it; "" for nothing."""
    given = {} if meta is None else meta
    if not isinstance(given, Mapping):
        return {}, f"metadata: {_shown(given)} is not an object"
    wrong = {
        key: f"metadata.{key}: {_shown(given[key])} is not {what}"
        for key, (type_, what) in _IDENTITY.items()
        if given.get(key) is not None and not isinstance(given[key], type_)
    }
    usable = {key: given[key] for key in _IDENTITY if key in given and key not in wrong}
    if "name" not in wrong and (problem := RELEASE_NAME.problem(usable.get("name") or "")):
        wrong["name"] = f"metadata.name: {problem}"
    return usable, "\n".join(wrong.values())


_IDENTITY: Final = {
    "namespace": (str, "a string"),
    "name": (str, "a string"),
    "uid": (str, "a string"),
    "generation": (int, "a whole number"),
}
"""Types of the metadata that are read."""


def _unreadable(spec: object) -> str:
    """Return what in *spec* is no JSON, as a file may have it and the API server never; "" for nothing."""
    try:
        json.dumps(spec, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return next(_no_json(spec, "spec"), f"spec: cannot be written as JSON: {error}")
    return ""


def _too_large(spec: object) -> str:
    """Return by how much *spec* is too large; "" when it is not."""
    size = len(json.dumps(_given(spec)))
    if size <= MOST_BYTES:
        return ""
    return f"spec: has {size} bytes, allowed are {MOST_BYTES}: put what is large into the image or a ConfigMap"


_DEEPEST: Final = 50
"""Levels of a spec; a pod template has about ten."""


def _no_json(value: object, path: str, level: int = 0) -> Iterator[str]:
    """Yield the places of what JSON does not know, such as the dates and sets of YAML."""
    match value:
        case None | str() | bool() | int():
            return
        case float():
            if not isfinite(value):
                yield f"{path}: {value} is not a number"
        case Mapping() | list() if level == _DEEPEST:
            top = ".".join(path.partition("[")[0].split(".")[:3])
            yield f"{top}: has more than {_DEEPEST} levels, or contains itself"
        case Mapping():
            for key, inner in value.items():
                if not isinstance(key, str | int | float | None):
                    yield f"{path}: key {key!r} is not a string"
                yield from _no_json(inner, f"{path}.{key}", level + 1)
        case list():
            for index, inner in enumerate(value):
                yield from _no_json(inner, f"{path}[{index}]", level + 1)
        case _:
            yield f"{path}: {_shown(value)} is a {type(value).__name__}, which JSON does not have"


def _given(spec: object) -> object:
    """Return a spec as it is validated: one that is not there has no fields."""
    return {} if spec is None else spec


def _shown(value: object) -> str:
    """Return *value* as messages show it."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _contract(spec: ReleaseSpec, namespace: str, named: Mapping[str, Any] | None) -> Contract | tuple[Reason, str]:
    """Return the contract that *spec* refers to, or what is wrong with it."""
    assert spec.contract_ref is not None, "the rules ask for one of the two"
    name = spec.contract_ref.name
    if named is None:
        what = f"there is no ModelContract {name!r} in namespace {namespace}"
        return Reason.CONTRACT_NOT_FOUND, f"spec.contractRef.name: {what}: create it, or write spec.contract"
    where = f"ModelContract {namespace}/{name}"
    if unreadable := _unreadable(named.get("spec")):
        return Reason.CONTRACT_INVALID, f"{where}: {unreadable}"
    try:
        contract = _read(Contract, _given(named.get("spec")))
    except ValidationError as error:
        problems = _message(error).splitlines()
    else:
        problems = contract_problems(contract)
        if not problems:
            return contract
    return Reason.CONTRACT_INVALID, "\n".join(f"{where}: {problem}" for problem in problems)


def spec_of(spec: object) -> ReleaseSpec:
    """
    Return the spec with its types checked as the API server checks them: a number is not a string, and none is guessed.

    Raises:
        ValidationError: A field is unknown, missing, or not what its type allows.
    """
    return _read(ReleaseSpec, spec)


def _read(model: type[Spec], given: object) -> Spec:
    return model.model_validate_json(json.dumps(given), strict=True, by_alias=True, by_name=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A decision that nobody has answered yet.

    Attributes:
        name, uid: Identity of the object.
        time: When it was created.
        spec: What is asked for; what is wrong with it when it cannot be read.
    """

    name: str
    uid: str
    time: datetime
    spec: DecisionSpec | str


def parse_decision(body: Mapping[str, Any]) -> Asked:
    """Return the decision that the object *body* describes."""
    meta = body["metadata"]
    created = datetime.fromisoformat(meta["creationTimestamp"])
    return Asked(name=meta["name"], uid=meta["uid"], time=created, spec=_decision(body.get("spec")))


def _decision(given: object) -> DecisionSpec | str:
    if unreadable := _unreadable(given):
        return unreadable
    try:
        spec = _read(DecisionSpec, _given(given))
    except ValidationError as error:
        return _message(error)
    return "\n".join(decision_problems(spec)) or spec


def _message(error: ValidationError) -> str:
    return "\n".join(f"{_path(problem['loc'])}: {_what(problem)}" for problem in error.errors(include_url=False))


def _what(problem: ErrorDetails) -> str:
    """Return what is wrong and what is allowed, in our words where pydantic speaks of its input."""
    given = json.dumps(problem["input"], default=str)
    context = problem.get("ctx", {})
    match problem["type"]:
        case "missing":
            return "is required"
        case "enum" | "literal_error":
            return f"{given} is not one of {context['expected']}"
        case "too_short" | "string_too_short":
            return f"{given} is too short, at least {context['min_length']} is allowed"
        case "too_long":
            return f"{context['actual_length']} items are too many, at most {context['max_length']} are allowed"
        case "string_too_long":
            return f"is too long, at most {context['max_length']} characters are allowed"
        case type_ if type_ in _TYPES:
            return f"{given} is not {_TYPES[type_]}"
        case _:
            return problem["msg"]


_TYPES: Final = {
    "string_type": 'a string: write it in quotes, such as "1.0"',
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}


def _path(location: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
