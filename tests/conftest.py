"""What tests share: an API server in each process, and the processes (``--dist loadscope``)."""

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.apiserver import api, cluster, namespace

__all__ = ["api", "cluster", "namespace"]

# How quickly examples are made and tried says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

TOGETHER = {
    "modelserver": "modelserver",
    "docs": "states",
    "gitops": "states",
    "security": "security",
    "prometheus": "prometheus",
    "chart": "chart",
    "cluster": "cluster",
}
"""Folders whose tests share what takes long to make, and its name: all of them go to one process. The longest first."""

ALONE = "test_nothing_is_lost"
"""A test that takes longer than most folders."""


class ByFolder(LoadScopeScheduling):
    """
    Keep the tests of a folder together where they share what takes long, and share out all others one by one.

    The mark ``xdist_group`` would say that, but xdist 3.8 does not see it with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(_folder(nodeid), nodeid)


def _folder(nodeid: str) -> str:
    return PurePosixPath(nodeid.partition("::")[0]).parent.name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Share by folder where tests are to be shared by their scope."""
    return ByFolder(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that in the end no process waits for the other; short tests fill the rest."""
    order = [ALONE, *dict.fromkeys(TOGETHER.values())]

    def rank(item: pytest.Item) -> int:
        name = item.name if item.name == ALONE else TOGETHER.get(_folder(item.nodeid), "")
        return order.index(name) if name in order else len(order)

    items.sort(key=rank)
