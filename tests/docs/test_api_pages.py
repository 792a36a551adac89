"""The pages of the API say what is: tables, outputs and examples."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from modelrelease.api.reasons import Reason
from modelrelease.api.reference import filled, meanings
from modelrelease.core import announce
from tests.docs.recorded import PAGES, as_written, on, refilled

EXAMPLE = re.compile(r"(?P<head><!-- recorded:[^\n]*\n)?^```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
RELEASES = next(page for page in PAGES if page.stem == "modelreleases")


def examples(page: Path):
    """Return the objects of a page: whole ones, and the first one with the fields that a fragment shows."""
    texts = [found["text"] for found in EXAMPLE.finditer(page.read_text(encoding="utf-8")) if not found["head"]]
    whole = yaml.safe_load(texts[0])
    for text in texts:
        given = yaml.safe_load(text)
        yield given if "kind" in given else _merged(copy.deepcopy(whole), given)


def _merged(into, fragment):
    for field, value in fragment.items():
        nested = isinstance(value, dict) and isinstance(into.get(field), dict)
        into[field] = _merged(into[field], value) if nested and field != "contract" else value
    return into


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tables_are_the_models(page):
    """``make generate`` writes them."""
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text


def test_a_table_of_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"fields: Stages is not one of .*Stage"):
        filled("<!-- fields: Stages -->\n<!-- end -->")


def test_every_reason_has_its_meaning():
    """The table of reasons is complete."""
    assert set(meanings()) == set(Reason)


def test_every_event_is_on_the_page():
    """Whatever is announced is documented."""
    source = Path(announce.__file__).read_text(encoding="utf-8")
    plain = re.findall(r'Announcement\(\s*"(?:Normal|Warning)",\s*"(\w+)"', source)
    said = {*plain, *announce._STARTED.values(), *(reason for reason, _ in announce._DECIDED.values())}
    text = RELEASES.read_text(encoding="utf-8")
    assert said
    assert {reason for reason in said if f"`{reason}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_outputs_are_what_the_operator_writes(page):
    """``python -m tests.docs.record`` writes them."""
    text = page.read_text(encoding="utf-8")
    assert refilled(text, as_written) == text


@pytest.mark.apiserver
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_outputs_are_what_the_api_server_shows(cluster, namespace, page):
    """Read back from real objects."""
    text = page.read_text(encoding="utf-8")
    assert refilled(text, on(cluster, namespace)) == text


@pytest.mark.apiserver
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_is_admitted(cluster, page):
    """Applied by the server, and not kept."""
    bodies = list(examples(page))
    for body in bodies:
        cluster.kubectl(
            "create", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-", given=_here(body)
        )
    assert bodies


def _here(body):
    return {**body, "metadata": {**body["metadata"], "namespace": "default"}}
