"""
What the kubelet asks: is the operator alive, is it at work.

The answers look at the engine, not only at the process: a loop that is stuck, or a queue that nobody serves, is dead
whatever the HTTP server says. Trouble outside (an API server or a Prometheus that is away) never restarts us. A replica
that stands by is alive and ready: its queue fills, and is served when it leads.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from modelrelease.engine import Health

MAX_HEARTBEAT_AGE: Final = 30.0
MAX_UNSERVED: Final = 180.0
"""
Three times the longest reconcile.

A full queue is slow, not dead: with hundreds of releases and a slow Prometheus, or right after a standby has taken over
with all of them due, the last one waits for minutes while the others are served.
"""


def dead(health: Health) -> str | None:
    """Return why the engine is to be restarted; None when it is well."""
    if health.heartbeat_age > MAX_HEARTBEAT_AGE:
        return f"the engine has not looked at its queue for {health.heartbeat_age:.0f} s"
    if health.unserved > MAX_UNSERVED:
        return f"a release has been due for {health.overdue:.0f} s, and none was looked at for {health.unserved:.0f} s"
    return None


def application(
    health: Callable[[], Health], problem: Callable[[], str | None], standing_by: Callable[[], str | None]
) -> web.Application:
    """
    Return the HTTP application of ``/healthz`` and ``/readyz``.

    Args:
        health: How the engine is.
        problem: Why nothing is being watched; None when all is well.
        standing_by: Why this replica does not act; None when it is the one that does.
    """

    def answer(complaint: str | None) -> web.Response:
        waiting = standing_by()
        complaint = complaint or (None if waiting else dead(health()))
        ok = f"ok, standing by: {waiting}" if waiting else "ok"
        return web.Response(status=503 if complaint else 200, text=f"{complaint or ok}\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(None)

    async def readyz(_: web.Request) -> web.Response:
        return answer(problem())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
