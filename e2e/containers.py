"""Find the process of a container on this machine, to end exactly that one."""

from __future__ import annotations

from pathlib import Path


def process_of(container_id: str) -> int:
    """
    Return the process id of a container's first process.

    Args:
        container_id: As in a pod's status: ``containerd://`` and 64 hex digits.

    Raises:
        LookupError: No process of this machine belongs to it.
    """
    digits = container_id.rpartition("/")[2]
    members = [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/cgroup") if digits in _text(entry)]
    if not members:
        raise LookupError(f"no process of container {digits} runs on this machine")
    return min(members)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # ended while we looked
        return ""
