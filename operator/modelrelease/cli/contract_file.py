"""
Reading a contract file: a ModelRelease, a ModelContract, both, or the bare contract mapping.

Whatever it is, it goes through the parser that the operator uses, and a problem says line and column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelrelease.api.contract import Contract
from modelrelease.api.parse import InvalidSpec, Release, named_contract, parse
from modelrelease.api.release import Stage
from modelrelease.cli.problems import BadInput
from modelrelease.cli.yaml_file import Document, read_documents

DEFAULT_BUDGET: Final = 0.01

_ALLOWED: Final = "a ModelRelease, a ModelContract or a contract is allowed"


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What a file asks to be judged.

    Attributes:
        contract: What must hold.
        stages: The stages of a ModelRelease, in order; empty when the file holds only a contract.
        error_budget: Chance of one false breach, as a fraction.
    """

    contract: Contract
    stages: tuple[Stage, ...]
    error_budget: float


def read_contract(path: Path) -> Judged:
    """
    Return the contract in the file at *path*.

    Raises:
        BadInput: The file cannot be read, is no YAML, or is no contract.
    """
    document, contracts = _sorted(read_documents(path), path)
    if not isinstance(document.value, Mapping):
        raise BadInput([f"{path}:1:1: not a mapping; {_ALLOWED}"])
    match document.value.get("kind"):
        case "ModelRelease":
            release = _parsed(document, document.value, _named(document, contracts), inside="", shown="")
            return Judged(release.contract, release.spec.plan_stages, release.spec.error_budget)
        case "ModelContract":
            return Judged(_contract(document), (), DEFAULT_BUDGET)
        case None:
            release = _parsed(document, release_around(document.value), inside="spec.contract", shown="")
            return Judged(release.contract, (), DEFAULT_BUDGET)
        case kind:
            raise BadInput([f"{path}: kind {kind!r}; ModelRelease, ModelContract or none is allowed"])


def _sorted(documents: list[Document], path: Path) -> tuple[Document, list[Document]]:
    """Return what is judged, and the ModelContracts that come with a ModelRelease."""
    if not documents:
        raise BadInput([f"{path}:1:1: empty; {_ALLOWED}"])
    if len(documents) == 1:
        return documents[0], []
    releases = [document for document in documents if _kind(document) == "ModelRelease"]
    contracts = [document for document in documents if _kind(document) == "ModelContract"]
    if len(releases) == 1 and len(releases) + len(contracts) == len(documents):
        return releases[0], contracts
    allowed = f"one is allowed, or a ModelRelease with its ModelContract: {_ALLOWED}"
    raise BadInput([f"{path}: {len(documents)} documents; {allowed}"])


def _kind(document: Document) -> object:
    return document.value.get("kind") if isinstance(document.value, Mapping) else None


def _named(release: Document, contracts: Sequence[Document]) -> Mapping[str, Any] | None:
    """Return the ModelContract that *release* refers to; None when it has its own."""
    name = named_contract(release.value)
    if name is None:
        return None
    found = [contract for contract in contracts if _same_place(contract.value, release.value, name)]
    if len(found) != 1:
        what = "is there twice" if found else "is not in the file; add it after ---, or give its own file instead"
        raise BadInput([_placed(release, "spec.contractRef.name", f"ModelContract {name!r} {what}")])
    _contract(found[0])
    return {"spec": found[0].value["spec"]}


def _same_place(contract: Mapping[str, Any], release: Mapping[str, Any], name: str) -> bool:
    """Return whether *contract* has this *name*, and no other namespace than *release*."""
    mine, other = contract.get("metadata"), release.get("metadata")
    if not isinstance(mine, Mapping) or not isinstance(other, Mapping):
        return False
    return mine.get("name") == name and mine.get("namespace") in (None, other.get("namespace"))


def _contract(document: Document) -> Contract:
    """Return the contract of a ModelContract."""
    spec = document.value.get("spec")
    if spec is None:
        raise BadInput([_placed(document, "spec", "is required")])
    return _parsed(document, release_around(spec), inside="spec.contract", shown="spec").contract


def release_around(contract: object) -> dict[str, Any]:
    """Return the smallest ModelRelease that holds *contract*, for the one parser there is."""
    return {
        "metadata": {"name": "contract"},
        "spec": {
            "model": {"version": "none"},
            "server": {"port": 1, "template": {"spec": {"containers": [{"name": "server", "image": "none"}]}}},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "none"}]}},
            "contract": contract,
        },
    }


def _parsed(
    document: Document, body: Mapping[str, Any], named: Mapping[str, Any] | None = None, *, inside: str, shown: str
) -> Release:
    """Return the release in *body*; the file calls *shown* what the parser calls *inside*."""
    found = parse({"metadata": {"name": "contract"}, **body}, named)
    if isinstance(found, InvalidSpec):
        problems = [_located(problem, document, inside, shown) for problem in found.message.splitlines()]
        raise BadInput(problems)
    if twice := [_placed(document, path, "is there twice; once is allowed") for path in document.duplicates()]:
        raise BadInput(twice)
    return found


def _located(problem: str, document: Document, inside: str, shown: str) -> str:
    """Return *problem* with the place in the file that it speaks of."""
    field, _, what = problem.partition(": ")
    if not field.startswith(inside):
        return f"{document.file}: {problem}"
    return _placed(document, f"{shown}{field.removeprefix(inside)}".removeprefix("."), what)


def _placed(document: Document, path: str, what: str) -> str:
    line, column = document.place(path)
    return f"{document.file}:{line}:{column}: {path or 'contract'}: {what}"
