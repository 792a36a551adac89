"""The real API server, for what other tools make of our objects on it."""

from tests.apiserver import cluster, namespace

__all__ = ["cluster", "namespace"]
