"""
Reading a ModelRelease: a Release, or an InvalidSpec that says where, what and what is allowed.

The schema and the CEL rules of the CRD refuse most mistakes at admission. What they cannot know (PromQL that does not
parse, a pod template that is none) is found here.
A bad spec is a value, never an exception: the cluster stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from modelrelease.api.release import ReleaseSpec
from modelrelease.api.revision import Revision
from modelrelease.api.rules import problems_of


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
    try:
        spec = ReleaseSpec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        return InvalidSpec(**identity, generation=generation, message=_message(error))
    if problems := problems_of(spec):
        return InvalidSpec(**identity, generation=generation, message="\n".join(problems))
    return Release(**identity, generation=generation, spec=spec, desired=Revision.of(spec))


def _message(error: ValidationError) -> str:
    return "\n".join(f"{_path(problem['loc'])}: {problem['msg']}" for problem in error.errors())


def _path(location: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
