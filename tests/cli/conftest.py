"""The chart's roles and its policy, for the commands with which people decide."""

from tests.chart.conftest import helm, rendered
from tests.chart.test_people import office, roles

__all__ = ["helm", "office", "rendered", "roles"]
