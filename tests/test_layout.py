"""What keeps the checkout itself whole."""

import operator
import subprocess
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_folder_operator_is_no_package():
    """operator/__init__.py would shadow the standard library's operator, for every program run from here."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert hasattr(operator, "itemgetter")


def test_make_lists_every_target():
    """``make`` alone is the manual: a target without a line in it is a bug."""
    text = (ROOT / "Makefile").read_text()
    phony = {name for line in text.splitlines() if line.startswith(".PHONY:") for name in line.split()[1:]}
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert phony <= {line.split()[0] for line in listed.splitlines() if line.startswith("  ")}


def test_locks_name_hashes_and_no_hosts():
    """Lock files hold versions and hashes; where they come from is the machine's business."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text


def test_no_property_is_judged_by_the_clock():
    """A busy machine is no bug: Hypothesis' own 200 ms an example failed a sound test on one."""
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
