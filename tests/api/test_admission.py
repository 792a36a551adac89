"""
Every mistake that one object can show is refused by the real API server, with the field and what is allowed.

The parser refuses the same specs with the same sentence: nothing reaches the core that admission would have stopped.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from modelrelease.api.decision import DecisionSpec
from modelrelease.api.parse import InvalidSpec, Release, parse, parse_decision, spec_of
from modelrelease.api.rules import RULES, models_of
from tests.api.conftest import Admission
from tests.api.specs import BAD, FINE, LATENCY, Bad, changed

FINE_ONES = [pytest.param(changed(change), id=name) for name, change in FINE.items()]
ADMISSION = [pytest.param(bad, id=bad.id) for bad in BAD if not bad.admitted]
ALL = [pytest.param(bad, id=bad.id) for bad in BAD]


DECISION = {"release": "radar", "revision": "7f3c9b1", "approvedBy": "ana", "reason": "by hand"}
BAD_DECISIONS = {
    "an approval of no stage": ({**DECISION, "decision": "Approve"}, "an Approve is for one stage"),
    "a rollback of one stage": (
        {**DECISION, "decision": "Rollback", "stage": "canary-5"},
        "a Rollback is for the whole rollout: leave stage out",
    ),
}


@pytest.mark.apiserver
@pytest.mark.parametrize("name", BAD_DECISIONS)
def test_a_decision_is_refused_in_the_same_words(admission: Admission, name: str):
    spec, says = BAD_DECISIONS[name]
    meta = {"name": "radar-1", "namespace": "default"}
    body = {"apiVersion": "modelrelease.dev/v1alpha1", "kind": "ReleaseDecision", "metadata": meta, "spec": spec}
    refusal = admission.refusal(body)
    assert refusal is not None
    assert "spec.stage" in refusal
    assert says in refusal
    created = {**meta, "uid": "u", "creationTimestamp": "2026-11-24T12:00:00Z"}
    assert str(parse_decision({**body, "metadata": created}).spec).startswith(f"spec.stage: {says}")


@pytest.mark.apiserver
@pytest.mark.parametrize("body", FINE_ONES)
def test_admitted(admission: Admission, body: dict[str, Any]):
    """What stands at the edge of a rule is inside, and what the other table changes is itself good."""
    assert admission.refusal(body) is None


@pytest.mark.parametrize("body", FINE_ONES)
def test_read_by_the_parser(body: dict[str, Any]):
    """The parser takes what admission takes, and keeps the pod template as it was written."""
    release = parse(body)

    assert isinstance(release, Release), release.message
    assert release.spec.server.template == body["spec"]["server"]["template"]


def test_every_rule_has_its_bad_spec():
    """No rule stands untested in either language."""
    broken = {
        id(rule) for model in _bad_models() for rule in RULES if isinstance(model, rule.on) and rule.problem(model)
    }

    assert [rule.says for rule in RULES if id(rule) not in broken] == []


def _bad_models() -> Iterator[BaseModel]:
    for bad in BAD:
        yield from _models_of(bad.body)
    for spec, _ in BAD_DECISIONS.values():
        yield DecisionSpec.model_validate(spec)


def _models_of(body: dict[str, Any]) -> list[BaseModel]:
    try:
        return [model for _, model in models_of(spec_of(body.get("spec", {})))]
    except ValidationError:
        return []


@pytest.mark.apiserver
@pytest.mark.parametrize("bad", ADMISSION)
def test_refused_at_admission(admission: Admission, bad: Bad):
    """The API server names the field, what is wrong and what is allowed."""
    refusal = admission.refusal(bad.body)

    assert refusal is not None
    assert bad.where in refusal
    assert bad.says in refusal


@pytest.mark.apiserver
@pytest.mark.parametrize("bad", [pytest.param(bad, id=bad.id) for bad in BAD if bad.admitted])
def test_admitted_although_only_the_operator_can_know(admission: Admission, bad: Bad):
    """What needs a PromQL parser passes admission: the operator says it in a condition."""
    assert admission.refusal(bad.body) is None


@pytest.mark.parametrize("bad", ALL)
def test_refused_by_the_parser(bad: Bad):
    """The parser refuses what admission refuses, naming the same field."""
    parsed = parse(bad.body)

    assert isinstance(parsed, InvalidSpec)
    assert any(
        line.startswith(bad.parsed_where or bad.where) and (bad.parsed or bad.says) in line
        for line in parsed.message.splitlines()
    ), parsed.message


def test_a_problem_is_said_once():
    """What a rule and the PromQL parser both see of a histogram's name is one problem."""
    parsed = parse(changed({LATENCY: "latency_seconds_bucket"}))

    assert isinstance(parsed, InvalidSpec)
    assert len(parsed.message.splitlines()) == 1
