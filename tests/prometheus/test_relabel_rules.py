"""The scrape job that the chart's README tells users of a plain Prometheus to write: is what it scrapes counted?"""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from e2e.cluster import binaries, paths
from e2e.cluster.prometheus import PrometheusServer, Target
from modelrelease.adapters.prometheus import PrometheusReader, PrometheusSettings
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.queries import StageWindow
from tests.builders import a_release
from tests.prometheus.pods import NAMESPACE, RELEASE, pods

pytestmark = pytest.mark.prometheus

SCRAPE = 0.5
README = paths.REPOSITORY / "charts" / "modelrelease-operator" / "README.md"
CONTRACT = {
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "few", "metric": "block-rate", "atMost": "50%"}],
}


def test_pods_are_counted_once_by_the_rules_of_the_readme(tmp_path):
    """As service discovery shows a pod with two ports, one of them for something else, and a pod that is not ours."""
    rules = yaml.safe_load(README.read_text().split("```yaml")[1].split("```")[0])["relabel_configs"]
    port = "__meta_kubernetes_pod_container_port_name"
    meta = {
        "__meta_kubernetes_namespace": NAMESPACE,
        "__meta_kubernetes_pod_label_modelrelease_dev_release": RELEASE,
        "__meta_kubernetes_pod_label_modelrelease_dev_revision": "new",
    }
    with pods("new") as (pod,):
        address = pod.target.address
        others = tmp_path / "others.json"
        others.write_text(
            json.dumps(
                [
                    {"targets": [address.replace("127.0.0.1", "localhost")], "labels": {**meta, port: "admin"}},
                    {"targets": [address.replace("127.0.0.1", "127.0.0.2")], "labels": {port: "http"}},
                ]
            )
        )
        options = {"relabel_configs": rules, "file_sd_configs": [{"files": [str(others)]}]}
        targets = [Target(address, {**meta, port: "http"})]
        with PrometheusServer(
            binaries.ensure("prometheus"), targets, scrape_interval=SCRAPE, options=options
        ) as server:
            time.sleep(2.5 * SCRAPE)
            began = datetime.now(UTC)
            time.sleep(2.5 * SCRAPE)
            pod.count("FR", block=10, allow=90, latencies={})
            time.sleep(2.5 * SCRAPE)
            window = StageWindow("canary", "canary", began, datetime.now(UTC), 10)
            reader = PrometheusReader(PrometheusSettings(server.url, scrape_interval=timedelta(seconds=SCRAPE)))
            evidence = asyncio.run(reader.read(a_release(contract=CONTRACT), [window], None, "new"))
            reader.close()
    assert not isinstance(evidence, MetricsUnavailable), evidence
    counts = evidence[0].counts["block-rate", ""]
    assert [[0, 10]] == counts.events.tolist()
    assert [[0, 100]] == counts.of.tolist()
