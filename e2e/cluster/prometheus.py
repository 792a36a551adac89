"""
A real Prometheus on loopback for integration tests: ours (3.x, built) or Debian's (2.42), with targets that the test
changes.

    with PrometheusServer(binaries.ensure("prometheus"), [Target("127.0.0.1:9001", {"release": "demo"})]) as server:
        requests.get(f"{server.url}/api/v1/query", params={"query": "up"})
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.cluster.ports import free_port
from e2e.cluster.processes import Child
from e2e.cluster.progress import ClusterError

_HOST = "127.0.0.1"
_READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """
    One thing to scrape.

    Attributes:
        address: ``host:port``; Prometheus reads ``/metrics`` there.
        labels: Added to every series, as relabelling would in a cluster: ``release``, ``revision``, ``pod``.
    """

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class PrometheusServer:
    """
    One Prometheus in a temporary folder, gone with this process whatever happens to it.

    Attributes:
        url: ``http://127.0.0.1:PORT``, the same after an outage.
        data: Where its data is; blocks put there before a start are found.
    """

    def __init__(
        self,
        binary: Path,
        targets: Sequence[Target] = (),
        *,
        scrape_interval: float = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare files and a port for *binary*; *scrape_interval* in seconds, *options* of the scrape job."""
        self._binary = binary
        self._scrape_interval = scrape_interval
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="modelrelease-prometheus-"))
        self._config = self._folder / "prometheus.json"
        self.data = self._folder / "data"
        self._port = free_port(_HOST)
        self._child: Child | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.url = f"http://{_HOST}:{self._port}"
        self._addresses: set[str] = set()
        self._write(targets)

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
        """End it and delete the data."""
        self.close()

    def start(self) -> None:
        """
        Start it on the data it had and wait until it answers queries and knows its targets (those take it 5 s).

        Raises:
            ClusterError: It ended, or was not ready within a minute; carries the end of its log.
        """
        if self._child is not None:
            return
        self._child = Child(
            [
                self._binary,
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self.data}",
                f"--web.listen-address={_HOST}:{self._port}",
                "--web.enable-lifecycle",
                "--log.level=warn",
            ],
            log=self._folder / "prometheus.log",
        )
        began = time.monotonic()
        while not self._answers("/-/ready"):
            self._child.check()
            if time.monotonic() - began > _READY_SECONDS:
                raise ClusterError(f"prometheus was not ready within {_READY_SECONDS:.0f} s, log {self._child.log}")
            time.sleep(0.05)
        self._wait_for_targets()

    def stop(self) -> None:
        """Kill it at once, as a crash would; the data stays."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def close(self) -> None:
        """End it and delete the folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def set_targets(self, targets: Sequence[Target]) -> None:
        """
        Scrape exactly *targets* from now on; known targets go on undisturbed, as when pods come and go.

        Returns when Prometheus has taken them over. That takes up to 5 s, at which rate it looks at what discovery
        found.
        """
        self._write(targets)
        request = urllib.request.Request(f"{self.url}/-/reload", method="POST")
        with self._opener.open(request, timeout=10):
            pass
        self._wait_for_targets()

    def query(self, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """Return the ``result`` of an instant query, *at* a Unix time or now."""
        parameters = {"query": expression} | ({"time": repr(at)} if at is not None else {})
        result: list[dict[str, Any]] = self._get(f"/api/v1/query?{urllib.parse.urlencode(parameters)}")["result"]
        return result

    def _write(self, targets: Sequence[Target]) -> None:
        self._addresses = {target.address for target in targets}
        self._config.write_text(config(targets, scrape_interval=self._scrape_interval, options=self._options))

    def _wait_for_targets(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while (active := self._active_addresses()) != self._addresses:
            if time.monotonic() > deadline:
                raise ClusterError(f"prometheus scrapes {sorted(active)}, not {sorted(self._addresses)}")
            time.sleep(0.05)

    def _active_addresses(self) -> set[str]:
        active = self._get("/api/v1/targets?state=active")["activeTargets"]
        return {target["discoveredLabels"]["__address__"] for target in active}

    def _get(self, path: str) -> dict[str, Any]:
        with self._opener.open(self.url + path, timeout=30) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def _answers(self, path: str) -> bool:
        try:
            with self._opener.open(self.url + path, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


def config(targets: Sequence[Target], *, scrape_interval: float, options: Mapping[str, Any] | None = None) -> str:
    """Return a Prometheus configuration (JSON, which is YAML); *scrape_interval* in seconds, *options* of the job."""
    every = f"{round(scrape_interval * 1000)}ms"
    return json.dumps(
        {
            "global": {"scrape_interval": every, "scrape_timeout": every},
            "scrape_configs": [
                {
                    "job_name": "targets",
                    **(options or {}),
                    "static_configs": [
                        {"targets": [target.address], "labels": dict(target.labels)} for target in targets
                    ],
                }
            ],
        },
        indent=2,
    )
