"""Who may decide what, as the real API server says to a user of a namespace."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.apiserver import Cluster
from tests.builders import a_body, a_body_that_refers, a_contract, a_decision
from tests.chart.conftest import Objects

pytestmark = pytest.mark.apiserver

PEOPLE = {"vera": "viewer", "eddy": "editor", "ana": "approver"}


class Office:
    """A namespace with a release and with people in it, each with one of the chart's roles; nobody has none."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def asks(self, user: str, *arguments: str, given: object = None) -> str | None:
        """Run kubectl as *user*; return why it is refused, None if it is not."""
        done = subprocess.run(
            [self.cluster._kubectl, "--kubeconfig", self.cluster.server.kubeconfig, *_who(user), *arguments],
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        return None if done.returncode == 0 else done.stderr

    def creates(self, user: str, body: dict[str, Any]) -> str | None:
        """Create *body* in the namespace as *user*."""
        meta = {"name": body["metadata"]["name"], "namespace": self.namespace}
        return self.asks(user, "create", "-f", "-", given={**body, "metadata": meta})


def _who(user: str) -> list[str]:
    return ["--as", user, *(["--as-group", "system:masters"] if user == "admin" else [])]


@pytest.fixture(scope="module")
def roles(cluster: Cluster, rendered: Callable[..., Objects]) -> Iterator[None]:
    """The chart's roles and its admission policy, at work until the tests of this module are over."""
    kinds = ("ClusterRole ", "ValidatingAdmission")
    objects = [body for title, body in rendered().items() if title.startswith(kinds)]
    given = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("apply", "--server-side", "-f", "-", given=given)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", given=given)
        _policy_gone(Office(cluster, "default"))


@pytest.fixture
def office(cluster: Cluster, namespace: str, roles: None) -> Office:
    """A namespace with people, a release and a contract."""
    for user, role in PEOPLE.items():
        name = f"modelrelease-{role}"
        cluster.kubectl("create", "rolebinding", user, "-n", namespace, f"--clusterrole={name}", f"--user={user}")
    for body in (a_body(), a_contract()):
        cluster.create({**body, "metadata": {"name": body["metadata"]["name"], "namespace": namespace}})
    office = Office(cluster, namespace)
    _policy_at_work(office)
    return office


def _policy_at_work(office: Office) -> None:
    """Wait until the API server has taken up the policy: it compiles policies a moment after they are made."""
    _until(lambda: _refusal_of_a_forgery(office) is not None, "the policy is taken up")


def _policy_gone(office: Office) -> None:
    """Wait until the API server has dropped it: other tests decide in the names of others."""
    _until(lambda: _refusal_of_a_forgery(office) is None, "the policy is dropped")


def _refusal_of_a_forgery(office: Office) -> str | None:
    refusal = office.creates("admin", a_decision(approvedBy="x", stage="shadow"))
    if refusal is None:
        office.cluster.kubectl("delete", "mdec", "-n", office.namespace, "--all")
    return refusal


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.2)


def test_an_approver_decides_in_their_own_name(office: Office):
    """That is what the role is for; it may not edit releases."""
    assert office.creates("ana", a_decision(stage="canary-10")) is None
    assert "forbidden" in office.creates("ana", a_body_that_refers(contract="promise"))
    assert "forbidden" in office.asks(
        "ana", "patch", "mrel", "radar", "-n", office.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}'
    )


@pytest.mark.parametrize("user", ["vera", "eddy", "nobody"])
def test_others_do_not_decide(office: Office, user: str):
    """To write a release is no right to approve it."""
    refusal = office.creates(user, a_decision(stage="canary-10", approvedBy=user))
    assert f'User "{user}" cannot create resource "releasedecisions"' in refusal


def test_approved_by_cannot_be_forged(office: Office):
    """Neither by an approver nor by somebody who may do everything; the answer says what to write."""
    for user in ("ana", "admin"):
        refusal = office.creates(user, a_decision(stage="canary-10", approvedBy="bob"))
        assert f"spec.approvedBy: 'bob' is not who asks: write '{user}'" in refusal
    assert office.cluster.names("mdec", office.namespace) == set()


def test_a_decision_is_never_edited(office: Office):
    """Not by an approver, for lack of the right; not by an administrator, because a spec is immutable."""
    assert office.creates("ana", a_decision(stage="canary-10")) is None
    patch = ("patch", "mdec", "radar-1", "-n", office.namespace, "--type=merge", "-p")
    for edit in ('{"spec":{"stage":"canary-50"}}', '{"spec":{"approvedBy":"bob"}}', '{"spec":{"reason":null}}'):
        assert 'cannot patch resource "releasedecisions"' in office.asks("ana", *patch, edit)
        assert "a decision is never changed: create another one" in office.asks("admin", *patch, edit)
    assert 'cannot delete resource "releasedecisions"' in office.asks(
        "ana", "delete", "mdec", "radar-1", "-n", office.namespace
    )


@pytest.mark.parametrize("user", ["vera", "eddy", "ana"])
def test_nobody_of_them_writes_a_status(office: Office, user: str):
    """What the operator has committed to is the operator's, and so is what became of a decision."""
    assert office.creates("ana", a_decision(stage="canary-10")) is None
    api = f"/apis/modelrelease.dev/v1alpha1/namespaces/{office.namespace}"
    for plural, name, status in (("modelreleases", "radar", {"stage": "full"}), ("releasedecisions", "radar-1", {})):
        body = {**office.cluster.get(plural, office.namespace, name), "status": status}
        refusal = office.asks(user, "replace", f"--raw={api}/{plural}/{name}/status", "-f", "-", given=body)
        assert f'User "{user}" cannot update resource "{plural}/status"' in refusal
        can = ("auth", "can-i", "patch", plural, "--subresource=status", "-n", office.namespace)
        assert office.asks(user, *can) is not None, "kubectl auth can-i fails where it says no"


def test_a_status_given_at_creation_is_dropped(office: Office):
    """A decision that says of itself that it was applied has said nothing."""
    assert office.creates("ana", {**a_decision(stage="canary-10"), "status": {"outcome": "Applied"}}) is None
    assert office.cluster.get("mdec", office.namespace, "radar-1").get("status") is None


def test_another_namespaces_contract_cannot_be_named(office: Office):
    """An editor's release takes contracts from its own namespace, however the reference is written."""
    body = a_body_that_refers()
    del body["metadata"]
    for reference, says in (
        ({"name": "promise", "namespace": "other"}, 'unknown field "spec.contractRef.namespace"'),
        ({"name": "other/promise"}, "'other/promise' is not an object's name"),
    ):
        release = {**body, "metadata": {"name": "thief"}, "spec": {**body["spec"], "contractRef": reference}}
        assert says in office.creates("eddy", release)
    assert office.creates("eddy", {**body, "metadata": {"name": "honest"}}) is None


def test_an_editor_edits_and_a_viewer_looks(office: Office):
    """The rest of the roles, once."""
    patch = ("patch", "mrel", "radar", "-n", office.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    assert office.asks("eddy", *patch) is None
    assert "cannot patch" in office.asks("vera", *patch)
    for kind in ("mrel", "mcon", "mdec"):
        assert office.asks("vera", "get", kind, "-n", office.namespace) is None
        assert "cannot list" in office.asks("nobody", "get", kind, "-n", office.namespace)
