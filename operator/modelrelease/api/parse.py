"""
Reading a ModelRelease: a Release, or an InvalidSpec that says where, what and what is allowed.

The schema and the CEL rules of the CRD refuse most mistakes at admission. What they cannot know (PromQL that does not
parse, a pod template that is none) is found here.
A bad spec is a value, never an exception: the cluster stays as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from modelrelease.api.release import ReleaseSpec
from modelrelease.api.revision import Revision
from modelrelease.api.rules import RELEASE_NAME, problems_of

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
        desired: The revision that the spec asks for.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ReleaseSpec
    desired: Revision


@dataclass(frozen=True, slots=True)
class InvalidSpec:
    """
    A ModelRelease whose spec cannot be carried out.

    Attributes:
        namespace, name, uid: Identity of the object.
        generation: Generation of the spec.
        message: Every problem, one a line: where, what, what is allowed.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    message: str


def parse(body: Mapping[str, Any]) -> Release | InvalidSpec:
    """Return the release that the object *body* describes, or what is wrong with it."""
    meta = body["metadata"]
    identity = {key: meta.get(key, "") for key in ("namespace", "name", "uid")}
    generation = int(meta.get("generation", 0))
    if problem := RELEASE_NAME.problem(identity["name"]):
        return InvalidSpec(**identity, generation=generation, message=f"metadata.name: {problem}")
    if (size := len(json.dumps(body.get("spec") or {}))) > MOST_BYTES:
        message = f"spec: has {size} bytes, allowed are {MOST_BYTES}: put what is large into the image or a ConfigMap"
        return InvalidSpec(**identity, generation=generation, message=message)
    try:
        spec = spec_of(body.get("spec") or {})
    except ValidationError as error:
        return InvalidSpec(**identity, generation=generation, message=_message(error))
    if problems := problems_of(spec):
        return InvalidSpec(**identity, generation=generation, message="\n".join(problems))
    return Release(**identity, generation=generation, spec=spec, desired=Revision.of(spec))


def spec_of(spec: Mapping[str, Any]) -> ReleaseSpec:
    """
    Return the spec with its types checked as the API server checks them: a number is not a string, and none is guessed.

    Raises:
        ValidationError: A field is unknown, missing, or not what its type allows.
    """
    return ReleaseSpec.model_validate_json(json.dumps(spec), strict=True, by_alias=True, by_name=False)


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
