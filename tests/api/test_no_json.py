"""What a file may hold and an API server never stores is a problem with its place, never an exception."""

import datetime as dt
from typing import Any

import pytest

from modelrelease.api.parse import InvalidSpec, Release, named_contract, parse, parse_decision
from modelrelease.api.reasons import Reason
from tests.api.specs import GOOD

META = {"namespace": "fraud", "name": "radar", "uid": "1", "generation": 3}
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("radar", 'metadata: "radar" is not an object'),
        (["radar"], 'metadata: ["radar"] is not an object'),
        (None, "metadata.name: '' is not a release's name"),
        (META | {"name": 5}, "metadata.name: 5 is not a string"),
        (META | {"name": dt.date(2026, 11, 20)}, "metadata.name: datetime.date(2026, 11, 20) is not a string"),
        (META | {"namespace": ["a"]}, 'metadata.namespace: ["a"] is not a string'),
        (META | {"generation": "abc"}, 'metadata.generation: "abc" is not a whole number'),
    ],
)
def test_metadata_of_any_type_is_a_problem(metadata, problem):
    found = parse({**GOOD, "metadata": metadata})
    assert isinstance(found, InvalidSpec)
    assert found.message.startswith(problem)
    assert (type(found.name), type(found.namespace), type(found.generation)) == (str, str, int)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ([1], "spec: [1] is not an object"),
        ([], "spec: [] is not an object"),
        ("hello", 'spec: "hello" is not an object'),
        (False, "spec: false is not an object"),
        (b"hello", "spec: b'hello' is a bytes, which JSON does not have"),
        (GOOD["spec"] | {"owner": {"a"}}, "spec.owner: {'a'} is a set, which JSON does not have"),
        (GOOD["spec"] | {"model": {"version": dt.date(2026, 11, 20)}}, "spec.model.version: datetime.date(2026"),
        (GOOD["spec"] | {"stages": [{"bake": float("nan")}]}, "spec.stages[0].bake: nan is not a number"),
        (GOOD["spec"] | {("a", "b"): 1}, "spec: key ('a', 'b') is not a string"),
        (GOOD["spec"] | {"owner": ENDLESS}, "spec.owner: has more than 50 levels, or contains itself"),
        (GOOD["spec"] | {"owner": 10**5000}, "spec: cannot be written as JSON: Exceeds the limit"),
    ],
)
def test_a_spec_of_any_type_is_a_problem(spec, problem):
    body = {"metadata": META, "spec": spec}
    assert named_contract(body) is None
    found = parse(body)
    assert isinstance(found, InvalidSpec)
    assert found.message.startswith(problem)
    contract = {"spec": spec}
    referring = {key: value for key, value in GOOD["spec"].items() if key != "contract"}
    found = parse({"metadata": META, "spec": referring | {"contractRef": {"name": "shared"}}}, contract)
    assert isinstance(found, InvalidSpec)
    assert found.reason is Reason.CONTRACT_INVALID
    decision = {"metadata": {"name": "go", "uid": "1", "creationTimestamp": "2026-11-20T00:00:00Z"}, "spec": spec}
    assert isinstance(parse_decision(decision).spec, str)


def test_what_json_has_is_read():
    assert isinstance(parse({"metadata": META, "spec": GOOD["spec"]}), Release)
