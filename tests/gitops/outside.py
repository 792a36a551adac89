"""
What an API server without nodes lacks: pods that become available, a Gateway, and users.

The stand-in reads the live objects and does what the real parts do: it reports each Deployment available at the size
that is asked for, accepts the route, and lets requests arrive at the revisions by the route's weights.
"""

import threading
from collections.abc import Mapping
from typing import Any, Final

import requests

from modelrelease.api.base import RELEASE_LABEL
from tests.apiserver import Cluster
from tests.prometheus.pods import Pod

Object = dict[str, Any]

REQUESTS: Final = 400
"""Of users, at each look."""

EVERY: Final = 0.2
"""Seconds between two looks."""


class Outside:
    """
    Runs in a thread until closed.

    Args:
        cluster: The API server.
        namespace: Where the release is.
        pods: The model servers' counters by revision.
        blocked: How many of a hundred requests a revision blocks.
    """

    def __init__(self, cluster: Cluster, namespace: str, pods: Mapping[str, Pod], blocked: Mapping[str, int]) -> None:
        self._url = cluster.server.url
        self._namespace = namespace
        self._pods = pods
        self._blocked = blocked
        self._ended = threading.Event()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(cluster.server.ca_file)
        self._session.headers["Authorization"] = f"Bearer {cluster.server.token}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
        self._session.close()

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            for deployment in self._list("apis/apps/v1", "deployments"):
                self._start_pods(deployment)
            for route in self._list("apis/gateway.networking.k8s.io/v1", "httproutes"):
                self._accept(route)
                self._serve(route)

    def _start_pods(self, deployment: Object) -> None:
        replicas, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = {"observedGeneration": generation, **dict.fromkeys(counts, replicas)}
        if {key: deployment.get("status", {}).get(key, 0) for key in status} != status:
            self._report("apis/apps/v1", "deployments", deployment, status)

    def _accept(self, route: Object) -> None:
        generation = route["metadata"]["generation"]
        if any(
            condition["observedGeneration"] == generation
            for parent in route.get("status", {}).get("parents", [])
            for condition in parent["conditions"]
        ):
            return
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": kind,
                "message": "",
                "observedGeneration": generation,
                "lastTransitionTime": "2026-11-23T12:00:00Z",
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}
            for parent in route["spec"]["parentRefs"]
        ]
        self._report("apis/gateway.networking.k8s.io/v1", "httproutes", route, {"parents": parents})

    def _serve(self, route: Object) -> None:
        release = route["metadata"]["labels"][RELEASE_LABEL]
        backends = route["spec"]["rules"][0]["backendRefs"]
        for backend in backends:
            revision = backend["name"].removeprefix(f"{release}-")
            requests_here = REQUESTS * backend.get("weight", 1) // 100
            block = requests_here * self._blocked[revision] // 100
            self._pods[revision].count("FR", block=block, allow=requests_here - block, latencies={})

    def _list(self, api: str, plural: str) -> list[Object]:
        try:
            answer = self._session.get(f"{self._url}/{api}/namespaces/{self._namespace}/{plural}", timeout=30)
            items: list[Object] = answer.json()["items"]
        except (requests.RequestException, KeyError):
            return []  # the API server is busy; there is a next time
        return items

    def _report(self, api: str, plural: str, body: Object, status: Object) -> None:
        name = body["metadata"]["name"]
        self._session.patch(
            f"{self._url}/{api}/namespaces/{self._namespace}/{plural}/{name}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
            timeout=30,
        )
