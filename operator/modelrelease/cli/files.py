"""Commands about files that are to be applied: lint without a cluster, diff against one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelrelease.cli.terminal import (
    BAD_INPUT,
    DONE,
    SOMETHING,
    ObjectOutput,
    Output,
    fail,
    reaches_cluster,
    show,
    show_objects,
    with_cluster,
)

if TYPE_CHECKING:
    from modelrelease.cli.cluster import Access, Cluster
    from modelrelease.cli.edit import Edit
    from modelrelease.cli.lint import Remark
    from modelrelease.cli.yaml_file import Document

Files = Annotated[
    list[Path], typer.Argument(help="YAML files, several documents each if you like; - is standard input.")
]
OutputForm = Annotated[Output, typer.Option("-o", "--output", help="table for people, json for programs.")]


@dataclass(frozen=True, slots=True)
class _Found:
    """A remark and where it is: file, object, line and column."""

    document: "Document"
    remark: "Remark"

    @property
    def place(self) -> tuple[int, int]:
        return self.document.place(self.remark.path)

    def line(self) -> str:
        line, column = self.place
        where = f"{self.document.file}:{line}:{column}: {self.remark.severity}: "
        return where + (f"{self.remark.path}: " if self.remark.path else "") + self.remark.message

    def as_json(self) -> dict[str, Any]:
        line, column = self.place
        return {
            "severity": self.remark.severity.value,
            "path": self.remark.path,
            "message": self.remark.message,
            "object": _name(self.document.value),
            "file": str(self.document.file),
            "line": line,
            "column": column,
        }


def lint(files: Files, output: OutputForm = Output.TABLE) -> None:
    """
    Say what the operator would refuse in files, and what somebody would regret. No cluster is needed.

    Objects of other kinds are passed over. Exit code: 0 clean, 1 warnings, 2 something is refused.
    """
    from modelrelease.cli.lint import Remark, Severity
    from modelrelease.cli.lint import lint as remarks_on

    documents = _ours(files)
    contracts = _contracts(documents)
    found = []
    for document in documents:
        twice = [Remark(Severity.REFUSED, path, "is there twice; once is allowed") for path in document.duplicates()]
        found += [_Found(document, remark) for remark in twice or remarks_on(document.value, contracts)]
    if output is Output.JSON:
        show_objects([it.as_json() for it in found], ObjectOutput.JSON)
    else:
        for it in found:
            typer.echo(it.line())
        if not found:
            names = ", ".join(_name(document.value) for document in documents)
            typer.echo(f"{names}: nothing to say")
    severities = {it.remark.severity for it in found}
    raise typer.Exit(BAD_INPUT if Severity.REFUSED in severities else SOMETHING if severities else DONE)


def _ours(files: Sequence[Path]) -> "list[Document]":
    """Return the documents of our group, or exit when there is none."""
    from modelrelease.api.base import GROUP
    from modelrelease.cli.lint import KINDS
    from modelrelease.cli.problems import BadInput
    from modelrelease.cli.yaml_file import read_documents

    try:
        documents = [document for file in files for document in read_documents(file)]
    except BadInput as bad:
        fail(str(bad), BAD_INPUT)
    ours = [
        document
        for document in documents
        if not isinstance(document.value, Mapping)
        or str(document.value.get("apiVersion", "")).startswith(f"{GROUP}/")
        or document.value.get("kind") in KINDS
    ]
    if not ours:
        fail(f"{', '.join(map(str, files))}: no {', '.join(KINDS[:-1])} or {KINDS[-1]} in there", BAD_INPUT)
    return ours


def _contracts(documents: "Sequence[Document]") -> dict[str, Mapping[str, Any]]:
    """Return the ModelContracts among *documents* by name."""
    found = [document.value for document in documents if isinstance(document.value, Mapping)]
    return {
        body["metadata"]["name"]: body
        for body in found
        if body.get("kind") == "ModelContract" and isinstance((body.get("metadata") or {}).get("name"), str)
    }


def _name(body: object) -> str:
    """Return kind and name as kubectl prints them."""
    if not isinstance(body, Mapping):
        return "?"
    meta = body.get("metadata")
    name = (meta.get("name") or f"{meta.get('generateName', '?')}*") if isinstance(meta, Mapping) else "?"
    return f"{body.get('kind', '?')}/{name}"


@reaches_cluster
def diff(asked: "Access", files: Files, output: OutputForm = Output.TABLE) -> None:
    """
    Say what applying files would start: a new revision, something in place, a cancellation, a restart, nothing.

    Nothing is applied. Only ModelReleases are compared. Exit code: 0 nothing, 1 something, 2 refused or rejected.
    """
    ours = _ours(files)
    documents = [it for it in ours if isinstance(it.value, Mapping) and it.value.get("kind") == "ModelRelease"]
    if not documents:
        fail(f"{', '.join(map(str, files))}: no ModelRelease in there", BAD_INPUT)
    contracts = _contracts(ours)

    async def run(cluster: "Cluster") -> int:
        from modelrelease.cli.edit import Effect

        edits = [(_name(it.value), await _edit(cluster, it.value, contracts)) for it in documents]
        if output is Output.JSON:
            show_objects([_as_json(name, edit) for name, edit in edits], ObjectOutput.JSON)
        else:
            for name, edit in edits:
                _print(name, edit)
        effects = {edit.effect for _, edit in edits}
        if effects & {Effect.REFUSED, Effect.REJECTED}:
            return BAD_INPUT
        return DONE if effects == {Effect.NOTHING} else SOMETHING

    with_cluster(asked, run)


async def _edit(cluster: "Cluster", body: Mapping[str, Any], contracts: Mapping[str, Mapping[str, Any]]) -> "Edit":
    from datetime import UTC, datetime

    from modelrelease.api.parse import Release, named_contract, parse, spec_of
    from modelrelease.cli.cluster import Absent
    from modelrelease.cli.edit import Edit, Effect, edit_of
    from modelrelease.cli.lint import Severity
    from modelrelease.cli.lint import lint as remarks_on
    from modelrelease.cli.sight import Sight

    refused = [it for it in remarks_on(body, contracts) if it.severity is Severity.REFUSED]
    if refused:
        return Edit(Effect.REFUSED, "; ".join(f"{it.path}: {it.message}" for it in refused), "", ())
    there = cluster.within(body["metadata"].get("namespace"))
    try:
        live = Sight.of(await there.release(body["metadata"]["name"]), datetime.now(UTC))
    except Absent:
        live = None
    name = named_contract(body)
    named = (contracts.get(name) or await there.contract_of(body)) if name else None
    release = parse(body, named)
    return edit_of(
        live, body["spec"], spec_of(body["spec"]), release.contract if isinstance(release, Release) else None
    )


def _print(name: str, edit: "Edit") -> None:
    import json

    from rich.text import Text

    from modelrelease.cli.edit import Effect

    colour = {Effect.NOTHING: "dim", Effect.REFUSED: "bold red", Effect.REJECTED: "bold red"}.get(edit.effect, "bold")
    show(Text.assemble(f"{name}: ", (edit.effect.value, colour), f": {edit.message}"))
    for change in edit.changes if edit.effect is not Effect.CREATED else ():
        before, after = (json.dumps(it, ensure_ascii=False) for it in (change.before, change.after))
        show(Text.assemble(f"  {change.path}: ", (before, "red"), " -> ", (after, "green")))


def _as_json(name: str, edit: "Edit") -> dict[str, Any]:
    return {
        "object": name,
        "effect": edit.effect.value,
        "message": edit.message,
        "revision": edit.revision or None,
        "changes": [{"path": it.path, "before": it.before, "after": it.after} for it in edit.changes],
    }
