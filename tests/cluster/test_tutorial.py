"""How docs/tutorial.md is typed and recorded, without the cluster on which the suite does both."""

import itertools

from e2e.test_tutorial import BLOCK, PAGE, recorded, steps, words

PAGE_TEXT = """Look:

```console
$ get a
old
$ traffic &
$ create -f - <<EOT
kind: A
EOT
created
$ patch a
```
"""


def test_outputs_are_written_where_the_page_shows_one():
    """A command without an output on the page stays without one, and a document that is typed stays as it is."""
    said = recorded(PAGE_TEXT, iter(["new  \nline\n\n", "", "made\n", "patched\n"]))
    assert said == PAGE_TEXT.replace("old\n", "new\nline\n").replace("created\n", "made\n")


def test_recording_changes_no_command():
    """The page with other outputs is typed as before."""
    page = PAGE.read_text(encoding="utf-8")
    said = recorded(page, (f"output {number}" for number in itertools.count()))
    assert BLOCK.sub("", said) == BLOCK.sub("", page)
    before, after = ([step.command for block in BLOCK.findall(it) for step in steps(block)] for it in (page, said))
    assert before == after
    assert len(before) > 40
    assert "\n...\n" not in said


def test_words_that_differ_from_run_to_run_are_not_compared():
    said = "gate passes for 12 min; worst slice:\n  refer-rate purpose=medical +3 %, not proved (limit 30 %)\nnext a1b"
    assert words(said) == ["gate", "passes", "for", "next"]
    assert words("decision loans-ltlfh: Approve, no-purpose-harmed-live") == [
        *["decision", "Approve", "no-purpose-harmed-live"],
    ]
