"""What the demo releases."""

from e2e.world import BAD, loans
from modelrelease.api.parse import Release, parse


def _parsed(body) -> Release:
    body["metadata"] |= {"uid": "u", "generation": 1}
    release = parse(body)
    assert isinstance(release, Release), release
    return release


def test_another_attempt_is_another_revision_that_is_measured_like_the_first():
    """A demo once replaced all annotations: nobody scraped the candidate, and the gate waited for ever."""
    first, second = _parsed(loans(BAD)), _parsed(loans(BAD, attempt="2"))
    assert first.desired.name != second.desired.name
    annotations = second.desired.template["metadata"]["annotations"]
    assert annotations == {**first.desired.template["metadata"]["annotations"], "example.com/attempt": "2"}
    assert annotations["prometheus.io/scrape"] == "true"
