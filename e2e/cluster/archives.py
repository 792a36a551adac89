"""Write container images without a container engine: one layer, a config and a manifest in a tar (docker-archive)."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Program:
    """
    An image that holds a few files and starts one of them.

    Attributes:
        files: Absolute path in the image, and the file on this machine that is copied there.
        folders: Empty folders with mode 1777, such as ``/tmp``.
        entrypoint: The words that are always run.
    """

    files: Mapping[str, Path]
    entrypoint: Sequence[str]
    folders: Sequence[str] = ("/tmp",)  # the image's, not this machine's
    environment: Mapping[str, str] = field(default_factory=dict)


def write_program(target: Path, reference: str, program: Program) -> None:
    """Write *program* as the image *reference* into the tar *target*."""

    def fill(layer: tarfile.TarFile) -> None:
        for folder in program.folders:
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            layer.addfile(entry)
        for path, source in sorted(program.files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.size = 0o755, source.stat().st_size
            with source.open("rb") as content:
                layer.addfile(entry, content)

    settings = {
        "Entrypoint": list(program.entrypoint),
        "Env": [f"{name}={value}" for name, value in program.environment.items()],
    }
    _write(target, reference, settings, fill)


def write_tree(target: Path, reference: str, root: Path, environment: Mapping[str, str]) -> None:
    """Write the folder *root*, an installed system, as the image *reference* into the tar *target*."""
    settings = {"Env": [f"{name}={value}" for name, value in environment.items()], "Cmd": ["/bin/sh"]}
    _write(target, reference, settings, lambda layer: layer.add(root, arcname="."))


def _write(target: Path, reference: str, settings: Mapping[str, Any], fill: Callable[[tarfile.TarFile], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="writing-") as scratch:
        layer = Path(scratch) / "layer.tar"
        with tarfile.open(layer, "w") as opened:
            fill(opened)
        with layer.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": settings,
                # buildah goes by it: as many entries as there are layers.
                "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "e2e/cluster"}],
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
        image = Path(scratch) / "image.tar"
        with tarfile.open(image, "w") as opened:
            _add_bytes(opened, config_name, config)
            _add_bytes(opened, "manifest.json", json.dumps(manifest).encode())
            opened.add(layer, arcname=f"{digest}/layer.tar")
        shutil.move(image, target)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
