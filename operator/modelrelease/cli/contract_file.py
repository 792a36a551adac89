"""
Reading a contract file: a ModelRelease, a ModelContract, or the bare contract mapping.

Whatever it is, it goes through the parser that the operator uses, and a problem says line and column.
"""

from collections.abc import Mapping
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
    document = _only(read_documents(path), path)
    if not isinstance(document.value, Mapping):
        raise BadInput([f"{path}:1:1: not a mapping; {_ALLOWED}"])
    match document.value.get("kind"):
        case "ModelRelease":
            if name := named_contract(document.value):
                raise BadInput([f"{path}: spec.contractRef: give the file of ModelContract {name!r} instead"])
            release = _parsed(document, document.value, inside="spec", shown="spec")
            return Judged(release.contract, release.spec.plan_stages, release.spec.error_budget)
        case "ModelContract":
            contract, shown = document.value.get("spec"), "spec"
        case None:
            contract, shown = document.value, ""
        case kind:
            raise BadInput([f"{path}: kind {kind!r}; ModelRelease, ModelContract or none is allowed"])
    release = _parsed(document, release_around(contract), inside="spec.contract", shown=shown)
    return Judged(release.contract, (), DEFAULT_BUDGET)


def _only(documents: list[Document], path: Path) -> Document:
    if not documents:
        raise BadInput([f"{path}:1:1: empty; {_ALLOWED}"])
    if len(documents) > 1:
        raise BadInput([f"{path}: {len(documents)} documents; one is allowed: {_ALLOWED}"])
    return documents[0]


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


def _parsed(document: Document, body: Mapping[str, Any], *, inside: str, shown: str) -> Release:
    """Return the release in *body*; the file calls *shown* what the parser calls *inside*."""
    try:
        found = parse({"metadata": {"name": "contract"}, **body})
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise BadInput([f"{document.file}: not a ModelRelease: {error}"]) from error
    if isinstance(found, InvalidSpec):
        problems = [_located(problem, document, inside, shown) for problem in found.message.splitlines()]
        raise BadInput(problems)
    return found


def _located(problem: str, document: Document, inside: str, shown: str) -> str:
    """Return *problem* with the place in the file that it speaks of."""
    field, _, what = problem.partition(": ")
    if not field.startswith(inside):
        return f"{document.file}: {problem}"
    path = f"{shown}{field.removeprefix(inside)}".removeprefix(".")
    line, column = document.place(path)
    return f"{document.file}:{line}:{column}: {path or 'contract'}: {what}"
