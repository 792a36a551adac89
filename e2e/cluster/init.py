"""
Process 1 of the cluster's own process and mount namespace: when it ends, the kernel ends everything else in there.

That is what makes ``down`` complete and crashes harmless: whatever containerd, the kubelet or a container started,
mounted or left half done goes with this process. ``up`` may be killed right after starting it, so it writes its
record itself.

Run by node.py as ``nsenter --net ... unshare --mount --pid --fork python3 -m e2e.cluster.init RECORD``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from e2e.cluster.processes import Identity

# Folders whose content must not reach the machine: sockets and network namespaces, links to pod logs, the caches of
# CNI and of the kubelet's device manager, which heed no flag.
_SCRATCH = (Path("/run"), Path("/var/log"), Path("/var/lib/cni"), Path("/var/lib/kubelet"))


def main(record: Path) -> None:
    """Write *record*, arrange the mounts, create ``init.ready``, then collect orphans until killed."""
    # /proc still shows the machine's processes here, so this is our identity as the machine sees it.
    identity = Identity.of(int(Path("/proc/self").readlink().name))
    assert identity is not None
    identity.write(record)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    # Written before it is true, so that a crash in between hides nothing.
    record.with_suffix(".made").write_text("".join(f"{folder}\n" for folder in _SCRATCH if not folder.exists()))
    for folder in _SCRATCH:
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "modelrelease", folder], check=True)
    # Pods get their mounts by propagation from here.
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    record.with_suffix(".ready").touch()
    while True:
        _collect_orphans()
        signal.sigtimedwait({signal.SIGCHLD}, 60)


def _collect_orphans() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
