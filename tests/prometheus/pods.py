"""Model servers reduced to their counters, on loopback, and what they truly counted."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from e2e.cluster.prometheus import Target
from tests.prometheus import exposition

NAMESPACE = "fraud"
RELEASE = "radar"


class Pod:
    """
    One scrape target with ``d_total{country, decision}`` and the histogram ``d_seconds{country}``.

    Attributes:
        revision: The arm that it belongs to.
        counters: Values by (country, decision); country "" leaves the label out.
        latencies: Observations by country and value.
        down: Whether a scrape fails.
        scrapes: How often it was scraped.
        open: Scrapes are answered while it is set.
        waiting: Whether one waits for that.
    """

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.counters: Counter[tuple[str, str]] = Counter()
        self.latencies: defaultdict[str, Counter[float]] = defaultdict(Counter)
        self.down = False
        self.scrapes = 0
        self.open = threading.Event()
        self.open.set()
        self.waiting = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def target(self) -> Target:
        labels = {"namespace": NAMESPACE, "release": RELEASE, "revision": self.revision}
        return Target(f"127.0.0.1:{self._server.server_port}", labels)

    def count(self, country: str, *, block: int, allow: int, latencies: Mapping[float, int]) -> None:
        """Decide that many requests, which took that long."""
        with self._lock:
            self.counters[country, "block"] += block
            self.counters[country, "allow"] += allow
            self.latencies[country].update(latencies)

    def restart(self) -> None:
        """Forget all counts, as a container does that crashes."""
        with self._lock:
            self.counters.clear()
            self.latencies.clear()

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def _page(self, accepted: str) -> tuple[str, bytes]:
        """Return type and content, as a client library chooses them."""
        with self._lock:
            self.scrapes += 1
            if "io.prometheus.client.MetricFamily" in accepted:
                return exposition.PROTOBUF, exposition.protobuf(self.counters, self.latencies)
            return exposition.TEXT, exposition.text(self.counters, self.latencies)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if pod.down:
                    self.send_error(503)
                    return
                pod.waiting = not pod.open.is_set()
                pod.open.wait()
                pod.waiting = False
                kind, page = pod._page(self.headers.get("Accept", ""))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def pods(*revisions: str) -> Iterator[list[Pod]]:
    """Run one pod for each of *revisions*."""
    running = [Pod(revision) for revision in revisions]
    try:
        yield running
    finally:
        for pod in running:
            pod.close()
