"""
What users write as a selector, and how Prometheus itself reads what we make of it.

``tests/core/test_injection.py`` asks promql-parser, which reads some texts otherwise (``tests/upstream``). Here every
question goes to the parser of a real Prometheus.
"""

import json
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.api.parse import InvalidSpec
from modelrelease.api.selectors import Matcher, Selector
from modelrelease.core.noise import noise_queries
from modelrelease.core.queries import half_queries, stage_queries
from tests.core.test_injection import NOTHING, WINDOW, _release, selectors, values
from tests.security.test_escalation import HOSTILE

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

EXAMPLES = int(os.environ.get("FUZZ_SPECS", "400")) // 4
SCRAPE = timedelta(seconds=5)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[PrometheusServer]:
    """A real Prometheus that scrapes nothing."""
    with PrometheusServer(binaries.ensure("prometheus")) as server:
        yield server


def _series(server: PrometheusServer, text: str) -> list[list[tuple[str, str, str]]]:
    """Return the matchers (label, operator, value) of every series that Prometheus reads in *text*."""
    data = urllib.parse.urlencode({"query": text}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.url}/api/v1/parse_query", data, timeout=10) as answer:
        tree = json.load(answer)["data"]
    return [[(it["name"], it["type"], it["value"]) for it in node["matchers"]] for node in _selectors(tree)]


def _selectors(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, list):
        for each in part:
            yield from _selectors(each)
    if isinstance(part, dict):
        if part.get("type") in {"vectorSelector", "matrixSelector"}:
            yield part
        for each in part.values():
            yield from _selectors(each)


def _is_ours(server: PrometheusServer, text: str, revisions: set[str]) -> None:
    """Fail unless every series of the question *text* is of fraud/radar and of one of *revisions*."""
    series = _series(server, text)
    assert series, text
    for matchers in series:
        assert {("namespace", "=", "fraud"), ("release", "=", "radar")} <= set(matchers), text
        patterns = [value for label, operator, value in matchers if (label, operator) == ("revision", "=~")]
        assert any({it for it in (*revisions, "other", "") if re.fullmatch(pattern, it)} <= revisions
                   for pattern in patterns), text  # fmt: skip


def _asked(server: PrometheusServer, selector: str) -> bool:
    """Check every question that *selector* leads to; return whether there is any."""
    release = _release(selector)
    if isinstance(release, InvalidSpec):
        return False
    asked = stage_queries(release, WINDOW, "old", "new", lag=NOTHING, interval=SCRAPE)
    noise = noise_queries(release, WINDOW, "old", lag=NOTHING, interval=SCRAPE)
    for query in (*asked.queries, asked.newest, *noise.ranges):
        assert query is not None
        _is_ours(server, query.text, {"old", "new"})
    return True


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=selectors())
def test_what_users_write_asks_about_their_release_alone(prometheus: PrometheusServer, text: str):
    """Whatever is accepted, and however odd, Prometheus takes it for a selector of this release."""
    _asked(prometheus, text)


@settings(max_examples=EXAMPLES // 4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(value=values)
def test_a_value_is_read_as_it_was_written(prometheus: PrometheusServer, value: str):
    """Quotes, escapes, line ends and signs of other scripts: none of them ends the string."""
    [matchers] = _series(prometheus, str(Selector("d_total", (Matcher("decision", "=", value),))))
    assert ("decision", "=", value) in matchers


@settings(max_examples=EXAMPLES // 4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(pods=st.lists(values, min_size=2, max_size=4, unique=True))
def test_what_pods_are_called_stays_a_value(prometheus: PrometheusServer, pods: list[str]):
    """Whoever chooses an address chooses no question."""
    asked = half_queries(_release('d_total{decision="block"}'), WINDOW, "old", (pods[:1], pods[1:]), lag=NOTHING)
    for query in asked.queries:
        _is_ours(prometheus, query.text, {"old"})


@pytest.mark.parametrize("selector", HOSTILE)
def test_the_usual_tricks(prometheus: PrometheusServer, selector: str):
    """Refused, or about this release alone."""
    _asked(prometheus, selector)


def test_the_question_is_a_real_one(prometheus: PrometheusServer):
    """A good selector is asked about, and a question about others would be seen."""
    assert _asked(prometheus, 'd_total{decision="block"}')
    with pytest.raises(AssertionError):
        _is_ours(prometheus, 'd_total{namespace="fraud",release="radar",revision=~"old"} or up', {"old"})
