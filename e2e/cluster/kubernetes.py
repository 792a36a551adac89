"""
Kubernetes itself, started by hand: control plane, container runtime and one node, all inside the node's namespaces.

The flags that differ from every guide, and why, are those that the build machines forced: cgroup v1, no swap control,
no way out to the internet, root without CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import audit, binaries, network, node, paths
from e2e.cluster.apiserver import is_ready, kubeconfig
from e2e.cluster.certificates import KeyPair, make_authority, make_client, make_server, make_signing_key
from e2e.cluster.progress import ClusterError

API_URL = f"https://{network.NODE_ADDRESS}:6443"
NODE_NAME = "node"
CONTAINERD_SOCKET = paths.STATE / "containerd.sock"
KUBECONFIG = paths.STATE / "kubeconfig"
AUDIT_LOG = paths.LOGS / "audit.log"
PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
)

_CONFIG = paths.STATE / "config"
_ETCD_URL = "http://127.0.0.1:2379"
_READY_SECONDS = 60.0
_ISSUER = "https://kubernetes.default.svc.cluster.local"

# Who may call the API server: file name of the kubeconfig, user, group. RBAC's built-in roles know these users.
_USERS = (
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the certificates and keys of the cluster are."""

    authority: KeyPair
    serving: KeyPair
    kubelet: KeyPair
    kubelet_client: KeyPair
    signing_key: Path
    tokens: Path


def prepare() -> None:
    """Write every certificate, token and configuration file; does nothing on a cluster that has them."""
    if KUBECONFIG.exists():
        return
    _CONFIG.mkdir(parents=True, exist_ok=True)
    (_CONFIG / "cni").mkdir(exist_ok=True)
    credentials = _credentials()
    authority = make_authority(_CONFIG, "authority")
    make_server(
        _CONFIG,
        "serving",
        authority=authority,
        alternatives=(
            *(f"IP:{address}" for address in (network.NODE_ADDRESS, network.API_SERVICE_ADDRESS, "127.0.0.1")),
            *(f"DNS:kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")),
        ),
    )
    make_server(_CONFIG, "kubelet", authority=authority, alternatives=(f"IP:{network.NODE_ADDRESS}",))
    make_client(_CONFIG, "kubelet-client", authority=authority, organization="system:masters")
    make_signing_key(credentials.signing_key)
    _write_users(credentials)
    (_CONFIG / "resolv.conf").write_text("")
    (_CONFIG / "kubelet.json").write_text(json.dumps(kubelet_config(credentials), indent=2))
    (_CONFIG / "containerd.toml").write_text(containerd_config())
    (_CONFIG / "cni" / "10-bridge.conflist").write_text(json.dumps(cni_config(), indent=2))
    # Last, because its presence says that everything else is there.
    (_CONFIG / "admin.kubeconfig").replace(KUBECONFIG)


def start_control_plane() -> None:
    """Start etcd, the API server, the controller manager and the scheduler, and wait for the API."""
    folder = binaries.ensure("kube-apiserver").parent
    credentials = _credentials()
    node.ensure_part("etcd", [
        folder / "etcd", "--data-dir", paths.STATE / "etcd", "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", _ETCD_URL, "--advertise-client-urls", _ETCD_URL,
        "--listen-peer-urls", "http://127.0.0.1:0",
    ])  # fmt: skip
    node.ensure_part("kube-apiserver", [
        folder / "kube-apiserver",
        f"--etcd-servers={_ETCD_URL}",
        f"--bind-address={network.NODE_ADDRESS}",
        f"--advertise-address={network.NODE_ADDRESS}",
        "--secure-port=6443",
        f"--tls-cert-file={credentials.serving.certificate}",
        f"--tls-private-key-file={credentials.serving.key}",
        f"--service-cluster-ip-range={network.SERVICE_RANGE}",
        f"--service-account-issuer={_ISSUER}",
        f"--service-account-key-file={credentials.signing_key}",
        f"--service-account-signing-key-file={credentials.signing_key}",
        f"--token-auth-file={credentials.tokens}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",
        f"--client-ca-file={credentials.authority.certificate}",
        f"--kubelet-certificate-authority={credentials.authority.certificate}",
        f"--kubelet-client-certificate={credentials.kubelet_client.certificate}",
        f"--kubelet-client-key={credentials.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        *audit.flags(AUDIT_LOG),
    ])  # fmt: skip
    wait_for_api()
    node.ensure_part("kube-controller-manager", [
        folder / "kube-controller-manager",
        f"--kubeconfig={_CONFIG / 'kube-controller-manager.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={credentials.signing_key}",
        f"--root-ca-file={credentials.authority.certificate}",
    ])  # fmt: skip
    node.ensure_part("kube-scheduler", [
        folder / "kube-scheduler",
        f"--kubeconfig={_CONFIG / 'kube-scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ])  # fmt: skip


def start_containerd() -> None:
    """Start the container runtime and wait until it answers."""
    node.ensure_part("containerd", ["containerd", "--config", _CONFIG / "containerd.toml"])
    deadline = time.monotonic() + _READY_SECONDS
    while not CONTAINERD_SOCKET.is_socket():
        node.check_part("containerd")
        if time.monotonic() > deadline:
            raise ClusterError(f"containerd made no socket within {_READY_SECONDS:.0f} s")
        time.sleep(0.05)


def start_node() -> None:
    """Start the kubelet and kube-proxy; the node becomes Ready a few seconds later."""
    folder = binaries.ensure("kubelet").parent
    node.ensure_part("kubelet", [
        folder / "kubelet",
        f"--config={_CONFIG / 'kubelet.json'}",
        f"--kubeconfig={_CONFIG / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={network.NODE_ADDRESS}",
        f"--root-dir={paths.STATE / 'kubelet'}",
        f"--cert-dir={paths.STATE / 'kubelet' / 'pki'}",
    ])  # fmt: skip
    node.ensure_part("kube-proxy", [
        folder / "kube-proxy",
        f"--kubeconfig={_CONFIG / 'kube-proxy.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=iptables",
        # These settings are not the namespace's own, and nobody may change them here.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    ])  # fmt: skip


def wait_for_api() -> None:
    """
    Wait until the API server says that it is ready.

    Raises:
        ClusterError: It or etcd ended, or a minute passed.
    """
    token = json.loads(KUBECONFIG.read_text())["users"][0]["user"]["token"]
    context = ssl.create_default_context(cafile=str(_credentials().authority.certificate))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    deadline = time.monotonic() + _READY_SECONDS
    while not is_ready(opener, API_URL, token):
        node.check_part("etcd")
        node.check_part("kube-apiserver")
        if time.monotonic() > deadline:
            raise ClusterError(f"kube-apiserver was not ready within {_READY_SECONDS:.0f} s, logs in {paths.LOGS}")
        time.sleep(0.1)


def kubelet_config(credentials: Credentials) -> Mapping[str, Any]:
    """Return the KubeletConfiguration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(credentials.authority.certificate)},
        },
        "authorization": {"mode": "AlwaysAllow"},  # of whoever holds a certificate of our authority
        "tlsCertFile": str(credentials.kubelet.certificate),
        "tlsPrivateKeyFile": str(credentials.kubelet.key),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [network.DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        # An empty file: the machine's name servers cannot be reached from here, so nobody should try.
        "resolvConf": str(_CONFIG / "resolv.conf"),
        "podLogsDir": str(paths.LOGS / "pods"),
        "volumePluginDir": str(paths.STATE / "kubelet" / "volume-plugins"),
        "readOnlyPort": 0,
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,  # images cannot be fetched again
        "evictionHard": {},
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "failSwapOn": False,
        # cgroup v1 is what the build machines have; a root of our own keeps two clusters out of each other's way.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.CGROUP}",
    }


def containerd_config() -> str:
    """Return containerd's configuration: everything in the state folder, no registry, the pause image that we build."""
    return f"""\
version = 2
root = "{paths.STATE}/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  # Root here lacks CAP_SYS_RESOURCE and so may not lower a process's score.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{_CONFIG}/cni"
"""


def cni_config() -> Mapping[str, Any]:
    """Return the pod network: one bridge, routes to Services and the machine and nowhere else."""
    return {
        "cniVersion": "1.0.0",
        "name": "modelrelease",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(paths.STATE / "cni"),
                    "ranges": [[{"subnet": network.POD_RANGE}]],
                    "routes": [{"dst": network.SERVICES_AND_PODS}, {"dst": network.NODE_RANGE}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _credentials() -> Credentials:
    return Credentials(
        authority=KeyPair.named(_CONFIG, "authority"),
        serving=KeyPair.named(_CONFIG, "serving"),
        kubelet=KeyPair.named(_CONFIG, "kubelet"),
        kubelet_client=KeyPair.named(_CONFIG, "kubelet-client"),
        signing_key=_CONFIG / "service-accounts.key",
        tokens=_CONFIG / "tokens.csv",
    )


def _write_users(credentials: Credentials) -> None:
    lines = []
    for name, user, group in _USERS:
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{group}"\n')
        text = kubeconfig(API_URL, ca_file=credentials.authority.certificate, token=token)
        (_CONFIG / f"{name}.kubeconfig").write_text(text)
    credentials.tokens.write_text("".join(lines))
