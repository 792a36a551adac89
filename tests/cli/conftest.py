"""The real API server for the commands that talk to one."""

from tests.apiserver import cluster, namespace

__all__ = ["cluster", "namespace"]
