"""
Generate the CustomResourceDefinition from the pydantic models, the one source of the API.

    python -m modelrelease.api.crd --out crds --chart charts/modelrelease-operator/crds [--check]

Pydantic's JSON schema is not a structural schema. What differs: references are written out in place; an optional field
is one that is not required; a constant is an enum of one; titles, examples and defaults go. Defaults stay in Python: a
defaulted field inside a list shows as a difference in GitOps tools for ever.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from modelrelease.api.base import GROUP, VERSION
from modelrelease.api.constraints import VALIDATIONS
from modelrelease.api.release import ReleaseSpec
from modelrelease.api.rules import RELEASE_NAME, RULES
from modelrelease.api.status import Condition, ReleaseStatus

KIND: Final = "ModelRelease"
SINGULAR: Final = "modelrelease"
PLURAL: Final = "modelreleases"
HEADER: Final = "# Generated from operator/modelrelease/api by `make generate`; do not edit.\n"

_DROPPED: Final = frozenset({"title", "default", "examples", "discriminator", "$defs"})

# kstatus calls an object without status Current; -1 says that nobody has looked at it yet.
_UNSEEN: Final = {"observedGeneration": -1}


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of ModelRelease."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": ["mrel"],
                "categories": ["modelrelease"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(_columns()),
                    "schema": {"openAPIV3Schema": _object_schema()},
                }
            ],
        },
    }


def _columns() -> Iterator[dict[str, Any]]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    for name, path in {
        "Stage": ".status.stage",
        "Stable": ".status.stable.version",
        "Candidate": ".status.candidate.version",
    }.items():
        yield {"name": name, "type": "string", "jsonPath": path}
    yield {"name": "Weight", "type": "integer", "jsonPath": ".status.candidate.weight"}
    yield {"name": "Verdict", "type": "string", "jsonPath": ".status.gate.verdict"}
    yield {"name": "Worst", "type": "string", "jsonPath": ".status.gate.worst"}
    yield {"name": "Ready", "type": "string", "jsonPath": f"{ready}.status"}
    yield {"name": "Reason", "type": "string", "jsonPath": f"{ready}.reason", "priority": 1}
    yield {"name": "Message", "type": "string", "jsonPath": f"{ready}.message", "priority": 1}
    yield {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _object_schema() -> dict[str, Any]:
    return {
        "description": "One served model: its desired version, how it is released, and what must hold meanwhile.",
        "type": "object",
        "required": ["spec"],
        VALIDATIONS: [RELEASE_NAME.cel_rule("self.metadata.name", where="metadata.name: ")],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(ReleaseSpec),
            "status": {**structural_schema(ReleaseStatus, optional=True), "default": _UNSEEN},
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
    return {f"{GROUP}_{PLURAL}.yaml": HEADER + yaml.safe_dump(crd(), sort_keys=False, width=110, allow_unicode=True)}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` return 1 and show the difference if they are not what they should be."""
    parser = argparse.ArgumentParser(prog="python -m modelrelease.api.crd", description="Generate the CRD.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CRD")
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
