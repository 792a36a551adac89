"""How the tests are shared between processes (``-n 2 --dist loadscope``)."""

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "adapters",
    "chart",
    "cli",
    "cluster",
    "docs",
    "gitops",
    "modelserver",
    "prometheus",
    "security",
    "upstream",
}
"""Folders whose tests share servers that take long to start: all of a folder's tests go to one process."""


class ByFolder(LoadScopeScheduling):
    """
    Keep the tests of a folder together where they share a server, and share out all others one by one.

    The mark ``xdist_group`` would say that, but xdist 3.8 does not see it with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        folder = PurePosixPath(nodeid.partition("::")[0]).parent.name
        return folder if folder in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Share by folder where tests are to be shared by their scope."""
    return ByFolder(config, log) if config.getvalue("dist") == "loadscope" else None
