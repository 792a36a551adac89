"""
Where the cluster keeps things: a cache that survives ``down``, and a state folder that does not.

The state folder is under /var/tmp and fixed, not per checkout: network namespace, routes and cgroups are the
machine's, so there can be only one cluster, and whoever starts the second must see the first.
"""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(__file__).resolve().parent
MANIFESTS = PACKAGE / "manifests"
GO_MODULES = PACKAGE / "go"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelrelease"
BINARIES = CACHE / "bin"
IMAGES = CACHE / "images"
TOOLS = CACHE / "tools"

STATE = Path("/var/tmp/modelrelease-cluster")  # one per machine on purpose; mode 0700, made by root
LOGS = CACHE / "logs" / "cluster"  # survives ``down``, so that a failed run can be read afterwards
