"""The real API server, for the pages of the API."""

from tests.apiserver import cluster, namespace

__all__ = ["cluster", "namespace"]
