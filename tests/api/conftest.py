"""The real API server, asked over HTTP: a table of specs is too long for a kubectl each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.apiserver import Cluster

FOLDER = "/apis/modelrelease.dev/v1alpha1/namespaces/default"


@dataclass(frozen=True, slots=True)
class Admission:
    """The door of the API server: what it says to an object, without keeping it."""

    url: str
    session: requests.Session

    def refusal(self, body: dict[str, Any]) -> str | None:
        """Return why *body* is refused, None if it is admitted."""
        url = f"{self.url}{FOLDER}/{body['kind'].lower()}s"
        answer = self.session.post(url, params={"dryRun": "All", "fieldValidation": "Strict"}, json=body, timeout=30)
        assert answer.status_code in (201, 400, 422), answer.text
        return None if answer.ok else str(answer.json()["message"])


@pytest.fixture(scope="session")
def admission(cluster: Cluster) -> Iterator[Admission]:
    """The API server's answer to a spec."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(cluster.server.ca_file)
        session.headers["Authorization"] = f"Bearer {cluster.server.token}"
        yield Admission(cluster.server.url, session)
