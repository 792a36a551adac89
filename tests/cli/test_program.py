"""The program itself: quick to ask for help, complete, and plain where nobody looks."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from modelrelease.cli.completion import for_kubectl
from modelrelease.cli.main import app

BIN = Path(sys.executable).parent
COMMANDS = "get explain watch history approve rollback retry promote suspend resume lint diff forecast judge version"


def test_help_lists_every_command_and_the_exit_codes():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    for command in COMMANDS.split():
        assert f" {command} " in shown
    assert "2 bad input, 3 the cluster refuses" in shown


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_has_help(command):
    assert CliRunner().invoke(app, [command, "-h"]).exit_code == 0


def test_help_imports_nothing_that_is_slow():
    """Each of these takes longer than all the rest of it."""
    slow = "{'numpy', 'kubernetes', 'aiohttp', 'pydantic', 'scipy', 'yaml'}"
    program = f"import modelrelease.cli.main, sys; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kubectl_is_told_what_can_be_written():
    """By the program that kubectl looks for, in the form that it reads."""
    program = [BIN / "kubectl_complete-modelrelease", "re"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["retry", "resume", ":4"]


@pytest.fixture
def completed(monkeypatch, capsys):
    """Return the lines that kubectl reads, from that program's function."""

    def lines(*words):
        monkeypatch.setattr("sys.argv", ["kubectl_complete-modelrelease", *words])
        with mock.patch.dict("os.environ"):  # the shell's side of completion is told there
            for_kubectl()
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lint", ""], [":0"]),
        (["lint", "-o", "json", "rel"], [":0"]),
        (["judge", "contract.yaml", ""], [":0"]),
        (["diff", "a.yaml", "b"], [":0"]),
        (["forecast", ""], [":0"]),
        (["explain", "--kubeconfig", ""], [":0"]),
        (["lint", "-o", ""], ["table", "json", "yaml", ":4"]),
        (["judge", "--stage", ""], [":4"]),
        (["version", ""], [":4"]),
    ],
)
def test_the_shell_proposes_files_where_files_are_meant(completed, words, said):
    """Directive 0; an empty line would be a proposal of nothing."""
    assert completed(*words) == said


def test_options_are_no_files(completed):
    assert {"--output", ":4"} <= set(completed("lint", "--"))
