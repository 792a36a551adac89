"""Completion of words that only the cluster knows."""

import inspect
import os
import shlex
import sys
from typing import Final

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
    proposal a line and a directive; ``:4`` is "these, and no file names".
    """
    from contextlib import suppress

    from modelrelease.cli.main import app

    words = ["modelrelease", *sys.argv[1:]]
    asked = {
        "_MODELRELEASE_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    os.environ.update(asked)
    with suppress(SystemExit):
        app(prog_name="modelrelease")
    typer.echo(":4")
