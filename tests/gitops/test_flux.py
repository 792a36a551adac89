"""A git repository rules a release: Flux's real kustomize-controller, the real operator, a real Prometheus."""

import sys
import time
from contextlib import ExitStack

import pytest

from e2e.cluster import binaries
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Child
from e2e.cluster.prometheus import PrometheusServer, Target
from modelrelease.api.parse import Release, parse
from tests.builders import a_body
from tests.gitops import flux
from tests.gitops.outside import Outside
from tests.prometheus.pods import pods

pytestmark = [pytest.mark.apiserver, pytest.mark.prometheus, pytest.mark.slow]

SCRAPE_SECONDS = 1.0
BLOCKED = {"1": 20, "2": 20, "bad": 40, "4": 20}
"""How many of a hundred requests each version blocks."""

STAGES = [
    {"name": "canary-50", "canary": {"percent": 50}, "bake": "1s"},
    {"name": "full", "full": {}, "bake": "1s"},
]
LONG = [{"name": "canary-50", "canary": {"percent": 50}, "bake": "1h"}, {"name": "full", "full": {}, "bake": "1h"}]
CONTRACT = {
    "slices": [{"name": "country", "labels": ["country"]}],
    "metrics": [{"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}}],
    "clauses": [{"name": "steady", "metric": "block-rate", "per": ["country"], "within": "50%"}],
}


def a_manifest(version, stages=STAGES):
    """Return the ModelRelease as it stands in git: no namespace, Flux adds it."""
    body = a_body(version, contract=CONTRACT, stages=stages, analysis={"interval": "1s"})
    return {**body, "metadata": {"name": "radar"}}


def revision_of(version, stages=STAGES):
    release = parse({**a_manifest(version, stages), "metadata": {"name": "radar", "namespace": "any"}})
    assert isinstance(release, Release), release
    return release.desired.name


@pytest.fixture
def repository(cluster, namespace, tmp_path):
    """A repository that Flux applies, on a cluster where the operator runs."""
    flux.install(cluster)
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    cluster.create(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "public", "namespace": namespace},
            "spec": {"gatewayClassName": "none", "listeners": [listener]},
        }
    )
    names = {version: revision_of(version) for version in BLOCKED}
    with ExitStack() as stack:
        running = stack.enter_context(pods(*names.values()))
        labels = {"namespace": namespace, "release": "radar"}
        targets = [Target(pod.target.address, {**labels, "revision": pod.revision}) for pod in running]
        prometheus = stack.enter_context(
            PrometheusServer(binaries.ensure("prometheus"), targets, scrape_interval=SCRAPE_SECONDS)
        )
        blocked = {names[version]: share for version, share in BLOCKED.items()}
        outside = Outside(cluster, namespace, {pod.revision: pod for pod in running}, blocked)
        stack.callback(outside.close)
        log = tmp_path / "operator.log"
        operator = Child(
            [
                "env", f"KUBECONFIG={cluster.server.kubeconfig}", f"MODELRELEASE_WATCH_NAMESPACES={namespace}",
                f"MODELRELEASE_PROMETHEUS_URL={prometheus.url}",
                f"MODELRELEASE_PROMETHEUS_SCRAPE_INTERVAL={2 * SCRAPE_SECONDS:.0f}s", "MODELRELEASE_DRAIN=1s",
                f"MODELRELEASE_PROBE_PORT={free_port()}", f"MODELRELEASE_METRICS_PORT={free_port()}",
                sys.executable, "-m", "modelrelease",
            ],
            log=log,
        )  # fmt: skip
        stack.callback(operator.stop)
        try:
            yield stack.enter_context(flux.running(cluster, namespace, tmp_path))
        except BaseException:
            print(log.read_text()[-8000:])
            raise


def until(condition, what, seconds=150.0):
    """Wait until *condition* holds and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return result


def test_git_rules_the_release(cluster, namespace, repository):
    """A version bump, a bad one, its revert; and one that is taken back in mid-rollout."""

    def verdict_on(revision):
        """Wait for the Kustomization's word on *revision*; nothing before it says True or False of it."""

        def settled():
            ready = repository.ready()
            return ready if repository.attempted() == revision and ready.get("status") in {"True", "False"} else None

        return until(settled, f"Flux has an answer on {revision}")

    def release():
        return cluster.get("mrel", namespace, "radar")["status"]

    def condition(kind):
        return next((c for c in release()["conditions"] if c["type"] == kind), None)

    # The first one, then a version bump: Ready means that the bump is the release.
    assert verdict_on(repository.push("radar.yaml", a_manifest("1"), "radar 1"))["status"] == "True"
    assert release()["stable"]["version"] == "1"
    bump = repository.push("radar.yaml", a_manifest("2"), "radar 2")
    until(lambda: release()["stage"] == "canary-50", "the rollout is under way")
    assert repository.ready()["status"] != "True" or repository.attempted() != bump
    ready = verdict_on(bump)
    assert ready["status"] == "True", ready
    assert (release()["stage"], release()["stable"]["version"]) == ("Completed", "2")

    # A bad one: Flux fails it without waiting for its timeout, and the release says why.
    ready = verdict_on(repository.push("radar.yaml", a_manifest("bad"), "radar bad"))
    assert (ready["status"], ready["reason"]) == ("False", "HealthCheckFailed")
    assert f"ModelRelease/{namespace}/radar status: 'Failed'" in ready["message"]
    assert (release()["stage"], release()["stable"]["version"]) == ("RolledBack", "2")
    assert "clause steady is broken" in condition("Stalled")["message"]
    assert condition("Available")["status"] == "True"

    # git revert: healthy again, without a rollout.
    assert verdict_on(repository.revert())["status"] == "True"
    assert (release()["stage"], release()["stable"]["version"]) == ("Completed", "2")

    # Taken back in mid-rollout: cancelled, nobody is blamed.
    rejected = release()["rejected"]
    repository.push("radar.yaml", a_manifest("4", LONG), "radar 4")
    until(lambda: release()["stage"] == "canary-50" and release().get("candidate"), "the rollout is under way")
    ready = verdict_on(repository.revert())
    assert ready["status"] == "True"
    assert (release()["stage"], release()["stable"]["version"]) == ("Completed", "2")
    assert release()["history"][-1]["outcome"] == "Cancelled"
    assert release()["rejected"] == rejected
