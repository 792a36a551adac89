"""The main job on a real cluster: a good version goes through, a bad one comes back, and users are never in doubt."""

from __future__ import annotations

import pytest

from e2e.conftest import completed
from e2e.latency import seconds_to_route
from e2e.watch import route_log
from e2e.world import BAD, FIRST, GOOD, World, loans, wait_until

CANARY_ONLY = [
    {"name": "canary-50", "canary": {"percent": 50}, "bake": "8m", "deadline": "15m"},
    {"name": "full", "full": {}, "bake": "20s", "deadline": "15m"},
]


def test_a_good_version_becomes_the_release(stable: World) -> None:
    """Shadow, canary, full, completed; every stage was seen, in order, and only the new pods are left."""
    stable.kubectl.apply(loans(GOOD))
    wait_until("the good version is the release", lambda: completed(stable, GOOD), seconds=600)
    entered = [event["reason"] for event in stable.events() if event["reason"].endswith("Started")]
    assert entered[-5:] == ["RolloutStarted", "ShadowStarted", "CanaryStarted", "CanaryStarted", "WatchStarted"]
    stable.kubectl.run("-n", "lending", "wait", "mrel/loans", "--for=condition=Ready", "--timeout=30s")
    revision = stable.status()["stable"]["revision"]
    wait_until("the old pods are gone", lambda: all(revision in pod for pod in stable.pods()), seconds=60)
    assert stable.weights() == {f"loans-{revision}": 100}


def test_a_bad_slice_is_caught_in_shadow(stable: World) -> None:
    """The average hardly moves; the slice is named with its numbers; no user met the candidate."""
    with route_log(stable) as log:
        stable.kubectl.apply(loans(BAD))
        wait_until("the rollback", lambda: stable.status().get("stage") == "RolledBack", seconds=420)
        candidate = f"loans-{stable.status()['candidate']['revision']}"
        assert all(shares.get(candidate, 0) <= 0 for _, shares in log.seen), "the candidate had users"
    rejected = stable.status()["rejected"][-1]
    assert (rejected["stage"], rejected["slice"]) == ("shadow", "loan_purpose=medical")
    shown = stable.kubectl.run("-n", "lending", "get", "mrel")
    assert "loan_purpose=medical" in shown
    described = stable.kubectl.run("-n", "lending", "describe", "mrel", "loans")
    assert "ContractBreached" in described
    assert "RolledBack" in described


def test_a_bad_slice_is_caught_in_canary(stable: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a shadow stage users meet it, for as long as it takes to prove; how soon the route follows is printed."""
    with route_log(stable) as log:
        stable.kubectl.apply(loans(BAD, stages=CANARY_ONLY))
        wait_until("the rollback", lambda: stable.status().get("stage") == "RolledBack", seconds=600)
        revision = stable.status()["candidate"]["revision"]
        wait_until("the route", lambda: f"loans-{revision}" not in stable.weights(), seconds=60)
    delay = seconds_to_route(stable, stable.release(), log)
    with capsys.disabled():
        print(
            f"\nbreach visible in Prometheus -> route written: {delay.seconds:.1f} s (interval {delay.interval}); "
            f"the first moment that showed one was {delay.seconds_since_first:.1f} s before"
        )
    rejected = stable.status()["rejected"][-1]
    assert (rejected["stage"], rejected["slice"]) == ("canary-50", "loan_purpose=medical")
    assert stable.status()["stable"]["version"] == FIRST
