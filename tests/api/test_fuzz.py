"""Whatever the API server admits, the parser reads without raising, and refuses only for what a schema cannot know."""

import copy
import os
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from modelrelease.api.parse import InvalidSpec, parse
from tests.api.conftest import Admission
from tests.api.specs import GOOD

SPECS = int(os.environ.get("FUZZ_SPECS", "900"))
"""How many specs are tried; ``make fuzz`` tries more, of another seed."""

MIXTURES = max(SPECS // 6, 150)
SEED = int(os.environ.get("FUZZ_SEED", "20261123"))

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 100, 101, 1000, 2**31, 2**63 - 1, 0.5, 1e300, "", " ", "a", "A", "-", "a" * 64, "é",
    "0", "5%", "5 %", "0%", "5pp", "100%", "0.05", "00.10%", "1e3", "30s", "1w2d3h4m5s6ms", "99999w", "0s", "ms", "\n",
    "5%\n", "1h\n", "country", "block-rate", "full", "shadow", "Rollback", "none", "up{", "x_total[5m]", "__name__",
    "30m", "24h", "10%", "20.0%", "2pp", "0.5", "FR,web", "canary", "error-rate", "market", 3, 5, 10, 50, 99,
    "MODELRELEASE_X", "modelrelease.dev/x", [], {}, [None], [""], ["country"], ["a", "a"], [{}], {"percent": 5},
    {"name": "x"}, {"a": "b"}, "latency", "score", "fallbacks", "0.99", "0.0", "0.2", "200", "1.5", "150%", "150pp",
    "latency_seconds_bucket", "score_sum{a='b'}", "x_count ", '{__name__="x_sum"}', 'latency_seconds{le="1"}',
    {"psi": "0.1"}, {"psi": "0"}, {"events": "x_total"}, {"histogram": "x"}, {"histogram": "x", "q": "0.5"},
    {"events": "x", "of": "y"}, {"overall": "5%"}, {"overall": "none", "slices": "0.5"}, {"slices": "5pp"},
    {"slices": "x"},
)  # fmt: skip

FIELDS = (
    "within", "noWorse", "improves", "atMost", "atLeast", "similar", "assure", "ratio", "quantile", "distribution",
    "rate", "canary", "replicas", "name", "extra", "deadline",
)  # fmt: skip

METRICS = ("block-rate", "latency", "score", "fallbacks")
MARGINS = ("0", "0.05", "1", "1.5", "200", "0%", "5%", "100%", "150%", "0.5pp", "100pp", "150pp")

SELECTOR = re.compile(r"\.(ratio\.events|ratio\.of|rate\.events|quantile\.histogram|distribution\.histogram): ")


def mutated(chance: random.Random) -> dict[str, Any]:
    """
    Return the good object with up to three places changed, removed, doubled, or filled from elsewhere.

    Every other one has a clause whose metric, verb and margins are thrown together.
    """
    body = copy.deepcopy(GOOD)
    mixed = chance.random() < 0.5
    if mixed:
        body["spec"]["contract"]["clauses"].append(a_clause(chance))
    for _ in range(chance.choice((0, 0, 0, 1) if mixed else (1, 1, 2, 3))):
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
                parent[chance.choice(FIELDS)] = _one_of(VALUES, chance)
            case 4:
                parent[key] = _one_of(VALUES, chance)
            case _:
                parent[key] = _one_of([value for value in VALUES if type(value) is type(parent[key])] or [None], chance)
    return body


def a_clause(chance: random.Random, name: str = "mixed") -> dict[str, Any]:
    """Return a clause whose parts may not fit together."""
    verb = chance.choice(("within", "noWorse", "improves", "atMost", "atLeast", "similar"))
    psi = chance.choice(("0.00", "0.2", "3"))
    margin = {"improves": True, "similar": {"psi": psi}}.get(verb, chance.choice(MARGINS))
    parts = chance.sample(("overall", "slices"), chance.randrange(3))
    assure = {"assure": {part: chance.choice(("none", *MARGINS)) for part in parts}} if parts else {}
    return {"name": name, "metric": chance.choice(METRICS), verb: margin, **assure}


def _one_of(values: Sequence[Any], chance: random.Random) -> Any:
    # A copy: the next change may be inside of it.
    return copy.deepcopy(chance.choice(values))


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
    assert [outcome.message for outcome in parsed if isinstance(outcome, InvalidSpec) and not _says(outcome)] == []


@pytest.mark.apiserver
def test_both_say_the_same(admission: Admission):
    """Whatever clauses are thrown together, admission and the parser name the same problems in the same words."""
    chance = random.Random(SEED)
    refused = 0
    for _ in range(MIXTURES):
        body = copy.deepcopy(GOOD)
        body["spec"]["contract"]["clauses"] += [a_clause(chance, f"mixed-{n}") for n in range(chance.randint(1, 3))]

        refusal = admission.refusal(body)
        parsed = parse(body)

        assert (refusal is not None) == isinstance(parsed, InvalidSpec), refusal
        if refusal is not None and isinstance(parsed, InvalidSpec):
            refused += 1
            problems = [line.partition(": ") for line in parsed.message.splitlines()]
            assert [what for _, _, what in problems if what not in refusal] == []
            assert [where for where, _, _ in problems if where not in refusal] == []
            assert len(problems) == refusal.count("Invalid value: ")
    assert refused > MIXTURES // 2


WHERE_AND_WHAT = re.compile(r"(spec|metadata)[\w.\[\]-]*: .+", re.DOTALL)


def _says(invalid: InvalidSpec) -> bool:
    """Return whether every problem says where and what it is."""
    return WHERE_AND_WHAT.match(invalid.message) is not None


def _only_the_operator_knows(message: str) -> bool:
    return all(SELECTOR.search(line) for line in message.splitlines())
