"""The real API server for the engine and the operator."""

from tests.apiserver import api, cluster, namespace

__all__ = ["api", "cluster", "namespace"]
