"""The examples of docs/verdicts.md run, and print what the page says they print."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.cli.contract_file import read_contract
from modelrelease.cli.counts_file import read_counts
from modelrelease.core.decide import RollBack
from modelrelease.core.dossier import dossier
from modelrelease.core.evidence import Engine
from modelrelease.core.judge import judge
from tests.builders import a_release, a_situation
from tests.core import by_hand

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


def the_dossier(folder):
    """Return the file that is kept of the page's first example."""
    for title, _, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(text, encoding="utf-8")
    contract = read_contract(folder / "contract.yaml").contract
    evidence = read_counts(folder / "counts.csv", contract, ())
    release = a_release(contract=contract.model_dump(mode="json", by_alias=True, exclude_none=True))
    found = judge(contract, evidence, error_budget=release.spec.error_budget, has_baseline=True)
    left = dossier(a_situation(finding=found, release=release), RollBack(Reason.CONTRACT_BREACHED, found.message))
    return left.manifest["data"]["gate.json"]


def test_the_dossier_has_the_lines_that_the_page_shows(tmp_path):
    """In this order; three dots stand for what is left out of a line."""
    (shown,) = (text for _, language, text in FENCE.findall(PAGE.read_text(encoding="utf-8")) if language == "json")
    lines = iter(the_dossier(tmp_path).splitlines())
    for want in shown.splitlines():
        pattern = re.escape(want.strip()).replace(re.escape("..."), ".*")
        assert any(re.fullmatch(f"{pattern},?", line.strip()) for line in lines), want


def test_france_is_computed_as_the_page_says(tmp_path):
    """Each number of the example, by the page's own formula."""
    content = json.loads(the_dossier(tmp_path))
    clause = content["verdict"]["clauses"][0]
    france, asked = clause["slices"][0], clause["breach"]["slices"]
    (stage,) = france["counts"]
    pays = by_hand.split(*stage, 1.05)
    up, down = (by_hand.evidence(asked, clause, [stage], bound, sign) for bound, sign in by_hand.sides(asked))
    share = france["level"] / content["errorBudget"]
    evidence = math.exp(by_hand.harm(clause, france, "slices"))
    numbers = (
        f"k = 1.05 * 1530 / 13750 = {1.05 * 1530 / 13750:.6g}`",
        f"2^92 ((1 + k) / (1 + 2 k))^380 = {math.exp(pays(2)):.3g}`",
        f"is {math.exp(up):.3g}; downwards it is {math.exp(down):.3g}",
        f"the e-value, {evidence:.3g}: more than `1 / level = {1 / france['level']:.0f}`",
        f"`level / errorBudget = {share:.3g}`, of it is {share * evidence:.3g}, `e^{math.log(share * evidence):.2f}`",
    )
    text = PAGE.read_text(encoding="utf-8")
    assert [number for number in numbers if number not in text] == []


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
