"""The servers for integration tests are the real ones, and an outage keeps their data and address."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from e2e.cluster import binaries, debian
from e2e.cluster.apiserver import ApiServer
from e2e.cluster.progress import ClusterError
from e2e.cluster.prometheus import PrometheusServer, Target


@pytest.fixture(scope="module")
def server():
    with ApiServer() as running:
        yield running


def ask(server: ApiServer, path: str, *, token: str | None = None, body: object = None) -> dict:
    """Call the API with verified TLS."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json.dumps(body).encode() if body is not None else None
    context = ssl.create_default_context(cafile=str(server.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(urllib.request.Request(server.url + path, data=data, headers=headers), timeout=10) as answer:
        return json.load(answer)


@pytest.mark.apiserver
def test_it_is_the_version_that_the_cluster_runs(server):
    """Built with its version, or clients would refuse it."""
    assert f"v{binaries.KUBERNETES_VERSION}" == ask(server, "/version", token=server.token)["gitVersion"]


@pytest.mark.apiserver
@pytest.mark.parametrize(("token", "code"), [(None, 403), ("wrong", 401)])
def test_only_the_token_opens_it(server, token, code):
    """Anonymous callers and wrong tokens get nothing."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, "/api/v1/namespaces", token=token)
    assert code == refused.value.code


@pytest.mark.apiserver
def test_the_kubeconfig_works(server):
    """kubectl needs nothing but the file."""
    command = [binaries.ensure("kubectl"), "--kubeconfig", server.kubeconfig, "auth", "whoami", "-o", "name"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.apiserver
def test_an_outage_refuses_connections_and_keeps_objects(server):
    """stop and start: same address, same data."""
    namespace = {"metadata": {"name": "kept"}}
    made = ask(server, "/api/v1/namespaces", token=server.token, body=namespace)
    server.stop()
    with pytest.raises(urllib.error.URLError):
        ask(server, "/version", token=server.token)
    server.start()
    found = ask(server, "/api/v1/namespaces/kept", token=server.token)
    assert made["metadata"]["uid"] == found["metadata"]["uid"]


@pytest.fixture(params=["3", "2"])
def prometheus(request) -> tuple[str, Path]:
    binary = binaries.ensure("prometheus") if request.param == "3" else debian.prometheus()
    return request.param, binary


@pytest.mark.prometheus
def test_prometheus_scrapes_new_targets_and_an_outage_keeps_its_data(prometheus):
    """Its own metrics are the target: the version proves which one answers."""
    major, binary = prometheus
    with PrometheusServer(binary, scrape_interval=0.2) as server:
        address = server.url.removeprefix("http://")
        server.set_targets([Target(address, {"release": "demo"})])
        wanted = 'prometheus_build_info{release="demo"}'
        series = until_answered(server, wanted)
        assert series["metric"]["version"].startswith(f"{major}.")
        server.stop()
        with pytest.raises(urllib.error.URLError):
            server.query(wanted)
        server.start()
        assert server.query(f"last_over_time({wanted}[1m] offset 2s)")


def until_answered(server: PrometheusServer, expression: str) -> dict:
    """Return the first series of *expression*, waiting up to 10 s for a scrape."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        result = server.query(expression)
        if result:
            return result[0]
        time.sleep(0.1)
    raise AssertionError(f"no answer to {expression}")


@pytest.mark.prometheus
def test_a_configuration_that_prometheus_refuses_is_told_from_its_log():
    """A test that asks for nonsense learns why at once, not after a minute."""
    bad = Target("127.0.0.1:1/metrics")
    with (
        pytest.raises(ClusterError, match="not a valid hostname"),
        PrometheusServer(binaries.ensure("prometheus"), [bad]),
    ):
        raise AssertionError("unreachable")
