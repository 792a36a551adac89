"""The health check for Argo CD, run by a real Lua interpreter on what the operator writes."""

from pathlib import Path
from typing import Any

import pytest
from lupa import lua51

from tests.gitops.states import STATES, recorded

SCRIPT = Path(__file__).resolve().parents[2] / "gitops" / "argocd" / "health.lua"


def health(body: dict[str, Any]) -> tuple[str, str]:
    """Return status and message, as Argo CD gets them: Lua 5.1, with the global ``obj`` and no library."""
    lua = lua51.LuaRuntime()
    # Argo CD opens these alone, unless it is told otherwise.
    for library in ("os", "io", "debug", "coroutine", "python", "require", "dofile", "loadfile"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(body, recursive=True)
    answer = lua.execute(SCRIPT.read_text(encoding="utf-8"))
    return answer["status"], answer["message"]


@pytest.mark.parametrize("name", STATES)
def test_health_of_every_state(name: str) -> None:
    """Healthy, Progressing, Suspended or Degraded, and why."""
    status, message = health(recorded(name).body)
    assert STATES[name].argo == status
    assert message


@pytest.mark.parametrize(
    ("name", "condition", "has"),
    [
        pytest.param("rolled-back", "Stalled", "clause steady", id="the clause that was broken"),
        pytest.param("invalid-spec", "Stalled", "spec.contract.metrics[0].ratio.events", id="where the spec is wrong"),
        pytest.param("breach-held", "AwaitingApproval", "clause steady", id="what a person has to decide on"),
        pytest.param("suspended", "Reconciling", "spec.suspend is true", id="why nothing moves"),
        pytest.param("too-little-traffic", "Reconciling", "events", id="what evidence is lacking"),
        pytest.param("completed", "Ready", "version 2026-11-20", id="the version that is the release"),
        pytest.param("without-pods", "Available", "no pod of version 2026-11-05", id="who is not served"),
    ],
)
def test_the_message_is_the_operators_own(name: str, condition: str, has: str) -> None:
    """Argo CD shows what the condition says, word for word."""
    body = recorded(name).body
    written = next(c["message"] for c in body["status"]["conditions"] if c["type"] == condition)
    _, message = health(body)
    assert written == message
    assert has in message


def test_the_default_status_of_a_new_object_is_progressing() -> None:
    """What the API server stores before the operator has looked: observedGeneration -1 and no conditions."""
    body = {**recorded("not-seen").body, "status": {"observedGeneration": -1}}
    assert "Progressing" == health(body)[0]


def test_an_edit_of_a_rolled_back_release_is_no_longer_degraded() -> None:
    """A push repairs: until the operator has seen it, the old verdict does not stand against it."""
    body = recorded("rolled-back").body
    metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
    assert "Progressing" == health({**body, "metadata": metadata})[0]
