"""The real API server for adapter tests."""

from tests.apiserver import api, cluster, namespace

__all__ = ["api", "cluster", "namespace"]
