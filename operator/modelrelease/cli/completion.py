"""Completion of words that only the cluster knows."""

import typer


def complete_release(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of releases that begin so; none when the cluster does not answer at once."""
    import asyncio
    from contextlib import suppress

    from modelrelease.cli.cluster import Access, ClusterProblem, connected

    given = context.params
    asked = Access(given.get("kubeconfig"), given.get("context"), given.get("namespace"))

    async def names() -> list[str]:
        async with asyncio.timeout(3), connected(asked) as cluster:
            return [body["metadata"]["name"] for body in await cluster.releases()]

    found: list[str] = []
    with suppress(ClusterProblem, TimeoutError):
        found = asyncio.run(names())
    return [name for name in found if name.startswith(incomplete)]
