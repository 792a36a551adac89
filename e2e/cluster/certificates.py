"""
One certificate authority per cluster, and server certificates signed by it, made with the ``openssl`` command.

Elliptic keys, because making an RSA key takes as long as starting the API server. The extensions are those that
Python 3.13's strict verification asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def make_authority(folder: Path, name: str) -> KeyPair:
    """Make a self-signed certificate authority in *folder*."""
    pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    progress.output([
        *_NEW_CERTIFICATE,
        "-keyout", pair.key, "-out", pair.certificate, "-subj", f"/CN={name}",
        "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    ])  # fmt: skip
    return pair


def make_server(folder: Path, name: str, *, authority: KeyPair, alternatives: Sequence[str]) -> KeyPair:
    """Make a server certificate signed by *authority*; *alternatives* such as ``DNS:localhost`` or ``IP:127.0.0.1``."""
    pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    progress.output([
        *_NEW_CERTIFICATE,
        "-CA", authority.certificate, "-CAkey", authority.key,
        "-keyout", pair.key, "-out", pair.certificate, "-subj", f"/CN={name}",
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature",
        "-addext", "extendedKeyUsage=serverAuth,clientAuth", "-addext", f"subjectAltName={','.join(alternatives)}",
    ])  # fmt: skip
    return pair


def make_signing_key(file: Path) -> Path:
    """Make the private key with which the API server signs service account tokens; SEC 1 is the EC format it reads."""
    progress.output(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file])
    return file
