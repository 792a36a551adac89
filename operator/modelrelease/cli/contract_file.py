"""
Reading a contract file: a ModelRelease, a ModelContract, or the bare contract mapping.

Whatever it is, it goes through the parser that the operator uses, and a problem says line and column.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from modelrelease.api.contract import Contract
from modelrelease.api.parse import InvalidSpec, Release, named_contract, parse
from modelrelease.api.release import Stage
from modelrelease.cli.problems import BadInput

DEFAULT_BUDGET: Final = 0.01


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
    root = _yaml(path)
    document = yaml.SafeLoader("").construct_document(root)
    if not isinstance(document, Mapping):
        raise BadInput([f"{path}:1:1: not a mapping; a ModelRelease, a ModelContract or a contract is allowed"])
    match document.get("kind"):
        case "ModelRelease":
            if name := named_contract(document):
                raise BadInput([f"{path}: spec.contractRef: give the file of ModelContract {name!r} instead"])
            release = _parsed(document, path, root, shown=("spec",))
            return Judged(release.contract, release.spec.plan_stages, release.spec.error_budget)
        case "ModelContract":
            contract = document.get("spec")
            shown: tuple[str, ...] = ("spec",)
        case None:
            contract, shown = document, ()
        case kind:
            raise BadInput([f"{path}: kind {kind!r}; ModelRelease, ModelContract or none is allowed"])
    release = _parsed(_release_around(contract), path, root, shown=shown)
    return Judged(release.contract, (), DEFAULT_BUDGET)


def _yaml(path: Path) -> yaml.Node:
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise BadInput([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise BadInput([f"{path}: byte {error.start} is not UTF-8"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise BadInput([f"{path}{where}: not YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise BadInput([f"{path}: not YAML: {error}"]) from error
    if root is None:
        raise BadInput([f"{path}:1:1: empty; a ModelRelease, a ModelContract or a contract is allowed"])
    return root


def _release_around(contract: object) -> dict[str, Any]:
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


def _parsed(body: Mapping[str, Any], path: Path, root: yaml.Node, *, shown: tuple[str, ...]) -> Release:
    """Return the release in *body*; *shown* are the file's steps to what the parser calls ``spec`` or its contract."""
    try:
        found = parse({"metadata": {"name": "contract"}, **body})
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise BadInput([f"{path}: not a ModelRelease: {error}"]) from error
    if isinstance(found, InvalidSpec):
        inside = "spec" if body.get("kind") == "ModelRelease" else "spec.contract"
        raise BadInput([_located(problem, path, root, inside, shown) for problem in found.message.splitlines()])
    return found


def _located(problem: str, path: Path, root: yaml.Node, inside: str, shown: tuple[str, ...]) -> str:
    """Return *problem* with the place in the file that it speaks of."""
    field, _, what = problem.partition(": ")
    if not field.startswith(inside):
        return f"{path}: {problem}"
    steps = [*shown, *re.findall(r"[^.\[\]]+", field.removeprefix(inside))]
    mark = _mark(root, steps)
    name = re.sub(r"\.(\d+)", r"[\1]", ".".join(steps)) or "contract"
    return f"{path}:{mark.line + 1}:{mark.column + 1}: {name}: {what}"


def _mark(node: yaml.Node, steps: list[str]) -> yaml.Mark:
    """Return where the field at the end of *steps* stands; of a missing one, where its parent does."""
    for step in steps:
        inner = _step(node, step)
        if inner is None:
            break
        node = inner
    mark: yaml.Mark = node.start_mark
    return mark


def _step(node: yaml.Node, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        item: yaml.Node = node.value[int(step)]
        return item
    return None
