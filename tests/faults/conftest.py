"""The real API server for faults."""

from tests.apiserver import cluster

__all__ = ["cluster"]
