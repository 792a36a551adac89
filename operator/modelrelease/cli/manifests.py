"""The objects of our kinds in files: those in Lists too, and what could not be read beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelrelease.api.base import GROUP
from modelrelease.cli.lint import KINDS, Contracts, Remark, Severity, key_of, lint
from modelrelease.cli.problems import BadFile
from modelrelease.cli.yaml_file import Document, read_documents


@dataclass(frozen=True, slots=True)
class Manifests:
    """
    What files hold.

    Attributes:
        objects: The objects of our kinds, and what stands where an object should and is none.
        bad: The files that cannot be read; all of them when there is no object of our kinds in any.
    """

    objects: tuple[Document, ...]
    bad: tuple[BadFile, ...]

    def contracts(self) -> Contracts:
        """Return the ModelContracts among the objects."""
        found: dict[tuple[str | None, str], Mapping[str, Any]] = {}
        for document in self.objects:
            body, name = document.value, name_of(document.value)
            if name and body.get("kind") == "ModelContract":
                found[key_of(body, name)] = body
        return found

    def remarks(self) -> Iterator[tuple[Document, Remark]]:
        """Yield what there is to say about each object."""
        contracts = self.contracts()
        first: dict[object, Document] = {}
        for document in self.objects:
            yield from ((document, it) for it in remarks_on(document, contracts))
            if name := name_of(document.value):
                identity = (str(document.value.get("kind")), key_of(document.value, name))
                before = first.setdefault(identity, document)
                if before is not document:
                    what = f"is also in {before.file}, line {before.place('')[0]}: what is applied last counts"
                    yield document, Remark(Severity.WARNING, "metadata.name", what)


def read_manifests(files: Sequence[Path]) -> Manifests:
    """Return what is in *files*; one that cannot be read does not keep the others from being read."""
    objects: list[Document] = []
    bad: list[BadFile] = []
    for file in files:
        try:
            objects += [it for document in read_documents(file) for it in document.objects() if _ours(it.value)]
        except BadFile as problem:
            bad.append(problem)
    if not objects and not bad:
        bad = [BadFile(file, f"no {', '.join(KINDS[:-1])} or {KINDS[-1]} in there") for file in files]
    return Manifests(tuple(objects), tuple(bad))


def remarks_on(document: Document, contracts: Contracts) -> list[Remark]:
    """Return what there is to say about one object; of one with a key twice, only that."""
    twice = [Remark(Severity.REFUSED, path, "is there twice; once is allowed") for path in document.duplicates()]
    return twice or lint(document.value, contracts)


def name_of(body: object) -> str | None:
    """Return the name of an object, if it has one."""
    meta = body.get("metadata") if isinstance(body, Mapping) else None
    name = meta.get("name") if isinstance(meta, Mapping) else None
    return name if isinstance(name, str) else None


def label_of(body: object) -> str:
    """Return kind and name as kubectl prints them."""
    if not isinstance(body, Mapping):
        return "?"
    meta = body.get("metadata")
    name = (meta.get("name") or f"{meta.get('generateName', '?')}*") if isinstance(meta, Mapping) else "?"
    return f"{body.get('kind', '?')}/{name}"


def _ours(body: object) -> bool:
    if not isinstance(body, Mapping):
        return True
    return str(body.get("apiVersion", "")).startswith(f"{GROUP}/") or body.get("kind") in KINDS
