"""
What the operator did in the whole suite, by the API server's audit log, against what its installed chart grants it.

It runs last (see conftest.py): what the tests before it made the operator do is what it judges.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import pytest
import yaml

from e2e.cluster import audit
from e2e.cluster.kubernetes import AUDIT_LOG
from e2e.install import helm
from e2e.rights import acts, compare, grants, service_account_user
from e2e.world import OPERATOR_NAMESPACE, World, moment

ACCOUNT: Final = "modelrelease-operator"


def test_nothing_is_granted_unused_and_nothing_used_ungranted(
    stable: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets, pods and other kinds are not among the rights, and every right there is was used."""
    manifest = helm(stable, "get", "manifest", "modelrelease", f"--namespace={OPERATOR_NAMESPACE}")
    granted = grants([body for body in yaml.safe_load_all(manifest) if body], ACCOUNT, OPERATOR_NAMESPACE)
    user = service_account_user(ACCOUNT, OPERATOR_NAMESPACE)
    now = compare(granted, acts(audit.read(AUDIT_LOG), user, since=_installed_at(stable)))
    # The Lease is made once in the life of a cluster, which may have had an operator before.
    ever = compare(granted, acts(audit.read(AUDIT_LOG), user))
    with capsys.disabled():
        print(f"\n{now.table()}")
    assert ever.unused == [], "granted and never used; were all tests before this one run?"
    assert now.ungranted == {}


def _installed_at(world: World) -> datetime:
    """Return when the operator that runs now was started; an earlier one may have had other rights."""
    selector = "app.kubernetes.io/name=modelrelease-operator"
    found = (world.kubectl.get("-n", OPERATOR_NAMESPACE, "replicasets", "-l", selector) or {})["items"]
    return max(moment(item["metadata"]["creationTimestamp"]) for item in found if item["spec"]["replicas"])
