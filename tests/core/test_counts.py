"""Slices as people read them."""

import pytest

from modelrelease.core.counts import slice_name


@pytest.mark.parametrize(
    ("part", "want"),
    [
        pytest.param((), "", id="all traffic"),
        pytest.param((("country", "FR"), ("channel", "web")), "country=FR,channel=web", id="a cross"),
        pytest.param((("merchant", "x" * 63),), "merchant=" + "x" * 63, id="as long as is shown"),
        pytest.param(
            (("agent", "a\nb\x1b[2J\u202e"),), "agent=a\\nb\\x1b[2J\\u202e", id="signs that command a terminal"
        ),
        pytest.param((("ville", "Saint-Étienne 東京"),), "ville=Saint-Étienne 東京", id="letters of any language"),
        pytest.param((("merchant", "x" * 5000),), "merchant=" + "x" * 62 + "…", id="too long for a status"),
    ],
)
def test_the_name_of_a_slice(part, want):
    """A status holds hundreds of names; no label value may make it too large to be stored."""
    assert want == slice_name(part)
