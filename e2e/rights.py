"""
Least privilege, measured: what a service account may do, against what it did.

    the rendered chart ───────── grants ─┐
                                         ├── compare ── nothing granted unused, nothing used ungranted
    the API server's audit log ─── acts ─┘

Everything comes from the two; no list of rights stands here. A wildcard is a grant that nobody ever uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

Object = Mapping[str, Any]

EVERYWHERE: Final = ""
"""In place of a namespace: all of them, and what has none."""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """
    One verb on one resource.

    Attributes:
        group: API group; "" is the core.
        resource: Plural, with its subresource: ``modelreleases/status``.
        verb: As RBAC has it.
    """

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        """Return ``verb resource.group``."""
        name, slash, part = self.resource.partition("/")
        return f"{self.verb} {name}{'.' if self.group else ''}{self.group}{slash}{part}"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """
    A right that a role gives.

    Attributes:
        right: What may be done.
        namespace: Where; ``EVERYWHERE`` for a ClusterRoleBinding.
        names: Names of the only objects; none is all.
        by: The role.
    """

    right: Right
    namespace: str
    names: tuple[str, ...]
    by: str

    def covers(self, act: Act) -> bool:
        """Return whether *act* needs no other grant."""
        return (
            self.right == act.right
            and self.namespace in (EVERYWHERE, act.namespace)
            and (not self.names or act.name in self.names)
        )


@dataclass(frozen=True, slots=True)
class Act:
    """
    Something that was tried.

    Attributes:
        right: What it needs.
        namespace: Where; ``EVERYWHERE`` for a list or watch of all namespaces, and for what has none.
        name: Of the object; "" when the request named none.
        refused: Why the API server did not allow it; "" when it did.
    """

    right: Right
    namespace: str
    name: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    What was granted, against what was done.

    Attributes:
        used: How often each grant was used; 0 is one too many.
        ungranted: What was done, or tried, that no grant covers.
    """

    used: Mapping[Grant, int]
    ungranted: Mapping[Act, int]

    @property
    def unused(self) -> list[Grant]:
        """Grants that nobody used."""
        return sorted(grant for grant, times in self.used.items() if not times)

    def table(self) -> str:
        """Return verb, resource, where, granted by, used how often; and below it what was not granted."""
        rows = [("VERB", "RESOURCE", "WHERE", "GRANTED BY", "USED")]
        for grant, times in sorted(self.used.items()):
            names = f" {','.join(grant.names)}" if grant.names else ""
            where = (grant.namespace or "everywhere") + names
            rows.append((grant.right.verb, _resource(grant.right), where, grant.by, f"{times}" if times else "NEVER"))
        for act, times in self.ungranted.items():
            where = f"{act.namespace or 'everywhere'} {act.name}".strip()
            rows.append((act.right.verb, _resource(act.right), where, f"NOBODY {act.refused}".strip(), f"{times}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4].rjust(6)])
            for row in rows
        )


def compare(granted: Iterable[Grant], done: Iterable[Act]) -> Comparison:
    """Return which grants were used how often, and what was done without one; a refusal is never covered."""
    used = Counter(dict.fromkeys(granted, 0))
    ungranted: Counter[Act] = Counter()
    for act in done:
        covering = [] if act.refused else [grant for grant in used if grant.covers(act)]
        used.update(covering)
        if not covering:
            ungranted[act] += 1
    return Comparison(used=used, ungranted=ungranted)


# What is granted.


def grants(objects: Iterable[Object], account: str, namespace: str) -> list[Grant]:
    """
    Return what *objects*, a rendered chart, grant to a service account.

    Raises:
        LookupError: A binding names a role that is not among the objects.
    """
    bodies = list(objects)
    roles = {_address(body): body for body in bodies if body["kind"] in ("Role", "ClusterRole")}
    found: list[Grant] = []
    for binding in bodies:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if not any(_is_account(subject, account, namespace) for subject in binding.get("subjects") or []):
            continue
        where = binding["metadata"].get("namespace", EVERYWHERE)
        reference = binding["roleRef"]
        role = (reference["kind"], where if reference["kind"] == "Role" else EVERYWHERE, reference["name"])
        if role not in roles:
            raise LookupError(f"{binding['kind']} {binding['metadata']['name']} names {role}, which is not rendered")
        found += _of_role(roles[role], where)
    return found


def _address(body: Object) -> tuple[str, str, str]:
    return body["kind"], body["metadata"].get("namespace", EVERYWHERE), body["metadata"]["name"]


def _is_account(subject: Object, account: str, namespace: str) -> bool:
    return (subject["kind"], subject["name"], subject.get("namespace")) == ("ServiceAccount", account, namespace)


def _of_role(role: Object, where: str) -> Iterator[Grant]:
    by = f"{role['kind']} {role['metadata']['name']}"
    for rule in role.get("rules") or []:
        for verb in rule["verbs"]:
            for url in rule.get("nonResourceURLs") or []:
                yield Grant(Right("", url, verb), where, (), by)
            for group in rule.get("apiGroups") or []:
                for resource in rule.get("resources") or []:
                    yield Grant(Right(group, resource, verb), where, tuple(rule.get("resourceNames") or ()), by)


# What was done.


def acts(events: Iterable[Object], user: str, *, since: datetime | None = None) -> list[Act]:
    """
    Return what *user* did, one act a request, according to the audit log.

    What the API server tells everybody who has logged in (which kinds there are) needs no right and is left out, unless
    it was refused. A server-side apply that creates needs two rights, and is two acts.

    Args:
        events: The audit log.
        user: Full name, such as ``system:serviceaccount:NAMESPACE:NAME``.
        since: Requests before this moment are left out.
    """
    # A watch is logged when it begins and when it ends; the last word of a request says how it went.
    last = {event["auditID"]: event for event in events if event["user"]["username"] == user}
    moments = ((datetime.fromisoformat(event["requestReceivedTimestamp"]), event) for event in last.values())
    return [act for moment, event in moments if since is None or moment >= since for act in _acts(event)]


def _acts(event: Object) -> Iterator[Act]:
    reference = event.get("objectRef")
    refused = _refusal(event)
    if reference is None:
        if refused:
            yield Act(Right("", event["requestURI"], event["verb"]), EVERYWHERE, "", refused)
        return
    part = reference.get("subresource")
    resource = reference["resource"] + (f"/{part}" if part else "")
    verbs = [event["verb"]]
    if event["verb"] == "patch" and (event.get("responseStatus") or {}).get("code") == 201:
        verbs.append("create")
    for verb in verbs:
        right = Right(reference.get("apiGroup", ""), resource, verb)
        yield Act(right, reference.get("namespace", EVERYWHERE), reference.get("name", ""), refused)


def _refusal(event: Object) -> str:
    """Return why RBAC said no; admission, such as a quota, says no in other words, and that is no missing right."""
    said = str((event.get("responseStatus") or {}).get("message") or "")
    decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
    if decision == "forbid" or " cannot create resource " in said:
        return f"refused: {said or 'forbidden'}"
    return ""


def _resource(right: Right) -> str:
    return str(right).partition(" ")[2]


def service_account_user(account: str, namespace: str) -> str:
    """Return the full user name of a service account."""
    return f"system:serviceaccount:{namespace}:{account}"


def rbac(objects: Iterable[Object]) -> Sequence[Object]:
    """Return the roles and bindings among *objects*, roles first: what an API server needs to know who may do what."""
    found = [body for body in objects if str(body["kind"]).endswith(("Role", "RoleBinding"))]
    return sorted(found, key=lambda body: str(body["kind"]).endswith("Binding"))
