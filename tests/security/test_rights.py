"""Granted against used: the comparison itself, on made-up charts and logs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.cluster import audit
from e2e.rights import Act, Right, acts, compare, grants

ACCOUNT, HOME = "robot", "system"
USER = "system:serviceaccount:system:robot"
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


def a_role(*rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "metadata": _meta("robot", namespace), "rules": list(rules)}


def a_binding(*, namespace: str = "", account: str = ACCOUNT, kind: str = "", role: str = "robot") -> dict[str, Any]:
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _meta("robot", namespace),
        "roleRef": {"kind": kind or ("Role" if namespace else "ClusterRole"), "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": HOME}],
    }


def _meta(name: str, namespace: str) -> dict[str, str]:
    return {"name": name} | ({"namespace": namespace} if namespace else {})


def an_event(verb: str = "get", resource: str = "pods", *, number: int = 1, **fields: Any) -> dict[str, Any]:
    reference = {"resource": resource, "namespace": "fraud", "name": "a"} | fields.pop("ref", {})
    base = {
        "auditID": f"{number}",
        "verb": verb,
        "user": {"username": USER},
        "requestURI": "/api/v1",
        "requestReceivedTimestamp": "2026-11-24T12:00:00.123456Z",
        "responseStatus": {"code": 200},
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    return {**base, "objectRef": reference, **fields}


def done(*events: dict[str, Any], since: datetime | None = None) -> list[str]:
    return [f"{act.right} {act.namespace}/{act.name}" for act in acts(events, USER, since=since)]


def measured(objects: list[dict[str, Any]], *events: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is granted and unused, and what was done ungranted."""
    comparison = compare(grants(objects, ACCOUNT, HOME), acts(events, USER))
    return [str(grant.right) for grant in comparison.unused], [str(act.right) for act in comparison.ungranted]


class TestGrants:
    def test_only_what_is_bound_to_the_account(self):
        """A role without a binding, or bound to somebody else, gives it nothing."""
        assert grants([a_role(PODS)], ACCOUNT, HOME) == []
        assert grants([a_role(PODS), a_binding(account="other")], ACCOUNT, HOME) == []
        assert len(grants([a_role(PODS), a_binding()], ACCOUNT, HOME)) == 2

    def test_a_cluster_role_bound_in_a_namespace_gives_rights_there(self):
        """The binding tells where, the role what."""
        found = grants([a_role(PODS), a_binding(namespace="fraud", kind="ClusterRole")], ACCOUNT, HOME)
        assert {grant.namespace for grant in found} == {"fraud"}

    def test_a_binding_to_a_role_that_is_not_rendered_is_an_error(self):
        """``cluster-admin`` would be rights that nobody has looked at."""
        with pytest.raises(LookupError, match="cluster-admin"):
            grants([a_binding(role="cluster-admin")], ACCOUNT, HOME)

    def test_every_resource_group_and_verb_is_a_right_of_its_own(self):
        """So that one of them cannot hide behind the others."""
        rule = {"apiGroups": ["a", "b"], "resources": ["x", "y/status"], "verbs": ["get", "patch"]}
        assert len(grants([a_role(rule), a_binding()], ACCOUNT, HOME)) == 8


class TestActs:
    def test_a_request_is_counted_once(self):
        """A watch is logged twice, when it begins and when it ends."""
        assert done(an_event("watch"), an_event("watch")) == ["watch pods fraud/a"]
        assert done(an_event("watch"), an_event("watch", number=2)) == ["watch pods fraud/a"] * 2

    def test_others_are_left_out(self):
        """The log may hold everybody."""
        assert done(an_event(user={"username": "admin"})) == []

    def test_an_apply_that_creates_needs_both_rights(self):
        """The log says patch; the answer 201 says that the API server asked for create too."""
        created = an_event("patch", responseStatus={"code": 201})
        assert done(created) == ["patch pods fraud/a", "create pods fraud/a"]

    def test_subresources_and_groups(self):
        """The status is another resource than the object."""
        event = an_event("patch", "modelreleases", ref={"apiGroup": "modelrelease.dev", "subresource": "status"})
        assert done(event) == ["patch modelreleases.modelrelease.dev/status fraud/a"]

    def test_discovery_is_everybodys(self):
        """Which kinds there are is told to whoever has logged in, unless it is refused."""
        assert done(an_event(objectRef=None)) == []
        refused = an_event(objectRef=None, annotations={"authorization.k8s.io/decision": "forbid"})
        assert done(refused) == ["get /api/v1 /"]

    def test_what_happened_before_is_left_out(self):
        """An earlier version may have done more."""
        assert done(an_event(), since=datetime(2026, 11, 24, 12, 0, 1, tzinfo=UTC)) == []
        assert done(an_event(), since=datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)) == ["get pods fraud/a"]


class TestComparison:
    def test_granted_and_used(self):
        """The one good end."""
        assert measured([a_role(PODS), a_binding()], an_event(), an_event("list", number=2)) == ([], [])

    def test_granted_and_unused(self):
        """A right too many."""
        assert measured([a_role(PODS), a_binding()], an_event()) == (["list pods"], [])

    def test_used_and_ungranted(self):
        """A right that comes from elsewhere than the chart."""
        assert measured([a_role(PODS), a_binding()], an_event("delete")) == (["get pods", "list pods"], ["delete pods"])

    @pytest.mark.parametrize(
        "trouble",
        [
            pytest.param({"annotations": {"authorization.k8s.io/decision": "forbid"}}, id="at the door"),
            pytest.param(
                {"responseStatus": {"code": 403, "message": 'User "robot" cannot create resource "pods" in API group'}},
                id="in the middle of an apply",
            ),
        ],
    )
    def test_refused(self, trouble):
        """What was refused is missing, even if the chart seems to grant it."""
        assert measured([a_role(PODS), a_binding()], an_event(**trouble)) == (["get pods", "list pods"], ["get pods"])

    def test_a_quota_is_no_missing_right(self):
        """Admission refuses with 403 too, in other words."""
        status = {"code": 403, "message": 'pods "a" is forbidden: exceeded quota'}
        assert measured([a_role(PODS), a_binding()], an_event(responseStatus=status)) == (["list pods"], [])

    def test_a_right_in_a_namespace_is_none_elsewhere(self):
        """A Role is used in its namespace, or not at all."""
        objects = [a_role(PODS, namespace="loans"), a_binding(namespace="loans")]
        assert measured(objects, an_event()) == (["get pods", "list pods"], ["get pods"])

    def test_a_right_on_one_object_is_none_on_another(self):
        """resourceNames count."""
        objects = [a_role({**PODS, "verbs": ["get"], "resourceNames": ["b"]}), a_binding()]
        assert measured(objects, an_event()) == (["get pods"], ["get pods"])
        assert measured(objects, an_event(ref={"name": "b"})) == ([], [])

    def test_a_wildcard_is_a_grant_that_nobody_uses(self):
        """Nobody needs everything."""
        assert measured([a_role({**PODS, "verbs": ["*"]}), a_binding()], an_event()) == (["* pods"], ["get pods"])

    def test_the_table_names_both_mistakes(self):
        """Whoever reads it knows which line of the chart to change."""
        refused = Act(Right("", "secrets", "get"), "fraud", "token", "refused: forbidden")
        table = compare(
            grants([a_role(PODS), a_binding()], ACCOUNT, HOME), [*acts([an_event()], USER), refused]
        ).table()
        assert [line.split() for line in table.splitlines()] == [
            ["VERB", "RESOURCE", "WHERE", "GRANTED", "BY", "USED"],
            ["get", "pods", "everywhere", "ClusterRole", "robot", "1"],
            ["list", "pods", "everywhere", "ClusterRole", "robot", "NEVER"],
            ["get", "secrets", "fraud", "token", "NOBODY", "refused:", "forbidden", "1"],
        ]


class TestTheLog:
    def test_full_files_come_first_and_a_half_written_line_is_no_event(self, tmp_path):
        """The API server renames a full file, and may be writing while we read."""
        (tmp_path / "audit.log").write_text('{"n": 3}\n{"n": ')
        (tmp_path / "audit-2026-11-24T12-00-00.000.log").write_text('{"n": 1}\n{"n": 2}\n')
        assert [event["n"] for event in audit.read(tmp_path / "audit.log")] == [1, 2, 3]

    def test_no_log_is_not_an_empty_one(self, tmp_path):
        """A cluster without an audit log proves nothing."""
        with pytest.raises(FileNotFoundError, match="keeps no audit log"):
            list(audit.read(tmp_path / "audit.log"))
