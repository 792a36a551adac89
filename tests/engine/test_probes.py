"""What the kubelet is told."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from modelrelease.engine import Health
from modelrelease.probes import application


def a_health(**changes):
    return Health(**{"heartbeat_age": 1.0, "overdue": 0.0, "known": 3, "running": 1, "failing": 0, **changes})


@pytest.mark.parametrize(
    ("health", "problem", "alive", "ready"),
    [
        pytest.param(a_health(), None, 200, 200, id="all is well"),
        pytest.param(a_health(failing=3), None, 200, 200, id="the cluster is in trouble, we are not"),
        pytest.param(a_health(heartbeat_age=31.0), None, 503, 503, id="the engine stands still"),
        pytest.param(a_health(overdue=200.0), None, 503, 503, id="nobody serves the queue"),
        pytest.param(a_health(), "the CRD is not installed", 200, 503, id="nothing to watch"),
    ],
)
async def test_answers(health, problem, alive, ready):
    """Restart what is stuck; send nobody to what is not at work."""
    async with TestClient(TestServer(application(lambda: health, lambda: problem))) as client:
        answers = [(await client.get(path)).status for path in ("/healthz", "/readyz")]
        said = await (await client.get("/readyz")).text()
    assert answers == [alive, ready]
    assert (said == "ok\n") is (ready == 200)
    assert problem is None or problem in said
