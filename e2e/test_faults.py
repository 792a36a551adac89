"""Five faults in mid-rollout on a real cluster: none becomes a verdict, none is forgotten."""

from __future__ import annotations

import os
import signal
import time

from e2e.conftest import completed
from e2e.containers import process_of
from e2e.world import FIRST, GOOD, NAMESPACE, OPERATOR_NAMESPACE, RELEASE, Object, World, loans, moment, wait_until

LONG_CANARY: list[Object] = [
    {"name": "canary-20", "canary": {"percent": 20}, "bake": "45s", "deadline": "15m"},
    {"name": "full", "full": {}, "bake": "15s", "deadline": "15m"},
]
SHORT_CANARY: list[Object] = [
    {"name": "canary-50", "canary": {"percent": 50}, "bake": "40s", "deadline": "15m"},
    {"name": "full", "full": {}, "bake": "15s", "deadline": "15m"},
]


def in_stage(world: World, stage: str) -> None:
    wait_until(f"stage {stage}", lambda: world.status().get("stage") == stage, seconds=120)


def test_prometheus_stopped_for_two_minutes_is_no_verdict(stable: World) -> None:
    """Hold, MetricsAvailable=False, no rollback; when it is back, the rollout goes on by itself."""
    stable.kubectl.apply(loans(GOOD, stages=LONG_CANARY))
    in_stage(stable, "canary-20")
    wait_until("a verdict", lambda: stable.status().get("gate"), seconds=60)
    stable.kubectl.run("-n", "monitoring", "scale", "deployment/prometheus", "--replicas=0")
    stopped = time.monotonic()
    wait_until("the outage is seen", lambda: stable.condition("MetricsAvailable").get("status") == "False", seconds=60)
    while time.monotonic() - stopped < 120:
        assert stable.status()["stage"] == "canary-20"
        assert sorted(stable.weights().values()) == [20, 80]
        time.sleep(5)
    stable.kubectl.run("-n", "monitoring", "scale", "deployment/prometheus", "--replicas=1")
    wait_until("the outage is over", lambda: stable.condition("MetricsAvailable").get("status") == "True", seconds=90)
    wait_until("the good version is the release", lambda: completed(stable, GOOD), seconds=420)
    assert not stable.status().get("rejected")
    assert stable.events("MetricsUnavailable")


def test_the_operator_killed_in_mid_canary_goes_on(stable: World) -> None:
    """kill -9 of the one that acts: the next goes on where the status stands; no stage is skipped or started again."""
    stable.kubectl.apply(loans(GOOD, stages=SHORT_CANARY))
    in_stage(stable, "canary-50")
    before = stable.status()["stageStartTime"]
    name = stable.leader()
    pod = stable.kubectl.get("-n", OPERATOR_NAMESPACE, "pod", name) or {}
    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    os.kill(process_of(pod["status"]["containerStatuses"][0]["containerID"]), signal.SIGKILL)

    def restarted() -> bool:
        again = stable.kubectl.get("-n", OPERATOR_NAMESPACE, "pod", name) or {}
        return bool(again["status"]["containerStatuses"][0]["restartCount"] > restarts)

    wait_until("the operator is started again", restarted, seconds=60)
    wait_until("the other replica acts", lambda: stable.leader() != name, seconds=30)
    assert stable.status()["stageStartTime"] == before
    wait_until("the good version is the release", lambda: completed(stable, GOOD), seconds=420)
    reasons = [event["reason"] for event in stable.events()]
    assert [reasons.count(reason) for reason in ("CanaryStarted", "Completed")] == [
        1,
        2,
    ]  # Completed: the first version too


def test_a_route_edited_by_hand_is_repaired_and_reported(stable: World) -> None:
    """Traffic follows status: the edit is undone within an interval, and said."""
    stable.kubectl.apply(loans(GOOD, stages=LONG_CANARY))
    in_stage(stable, "canary-20")
    wait_until("the canary's route", lambda: sorted(stable.weights().values()) == [20, 80], seconds=30)
    patch = '[{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 95}]'
    stable.kubectl.run("-n", NAMESPACE, "patch", "httproute", RELEASE, "--type=json", "-p", patch)
    wait_until("the repair", lambda: sorted(stable.weights().values()) == [20, 80], seconds=30)
    wait_until("the report", lambda: stable.events("TrafficDrifted"), seconds=30)
    wait_until("in sync again", lambda: stable.condition("TrafficInSync").get("status") == "True", seconds=30)
    stable.kubectl.apply(loans(FIRST, stages=LONG_CANARY))
    wait_until("cancelled", lambda: completed(stable, FIRST), seconds=60)


def test_broken_pods_are_rolled_back_by_the_progress_deadline(stable: World) -> None:
    """A candidate that never gets ready is given up at server.progressDeadline; users never met it."""
    stable.kubectl.apply(loans(GOOD, progressDeadline="30s", env={"DEMO_FAIL_READINESS": "1"}))
    wait_until("the rollback", lambda: stable.status().get("stage") == "RolledBack", seconds=120)
    rejected = stable.status()["rejected"][-1]
    assert rejected["reason"] == "ProgressDeadlineExceeded"
    ended = stable.status()["history"][-1]
    took = (moment(ended["endTime"]) - moment(ended["startTime"])).total_seconds()
    assert took >= 30, "it was not given its time"
    assert set(stable.weights().values()) == {100}
    assert stable.condition("Available")["status"] == "True"


def test_a_spec_reverted_in_mid_rollout_is_cancelled(stable: World) -> None:
    """git revert: users are on stable, nobody is blamed, kubectl wait returns."""
    stable.kubectl.apply(loans(GOOD, stages=LONG_CANARY))
    in_stage(stable, "canary-20")
    stable.kubectl.apply(loans(FIRST, stages=LONG_CANARY))
    stable.kubectl.run("-n", NAMESPACE, "wait", f"mrel/{RELEASE}", "--for=condition=Ready", "--timeout=60s")
    status = stable.status()
    assert status["history"][-1]["outcome"] == "Cancelled"
    assert not status.get("rejected")
    wait_until("all users are on stable", lambda: set(stable.weights().values()) == {100}, seconds=60)
