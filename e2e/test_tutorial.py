"""docs/tutorial.md, typed as it stands: every command ends well, and says what the page says it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.paths import REPOSITORY
from e2e.conftest import completed
from e2e.world import GOOD, World, loans, wait_until

PAGE = REPOSITORY / "docs" / "tutorial.md"
FULL_ONLY = [{"name": "full", "full": {}, "bake": "1s"}]
MARK = "@@ step"

# The suite sends the traffic already.
NOT_TYPED = ("python -m modelserver.traffic", "kill %1")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and the output that the page shows of it."""

    command: str
    shown: str


def steps(page: str) -> Iterator[Step]:
    """Return what is typed, in order."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = typed.partition("\n")
            if command.endswith("<<EOT"):
                body, _, shown = shown.partition("\nEOT\n")
                command = f"{command}\n{body}\nEOT"
            if not command.startswith(NOT_TYPED):
                yield Step(command, shown)


def words(text: str) -> list[str]:
    """Return the words of an output: neither numbers, nor names with numbers in them, differ from run to run."""
    return re.findall(r"(?<![\w-])[A-Za-z][A-Za-z'-]+(?![\w-])", text)


def test_the_tutorial(stable: World) -> None:
    stable.kubectl.apply(loans(GOOD, stages=FULL_ONLY))
    wait_until("the version that the demo leaves", lambda: completed(stable, GOOD), seconds=120)
    typed = list(steps(PAGE.read_text()))
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
