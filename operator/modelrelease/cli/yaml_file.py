"""
YAML files as kubectl reads them: several documents, scalars as it takes them, lists of objects, no key twice.

Only what JSON can say is read; a set, bytes, a list that holds itself or a nesting without end is refused where it
stands. A problem in such a file is a place in it: the field's path is known, line and column are looked up.
"""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from modelrelease.cli import yaml_scalars
from modelrelease.cli.problems import BadFile
from modelrelease.cli.yaml_scalars import Scalar

STANDARD_INPUT: Final = Path("-")

MOST_LEVELS: Final = 100
"""How deep objects and lists may be in each other; no object of Kubernetes is half as deep."""

MOST_VALUES: Final = 500_000
"""How many values a document may have, those that aliases repeat included."""

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = f"{_TAG}plain"
"""Tag, of ours only, of a scalar that has neither quotes nor a tag."""


class _Loader(yaml.SafeLoader):
    """Nodes in which it can be seen whether a scalar is plain, and none that is too deep."""

    depth = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:  # noqa: ANN401 - as in PyYAML
        """Return the tag of a node that has none."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node, unless it is too deep."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self.depth > MOST_LEVELS:
            what = f"more than {MOST_LEVELS} levels in each other are not allowed"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and event.tag == "!":
            event.implicit = (False, True)  # by its definition a string, which PyYAML takes for a plain scalar
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(frozen=True, slots=True)
class Document:
    """
    One document of a file, or one object of a List in it.

    Attributes:
        file: The file, for messages.
        value: What it holds, as Kubernetes would take it.
        root: The same with places.
        inside: Where in its document it is, such as ``items[2]``; empty for a whole document.
    """

    file: Path
    value: Any
    root: yaml.Node
    inside: str = ""

    def place(self, path: str) -> tuple[int, int]:
        """Return line and column of the field at *path*, such as ``spec.stages[1].bake``, or of its nearest parent."""
        node = self.root
        for step in re.findall(r"[^.\[\]]+", path):
            inner = _step(node, step)
            if inner is None:
                break
            node = inner
        return node.start_mark.line + 1, node.start_mark.column + 1

    def shown(self, path: str) -> str:
        """Return *path* as seen from the whole document."""
        return ".".join(part for part in (self.inside, path) if part)

    def duplicates(self) -> Iterator[str]:
        """Yield the path of every key that its mapping has already."""
        yield from _duplicates(self.root, "")

    def objects(self) -> "list[Document]":
        """
        Return the objects of a List, or the document itself when it is none.

        Kind and apiVersion that an item lacks are those that the List's own kind names, as for kubectl.

        Raises:
            BadFile: The items of a List are none.
        """
        kind = self.value.get("kind") if isinstance(self.value, dict) else None
        if not isinstance(kind, str) or not kind.endswith("List") or "items" not in self.value:
            return [self]
        items, node = self.value["items"] or [], _step(self.root, "items")
        if not isinstance(items, list):
            raise BadFile(self.file, f"{self.shown('items')} is not a list", *self.place("items"))
        named = {"apiVersion": self.value.get("apiVersion"), "kind": kind.removesuffix("List")}
        return [
            found
            for index, (item, root) in enumerate(zip(items, node.value if items and node else (), strict=True))
            for found in Document(self.file, _named(item, named), root, self.shown(f"items[{index}]")).objects()
        ]


def read_documents(file: Path) -> list[Document]:
    """
    Return the documents in *file*, ``-`` for standard input; empty ones are left out.

    Raises:
        BadFile: The file cannot be read, is no YAML, or holds what JSON cannot say.
    """
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
        roots = list(yaml.compose_all(text, Loader=_Loader))
    except OSError as error:
        raise BadFile(file, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BadFile(file, f"byte {error.start} is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else ()
        raise BadFile(file, f"not YAML: {error.problem}", *place) from error
    except yaml.YAMLError as error:
        raise BadFile(file, f"not YAML: {' '.join(str(error).split())}") from error
    documents = [Document(file, _Values(file).of(root), root) for root in roots]
    return [document for document in documents if document.value is not None]


class _Dumper(yaml.SafeDumper):
    """Strings in quotes wherever kubectl would read something else: PyYAML takes ``1234e56`` for no number."""

    def represent_string(self, text: str) -> yaml.ScalarNode:
        """Return the node of a string."""
        style = None if isinstance(yaml_scalars.plain(text), str) else "'"
        return self.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_string)


def written(objects: Any) -> str:  # noqa: ANN401 - JSON
    """Return *objects* as YAML that kubectl reads back."""
    text: str = yaml.dump(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Values:
    """The values of one document, taken from its nodes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._around: set[int] = set()
        self._count = 0

    def of(self, node: yaml.Node) -> Any:  # noqa: ANN401 - JSON
        """Return what *node* holds, as JSON would."""
        self._count += 1
        if self._count > MOST_VALUES:
            raise self._refused(node, f"more than {MOST_VALUES} values, those of aliases included")
        if isinstance(node, yaml.ScalarNode):
            return self._number_in_json(node, self._scalar(node))
        if id(node) in self._around:
            raise self._refused(node, "holds itself by an alias: a tree is allowed")
        self._around.add(id(node))
        value = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._around.remove(id(node))
        return value

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        if node.tag == _PLAIN:
            return yaml_scalars.plain(node.value)
        self._check_tag(node, *yaml_scalars.KINDS)
        try:
            return yaml_scalars.tagged(node.tag.removeprefix(_TAG), node.value)
        except ValueError as error:
            raise self._refused(node, str(error)) from error

    def _number_in_json(self, node: yaml.ScalarNode, value: Scalar) -> Scalar:
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(node, f"{node.value} is no number of JSON: write a finite number, or quote a string")
        return value

    def _sequence(self, node: yaml.Node) -> list[Any]:
        self._check_tag(node, "seq")
        return [self.of(item) for item in node.value]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """Return a mapping; what ``<<`` merges replaces what stands before it, as for kubectl."""
        self._check_tag(node, "map")
        found: dict[str, Any] = {}
        for key, value in node.value:
            if _merges(key):
                found |= self._merged(value)
                continue
            name = _key(key)
            if name is None:
                raise self._refused(key, "is no key of JSON: a string is allowed")
            found[name] = self.of(value)
        return found

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in reversed(parts):
            if not isinstance(part, yaml.MappingNode):
                raise self._refused(part, "is no mapping: << merges a mapping, or a list of them")
            found |= self.of(part)
        return found

    def _check_tag(self, node: yaml.Node, *allowed: str) -> None:
        if node.tag.removeprefix(_TAG) not in allowed or not node.tag.startswith(_TAG):
            tag = node.tag.replace(_TAG, "!!")
            raise self._refused(node, f"tag {tag}: JSON has no such values, leave the tag out")

    def _refused(self, node: yaml.Node, what: str) -> BadFile:
        return BadFile(self._file, what, node.start_mark.line + 1, node.start_mark.column + 1)


def _merges(key: yaml.Node) -> bool:
    return key.tag == _PLAIN and key.value == "<<"


def _key(node: yaml.Node) -> str | None:
    """Return the name that a key has in JSON: ``on`` is ``true``; None when it can be none."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    match yaml_scalars.plain(node.value) if node.tag == _PLAIN else node.value:
        case None:
            return None
        case bool() as truth:
            return str(truth).lower()
        case float() as number:
            return f"{number:g}"
        case value:
            return str(value)


def _named(item: object, named: dict[str, Any]) -> object:
    if not isinstance(item, dict) or item.get("kind") or item.get("apiVersion"):
        return item
    return {**item, **named}


def _step(node: yaml.Node, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if _key(key) == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        item: yaml.Node = node.value[int(step)]
        return item
    return None


def _duplicates(node: yaml.Node, path: str) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = _key(key) or ""
            place = f"{path}.{name}" if path else name
            if name in seen and not _merges(key):
                yield place
            seen.add(name)
            yield from _duplicates(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{path}[{index}]")
