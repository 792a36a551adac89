"""
YAML files as kubectl reads them: several documents, dates as the strings they are written as, no key twice.

A problem in such a file is a place in it: the field's path is known, line and column are looked up.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from modelrelease.cli.problems import BadInput

STANDARD_INPUT: Final = Path("-")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without dates: ``version: 2026-11-20`` is a string for Kubernetes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """
    One document of a file.

    Attributes:
        file: The file, for messages.
        value: What it holds, as Kubernetes would take it.
        root: The same with places.
    """

    file: Path
    value: Any
    root: yaml.Node

    def place(self, path: str) -> tuple[int, int]:
        """Return line and column of the field at *path*, such as ``spec.stages[1].bake``, or of its nearest parent."""
        node = self.root
        for step in re.findall(r"[^.\[\]]+", path):
            inner = _step(node, step)
            if inner is None:
                break
            node = inner
        return node.start_mark.line + 1, node.start_mark.column + 1

    def duplicates(self) -> Iterator[str]:
        """Yield the path of every key that its mapping has already."""
        yield from _duplicates(self.root, "")


def read_documents(file: Path) -> list[Document]:
    """
    Return the documents in *file*, ``-`` for standard input; empty ones are left out.

    Raises:
        BadInput: The file cannot be read, or is no YAML.
    """
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
        roots = [root for root in yaml.compose_all(text, Loader=_Loader) if root is not None]
        # Constructing writes merged keys into the nodes; so the places come from a reading of their own.
        values = list(yaml.load_all(text, Loader=_Loader))
    except OSError as error:
        raise BadInput([f"{file}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise BadInput([f"{file}: byte {error.start} is not UTF-8"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise BadInput([f"{file}{where}: not YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise BadInput([f"{file}: not YAML: {error}"]) from error
    pairs = zip((value for value in values if value is not None), _without_nulls(roots), strict=True)
    return [Document(file, value, root) for value, root in pairs]


def _without_nulls(roots: Sequence[yaml.Node]) -> Iterator[yaml.Node]:
    return (root for root in roots if root.tag != "tag:yaml.org,2002:null")


def _step(node: yaml.Node, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        item: yaml.Node = node.value[int(step)]
        return item
    return None


def _duplicates(node: yaml.Node, path: str) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            place = f"{path}.{name}" if path else name
            if name in seen and name != "<<":
                yield place
            seen.add(name)
            yield from _duplicates(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{path}[{index}]")
