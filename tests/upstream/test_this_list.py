"""The list in ``README.md`` and the tests beside it."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_fact_has_its_test_and_every_test_its_fact():
    """A fact without a test is hearsay; a test that nobody finds deletes no code."""
    tests = [name for file in HERE.glob("test_*.py") if file != Path(__file__)
             for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)]  # fmt: skip
    listed = re.findall(r"\| `(test_\w+)` \|$", (HERE / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(tests)
