"""
Every mistake that one object can show is refused by the real API server, with the field and what is allowed.

The parser refuses the same specs with the same sentence: nothing reaches the core that admission would have stopped.
"""

import pytest

from modelrelease.api.parse import InvalidSpec, parse
from tests.api.conftest import Admission
from tests.api.specs import BAD, GOOD, Bad

ADMISSION = [pytest.param(bad, id=bad.id) for bad in BAD if not bad.admitted]
ALL = [pytest.param(bad, id=bad.id) for bad in BAD]


@pytest.mark.apiserver
def test_the_good_spec_is_admitted(admission: Admission):
    """What the table changes is itself good, so each refusal is about the change."""
    assert admission.refusal(GOOD) is None


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
