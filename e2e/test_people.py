"""A person on a real cluster: a contract that is referred to, a decision that is answered, evidence that is kept."""

from __future__ import annotations

import json
from typing import Any

from e2e.world import GOOD, NAMESPACE, RELEASE, World, loans, wait_until

API = "modelrelease.dev/v1alpha1"


def test_a_person_takes_a_candidate_back(stable: World) -> None:
    """Judged by a ModelContract; a Rollback by ReleaseDecision is applied, and what history forgets is deleted."""
    wait_until("the one gate of the first release is kept", lambda: len(_dossiers(stable)) == 1, seconds=60)
    body = loans(GOOD)
    contract = body["spec"].pop("contract")
    body["spec"] |= {"contractRef": {"name": "loans"}, "history": 1}
    meta = {"name": "loans", "namespace": NAMESPACE}
    stable.kubectl.apply({"apiVersion": API, "kind": "ModelContract", "metadata": meta, "spec": contract})
    # Server-side apply takes the field away that the manifest has no more.
    stable.kubectl.apply(body)
    wait_until("the shadow", lambda: stable.status().get("stage") == "shadow", seconds=180)
    _decide(stable, "Rollback", "customers call")
    wait_until("the rollback", lambda: stable.status().get("stage") == "RolledBack", seconds=60)
    wait_until("the answer", lambda: _outcome(stable) == "Applied", seconds=60)
    (entry,) = stable.status()["history"]
    assert [decision["decision"] for decision in entry["decisions"]] == ["Rollback"]
    assert stable.status()["rejected"][-1]["reason"] == "Requested"
    wait_until("what the history forgot is gone", lambda: _dossiers(stable) == set(entry["evidence"]), seconds=30)
    events = {event["reason"] for event in stable.events()}
    assert {"RollbackRequested", "RolledBack"} <= events


def _decide(world: World, decision: str, reason: str) -> None:
    who = world.kubectl.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").strip()
    revision = world.status()["candidate"]["revision"]
    spec = {"release": RELEASE, "revision": revision, "decision": decision, "approvedBy": who, "reason": reason}
    body = {"apiVersion": API, "kind": "ReleaseDecision", "metadata": {"name": "take-back", "namespace": NAMESPACE}}
    world.kubectl.run("-n", NAMESPACE, "delete", "mdec", "take-back", "--ignore-not-found")
    world.kubectl.run("create", "-f", "-", text=json.dumps({**body, "spec": spec}))


def _outcome(world: World) -> str | None:
    decision: dict[str, Any] = world.kubectl.get("-n", NAMESPACE, "mdec", "take-back") or {}
    return (decision.get("status") or {}).get("outcome")


def _dossiers(world: World) -> set[str]:
    found = world.kubectl.run("-n", NAMESPACE, "get", "configmaps", "-l", "modelrelease.dev/dossier", "-o", "name")
    return {name.removeprefix("configmap/") for name in found.split()}
