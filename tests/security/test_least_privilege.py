"""
The real operator with exactly the rights that its chart renders, through the whole life of a release.

The API server checks every request and writes down what it was for; afterwards nothing may be granted and unused, or
used and ungranted.
"""

import asyncio
from contextlib import contextmanager

import pytest

from e2e.cluster import binaries
from e2e.cluster.prometheus import PrometheusServer
from modelrelease.api.parse import parse
from tests.builders import a_body
from tests.engine.test_operator import operating, until
from tests.prometheus.pods import NAMESPACE, RELEASE, Pod, pods
from tests.security.conftest import HOME, a_gateway, a_gateway_class, playing

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

SCRAPE = 0.5
CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "20%"}],
}
STAGES = [
    {"name": "shadow", "shadow": {"percent": 100}, "bake": "1s"},
    {"name": "canary-50", "canary": {"percent": 50}, "bake": "1s"},
    {"name": "full", "full": {}, "bake": "1s"},
]


def a_version(version, namespace=NAMESPACE, **spec):
    given = a_body(version, contract=CONTRACT, stages=STAGES, analysis={"interval": "1s"}, **spec)
    return {**given, "metadata": {"name": RELEASE, "namespace": namespace}}


def an_object(kind, name, spec):
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "modelrelease.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def a_rollback(cluster):
    who = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    decided = {"release": RELEASE, "revision": revision_of("3"), "decision": "Rollback"}
    return {**decided, "approvedBy": who, "reason": "it was too late"}


def revision_of(version):
    return parse(a_version(version)).desired.name


@contextmanager
def judged(*shares):
    """Run a real Prometheus over one pod for each version and its share of blocked requests, in percent."""
    revisions = [revision_of(version) for version, _ in shares]
    with (
        pods(*revisions) as running,
        PrometheusServer(
            binaries.ensure("prometheus"), [pod.target for pod in running], scrape_interval=SCRAPE
        ) as server,
    ):
        yield server, list(zip(running, (share for _, share in shares), strict=True))


async def decide(served: list[tuple[Pod, int]]) -> None:
    """Serve some 10,000 requests a second with every pod."""
    while True:
        for pod, share in served:
            pod.count("FR", block=20 * share, allow=2_000 - 20 * share, latencies={})
        await asyncio.sleep(0.2)


@pytest.mark.prometheus
async def test_nothing_granted_is_unused_and_nothing_used_is_ungranted(cluster, install, admin, tmp_path):
    """
    First release, a good one, a bad one rolled back, a decision, deletion: every right of the chart was used, and no
    other. One contract is inline, the next one is referred to; what the history forgets takes its evidence with it.
    """
    installed = install()
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "-f", "-", given=a_gateway_class())
    cluster.create(a_gateway(NAMESPACE))

    def status():
        return cluster.get("mrel", NAMESPACE, RELEASE).get("status", {})

    def is_release(version):
        now = status()
        return now.get("stage") == "Completed" and now["stable"]["version"] == version

    with judged(("1", 10), ("2", 10), ("3", 40)) as (prometheus, served):
        settings = {
            "MODELRELEASE_PROMETHEUS_URL": prometheus.url,
            "MODELRELEASE_PROMETHEUS_SCRAPE_INTERVAL": "1s",
            **installed.environment,
        }
        users = asyncio.create_task(decide(served))
        with operating(installed.access, "", tmp_path, **settings) as operator:
            await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 200, "ready", seconds=90)
            async with playing(admin, NAMESPACE):
                cluster.create(a_version("1"))
                await until(lambda: is_release("1"), "the first release", seconds=60)
                cluster.create(an_object("ModelContract", RELEASE, CONTRACT))
                referring = {"contract": None, "contractRef": {"name": RELEASE}, "history": 1}
                cluster.patch("mrel", NAMESPACE, RELEASE, {"spec": {"model": {"version": "2"}, **referring}})
                await until(lambda: is_release("2"), "a good version", seconds=120)
                cluster.patch("mrel", NAMESPACE, RELEASE, {"spec": {"model": {"version": "3"}}})
                await until(lambda: status()["stage"] == "RolledBack", "a bad version", seconds=120)
                assert status()["rejected"][-1]["reason"] == "ContractBreached"
                cluster.create(an_object("ReleaseDecision", "too-late", a_rollback(cluster)))
                await until(lambda: cluster.get("mdec", NAMESPACE, "too-late").get("status"), "an answer", seconds=30)
                left = {f"deployment.apps/{RELEASE}-{revision_of('2')}"}
                await until(lambda: cluster.names("deployment", NAMESPACE) == left, "only stable pods", seconds=60)
                cluster.kubectl("delete", "mrel", "-n", NAMESPACE, RELEASE)
                await asyncio.sleep(1)
            operator.end()
        users.cancel()
    comparison = installed.measured()
    print(f"\n{comparison.table()}")
    assert comparison.unused == []
    assert comparison.ungranted == {}
    assert "Traceback" not in operator.log.read_text()


async def test_a_namespaced_install_sees_its_namespace_only(cluster, install, admin, namespace, tmp_path):
    """A release completes where it is watched; elsewhere nothing is done, read or even listed."""
    watched, other = namespace, f"{namespace}-other"
    installed = install(f"watchNamespaces={{{watched}}}")
    cluster.kubectl("create", "namespace", other)
    cluster.create(a_gateway(watched), a_gateway(other))
    for where in (watched, other):
        cluster.create(a_version("1", where))
    cluster.create(_through(a_version("1", watched), name="borrowed", gateway_namespace=other))
    with operating(installed.access, watched, tmp_path, **installed.environment) as operator:
        await until(lambda: operator.ask(operator.probes, "/readyz")[0] == 200, "ready", seconds=90)
        async with playing(admin, watched):
            for name in (RELEASE, "borrowed"):
                await until(
                    lambda name=name: cluster.get("mrel", watched, name).get("status", {}).get("stage") == "Completed",
                    f"{name} completes",
                    seconds=60,
                )
        operator.end()
    assert cluster.get("mrel", other, RELEASE)["status"] == {"observedGeneration": -1}
    assert cluster.names("deployment,service,httproute,events", other) == set()
    # Of the Gateway that stands elsewhere it asked, was refused, and went on with what the route's status says.
    comparison = installed.measured()
    asked = {(str(act.right), act.namespace) for act in comparison.ungranted}
    assert asked == {("get gateways.gateway.networking.k8s.io", other)}
    named = [event["objectRef"] for event in installed.requests() if "objectRef" in event]
    named = [ref for ref in named if (ref.get("namespace"), ref["resource"]) != (HOME, "leases")]
    reached = {(ref.get("namespace"), ref["resource"]) for ref in named if ref.get("namespace") != watched}
    assert reached == {(None, "gatewayclasses"), (other, "gateways")}


def _through(body, *, name, gateway_namespace):
    body["metadata"]["name"] = name
    body["spec"]["traffic"] = {"gatewayAPI": {"parentRefs": [{"name": "public", "namespace": gateway_namespace}]}}
    return body
