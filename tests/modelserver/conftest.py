"""The real data, the real models and a real BentoML process."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelserver import loans, train
from modelserver.loans import Loans
from modelserver.model import Model

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def halves() -> tuple[Loans, Loans]:
    """The training half and the traffic half."""
    return loans.split(loans.read())


@pytest.fixture(scope="session")
def models(halves) -> dict[str, Model]:
    """The three versions by name, trained as the image trains them."""
    return {model.version: model for model in train.train_versions(*halves)}


@pytest.fixture(scope="session")
def models_folder(models, tmp_path_factory) -> Path:
    """A folder with the artifacts of all versions."""
    folder = tmp_path_factory.mktemp("models")
    for model in models.values():
        model.save(folder)
    return folder


@pytest.fixture(scope="session")
def requests(halves) -> list[dict]:
    """The traffic half as the service takes it."""
    return loans.as_requests(halves[1].applications)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a port that nobody listens on."""
    return _free_port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Page:
    """What a scrape says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def count(self, name: str, **labels: str) -> float:
        """Sum the samples of this name that carry these labels."""
        return sum(value for its, value in self._samples[name] if labels.items() <= its.items())


@dataclass
class Server:
    """A running service."""

    port: int
    process: subprocess.Popen
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/decide"

    def get(self, path: str) -> tuple[int, str]:
        return _fetch(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def decide(self, application: object) -> tuple[int, dict]:
        body = application if isinstance(application, bytes) else json.dumps(application).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        code, text = _fetch(request)
        return code, json.loads(text)

    def scraped(self) -> Page:
        return Page(self.get("/metrics")[1])

    def count(self, name: str, **labels: str) -> float:
        """Sum the samples of this name that carry these labels."""
        return self.scraped().count(name, **labels)

    def wait_until(self, what: str, true: Callable[[], bool], *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s, see {self.log}")
            time.sleep(0.05)

    def workers(self) -> set[int]:
        found = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=False
        )
        return {int(line.split()[0]) for line in found.stdout.splitlines() if "worker.service" in line}


def _fetch(request: urllib.request.Request) -> tuple[int, str]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="session")
def start(models_folder, tmp_path_factory) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Start the service as the image does, with extra environment; it is ended on leaving."""

    @contextlib.contextmanager
    def started(*, live: str = "/readyz", **environ: str) -> Iterator[Server]:
        scratch = tmp_path_factory.mktemp("server")
        port = _free_port()
        log = scratch / "log"
        command = [sys.executable, "-m", "bentoml", *_arguments_in_the_image()]
        given = {
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(scratch / "bentoml"),
            "MODELSERVER_MODELS": str(models_folder),
            "MODELRELEASE_VERSION": "2026-11-05",
            "OMP_NUM_THREADS": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],  # the last of each counts
                cwd=scratch,
                env=os.environ | given | environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(port, process, log)
        try:
            server.wait_until(f"{live} of {command}", lambda: _answers(server, live))
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    return started


def _arguments_in_the_image() -> list[str]:
    """Return what the image's ENTRYPOINT gives to the bentoml command."""
    dockerfile = (REPOSITORY / "model-server" / "Dockerfile").read_text()
    entrypoint = re.search(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    return json.loads(entrypoint.group(1))[1:]


def _answers(server: Server, path: str) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError(f"the service ended with {server.process.returncode}:\n{server.log.read_text()}")
    with contextlib.suppress(OSError):
        return server.get(path)[0] == 200
    return False
