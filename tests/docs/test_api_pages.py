"""The pages of the API say what is: tables, outputs and examples."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from modelrelease.api.reasons import Reason
from modelrelease.api.reference import filled, meanings
from tests.docs.recorded import PAGES, as_written, on, refilled
from tests.docs.words import announced, reasons_in
from tests.gitops.states import STATES, recorded

pytestmark = pytest.mark.slow

EXAMPLE = re.compile(r"(?P<head><!-- recorded:[^\n]*\n)?^```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CRDS = Path(__file__).resolve().parents[2] / "crds"
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


def test_names_keep_their_letters():
    """A sentence that begins with a small letter gets a large one, and the words in it stay as they are."""
    assert "A version: use printable ASCII characters" in filled("<!-- fields: Model -->\n<!-- end -->")


def test_a_table_of_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"fields: Stages is not one of .*Stage"):
        filled("<!-- fields: Stages -->\n<!-- end -->")


def test_every_reason_has_its_meaning():
    """The table of reasons is complete."""
    assert set(meanings()) == set(Reason)


def test_every_event_is_on_the_page():
    """Whatever is announced is in the table, and there is an output of it."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {reason for reason in announced() if f"`{reason}`" not in text} == set()
    shown = set(re.findall(r"^(?:Normal |Warning)  (\w+)", text, re.MULTILINE))
    assert announced() - shown == set()


def outputs():
    """Return what the pages show of real objects, parsed."""
    for page in PAGES:
        for found in EXAMPLE.finditer(page.read_text(encoding="utf-8")):
            if found["head"]:
                yield yaml.safe_load(found["text"])


@pytest.mark.slow
def test_every_condition_and_every_reason_has_an_output():
    """In each status that a release of the states has it."""
    texts = [found for found in outputs() if "conditions" in found]
    shown = {(c["type"], c["status"]) for found in texts for c in found["conditions"]}
    bodies = [recorded(name).body.get("status", {}) for name in STATES]
    assert {(c["type"], c["status"]) for body in bodies for c in body.get("conditions", [])} - shown == set()
    lines = set(re.findall(r"^(?:Normal +|Warning +)?([A-Z]\w+)  ", RELEASES.read_text(encoding="utf-8"), re.MULTILINE))
    told = {reason for found in outputs() for reason in reasons_in(found)} | lines
    assert {reason for reason in Reason if reason not in told} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_field_has_an_example(page):
    """A field of the spec stands in an example that is applied, a field of the status in an output."""
    schema = yaml.safe_load((CRDS / f"modelrelease.dev_{page.stem}.yaml").read_text(encoding="utf-8"))
    fields = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    # A contract is the same wherever it stands, and its fields are explained once.
    inline = [body["spec"].get("contract", {}) for body in examples(RELEASES)] if page.stem == "modelcontracts" else []
    written = {path for spec in (*(body["spec"] for body in examples(page)), *inline) for path in _paths(spec)}
    assert sorted(set(_fields(fields["spec"])) - written) == []
    seen = {path for found in outputs() for path in _paths(found.get("status", found))}
    assert sorted(set(_fields(fields.get("status", {}))) - seen) == []


_SAME = {".history.decisions": ".decisions", ".history.lineage": ".candidate.lineage"}
"""Fields of the same model in two places: an output of one of them will do."""


def _fields(schema, path=""):
    """Yield the paths of all fields, without what is inside a pod's template."""
    for name, field in schema.get("properties", {}).items():
        here = _SAME.get(f"{path}.{name}", f"{path}.{name}")
        yield here
        if name != "template":
            yield from _fields(field, here)
            yield from _fields(field.get("items", {}), here)


def _paths(value, path=""):
    """Yield the paths of all fields that have a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}"
            yield from _paths(inner, f"{path}.{name}")
    if isinstance(value, list):
        for inner in value:
            yield from _paths(inner, path)


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
