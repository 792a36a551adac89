"""
Answers of pure functions, remembered: a model asks the same questions a hundred thousand times.

Parsing and judging are functions of what they are given and of nothing else, so remembered answers change no outcome;
they are nine tenths of the time that a reconcile takes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from modelrelease.api.contract import Contract
from modelrelease.api.parse import InvalidSpec, Release, parse
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.judge import judge
from modelrelease.core.verdict import GateVerdict
from tests.reconcile.fakes import Object

_parsed: dict[str, Release | InvalidSpec] = {}
_latest: dict[tuple[int, int], tuple[Object, Object | None, Release | InvalidSpec]] = {}
_MOST_LATEST = 1000
_statuses: dict[int, tuple[Object, ReleaseStatus]] = {}
_digests: dict[int, tuple[Contract, str]] = {}
_digest_of = Contract.digest.fget
_judged: dict[tuple[Any, ...], tuple[GateVerdict, tuple[Any, ...]]] = {}


def parsed(body: Object, named: Object | None = None) -> Release | InvalidSpec:
    """Return what ``parse`` says of *body* and the contract that it names; of equal specs, the very same spec."""
    # Specs are never changed in place. What is kept cannot give its identity to something else.
    same = (id(body["spec"]), id(named))
    if same not in _latest:
        if len(_latest) == _MOST_LATEST:
            _latest.clear()
        _latest[same] = (body["spec"], named, _parsed_as_text(body, named))
    return replace(_latest[same][2], generation=body["metadata"]["generation"])


def _parsed_as_text(body: Object, named: Object | None) -> Release | InvalidSpec:
    metadata = body["metadata"]
    key = json.dumps(
        [metadata["name"], metadata["namespace"], metadata["uid"], body["spec"], (named or {}).get("spec")]
    )
    if key not in _parsed:
        _parsed[key] = parse(body, named)
    return _parsed[key]


def judged(contract: Any, evidence: Any, **how: Any) -> GateVerdict:
    """Return what ``judge`` says; the same counts are told by identity, the same contract by its digest."""
    told = [(it.stage, it.kind, it.seconds, it.percent, id(it.counts)) for it in evidence]
    key = (contract.digest, *told, *sorted(how.items()))
    if key not in _judged:
        # What is kept cannot give its identity to something else.
        _judged[key] = (judge(contract, evidence, **how), (contract, evidence))
    return _judged[key][0]


def status_of(said: Object) -> ReleaseStatus:
    """Return a status as the operator reads it."""
    if id(said) not in _statuses:
        if len(_statuses) == _MOST_LATEST:
            _statuses.clear()
        _statuses[id(said)] = (said, ReleaseStatus.model_validate(said))
    return _statuses[id(said)][1]


def digest(contract: Contract) -> str:
    """Return the digest of *contract*."""
    if id(contract) not in _digests:
        _digests[id(contract)] = (contract, _digest_of(contract))
    return _digests[id(contract)][1]


@contextmanager
def remembering() -> Iterator[None]:
    """Have the reconcile use them."""
    with (
        mock.patch.object(Contract, "digest", property(digest)),
        mock.patch("modelrelease.reconcile.parse", parsed),
        mock.patch("modelrelease.core.gate.judge", judged),
    ):
        yield
