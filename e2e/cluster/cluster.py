"""
The commands: ``build``, ``up``, ``down``, ``status``, ``load``.

    nothing ── up ──> unfinished (STATE exists) ── last step ──> complete (STATE/complete names the checkout)

An ``up`` that was killed leaves the unfinished state; whoever comes next takes it down first. Only one of ``up`` and
``down`` runs at a time: a lock that the kernel frees when its holder dies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from e2e.cluster import addons, binaries, debian, images, kubernetes, node, paths
from e2e.cluster.images import Image
from e2e.cluster.progress import ClusterError, say, step

_COMPLETE = paths.STATE / "complete"


def build() -> None:
    """Install what is missing and build every binary and image."""
    _prepare_machine()
    for module in binaries.MODULES.values():
        binaries.ensure_module(module)
    for image in _available(images.SYSTEM + images.OURS):
        images.ensure(image)
    say(f"everything is built, in {paths.CACHE}")


def up() -> None:
    """
    Make the cluster, or bring back what is missing of it.

    Raises:
        ClusterError: A step failed, or the cluster belongs to another checkout.
    """
    with _alone():
        _prepare_machine()
        there = _take_over()
        for module in binaries.MODULES.values():
            if not module.only_for_tests:
                binaries.ensure_module(module)
        for image in images.SYSTEM:
            images.ensure(image)
        if not there:
            _start_from_nothing()
        kubernetes.start_control_plane()
        kubernetes.start_containerd()
        for image in images.SYSTEM:
            images.load(image)
        kubernetes.start_node()
        addons.install()
        _COMPLETE.write_text(f"{paths.REPOSITORY}\n")
        for image in _available(images.OURS):
            images.load(image)
    say(f"the cluster is up; export KUBECONFIG={kubernetes.KUBECONFIG}")


def down(*, logs: bool) -> None:
    """
    Remove every trace of the cluster; binaries and images stay, and so do the logs unless *logs*.

    Raises:
        ClusterError: Something could not be removed; the message names it.
    """
    with _alone():
        if node.left_behind() or paths.STATE.exists():
            with step("removing the cluster"):
                _remove()
        else:
            say("no cluster is up")
        if logs:
            shutil.rmtree(paths.LOGS, ignore_errors=True)
        elif paths.LOGS.exists():
            say(f"its logs are in {paths.LOGS}")


def status() -> bool:
    """Print what is there and return whether all of it is healthy."""
    if not paths.STATE.exists():
        print("no cluster is up")
        return False
    healthy = _COMPLETE.exists()
    owner = _COMPLETE.read_text().strip() if healthy else "unfinished; the next up starts over"
    print(f"cluster     {owner}\nkubeconfig  {kubernetes.KUBECONFIG}\nlogs        {paths.LOGS}")
    for part in kubernetes.PARTS:
        alive = node.part_alive(part)
        healthy = healthy and alive
        print(f"{'running' if alive else 'ENDED':<11} {part}")
    if node.part_alive("kube-apiserver"):
        troubled = addons.unhealthy()
        healthy = healthy and not troubled
        for thing in troubled:
            print(f"{'NOT READY':<11} {thing}")
    for name, archive in images.loaded().items():
        print(f"image       {name} ({archive})")
    return healthy


def load(name: str) -> None:
    """
    Build the image *name* from what is in the checkout now and give it to the cluster.

    Raises:
        ClusterError: There is no such image or Dockerfile, the build failed, or no cluster is up.
    """
    known = {image.name: image for image in images.SYSTEM + images.OURS}
    if name not in known:
        raise ClusterError(f"image {name!r} is not one of {', '.join(known)}")
    if not known[name].available():
        raise ClusterError(f"image {name!r}: {known[name].dockerfile} does not exist")
    images.load(known[name])


def require_up() -> None:
    """Raise ClusterError unless a complete cluster is up."""
    if not _COMPLETE.exists() or not node.alive():
        raise ClusterError("no cluster is up; run: python3 -m e2e.cluster up")


def environment() -> str:
    """Return shell lines that make kubectl and helm of this cluster the first ones found."""
    folders = ":".join(str(binaries.ensure(program).parent) for program in ("kubectl", "helm"))
    return f'export KUBECONFIG={kubernetes.KUBECONFIG}\nexport PATH={folders}:"$PATH"'


def _prepare_machine() -> None:
    if os.geteuid() != 0:
        raise ClusterError("only root can make a cluster here: it needs namespaces, mounts and cgroups")
    debian.ensure(*debian.FOR_CLUSTER, *debian.FOR_TESTS)


def _available(candidates: Iterable[Image]) -> list[Image]:
    return [image for image in candidates if image.available()]


def _take_over() -> bool:
    """Tell whether a complete cluster of this checkout is there; remove what a crash or a reboot left of one."""
    if _COMPLETE.exists() and node.alive():
        owner = _COMPLETE.read_text().strip()
        if owner != str(paths.REPOSITORY):
            raise ClusterError(f"a cluster of {owner} is up and a machine holds one; run there: make demo-down")
        return True
    if paths.STATE.exists() or node.left_behind():
        with step("removing what an earlier cluster left behind"):
            _remove()
    return False


def _start_from_nothing() -> None:
    shutil.rmtree(paths.LOGS, ignore_errors=True)
    paths.STATE.mkdir(mode=0o700, parents=True)
    with step("making the node's namespaces and certificates"):
        node.create()
        kubernetes.prepare()


def _remove() -> None:
    # First, so that a crash from here on is seen as an unfinished state.
    _COMPLETE.unlink(missing_ok=True)
    node.remove()
    node.remove_state()
    left = node.left_behind()
    if left:
        raise ClusterError(f"could not be removed: {', '.join(left)}")


@contextmanager
def _alone() -> Iterator[None]:
    with binaries.locked(paths.CACHE / "cluster.lock"):
        yield
