"""
Flux without its source-controller: the real kustomize-controller, and a git repository that the test publishes itself.

source-controller cannot be built here. What it does is small: it serves a commit as an archive over HTTP, and says in
the status of a GitRepository where that is and which digest it has.
"""

import functools
import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.cluster import binaries
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Child
from tests.apiserver import Cluster

Object = dict[str, Any]

SOURCE: Final = "source.toolkit.fluxcd.io"
KUSTOMIZE: Final = "kustomize.toolkit.fluxcd.io"

NAME: Final = "models"
"""Of the GitRepository and of the Kustomization."""


def install(cluster: Cluster) -> None:
    """Install the CRDs: the controller's own, and those of the sources that it watches, which its module lacks."""
    module = binaries.module_source(binaries.MODULES["kustomize-controller"], "github.com/fluxcd/kustomize-controller")
    own = module / "config" / "crd" / "bases" / f"{KUSTOMIZE}_kustomizations.yaml"
    cluster.kubectl("apply", "--server-side", "-f", str(own))
    kinds = {"GitRepository": "gitrepositories", "OCIRepository": "ocirepositories", "Bucket": "buckets"}
    sources = [_source_crd(kind, plural) for kind, plural in kinds.items()]
    cluster.kubectl("apply", "--server-side", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": sources})
    names = [f"crd/{plural}.{SOURCE}" for plural in kinds.values()]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/kustomizations.{KUSTOMIZE}", *names)


def _source_crd(kind: str, plural: str) -> Object:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{SOURCE}"},
        "spec": {
            "group": SOURCE,
            "names": {"kind": kind, "plural": plural, "listKind": f"{kind}List", "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


class Repository:
    """A git repository of one team: pushing to it publishes the commit, as source-controller would."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, address: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder / "repository"
        self._served = folder / "served"
        self._address = address
        self._folder.mkdir()
        self._served.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")
        cluster.create(
            {
                "apiVersion": f"{SOURCE}/v1",
                "kind": "GitRepository",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {"url": "ssh://git@example.com/models", "ref": {"branch": "main"}, "interval": "1m"},
            },
            {
                "apiVersion": f"{KUSTOMIZE}/v1",
                "kind": "Kustomization",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {
                    "sourceRef": {"kind": "GitRepository", "name": NAME},
                    "path": "./",
                    "targetNamespace": namespace,
                    "prune": True,
                    "wait": True,
                    "timeout": "3m",
                    "interval": "10m",
                },
            },
        )

    def push(self, name: str, body: Object, message: str) -> str:
        """Commit *body* as the file *name* and publish it; return the revision."""
        (self._folder / name).write_text(yaml.safe_dump(body, sort_keys=False))
        self._git("add", name)
        self._git("commit", "--quiet", "--message", message)
        return self._publish()

    def revert(self) -> str:
        """Take the last commit back and publish that; return the revision."""
        self._git("revert", "--no-edit", "HEAD")
        return self._publish()

    def _publish(self) -> str:
        commit = self._git("rev-parse", "HEAD").strip()
        archive = self._served / f"{commit}.tar.gz"
        self._git("archive", "--format=tar.gz", f"--output={archive}", "HEAD")
        content = archive.read_bytes()
        artifact = {
            "path": archive.name,
            "url": f"{self._address}/{archive.name}",
            "revision": f"main@sha1:{commit}",
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "size": len(content),
            "lastUpdateTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        status = {"artifact": artifact, "observedGeneration": 1}
        kind = f"gitrepositories.{SOURCE}"
        self._cluster.patch(kind, self._namespace, NAME, {"status": status}, status=True)
        return str(artifact["revision"])

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=ana", "-c", "user.email=ana@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ready(self) -> Object:
        """Return the Kustomization's condition Ready; empty when there is none yet."""
        status = self._cluster.get(f"kustomizations.{KUSTOMIZE}", self._namespace, NAME).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})

    def attempted(self) -> str:
        """Return the revision that the Kustomization worked on last."""
        status = self._cluster.get(f"kustomizations.{KUSTOMIZE}", self._namespace, NAME).get("status", {})
        return str(status.get("lastAttemptedRevision", ""))


@contextmanager
def running(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Repository]:
    """Run kustomize-controller for one namespace, and give it a repository."""
    log = folder / "kustomize-controller.log"
    controller = Child(
        [
            "env", f"KUBECONFIG={cluster.server.kubeconfig}", f"RUNTIME_NAMESPACE={namespace}",
            str(binaries.ensure("kustomize-controller")), "--watch-all-namespaces=false",
            # Else Flux waits for a rollout to end, or for its own timeout, before it looks at the next commit.
            "--feature-gates=CancelHealthCheckOnNewRevision=true",
            f"--metrics-addr=127.0.0.1:{free_port()}", f"--health-addr=127.0.0.1:{free_port()}",
        ],
        log=log,
    )  # fmt: skip
    served = folder / "served"
    handler = functools.partial(_Quiet, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield Repository(cluster, namespace, folder, f"http://127.0.0.1:{server.server_port}")
        except BaseException:
            print(_readable(log))
            raise
        finally:
            server.shutdown()
            controller.stop()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


def _readable(log: Path) -> str:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return "\n".join(f"{line.get('level')} {line.get('msg')} {line.get('error', '')}" for line in lines[-40:])
