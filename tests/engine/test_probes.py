"""What the kubelet is told."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from modelrelease.engine import Health
from modelrelease.probes import application


def a_health(**changes):
    return Health(
        **{"heartbeat_age": 1.0, "overdue": 0.0, "unserved": 0.0, "known": 3, "running": 1, "failing": 0, **changes}
    )


@pytest.mark.parametrize(
    ("health", "problem", "standing_by", "alive", "ready"),
    [
        pytest.param(a_health(), None, None, 200, 200, id="all is well"),
        pytest.param(a_health(failing=3), None, None, 200, 200, id="the cluster is in trouble, we are not"),
        pytest.param(a_health(heartbeat_age=31.0), None, None, 503, 503, id="the engine stands still"),
        pytest.param(a_health(overdue=200.0, unserved=200.0), None, None, 503, 503, id="nobody serves the queue"),
        pytest.param(a_health(overdue=9999.0, unserved=59.0), None, None, 200, 200, id="a long queue that is served"),
        pytest.param(a_health(), "the CRD is not installed", None, 200, 503, id="nothing to watch"),
        pytest.param(a_health(heartbeat_age=9999.0, overdue=9999.0), None, "a leads", 200, 200, id="a standby"),
        pytest.param(a_health(), "the CRD is not installed", "a leads", 200, 503, id="a standby that is not warm"),
    ],
)
async def test_answers(health, problem, standing_by, alive, ready):
    """Restart what is stuck; send nobody to what is not at work."""
    async with TestClient(TestServer(application(lambda: health, lambda: problem, lambda: standing_by))) as client:
        answers = [(await client.get(path)).status for path in ("/healthz", "/readyz")]
        said = await (await client.get("/readyz")).text()
    assert answers == [alive, ready]
    assert (said == (f"ok, standing by: {standing_by}\n" if standing_by else "ok\n")) is (ready == 200)
    assert problem is None or problem in said
