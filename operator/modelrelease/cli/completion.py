"""Completion: of words that only the cluster knows, and for kubectl."""

import inspect
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import typer

_PATIENCE_SECONDS: Final = 3


def complete_release(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of releases that begin so; none when the cluster does not answer at once."""
    import asyncio
    from contextlib import suppress

    from modelrelease.cli.cluster import ClusterProblem, connected
    from modelrelease.cli.terminal import access

    given = {option: context.params.get(option) for option in inspect.signature(access).parameters}
    # A line that is not finished may have a group before it has a user.
    asked = access(**(given if given["as_user"] else {**given, "as_groups": None}))

    async def names() -> list[str]:
        # Connecting imports the client library, which takes its own time; only the cluster is not waited for long.
        async with connected(asked) as cluster, asyncio.timeout(_PATIENCE_SECONDS):
            return [body["metadata"]["name"] for body in await cluster.releases()]

    found: list[str] = []
    with suppress(ClusterProblem, TimeoutError):
        found = asyncio.run(names())
    return [name for name in found if name.startswith(incomplete)]


def for_kubectl() -> None:
    """
    Complete a command line of ``kubectl modelrelease`` as kubectl asks for it: by a program of its own.

    kubectl calls ``kubectl_complete-modelrelease`` with the words so far, the last one unfinished, and reads one
    proposal a line and a directive; ``:4`` is "these, and no file names", ``:0`` lets the shell propose file names.
    """
    words = sys.argv[1:]
    proposals = _proposals(words)
    for proposal in proposals:
        typer.echo(proposal)
    typer.echo(":0" if not proposals and _means_a_file(words) else ":4")


def _proposals(words: Sequence[str]) -> list[str]:
    """Return what the program itself proposes for the last of *words*."""
    from contextlib import redirect_stdout, suppress

    from modelrelease.cli.main import app

    line = ["modelrelease", *words]
    asked = {
        "_MODELRELEASE_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    os.environ.update(asked)
    printed = io.StringIO()
    with suppress(SystemExit), redirect_stdout(printed):
        app(prog_name="modelrelease")
    return [proposal for proposal in printed.getvalue().splitlines() if proposal]


def _means_a_file(words: Sequence[str]) -> bool:
    """Return whether the last of *words* is the value of an option that is a file, or an argument that may be one."""
    from modelrelease.cli.main import app

    commands = {it.callback.__name__: it.callback for it in app.registered_commands if it.callback}
    if len(words) < 2 or words[0] not in commands or words[-1].startswith("-"):
        return False
    parameters = inspect.signature(commands[words[0]]).parameters
    given = [_given_as(name, it.annotation) for name, it in parameters.items()]
    of_the_option = [type_ for names, type_ in given if words[-2] in names and type_ is not bool]
    of_arguments = [type_ for names, type_ in given if not names]
    return any(Path in (type_, *get_args(type_)) for type_ in of_the_option or of_arguments)


def _given_as(name: str, annotation: object) -> tuple[Sequence[str], object]:
    """Return the names of an option, none for an argument, and its type."""
    type_, how, *_ = get_args(annotation)
    if isinstance(how, typer.models.ArgumentInfo):
        return (), type_
    return how.param_decls or (f"--{name.replace('_', '-')}",), type_
