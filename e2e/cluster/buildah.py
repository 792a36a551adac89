"""
Build a Dockerfile with buildah: no daemon, storage in our cache, mounts in a namespace of its own that goes with the
process.

The shipped Dockerfile knows nothing of this machine. What pip needs here (its settings, a certificate bundle, a
folder of wheels) is mounted while it runs and is not part of the image.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

from e2e.cluster import debian, paths, progress

_FOLDER = paths.CACHE / "buildah"
_BASE = "localhost/python-base:1"
# Settings of pip that say where packages come from; the rest is none of an image's business.
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "no-index")


def build(dockerfile: Path, *, target: Path, reference: str, python_base: Path, log: Path) -> None:
    """
    Build *dockerfile* with the repository as its context and write the image *reference* into the tar *target*.

    Raises:
        ClusterError: buildah failed; carries the end of the log.
    """
    _prepare()
    # The base's tag would hide that its content changed; its file name does not.
    base = f"localhost/{python_base.stem}"
    progress.run(_buildah("pull", "--quiet", f"docker-archive:{python_base}"), log=log, env=_environment())
    progress.run(_buildah("tag", _BASE, base), log=log, env=_environment())
    progress.run(
        _buildah(
            *("build", "--isolation", "chroot", "--layers", "--pull-never", "--format", "docker"),
            *("--build-arg", f"PYTHON_IMAGE={base}", "--file", dockerfile, "--tag", reference),
            *_mounts(),
            paths.REPOSITORY,
        ),
        log=log,
        env=_environment(),
    )
    progress.run(
        _buildah("push", "--quiet", reference, f"docker-archive:{target}:{reference}"), log=log, env=_environment()
    )


def pip_configuration(listed: str, *, certificates: Path | None) -> str:
    """
    Return a pip.conf with the settings of ``pip config list`` (one ``SCOPE.NAME='VALUE'`` a line) that an image build
    needs.

    Args:
        listed: The output of that command.
        certificates: Path in the build container of the certificate bundle.
    """
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        short = name.rpartition(".")[2]
        if short in _PIP_SETTINGS:
            settings[short] = str(ast.literal_eval(value))
    if certificates is not None:
        settings["cert"] = str(certificates)
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""])


def _prepare() -> None:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{_FOLDER}/root"\nrunroot = "{_FOLDER}/run"\n'
    )
    (_FOLDER / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
    (_FOLDER / "registries.conf").write_text("unqualified-search-registries = []\n")


def _mounts() -> list[str]:
    listed = progress.output([debian.PYTHON, "-m", "pip", "config", "list"])
    mounts = []
    inside = None
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle:
        inside = Path("/run/host-certificates.crt")
        mounts += ["--volume", f"{bundle}:{inside}:ro"]
    configuration = _FOLDER / "pip.conf"
    configuration.write_text(pip_configuration(listed, certificates=inside))
    return [*mounts, "--volume", f"{configuration}:/etc/pip.conf:ro"]


def _environment() -> dict[str, str]:
    return {**os.environ, "CONTAINERS_STORAGE_CONF": str(_FOLDER / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}


def _buildah(command: str, *arguments: str | Path) -> list[str | Path]:
    checked = command in ("pull", "build", "push")
    policy: list[str | Path] = ["--signature-policy", _FOLDER / "policy.json"] if checked else []
    return ["unshare", "--mount", "--", "buildah", command, *policy, *arguments]
