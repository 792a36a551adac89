"""The examples of docs/verdicts.md run, and print what the page says they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modelrelease.core.evidence import Engine

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
FENCE = re.compile(r"^(?:`(\S+)`[^\n]*:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_example_prints_what_the_page_shows(tmp_path):
    """Files are written under the name in the line above them, commands run as shown."""
    ran = 0
    for title, language, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        if language == "console":
            command, _, want = text.removeprefix("$ ").partition("\n")
            assert _output(command, tmp_path) == want.rstrip()
            ran += 1
    assert ran == 2


def _output(command, folder):
    program, *arguments = shlex.split(command)
    script = Path(sys.executable).parent / program
    environment = {**os.environ, "COLUMNS": "120", "TERM": "dumb"}
    done = subprocess.run(
        [script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def test_the_page_names_every_engine():
    text = PAGE.read_text(encoding="utf-8")
    assert [engine for engine in Engine if f"`{engine.value}`" not in text] == []


@pytest.mark.slow
def test_the_figures_are_drawn(tmp_path):
    """The script runs with the judge of today and draws what the page names."""
    script = (PAGE.parent / "figures.py").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "figures.py").write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "docs" / "figures.py"], check=True, capture_output=True)
    drawn = {path.name for path in (tmp_path / "docs" / "build").iterdir()}
    assert drawn == {"evidence.svg", "power.svg", "thresholds.svg"}
