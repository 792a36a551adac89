"""
What the API server refuses of any object, whatever its kind: fields that do not exist, names, labels. Pure.

Each rule yields the field's path, and what is wrong and what is allowed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from modelrelease.api.base import API_VERSION
from modelrelease.api.constraints import Spelling
from modelrelease.api.rules import RELEASE_NAME

Problem = tuple[str, str]

FIELDS: Final = ("apiVersion", "kind", "metadata", "spec", "status")

METADATA: Final = (
    "name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
    "managedFields",
)  # fmt: skip

_LABEL_NAME: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"

OBJECT_NAME: Final = Spelling(
    pattern=rf"(?=.{{1,253}}$){_LABEL_NAME}(\.{_LABEL_NAME})*",
    wanted="an object's name: use lower-case letters, digits, inner dashes and dots",
)
SHORT_NAME: Final = Spelling(
    pattern=rf"(?=.{{1,63}}$){_LABEL_NAME}",
    wanted="a name: use at most 63 lower-case letters, digits and inner dashes",
)
_LABEL_KEY: Final = Spelling(
    pattern=rf"((?=[^/]{{1,253}}/){_LABEL_NAME}(\.{_LABEL_NAME})*/)?(?=.{{1,63}}$)[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?",
    wanted="a key: use at most 63 letters, digits, inner dashes, dots and underscores, after example.com/ if you like",
)
_LABEL_VALUE: Final = Spelling(
    pattern=r"(?=.{0,63}$)([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?",
    wanted="a label's value: use at most 63 letters, digits, inner dashes, dots and underscores",
)


def object_problems(body: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with *body*, an object of one of *kinds*, outside its spec."""
    for name in body:
        if name not in FIELDS:
            yield name, f"does not exist here, allowed: {', '.join(FIELDS)}; is it indented as it should be?"
    kind = body.get("kind")
    if kind not in kinds:
        yield "kind", f"{kind!r} is not one of {', '.join(kinds)}"
    if body.get("apiVersion") != API_VERSION:
        yield "apiVersion", f"{body.get('apiVersion')!r} is not {API_VERSION}"
    yield from _metadata_problems(body.get("metadata"), kind)
    if not isinstance(body.get("spec"), Mapping):
        yield "spec", "is required, and an object"


def _metadata_problems(meta: object, kind: object) -> Iterator[Problem]:
    if not isinstance(meta, Mapping | None):
        yield "metadata", f"{json.dumps(meta)} is not an object"
        return
    meta = meta or {}
    for field in meta:
        if field not in METADATA:
            yield f"metadata.{field}", f"does not exist, allowed: {', '.join(METADATA)}"
    generated = kind == "ReleaseDecision"
    names = [name for name in ("name", "generateName") if meta.get(name) is not None]
    if not names or (names == ["generateName"] and not generated):
        yield "metadata.generateName" if generated else "metadata.name", "is required"
    spellings = {
        "name": RELEASE_NAME if kind == "ModelRelease" else OBJECT_NAME,
        "generateName": None,
        "namespace": SHORT_NAME,
    }
    for field, spelling in spellings.items():
        if (given := meta.get(field)) is not None:
            yield from _string_problems(given, f"metadata.{field}", spelling)
    if (generation := meta.get("generation")) is not None and type(generation) is not int:
        yield "metadata.generation", f"{json.dumps(generation)} is not a whole number"
    yield from label_problems(meta.get("labels"), "metadata.labels")
    yield from annotation_problems(meta.get("annotations"), "metadata.annotations")


def _string_problems(given: object, path: str, spelling: Spelling | None) -> Iterator[Problem]:
    if not isinstance(given, str):
        yield path, f"{json.dumps(given)} is not a string: write it in quotes"
    elif spelling and (problem := spelling.problem(given)):
        yield path, problem


def label_problems(given: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the labels at *path*."""
    yield from _keys_problems(given, path, _LABEL_VALUE)


def annotation_problems(given: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the annotations at *path*."""
    yield from _keys_problems(given, path, None)


def _keys_problems(given: object, path: str, values: Spelling | None) -> Iterator[Problem]:
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield path, f"{json.dumps(given)} is not an object"
        return
    for key, value in given.items():
        if problem := _LABEL_KEY.problem(key):
            yield path, problem
        if value is not None:
            yield from _string_problems(value, f"{path}.{key}", values)
