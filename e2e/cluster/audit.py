"""
The API server's audit log, and how it is read: one JSON object a line, for every request of the operator.

The policy is ``manifests/audit-policy.yaml``. A run of hours fits into the log many times over; what is older than the
kept files is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.cluster import paths

_MEGABYTES = 20
_OLDER_FILES = 2


def flags(log: Path) -> list[str]:
    """Return the API server's flags for an audit log in the file *log*."""
    return [
        f"--audit-policy-file={paths.MANIFESTS / 'audit-policy.yaml'}",
        f"--audit-log-path={log}",
        f"--audit-log-maxsize={_MEGABYTES}",
        f"--audit-log-maxbackup={_OLDER_FILES}",
    ]


def read(log: Path) -> Iterator[dict[str, Any]]:
    """
    Return the events in *log* and in the older files beside it, oldest first.

    Raises:
        FileNotFoundError: There is no such log: the API server was started without one.
    """
    if not log.exists():
        raise FileNotFoundError(f"{log}: the API server keeps no audit log; it was started before there was one")
    # A full file is renamed to NAME-TIME.log.
    for file in [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log]:
        with file.open() as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))  # the last one may be half written
