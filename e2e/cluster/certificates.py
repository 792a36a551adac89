"""
One certificate authority per cluster, and certificates signed by it, made with the ``openssl`` command.

Elliptic keys, because making an RSA key takes as long as starting the API server. The extensions are those that
Python 3.13's strict verification asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from e2e.cluster import progress

_NEW_CERTIFICATE = (
    *("openssl", "req", "-x509", "-noenc", "-days", "30"),
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two PEM files that belong together."""

    certificate: Path
    key: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> Self:
        """Return the pair *name* of *folder*, whether it exists yet or not."""
        return cls(folder / f"{name}.crt", folder / f"{name}.key")


def make_authority(folder: Path, name: str) -> KeyPair:
    """Make a self-signed certificate authority in *folder*."""
    return _make(
        KeyPair.named(folder, name),
        f"/CN={name}",
        extensions=("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
    )


def make_server(folder: Path, name: str, *, authority: KeyPair, alternatives: Sequence[str]) -> KeyPair:
    """Make a server certificate signed by *authority*; *alternatives* such as ``DNS:localhost`` or ``IP:127.0.0.1``."""
    return _make(
        KeyPair.named(folder, name),
        f"/CN={name}",
        authority=authority,
        extensions=(*_END_ENTITY, "extendedKeyUsage=serverAuth", f"subjectAltName={','.join(alternatives)}"),
    )


def make_client(folder: Path, name: str, *, authority: KeyPair, organization: str) -> KeyPair:
    """Make a client certificate signed by *authority*; Kubernetes takes *organization* as the group of user *name*."""
    return _make(
        KeyPair.named(folder, name),
        f"/O={organization}/CN={name}",
        authority=authority,
        extensions=(*_END_ENTITY, "extendedKeyUsage=clientAuth"),
    )


def make_signing_key(file: Path) -> Path:
    """Make the private key with which the API server signs service account tokens; SEC 1 is the EC format it reads."""
    progress.output(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file])
    return file


_END_ENTITY = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")


def _make(pair: KeyPair, subject: str, *, extensions: Sequence[str], authority: KeyPair | None = None) -> KeyPair:
    signer = ("-CA", authority.certificate, "-CAkey", authority.key) if authority else ()
    wanted = [word for extension in extensions for word in ("-addext", extension)]
    files = ("-keyout", pair.key, "-out", pair.certificate)
    progress.output([*_NEW_CERTIFICATE, *signer, *files, "-subj", subject, *wanted])
    return pair
