"""How files are read: as kubectl reads them, and nothing that JSON cannot say."""

import json
import subprocess

import pytest

from e2e.cluster import binaries
from modelrelease.cli.problems import BadFile
from modelrelease.cli.yaml_file import MOST_LEVELS, read_documents, written

TRAPS = r"""
    y Y yes n N No on Off True FALSE tRUE ~ null Null NULL "y" 'null'
    0 -0 12 +12 -12 017 08 0o17 -0o17 0o8 0O17 0x1F -0x1F 0X1f 0x 0b11 -0b11 +0b11 0b12 0b1e3 1_000 1__0 1_ _1 0x_1f 0_7
    9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615
    18446744073709551616 99999999999999999999 0x8000000000000000 0xFFFFFFFFFFFFFFFFF 0777777777777777777777777
    1.0 -0.0 1. .5 -.5 +.5 .5e3 .5_0 .1_ 1_0.5_0 4.35 0.1 1e3 1E+3 1e-7 1e21 0e3 1.5e 1234e56 12e9999 0.1e-400 0xfp1
    12:30:45 1:30 190:20:30.15 2026-11-20 2026-11-20T10:00:00Z 1.2.3 7f3c9b1 1234567 0123456 0128456
    . + = .e3 +-1 1,000 ٣ 5% 10m 1e3s .infinity
    !!str|5 !!str|null !!str|y !!int|"5" !!int|0x10 !!float|5 !!float|"1.5" !!bool|"yes" !!null|"" !|5
"""
"""Scalars with every trap of YAML 1.1; ``|`` stands for a blank."""

SCALARS = TRAPS.split()

KEYS = ("y", "n", "on", "1", "1e3", "1.50", "0x10", "017", "2026-11-20", "12:30:45", "0.1", "'y'")

MAPPINGS = """
first: &first {a: 1, c: 2}
merged before: {<<: *first, a: 9}
merged after: {a: 9, <<: *first}
merged list: {<<: [{a: 5}, {a: 6, q: 1}]}
no merge: {"<<": 1}
twice aliased: [*first, *first]
""".strip().splitlines()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What kubectl reads, and what we read, of one file with all of them."""
    file = tmp_path_factory.mktemp("yaml") / "object.yaml"
    lines = ["apiVersion: v1", "kind: ConfigMap", "metadata: {name: traps}", "scalars:"]
    lines += [f"- {scalar.replace('|', ' ')}" for scalar in SCALARS]
    lines += ["keys:", *(f"- {{{key}: 1}}" for key in KEYS), "mappings:", *(f"  {line}" for line in MAPPINGS)]
    file.write_text("\n".join(lines))
    kubectl = [binaries.ensure("kubectl"), "annotate", "--local", "--output=json", f"--filename={file}", "read=yes"]
    done = subprocess.run(kubectl, capture_output=True, text=True, check=True)
    (ours,) = read_documents(file)
    return json.loads(done.stdout, parse_int=_as_kubernetes), ours.value


def _as_kubernetes(digits):
    """Return a number of JSON as the API server takes it: 64 bits or a float."""
    return int(digits) if -(2**63) <= int(digits) < 2**63 else float(digits)


@pytest.mark.parametrize("index", range(len(SCALARS)), ids=SCALARS)
def test_a_scalar_is_what_it_is_for_kubectl(both, index):
    theirs, ours = (side["scalars"][index] for side in both)
    assert (type(theirs), theirs) == (type(ours), ours)


@pytest.mark.parametrize("index", range(len(KEYS)), ids=KEYS)
def test_a_key_is_what_it_is_for_kubectl(both, index):
    theirs, ours = (side["keys"][index] for side in both)
    assert theirs == ours


def test_mappings_are_merged_as_by_kubectl(both):
    theirs, ours = (side["mappings"] for side in both)
    assert theirs == ours


@pytest.fixture
def read(tmp_path):
    """Read a file with this text."""

    def read(text):
        file = tmp_path / "object.yaml"
        file.write_text(text)
        return read_documents(file)

    return read


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        pytest.param("a:\n  b: !!timestamp 2026-11-20", (2, 6), "tag !!timestamp: JSON has no such values", id="time"),
        pytest.param("a: !!binary aGVsbG8=", (1, 4), "tag !!binary", id="bytes"),
        pytest.param("a: [1, !!set {x, y}]", (1, 8), "tag !!set", id="set"),
        pytest.param("a: !mine 5", (1, 4), "tag !mine", id="a tag of somebody's own"),
        pytest.param("a: !!int x", (1, 4), "'x' is not !!int", id="a tag that does not fit"),
        pytest.param("a: .nan", (1, 4), ".nan is no number of JSON", id="no number"),
        pytest.param("a: -.inf", (1, 4), "-.inf is no number of JSON", id="no finite number"),
        pytest.param("a: 1\nb: &b [1, *b]", (2, 4), "holds itself by an alias", id="a list in itself"),
        pytest.param("&a {b: *a}", (1, 1), "holds itself by an alias", id="a mapping in itself"),
        pytest.param("? [a, b]\n: 2", (1, 3), "is no key of JSON", id="a list as a key"),
        pytest.param("~: 2", (1, 1), "is no key of JSON", id="nothing as a key"),
        pytest.param("a: {<<: 5}", (1, 9), "is no mapping: << merges", id="merging a number"),
        pytest.param("a: " + "[" * 900, (1, MOST_LEVELS + 4), "more than 100 levels", id="nested without end"),
        pytest.param("[" * 9000, (1, MOST_LEVELS + 2), "more than 100 levels", id="nested beyond the interpreter"),
    ],
)
def test_what_json_cannot_say_is_refused_where_it_stands(read, text, place, says):
    with pytest.raises(BadFile, match=r"object\.yaml:\d+:\d+: ") as found:
        read(text)
    assert (found.value.line, found.value.column) == place
    assert says in found.value.what


def test_as_deep_as_allowed_is_read(read):
    assert read("[" * MOST_LEVELS + "]" * MOST_LEVELS)


def test_aliases_do_not_multiply_without_end(read):
    """Ten lines that stand for 10^9 values."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(BadFile, match="more than 500000 values"):
        read("\n".join(lines))


def test_a_key_that_is_there_twice_under_two_spellings(read):
    """Both are ``true`` in JSON."""
    (document,) = read('a: {on: 1, "true": 2}')
    assert list(document.duplicates()) == ["a.true"]


def test_what_is_written_for_programs_is_read_back(read):
    """A revision such as 1234e56, as ``get -o yaml`` prints it, stays a string."""
    texts = [*SCALARS, "a\nb", " a", "a: b", "<<", ""]
    assert [document.value for document in read(written({"texts": texts}))] == [{"texts": texts}]
    assert written({"revision": "1234e56"}) == "revision: '1234e56'\n"
