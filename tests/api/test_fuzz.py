"""Whatever the API server admits, the parser reads without raising, and refuses only for what a schema cannot know."""

import copy
import random
from typing import Any

import pytest

from modelrelease.api.parse import InvalidSpec, parse
from tests.api.conftest import Admission
from tests.api.specs import GOOD

SPECS = 900
SEED = 20261123

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 100, 101, 1000, 2**31, 2**63 - 1, 0.5, 1e300, "", " ", "a", "A", "-", "a" * 64, "é",
    "0", "5%", "5 %", "0%", "5pp", "100%", "0.05", "00.10%", "1e3", "30s", "1w2d3h4m5s6ms", "99999w", "0s", "ms", "\n",
    "5%\n", "1h\n", "country", "block-rate", "full", "shadow", "Rollback", "none", "up{", "x_total[5m]", "__name__",
    "30m", "24h", "10%", "20.0%", "2pp", "0.5", "FR,web", "canary", "error-rate", "market", 3, 5, 10, 50, 99,
    "MODELRELEASE_X", "modelrelease.dev/x", [], {}, [None], [""], ["country"], ["a", "a"], [{}], {"percent": 5},
    {"name": "x"}, {"a": "b"},
)  # fmt: skip


def mutated(chance: random.Random) -> dict[str, Any]:
    """Return the good object with one to three places changed, removed, doubled, or filled from elsewhere."""
    body = copy.deepcopy(GOOD)
    for _ in range(chance.choice((1, 1, 2, 3))):
        parent, key = chance.choice(_places(body["spec"]))
        match chance.randrange(8):
            case 0 if isinstance(parent, dict):
                parent.pop(key, None)
            case 1 if isinstance(parent, list) and key < len(parent):
                parent.insert(chance.randint(0, len(parent)), copy.deepcopy(parent[key]))
            case 2:
                other, name = chance.choice(_places(body["spec"]))
                parent[key] = copy.deepcopy(other[name])
            case 3 if isinstance(parent, dict):
                parent[chance.choice(("within", "canary", "replicas", "name", "extra", "deadline"))] = chance.choice(
                    VALUES
                )
            case 4:
                parent[key] = chance.choice(VALUES)
            case _:
                parent[key] = chance.choice([value for value in VALUES if type(value) is type(parent[key])] or [None])
    return body


def _places(part: Any) -> list[tuple[Any, Any]]:
    children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [place for key, child in children for place in ((part, key), *_places(child))]


@pytest.mark.apiserver
def test_what_is_admitted_can_be_read(admission: Admission):
    """Admission and the parser agree: neither crashes, and none is stricter about what one object can know."""
    chance = random.Random(SEED)
    specs = [mutated(chance) for _ in range(SPECS)]

    refusals = [admission.refusal(body) for body in specs]
    parsed = [parse(body) for body in specs]

    admitted = [outcome for refusal, outcome in zip(refusals, parsed, strict=True) if refusal is None]
    assert len(admitted) >= SPECS // 12, "the mutations are too wild to prove anything"
    stricter = [outcome.message for outcome in admitted if isinstance(outcome, InvalidSpec)]
    assert [message for message in stricter if not _only_the_operator_knows(message)] == []
    laxer = [
        refusal
        for refusal, outcome in zip(refusals, parsed, strict=True)
        if refusal is not None and not isinstance(outcome, InvalidSpec)
    ]
    assert laxer == []


def _only_the_operator_knows(message: str) -> bool:
    return all(".ratio." in line for line in message.splitlines())
