"""The real API server for the commands that talk to one, with the chart's roles and its policy where people decide."""

from tests.apiserver import cluster, namespace
from tests.chart.conftest import helm, rendered
from tests.chart.test_people import office, roles

__all__ = ["cluster", "helm", "namespace", "office", "rendered", "roles"]
