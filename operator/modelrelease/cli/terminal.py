"""
What all commands share: their options, how they print, and what their exit codes mean.

    0   done; a verdict: Pass; a file: nothing to say
    1   lint: warnings; diff: something would change
    2   bad input: a file, an option, a release that does not fit what is asked
    3   the cluster refuses, or cannot be reached
    4   the operator did not follow the decision: Stale or Refused
    10  Breach, or rolled back
    11  Inconclusive, or it may be
"""

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from modelrelease.cli.cluster import Access, Cluster
    from modelrelease.cli.explanation import Invocation

DONE: Final = 0
SOMETHING: Final = 1
BAD_INPUT: Final = 2
NO_CLUSTER: Final = 3
NOT_FOLLOWED: Final = 4
BREACH: Final = 10
INCONCLUSIVE: Final = 11

TABLE_WIDTH: Final = 120
"""Narrower terminals wrap lines, and what is no terminal is as wide: a cell that is cut off tells nothing."""


_ENDLESS: Final = 1000


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Kubeconfig = Annotated[Path | None, typer.Option(help="The kubeconfig. Default: $KUBECONFIG, else ~/.kube/config.")]
Context = Annotated[str | None, typer.Option(help="The kubeconfig's context. Default: the current one.")]
Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Default: the context's.")]
AsUser = Annotated[str | None, typer.Option("--as", help="Ask in the name of this user, as far as you may.")]
AsGroups = Annotated[list[str] | None, typer.Option("--as-group", help="With --as: a group of that user; repeatable.")]
OutputForm = Annotated[Output, typer.Option("-o", "--output", help="table for people, json or yaml for programs.")]


def access(
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    as_user: AsUser = None,
    as_groups: AsGroups = None,
) -> "Access":
    """Return which cluster the options mean, and in whose name it is asked."""
    from modelrelease.cli.cluster import Access

    if as_groups and not as_user:
        fail("--as-group: say with --as which user is in it", BAD_INPUT)
    return Access(kubeconfig, context, namespace, as_user, tuple(as_groups or ()))


def reaches_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command*, in place of its parameter ``asked``, the options of ``access``: the same ones as kubectl's."""
    shared = inspect.signature(access).parameters
    own = [it for it in inspect.signature(command).parameters.values() if it.name != "asked"]
    whole = [it.replace(kind=inspect.Parameter.KEYWORD_ONLY) for it in (*own, *shared.values())]

    @wraps(command)
    def reaching(**given: Any) -> None:  # noqa: ANN401 - whatever the command takes
        where = {name: given.pop(name) for name in shared}
        command(**given, asked=access(**where))

    # From these, the options are made.
    reaching.__signature__ = inspect.Signature(whole)  # type: ignore[attr-defined]
    reaching.__annotations__ = {it.name: it.annotation for it in whole}
    return reaching


def invocation(asked: "Access", cluster: "Cluster") -> "Invocation":
    """Return how commands are written so that they mean the same cluster as *asked*."""
    from modelrelease.cli.explanation import Invocation

    options: list[str] = []
    if cluster.namespace != cluster.default_namespace:
        options += ["-n", cluster.namespace]
    if asked.context:
        options += ["--context", asked.context]
    if asked.kubeconfig:
        options += ["--kubeconfig", str(asked.kubeconfig)]
    if asked.user:
        options += ["--as", asked.user]
    for group in asked.groups:
        options += ["--as-group", group]
    return Invocation(program(), shlex.join(options))


def program() -> str:
    """Return how this program was called: as a plugin of kubectl, or by its own name."""
    return "kubectl modelrelease" if Path(sys.argv[0]).name == "kubectl-modelrelease" else "modelrelease"


def with_cluster(asked: "Access", task: "Callable[[Cluster], Coroutine[Any, Any, int]]") -> NoReturn:
    """Run *task* with the cluster, and exit with the code that it returns; say what the cluster does not do."""
    import asyncio

    from modelrelease.cli.cluster import ClusterProblem, connected
    from modelrelease.cli.problems import BadInput

    async def run() -> int:
        async with connected(asked) as cluster:
            return await task(cluster)

    try:
        code = asyncio.run(run())
    except ClusterProblem as problem:
        fail(str(problem), NO_CLUSTER)
    except BadInput as bad:
        fail(str(bad), BAD_INPUT)
    raise typer.Exit(code)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong, and exit with *code*."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def console() -> "Console":
    """Return where results are printed: as wide as the terminal, and without colour where there is none."""
    from rich.console import Console

    here = Console(highlight=False)
    return here if here.is_terminal else Console(highlight=False, width=max(here.width, TABLE_WIDTH))


def draws(out: "Console") -> bool:
    """Return whether *out* is a screen that can be drawn again and again; who has not said which, has none."""
    return out.is_terminal and not out.is_dumb_terminal and bool(os.environ.get("TERM"))


def show(found: "RenderableType", *, wrap: bool = True) -> None:
    """Print for people, without blanks at the ends of lines; without *wrap*, lines are as long as they are."""
    out = console()
    if not wrap:
        out.width = _ENDLESS
    with out.capture() as captured:
        out.print(found)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    typer.echo(text, color=True)  # the console has decided whether there is colour


def show_objects(objects: Any, form: Output) -> None:  # noqa: ANN401 - JSON
    """Print for programs."""
    text = json.dumps(objects, indent=2, ensure_ascii=False, allow_nan=False)
    if form is Output.YAML:
        from modelrelease.cli.yaml_file import written

        typer.echo(written(json.loads(text)), nl=False)
    else:
        typer.echo(text)
