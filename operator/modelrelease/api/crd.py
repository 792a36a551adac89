"""
Generate the CustomResourceDefinitions from the pydantic models, the one source of the API.

    python -m modelrelease.api.crd --out crds --chart charts/modelrelease-operator/crds [--check]

Pydantic's JSON schema is not a structural schema. What differs: references are written out in place; an optional field
is one that is not required; a constant is an enum of one; titles, examples and defaults go. Defaults stay in Python: a
defaulted field inside a list shows as a difference in GitOps tools for ever.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from modelrelease.api.base import GROUP, VERSION
from modelrelease.api.constraints import VALIDATIONS
from modelrelease.api.contract import Contract
from modelrelease.api.decision import DecisionSpec, DecisionStatus
from modelrelease.api.release import ReleaseSpec
from modelrelease.api.rules import RELEASE_NAME, RULES
from modelrelease.api.status import Condition, ReleaseStatus

HEADER: Final = "# Generated from operator/modelrelease/api by `make generate`; do not edit.\n"

_DROPPED: Final = frozenset({"title", "default", "examples", "discriminator", "$defs"})

# kstatus calls an object without status Current; -1 says that nobody has looked at it yet.
_UNSEEN: Final = {"observedGeneration": -1}

_IMMUTABLE: Final = {
    "rule": "self.spec == oldSelf.spec",
    "message": "a decision is never changed: create another one",
    "fieldPath": ".spec",
}

Column = tuple[str, str, str, int]
"""Name, type, JSON path and priority of a column that kubectl prints; priority 0 is always shown."""


def _of_ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of ours, as its CustomResourceDefinition tells it.

    Attributes:
        name: Such as ``ModelRelease``.
        short: Short name for kubectl.
        about: What an object of the kind is.
        spec: The model of its spec.
        columns: What kubectl prints between name and age.
        status: The schema of its status; None for a kind without.
        rules: CEL rules of the whole object.
        selectable: JSON paths by which a list can be narrowed on the server.
    """

    name: str
    short: str
    about: str
    spec: type[BaseModel]
    columns: tuple[Column, ...]
    status: dict[str, Any] | None = None
    rules: tuple[dict[str, str], ...] = ()
    selectable: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        """Its name in paths, for one object."""
        return self.name.lower()

    @property
    def plural(self) -> str:
        """Its name in paths."""
        return f"{self.singular}s"


def kinds() -> tuple[Kind, ...]:
    """Return our kinds."""
    return (
        Kind(
            name="ModelRelease",
            short="mrel",
            about="One served model: its desired version, how it is released, and what must hold meanwhile.",
            spec=ReleaseSpec,
            status={**structural_schema(ReleaseStatus, optional=True), "default": _UNSEEN},
            rules=(RELEASE_NAME.cel_rule("self.metadata.name", where="metadata.name: "),),
            columns=(
                ("Stage", "string", ".status.stage", 0),
                ("Stable", "string", ".status.stable.version", 0),
                ("Candidate", "string", ".status.candidate.version", 0),
                ("Weight", "integer", ".status.candidate.weight", 0),
                ("Verdict", "string", ".status.gate.verdict", 0),
                ("Worst", "string", ".status.gate.worst", 0),
                ("Ready", "string", _of_ready("status"), 0),
                ("Reason", "string", _of_ready("reason"), 1),
                ("Message", "string", _of_ready("message"), 1),
            ),
        ),
        Kind(
            name="ModelContract",
            short="mcon",
            about="What must hold of every release that refers to it: a promise that many models can share.",
            spec=Contract,
            columns=(),
        ),
        Kind(
            name="ReleaseDecision",
            short="mdec",
            about="What a person decides about a release, who and why; never changed, and answered once in its status.",
            spec=DecisionSpec,
            status=structural_schema(DecisionStatus, optional=True),
            rules=(_IMMUTABLE,),
            columns=(
                ("Release", "string", ".spec.release", 0),
                ("Revision", "string", ".spec.revision", 0),
                ("Decision", "string", ".spec.decision", 0),
                ("Stage", "string", ".spec.stage", 0),
                ("By", "string", ".spec.approvedBy", 0),
                ("Outcome", "string", ".status.outcome", 0),
                ("Why", "string", ".spec.reason", 1),
                ("Message", "string", ".status.message", 1),
            ),
            # So that a reconcile reads what is not answered yet, and not the decisions of years.
            selectable=(".spec.release", ".status.outcome"),
        ),
    )


def crd(kind: str = "ModelRelease") -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    return _crd(next(it for it in kinds() if it.name == kind))


def _crd(kind: Kind) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                # Not the name of a kind: kubectl would take `get modelrelease NAME` for all kinds of the category.
                "categories": ["modelrelease-dev"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    **({"subresources": {"status": {}}} if kind.status else {}),
                    **(
                        {"selectableFields": [{"jsonPath": path} for path in kind.selectable]}
                        if kind.selectable
                        else {}
                    ),
                    "additionalPrinterColumns": list(_columns(kind)),
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                }
            ],
        },
    }


def _columns(kind: Kind) -> Iterator[dict[str, Any]]:
    for name, type_, path, priority in kind.columns:
        column = {"name": name, "type": type_, "jsonPath": path}
        yield {**column, "priority": priority} if priority else column
    yield {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _object_schema(kind: Kind) -> dict[str, Any]:
    return {
        "description": kind.about,
        "type": "object",
        "required": ["spec"],
        **({VALIDATIONS: list(kind.rules)} if kind.rules else {}),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(kind.spec),
            **({"status": kind.status} if kind.status else {}),
        },
    }


def structural_schema(model: type[BaseModel], *, optional: bool = False) -> dict[str, Any]:
    """
    Return the schema of *model* as the API server takes it, with the model's CEL rules.

    Args:
        model: The outermost model.
        optional: Require no field, so that an older operator's status stays valid; conditions are as standard.
    """
    schema = model.model_json_schema(by_alias=True)
    definitions = {**schema.pop("$defs", {}), model.__name__: schema}
    if optional:
        for name in definitions.keys() - {Condition.__name__}:
            definitions[name].pop("required", None)
    for rule in RULES:
        if (name := rule.on.__name__) in definitions:
            definitions[name].setdefault(VALIDATIONS, []).append(rule.as_json())
    return _structural(schema, definitions)


def _structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural({**definitions[schema["$ref"].rpartition("/")[2]], **siblings}, definitions)
    if "anyOf" in schema:
        siblings = {key: value for key, value in schema.items() if key != "anyOf"}
        return _structural({**_only_alternative(schema["anyOf"]), **siblings}, definitions)
    result = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("additionalProperties") in (True, False):
        del result["additionalProperties"]
    if "items" in result:
        result["items"] = _structural(result["items"], definitions)
    if "properties" in result:
        result["properties"] = {name: _structural(part, definitions) for name, part in result["properties"].items()}
    return result


def _only_alternative(alternatives: list[dict[str, Any]]) -> dict[str, Any]:
    """Return X of ``X | None``; another union would need a CEL rule, so it is refused."""
    given = [alternative for alternative in alternatives if alternative.get("type") != "null"]
    if len(given) != 1:
        raise ValueError(f"a union cannot become a structural schema: {given}; use optional fields and a CEL rule")
    return given[0]


def rendered() -> dict[str, str]:
    """Return the text of every generated file by its name."""
    return {
        f"{GROUP}_{kind.plural}.yaml": HEADER
        + yaml.safe_dump(_crd(kind), sort_keys=False, width=110, allow_unicode=True)
        for kind in kinds()
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` return 1 and show the difference if they are not what they should be."""
    parser = argparse.ArgumentParser(prog="python -m modelrelease.api.crd", description="Generate the CRDs.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CRDs")
    parser.add_argument("--chart", type=Path, help="folder of the chart's copy")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    options = parser.parse_args(arguments)
    folders = [folder for folder in (options.out, options.chart) if folder is not None]
    wanted = {folder / name: text for folder in folders for name, text in rendered().items()}
    if options.check:
        return _check(wanted)
    for file, text in wanted.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return 0


def _check(wanted: Mapping[Path, str]) -> int:
    differences = [line for file, text in wanted.items() for line in _difference(file, text)]
    sys.stderr.writelines(differences)
    return 1 if differences else 0


def _difference(file: Path, wanted: str) -> Iterator[str]:
    found = file.read_text() if file.exists() else ""
    return difflib.unified_diff(
        found.splitlines(keepends=True), wanted.splitlines(keepends=True), f"{file} (found)", f"{file} (generated)"
    )


if __name__ == "__main__":
    sys.exit(main())
