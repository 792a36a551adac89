"""
A real etcd and kube-apiserver on loopback, for tests that need the API and no nodes; ready in about three seconds.

    with ApiServer() as server:
        requests.get(f"{server.url}/version", verify=server.ca_file, headers={"Authorization": f"Bearer
        {server.token}"})

``stop`` and ``start`` simulate an outage: the same address, certificates and data come back.
"""

from __future__ import annotations

import json
import secrets
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster import audit, binaries, debian
from e2e.cluster.certificates import make_authority, make_server, make_signing_key
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Child
from e2e.cluster.progress import ClusterError, say

_HOST = "127.0.0.1"
_READY_SECONDS = 60.0


class ApiServer:
    """
    One etcd and one kube-apiserver in a temporary folder, gone with this process whatever happens to it.

    Attributes:
        url: ``https://127.0.0.1:PORT``, the same after an outage.
        token: Bearer token of a user in ``system:masters``.
        ca_file: PEM file that verifies the server.
        kubeconfig: File for kubectl and for client libraries.
        audit_log: What the operator's service account did, as in the cluster.
    """

    def __init__(self) -> None:
        """Prepare files and ports; nothing runs before ``start`` (or ``with``)."""
        debian.ensure(*debian.FOR_API_SERVER)
        self._programs = binaries.ensure("kube-apiserver").parent
        self._folder = Path(tempfile.mkdtemp(prefix="modelrelease-apiserver-"))
        self._authority = make_authority(self._folder, "authority")
        self._serving = make_server(
            self._folder, "serving", authority=self._authority, alternatives=("DNS:localhost", f"IP:{_HOST}")
        )
        self._signing_key = make_signing_key(self._folder / "service-accounts.key")
        self._port = free_port(_HOST)
        self._etcd_port = free_port(_HOST)
        self._etcd: Child | None = None
        self._server: Child | None = None
        self.url = f"https://{_HOST}:{self._port}"
        self.token = secrets.token_hex(16)
        self.ca_file = self._authority.certificate
        self.kubeconfig = self._folder / "kubeconfig"
        self.kubeconfig.write_text(kubeconfig(self.url, ca_file=self.ca_file, token=self.token))
        self.audit_log = self._folder / "audit.log"
        self._tokens = self._folder / "tokens.csv"
        self._tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')

    def __enter__(self) -> Self:
        """Start and wait until ready."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both processes and delete the data."""
        self.close()

    def start(self) -> None:
        """
        Start what is not running and wait until the API server is ready.

        Raises:
            ClusterError: A process ended, or was not ready within a minute; carries the end of its log.
        """
        if self._etcd is None:
            self._etcd = self._start_etcd()
        if self._server is None:
            self._server = self._start_server()
        self._wait_until_ready()

    def stop(self) -> None:
        """Kill the API server at once, as a crash would; etcd keeps the data."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """End both processes and delete the folder."""
        self.stop()
        if self._etcd is not None:
            self._etcd.stop()
            self._etcd = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_etcd(self) -> Child:
        client = f"http://{_HOST}:{self._etcd_port}"
        peer = f"http://{_HOST}:0"
        return Child(
            [
                self._programs / "etcd", "--data-dir", self._folder / "etcd", "--unsafe-no-fsync",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--log-level", "warn",
            ],
            log=self._folder / "etcd.log",
        )  # fmt: skip

    def _start_server(self) -> Child:
        return Child(
            [
                self._programs / "kube-apiserver",
                f"--etcd-servers=http://{_HOST}:{self._etcd_port}",
                f"--bind-address={_HOST}",
                f"--advertise-address={_HOST}",
                "--endpoint-reconciler-type=none",  # loopback cannot be the endpoint of the Service "kubernetes"
                f"--secure-port={self._port}",
                f"--cert-dir={self._folder}",
                f"--tls-cert-file={self._serving.certificate}",
                f"--tls-private-key-file={self._serving.key}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._signing_key}",
                f"--service-account-signing-key-file={self._signing_key}",
                f"--token-auth-file={self._tokens}",
                "--authorization-mode=RBAC",
                # Nothing here makes the "default" service accounts that this plugin demands of every pod.
                "--disable-admission-plugins=ServiceAccount",
                "--shutdown-delay-duration=0s",
                *audit.flags(self.audit_log),
            ],
            log=self._folder / "kube-apiserver.log",
        )

    def _wait_until_ready(self) -> None:
        assert self._etcd is not None
        assert self._server is not None
        began = time.monotonic()
        context = ssl.create_default_context(cafile=str(self.ca_file))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        while not is_ready(opener, self.url, self.token):
            self._etcd.check()
            self._server.check()
            if time.monotonic() - began > _READY_SECONDS:
                raise ClusterError(
                    f"kube-apiserver was not ready within {_READY_SECONDS:.0f} s, log {self._server.log}"
                )
            time.sleep(0.1)


def is_ready(opener: urllib.request.OpenerDirector, url: str, token: str) -> bool:
    """Tell whether the API server at *url* says that it is ready and has made its namespaces."""
    for path in ("/readyz", "/api/v1/namespaces/default"):
        request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with opener.open(request, timeout=5):
                pass
        except (urllib.error.URLError, OSError):
            return False
    return True


def kubeconfig(url: str, *, ca_file: Path, token: str) -> str:
    """Return a kubeconfig (JSON, which is YAML) for one server and one bearer token."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "modelrelease",
            "contexts": [{"name": "modelrelease", "context": {"cluster": "modelrelease", "user": "admin"}}],
            "clusters": [{"name": "modelrelease", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
            "users": [{"name": "admin", "user": {"token": token}}],
        },
        indent=2,
    )


if __name__ == "__main__":
    with ApiServer() as running:
        say(f"export KUBECONFIG={running.kubeconfig}")
        say("kube-apiserver is ready; end it with Ctrl-C")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("ended")
