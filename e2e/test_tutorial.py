"""
docs/tutorial.md, typed as it stands: every command ends well, and says what the page says it says.

    TUTORIAL=record .venv/bin/pytest e2e/test_tutorial.py

writes what the commands have said into the page, wherever it shows an output; read it before you commit it. An output
that is ``...`` is there to be recorded, and says nothing until it is.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.paths import REPOSITORY
from e2e.conftest import only
from e2e.world import GOOD, World

PAGE = REPOSITORY / "docs" / "tutorial.md"
MARK = "@@ step"

# The suite sends the traffic already.
NOT_TYPED = ("python -m modelserver.traffic", "kill %1")

MADE_UP = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of the five that the API server appends to a ``generateName``."""

BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and the output that the page shows of it."""

    command: str
    shown: str

    @property
    def typed(self) -> bool:
        """Whether the test types it."""
        return not self.command.startswith(NOT_TYPED)


def steps(block: str) -> Iterator[Step]:
    """Return what is typed in a block, in order."""
    for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = typed.partition("\n")
        if command.endswith("<<EOT"):
            body, _, shown = shown.partition("\nEOT\n")
            command = f"{command}\n{body}\nEOT"
        yield Step(command, shown)


def recorded(page: str, outputs: Iterator[str]) -> str:
    """Return the page with what its commands have said, in order, wherever it shows an output."""

    def said(step: Step) -> str:
        output = next(outputs) if step.typed else step.shown
        lines = [line.rstrip() for line in output.strip("\n").splitlines()]
        return "".join(f"{line}\n" for line in lines) if step.shown else ""

    def block(found: re.Match[str]) -> str:
        return "```console\n" + "".join(f"$ {step.command}\n{said(step)}" for step in steps(found[1])) + "```"

    return BLOCK.sub(block, page)


def words(text: str) -> list[str]:
    """
    Return the words of an output that are the same in every run.

    Neither numbers and their units are, nor names with numbers in them or that the API server has made up, nor which
    slice was worst at the moment.
    """
    changing = rf"worst slice: .*?\(limit [^)]*\)|\S+=\S+|\S+-[{MADE_UP}]{{5}}(?![\w-])|\b(?:min|days?)\b"
    plain = re.sub(changing, " ", " ".join(text.split()))
    return re.findall(r"(?<![\w-])[A-Za-z][A-Za-z'-]+(?![\w-])", plain)


def test_the_tutorial(world: World, sender: None) -> None:  # noqa: ARG001 - traffic has to flow
    only(world, GOOD)
    page = PAGE.read_text()
    typed = [step for block in BLOCK.findall(page) for step in steps(block) if step.typed]
    script = "".join(f"printf '\\n{MARK} {number}\\n'\n{step.command}\n" for number, step in enumerate(typed))
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        timeout=1200,
    )
    _, *outputs = re.split(rf"^{MARK} \d+\n", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0, f"{typed[len(outputs) - 1].command}\n{outputs[-1:]}\n{done.stderr[-2000:]}"
    if os.environ.get("TUTORIAL") == "record":
        PAGE.write_text(recorded(page, iter(outputs)))
    for step, output in zip(typed, outputs, strict=True):
        missing = [word for word in words(step.shown) if word not in words(output)]
        assert not missing, f"$ {step.command}\n{output}\nthe page also shows {missing}"


def test_the_files_of_the_page_are_those_that_are_applied() -> None:
    files = re.findall(
        r"^`(docs/tutorial/[a-z]+\.yaml)`:\n\n```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert {name for name, _ in files} == {str(it.relative_to(REPOSITORY)) for it in _files()}
    for name, shown in files:
        assert yaml.safe_load((REPOSITORY / name).read_text()) == yaml.safe_load(shown)


def _files() -> list[Path]:
    return sorted((REPOSITORY / "docs" / "tutorial").glob("*.yaml"))
