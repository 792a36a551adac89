"""
The cluster's network namespace, joined to the machine by one veth pair, with no way out to anywhere else.

    machine 10.98.0.1 (mrel-host) ---- 10.98.0.2 (eth0) node ---- bridge 10.97.0.1 ---- pods 10.97.0.0/24

Without a default route the kubelet cannot probe cloud metadata addresses, and nothing in a pod reaches the internet.
On the machine there is one address, one device and one route, and they go with the namespace; no iptables rule is
made outside of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster.progress import output

NAMESPACE = "modelrelease"
NAMESPACE_FILE = Path("/run/netns") / NAMESPACE
HOST_DEVICE = "mrel-host"

HOST_ADDRESS = "10.98.0.1"
NODE_ADDRESS = "10.98.0.2"
NODE_RANGE = "10.98.0.0/24"
POD_RANGE = "10.97.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
SERVICES_AND_PODS = "10.96.0.0/15"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"

_NODE_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    # A pod that calls a Service whose endpoint is on the same bridge needs its answer translated back.
    "net/bridge/bridge-nf-call-iptables": "1",
}


def create() -> None:
    """
    Make namespace, devices, addresses and routes.

    Raises:
        ClusterError: The kernel refuses, or one of them exists.
    """
    output(["ip", "netns", "add", NAMESPACE])
    output(["ip", "link", "add", HOST_DEVICE, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE])
    output(["ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", HOST_DEVICE])
    output(["ip", "link", "set", HOST_DEVICE, "up"])
    _inside("ip", "link", "set", "lo", "up")
    _inside("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "eth0")
    _inside("ip", "link", "set", "eth0", "up")
    # kube-proxy translates Service addresses, but only of packets that have some route to begin with.
    _inside("ip", "route", "add", SERVICE_RANGE, "dev", "eth0")
    for name, value in _NODE_SETTINGS.items():
        _inside("sh", "-c", f"echo {value} > /proc/sys/{name}")
    output(["ip", "route", "replace", SERVICES_AND_PODS, "via", NODE_ADDRESS])


def remove() -> None:
    """Remove all of it; what is not there is fine."""
    # Deleting one end of the pair deletes the other and the routes through it.
    subprocess.run(["ip", "link", "delete", HOST_DEVICE], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True, check=False)


def left_behind() -> list[str]:
    """Name what of it still exists on the machine."""
    found = [str(NAMESPACE_FILE)] if NAMESPACE_FILE.exists() else []
    if Path("/sys/class/net", HOST_DEVICE).exists():
        found.append(f"network device {HOST_DEVICE}")
    if NODE_ADDRESS in output(["ip", "route", "show"]):
        found.append(f"route via {NODE_ADDRESS}")
    return found


def _inside(*command: str) -> None:
    output(["nsenter", f"--net={NAMESPACE_FILE}", "--", *command])
