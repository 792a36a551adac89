"""
Write the reference tables of the API's pages from the models, the one source of the API.

    python -m modelrelease.api.reference docs/spec/v1alpha1 [--check]

A page says where a table belongs, ``<!-- fields: Stage -->`` or ``<!-- reasons -->``, and where it ends,
``<!-- end -->``; what stands between is replaced. The rest of the page is written by people.
"""

import argparse
import ast
import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from modelrelease.api import reasons
from modelrelease.api.base import SpecModel
from modelrelease.api.constraints import VALIDATIONS
from modelrelease.api.crd import structural_schema
from modelrelease.api.decision import DecisionSpec, DecisionStatus
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ReleaseSpec
from modelrelease.api.status import ReleaseStatus

ROOTS: Final[tuple[type[BaseModel], ...]] = (ReleaseSpec, ReleaseStatus, DecisionSpec, DecisionStatus)
"""The outermost models; every model that can be named on a page is one of them or a part of one."""

_TABLE: Final = re.compile(r"(<!-- (fields: (?P<model>\w+)|reasons) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """
    Return *page* with its tables as the models are now.

    Raises:
        ValueError: A table asks for a model that does not exist.
    """

    def table(found: re.Match[str]) -> str:
        lines = _fields(found["model"]) if found["model"] else _reasons()
        return found[1] + "\n".join(lines) + "\n" + found[4]

    return _TABLE.sub(table, page)


def _fields(name: str) -> Iterator[str]:
    model = models().get(name)
    if model is None:
        raise ValueError(f"fields: {name} is not one of {', '.join(sorted(models()))}")
    yield "| Field | Type | |"
    yield "|---|---|---|"
    schema = structural_schema(model)
    required = schema.get("required", [])
    for field, part in schema["properties"].items():
        needed = "**Required.** " if field in required and issubclass(model, SpecModel) else ""
        yield f"| `{field}` | {_cell(_type(part))} | {needed}{_cell(' '.join(_says(part)))} |"


def _type(schema: Mapping[str, Any]) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object":
            return "object"
        case kind:
            return {"date-time": "time"}.get(schema.get("format", ""), str(kind))


def _says(schema: Mapping[str, Any]) -> Iterator[str]:
    if text := schema.get("description", "").strip():
        yield text if text.endswith(".") else f"{text}."
    part = schema.get("items", {}) if schema.get("type") == "array" else schema
    if "enum" in part:
        yield f"One of {', '.join(f'`{value}`' for value in part['enum'])}."
    if "minimum" in part and "maximum" in part:
        yield f"{part['minimum']} to {part['maximum']}."
    if "maxItems" in schema:
        yield f"At most {schema['maxItems']}."
    for rule in part.get(VALIDATIONS, []):
        if "message" in rule and rule["message"].startswith("must be ") and part.get("type") == "string":
            wanted = rule["message"].removeprefix("must be ")
            yield f"{wanted[0].upper()}{wanted[1:]}."


def _reasons() -> Iterator[str]:
    yield "| Reason | Meaning |"
    yield "|---|---|"
    for reason, meaning in meanings().items():
        yield f"| `{reason}` | {_cell(meaning)} |"


def meanings() -> dict[Reason, str]:
    """Return what stands under each reason in the code; Python keeps no docstring of an enum's member."""
    tree = ast.parse(inspect.getsource(reasons))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Reason.__name__)
    found: dict[Reason, str] = {}
    for member, after in pairwise(body):
        match member, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[Reason[name]] = " ".join(text.split())
            case _:
                pass
    return found


def models() -> dict[str, type[BaseModel]]:
    """Return every model of the API by its name."""
    return {name: model for root in ROOTS for name, model in _parts(root).items()}


def _parts(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {model.__name__: model}
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            found |= _parts(part)
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - a type of any kind
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or with ``--check`` return 1 and show the difference if a table is not what it should be."""
    parser = argparse.ArgumentParser(prog="python -m modelrelease.api.reference", description="Fill in the API pages.")
    parser.add_argument("folder", type=Path, help="folder of the pages")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page differs")
    options = parser.parse_args(arguments)
    differs = False
    for page in sorted(options.folder.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if options.check:
            differs = differs or before != after
            sys.stderr.writelines(
                difflib.unified_diff(
                    before.splitlines(keepends=True), after.splitlines(keepends=True), str(page), "generated"
                )
            )
        elif before != after:
            page.write_text(after, encoding="utf-8")
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
