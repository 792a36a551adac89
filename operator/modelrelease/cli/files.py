"""Commands about files that are to be applied: lint without a cluster, diff against one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelrelease.cli.terminal import (
    BAD_INPUT,
    DONE,
    SOMETHING,
    Output,
    OutputForm,
    fail,
    reaches_cluster,
    show,
    show_objects,
    with_cluster,
)

if TYPE_CHECKING:
    from modelrelease.cli.cluster import Access, Cluster
    from modelrelease.cli.edit import Edit
    from modelrelease.cli.lint import Contracts, Remark
    from modelrelease.cli.problems import BadFile
    from modelrelease.cli.yaml_file import Document

Files = Annotated[
    list[Path], typer.Argument(help="YAML files, several documents each if you like; - is standard input.")
]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is said about a place in a file; line and column are None for a file as a whole."""

    severity: str
    path: str
    message: str
    object: str | None
    file: str
    line: int | None
    column: int | None

    @classmethod
    def of(cls, document: "Document", remark: "Remark") -> "_Finding":
        from modelrelease.cli.manifests import label_of

        path, name = document.shown(remark.path), label_of(document.value)
        return cls(remark.severity.value, path, remark.message, name, str(document.file), *document.place(remark.path))

    @classmethod
    def of_file(cls, bad: "BadFile") -> "_Finding":
        from modelrelease.cli.lint import Severity

        return cls(Severity.REFUSED.value, "", bad.what, None, str(bad.file), bad.line, bad.column)

    def text(self) -> str:
        where = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{where}: {self.severity}: " + (f"{self.path}: " if self.path else "") + self.message


def lint(files: Files, output: OutputForm = Output.TABLE) -> None:
    """
    Say what the operator would refuse in files, and what somebody would regret. No cluster is needed.

    Objects of other kinds are passed over. Exit code: 0 clean, 1 warnings, 2 something is refused.
    """
    from modelrelease.cli.lint import Severity
    from modelrelease.cli.manifests import label_of, read_manifests

    manifests = read_manifests(files)
    found = [_Finding.of_file(bad) for bad in manifests.bad]
    found += [_Finding.of(document, remark) for document, remark in manifests.remarks()]
    if output is not Output.TABLE:
        show_objects([asdict(it) for it in found], output)
    else:
        for it in found:
            typer.echo(it.text())
        if not found:
            names = ", ".join(label_of(document.value) for document in manifests.objects)
            typer.echo(f"{names}: nothing to say")
    severities = {it.severity for it in found}
    raise typer.Exit(BAD_INPUT if Severity.REFUSED in severities else SOMETHING if severities else DONE)


@reaches_cluster
def diff(asked: "Access", files: Files, output: OutputForm = Output.TABLE) -> None:
    """
    Say what applying files would start: a new revision, something in place, a cancellation, a restart, nothing.

    Nothing is applied. Only ModelReleases are compared. Exit code: 0 nothing, 1 something, 2 refused or rejected.
    """
    from modelrelease.cli.edit import Effect
    from modelrelease.cli.manifests import label_of, read_manifests

    manifests = read_manifests(files)
    releases = [it for it in manifests.objects if not isinstance(it.value, Mapping) or _is_release(it.value)]
    if not releases and not manifests.bad:
        fail(f"{', '.join(map(str, files))}: no ModelRelease in there", BAD_INPUT)
    contracts = manifests.contracts()
    told = [(str(bad.file), _refused(str(bad))) for bad in manifests.bad]
    sound = []
    for document in releases:
        if refused := _refusal(document, contracts):
            told.append((label_of(document.value), refused))
        else:
            sound.append(document.value)
    if output is Output.TABLE:
        for name, edit in told:
            _print(name, edit)

    def end(edits: "Sequence[tuple[str, Edit]]") -> int:
        if output is not Output.TABLE:
            show_objects([_as_json(name, edit) for name, edit in (*told, *edits)], output)
        else:
            for name, edit in edits:
                _print(name, edit)
        effects = {edit.effect for _, edit in (*told, *edits)}
        if effects & {Effect.REFUSED, Effect.REJECTED}:
            return BAD_INPUT
        return DONE if effects == {Effect.NOTHING} else SOMETHING

    async def run(cluster: "Cluster") -> int:
        return end([(label_of(body), await _edit(cluster, body, contracts)) for body in sound])

    if not sound:
        raise typer.Exit(end([]))
    with_cluster(asked, run)


def _is_release(body: Mapping[str, Any]) -> bool:
    return body.get("kind") == "ModelRelease"


def _refusal(document: "Document", contracts: "Contracts") -> "Edit | None":
    """Return what is told of a release that is refused by what it says, whatever there is in the cluster."""
    from modelrelease.cli.lint import Severity
    from modelrelease.cli.manifests import remarks_on

    refused = [it for it in remarks_on(document, contracts) if it.severity is Severity.REFUSED]
    problems = (f"{document.shown(it.path)}: {it.message}".removeprefix(": ") for it in refused)
    return _refused("; ".join(problems)) if refused else None


def _refused(message: str) -> "Edit":
    from modelrelease.cli.edit import Edit, Effect

    return Edit(Effect.REFUSED, message, "", ())


async def _edit(cluster: "Cluster", body: Mapping[str, Any], contracts: "Contracts") -> "Edit":
    from datetime import UTC, datetime

    from modelrelease.api.parse import Release, named_contract, parse, spec_of
    from modelrelease.cli.cluster import Absent
    from modelrelease.cli.edit import edit_of
    from modelrelease.cli.lint import key_of
    from modelrelease.cli.sight import Sight

    there = cluster.within(body["metadata"].get("namespace"))
    try:
        live = Sight.of(await there.release(body["metadata"]["name"]), datetime.now(UTC))
    except Absent:
        live = None
    name = named_contract(body)
    named = (contracts.get(key_of(body, name)) or await there.contract_of(body)) if name else None
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
