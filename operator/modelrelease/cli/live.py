"""Commands that look at releases in a cluster: get, explain, watch, history, forecast by name."""

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from modelrelease.cli.completion import complete_release
from modelrelease.cli.terminal import (
    BAD_INPUT,
    BREACH,
    DONE,
    INCONCLUSIVE,
    Output,
    OutputForm,
    console,
    draws,
    fail,
    invocation,
    reaches_cluster,
    show,
    show_objects,
    with_cluster,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from modelrelease.cli.cluster import Access, Cluster
    from modelrelease.cli.explanation import Invocation
    from modelrelease.cli.sight import Sight

Name = Annotated[
    str | None,
    typer.Argument(help="The ModelRelease. Default: the only one in the namespace.", autocompletion=complete_release),
]


@reaches_cluster
def get(
    asked: "Access",
    name: Name = None,
    *,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="Releases of all namespaces.")] = False,
    output: OutputForm = Output.TABLE,
) -> None:
    """Show releases: stage, versions, weight, verdict, worst slice, and what comes next."""

    if name is not None and everywhere:
        fail("-A: without NAME; a release of one name is in one namespace, say which with -n", BAD_INPUT)

    async def run(cluster: "Cluster") -> int:
        if name is None:
            found = await cluster.releases(everywhere=everywhere)
        else:
            found = [await cluster.release(name)]
        if output is not Output.TABLE:
            listed = {"apiVersion": "v1", "kind": "List", "items": found}
            show_objects(found[0] if name else listed, output)
        elif not found:
            typer.echo(f"no ModelRelease in {'any namespace' if everywhere else f'namespace {cluster.namespace}'}")
        else:
            from modelrelease.cli.tables import releases

            show(releases([_sight(body) for body in found], namespaces=everywhere), wrap=False)
        return DONE

    with_cluster(asked, run)


@reaches_cluster
def explain(asked: "Access", name: Name = None, output: OutputForm = Output.TABLE) -> None:
    """Tell why a release is where it is, what comes next and when, what would unblock it, and how to stop it."""

    async def run(cluster: "Cluster") -> int:
        from modelrelease.cli.explanation import explain as explained
        from modelrelease.cli.explanation_view import as_json, as_text

        body = await release_named(cluster, name)
        told = explained(_sight(body, await cluster.contract_of(body)), invocation(asked, cluster))
        if output is Output.TABLE:
            show(as_text(told))
        else:
            show_objects(as_json(told), output)
        return DONE

    with_cluster(asked, run)


@reaches_cluster
def history(
    asked: "Access",
    name: Name = None,
    output: OutputForm = Output.TABLE,
) -> None:
    """Show the rollouts that ended, latest first: outcome, reason, how long they took."""

    async def run(cluster: "Cluster") -> int:
        body = await release_named(cluster, name)
        if output is not Output.TABLE:
            show_objects(list(reversed((body.get("status") or {}).get("history") or [])), output)
            return DONE
        from modelrelease.cli.tables import history as table

        sight = _sight(body)
        if sight.status.history or sight.trial:
            show(table(sight))
        else:
            typer.echo(f"{sight.name} has no history yet")
        return DONE

    with_cluster(asked, run)


@reaches_cluster
def watch(
    asked: "Access",
    name: Name = None,
    *,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when nothing moves any more. Exit code: 0 released, 10 not.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two drawings of the view.")] = 2.0,
) -> None:
    """
    Look on while a release moves: stages, users, verdict, worst slices, what comes next.

    The API server tells each change as it comes. Without a terminal it prints one line a change. Ctrl-C ends it.
    """

    async def run(cluster: "Cluster") -> int:
        named = (await release_named(cluster, name))["metadata"]["name"]
        return await _follow(cluster, named, until_done=until_done, every=every, by=invocation(asked, cluster))

    try:
        with_cluster(asked, run)
    except KeyboardInterrupt:
        raise typer.Exit(DONE) from None


async def _follow(cluster: "Cluster", name: str, *, until_done: bool, every: float, by: "Invocation") -> int:
    """Show the release at every change; return the exit code when it is done and that was asked for."""
    from modelrelease.cli.cluster import ClusterProblem

    news = cluster.follow(name)
    coming = asyncio.ensure_future(anext(news))
    body: dict[str, Any] | None = None
    contract, trouble = None, None
    with view(by, console()) as shown:
        try:
            while True:
                # The clock of the view goes on between two changes.
                if (await asyncio.wait({coming}, timeout=every))[0]:
                    told = coming.result()
                    if isinstance(told, ClusterProblem):
                        trouble = str(told)
                    else:
                        body, contract, trouble = told, await cluster.contract_of(told), None
                    coming = asyncio.ensure_future(anext(news))
                if body is None:
                    continue
                sight = _sight(body, contract)
                shown(sight, trouble)
                if until_done and trouble is None and is_done(sight):
                    return DONE if sight.ready else BREACH
        finally:
            coming.cancel()


@contextmanager
def view(by: "Invocation", out: "Console") -> "Iterator[Callable[[Sight, str | None], None]]":
    """Give what shows a release and the trouble of reading it: a screen, or where there is none a line a change."""
    from rich.live import Live

    from modelrelease.cli.watch_view import as_line, as_live, milestone

    if draws(out):
        with Live(console=out, auto_refresh=False) as live:
            yield lambda sight, trouble: live.update(as_live(sight, by, trouble), refresh=True)
        return
    last: tuple[object, ...] | None = None
    last_trouble: str | None = None

    def line(sight: "Sight", trouble: str | None) -> None:
        nonlocal last, last_trouble
        if trouble and trouble != last_trouble:
            typer.echo(f"{sight.name} cannot be read: {trouble}", err=True)
        last_trouble = trouble
        if milestone(sight) != last:
            last = milestone(sight)
            typer.echo(as_line(sight))

    yield line


def is_done(sight: "Sight") -> bool:
    """Return whether nothing moves any more by itself: released, rolled back, or stuck."""
    return not sight.unseen and not sight.outdated and (sight.ready or sight.stalled)


def forecast_of(name: str, output: Output, asked: "Access") -> NoReturn:
    """Show what the operator foretold of each stage when the rollout began."""

    async def run(cluster: "Cluster") -> int:
        from modelrelease.cli.tables import forecasts

        body = await release_named(cluster, name)
        sight = _sight(body)
        if output is not Output.TABLE:
            show_objects((body.get("status") or {}).get("forecast") or [], output)
        elif sight.status.forecast:
            show(forecasts(sight.status.forecast))
        else:
            typer.echo(
                f"nothing was foretold of {name}: it is told while a candidate starts beside a baseline with traffic"
            )
        return DONE if all(stage.in_time for stage in sight.status.forecast) else INCONCLUSIVE

    with_cluster(asked, run)


async def release_named(cluster: "Cluster", name: str | None) -> dict[str, Any]:
    """
    Return the release called *name*, or the only one there is.

    Raises:
        BadInput: There is none, or more than one to choose from.
    """
    from modelrelease.cli.problems import BadInput

    if name is not None:
        return await cluster.release(name)
    found = await cluster.releases()
    if len(found) == 1:
        return found[0]
    names = ", ".join(body["metadata"]["name"] for body in found)
    what = (
        f"which release? In namespace {cluster.namespace} there are {names}"
        if found
        else (f"no ModelRelease in namespace {cluster.namespace}")
    )
    raise BadInput([what])


def _sight(body: dict[str, Any], contract: dict[str, Any] | None = None) -> "Sight":
    from modelrelease.cli.sight import Sight

    return Sight.of(body, datetime.now(UTC), contract)
