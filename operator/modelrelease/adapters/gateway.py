"""
The Gateway API: traffic as an HTTPRoute, and what a live HTTPRoute says. Translation only, no I/O.

A release has one route with one rule: weighted backends, and in a shadow stage a RequestMirror filter. Lists in an
HTTPRoute are atomic, so the live rules are ours or they are not: whatever anybody adds to them is drift.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelrelease.api.base import RELEASE_LABEL
from modelrelease.api.parse import InvalidSpec, Release
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ParentRef
from modelrelease.core.observation import GatewayProblem, Route
from modelrelease.core.plan import MANAGED_BY, SERVICE_PORT, Traffic, object_name, owner_reference

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"

# Feature names of the Gateway API's conformance tests, pkg/features/httproute.go.
MIRROR_FEATURE: Final = "HTTPRouteRequestMirror"
PERCENTAGE_MIRROR_FEATURE: Final = "HTTPRouteRequestPercentageMirror"

_PARENT_REFS: Final = "spec.traffic.gatewayAPI.parentRefs"

Object = dict[str, Any]


def route_manifest(release: Release, traffic: Traffic) -> Object:
    """Return the HTTPRoute that gives *traffic* to the revisions of *release*."""
    gateway_api = release.spec.traffic.gateway_api
    spec = {
        "parentRefs": [_parent(parent) for parent in gateway_api.parent_refs],
        # Said even when there are none: server-side apply takes back only what we say.
        "hostnames": list(gateway_api.hostnames or []),
        "rules": [_rule(release.name, gateway_api.matches, traffic)],
    }
    return _route(release, spec)


def rerouted(live: Object, release: Release | InvalidSpec, traffic: Traffic) -> Object:
    """Return the HTTPRoute *live* with *traffic*; parents, host names and matches are as they are, not as ordered."""
    spec = {
        "parentRefs": live["spec"].get("parentRefs") or [],
        "hostnames": live["spec"].get("hostnames") or [],
        "rules": [_rule(release.name, rule.get("matches"), traffic) for rule in live["spec"].get("rules") or [{}]],
    }
    return _route(release, spec)


def same_parents(live: Object, desired: Object) -> bool:
    """Return whether two HTTPRoutes attach to the same Gateways."""
    return bool(_with_defaults(live["spec"])["parentRefs"] == _with_defaults(desired["spec"])["parentRefs"])


def same_route(one: Object, other: Object) -> bool:
    """Return whether two HTTPRoutes ask for the same traffic."""
    return not _difference(one["spec"], other["spec"])


def _route(release: Release | InvalidSpec, spec: Object) -> Object:
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": release.name,
            "namespace": release.namespace,
            "labels": {**MANAGED_BY, RELEASE_LABEL: release.name},
            "ownerReferences": [owner_reference(release)],
        },
        "spec": spec,
    }


def _rule(release_name: str, matches: list[Object] | None, traffic: Traffic) -> Object:
    rule: Object = {
        # A null, as some tools write it, is an absent field to the API server, or an error.
        "matches": _without_nulls(matches) or [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [_weighted(release_name, name, weight) for name, weight in traffic.weights.items()],
    }
    if traffic.mirror:
        rule["filters"] = [_mirror(release_name, *traffic.mirror)]
    return rule


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - whatever the user wrote
    """Return *value* without the fields that are null, at every level."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _parent(parent: ParentRef) -> Object:
    named = parent.model_dump(by_alias=True, exclude_none=True)
    return {"group": GATEWAY_GROUP, "kind": "Gateway", **named}


def _service(release_name: str, revision: str) -> Object:
    return {"group": "", "kind": "Service", "name": object_name(release_name, revision), "port": SERVICE_PORT}


def _weighted(release_name: str, revision: str, weight: int) -> Object:
    return {**_service(release_name, revision), "weight": weight}


def _mirror(release_name: str, revision: str, percent: int) -> Object:
    mirror = {"backendRef": _service(release_name, revision), "percent": percent}
    return {"type": "RequestMirror", "requestMirror": mirror}


# What the live route says.


def read_route(live: Object | None, desired: Object | None, release_name: str) -> Route | None:
    """
    Return what the HTTPRoute *live* says; None when there is none.

    Args:
        live: The object as the API server returned it.
        desired: What it should be (``route_manifest``); None while nobody is to be served, and then nothing differs.
        release_name: Backends of other releases are not among the result.
    """
    if live is None:
        return None
    difference = _difference(live["spec"], desired["spec"]) if desired else ""
    accepted, complaint = _acceptance(live)
    return Route(
        weights=_weights(live["spec"], release_name),
        mirror_percent=_mirrors(live["spec"], release_name),
        in_sync=not difference,
        accepted=accepted,
        message=difference or complaint,
    )


def _weights(spec: Object, release_name: str) -> Mapping[str, float]:
    backends = [backend for rule in spec.get("rules") or [] for backend in rule.get("backendRefs") or []]
    total = sum(backend.get("weight", 1) for backend in backends)
    shares: dict[str, float] = {}
    for backend in backends:
        revision = _revision_of(backend, release_name)
        if revision and total:
            shares[revision] = shares.get(revision, 0.0) + 100 * backend.get("weight", 1) / total
    return shares


def _mirrors(spec: Object, release_name: str) -> Mapping[str, float]:
    filters = [item for rule in spec.get("rules") or [] for item in rule.get("filters") or []]
    copies = [item["requestMirror"] for item in filters if item.get("type") == "RequestMirror"]
    named = [(_revision_of(copy["backendRef"], release_name), _mirror_percent(copy)) for copy in copies]
    return {revision: percent for revision, percent in named if revision}


def _mirror_percent(mirror: Object) -> float:
    fraction = mirror.get("fraction")
    if fraction:
        return 100 * float(fraction["numerator"]) / float(fraction.get("denominator", 100))
    return float(mirror.get("percent", 100))


def _revision_of(backend: Object, release_name: str) -> str | None:
    prefix = object_name(release_name, "")
    name = str(backend.get("name", ""))
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _difference(live: Object, desired: Object) -> str:
    """Return which parts of the spec are not what they should be, once defaults are filled in; "" when all are."""
    is_, should_be = _with_defaults(live), _with_defaults(desired)
    parts = [part for part in should_be if is_[part] != should_be[part]]
    return f"the live route has other {' and '.join(parts)} than status asks for" if parts else ""


def _with_defaults(spec: Object) -> Object:
    """Return parents, host names and rules with what the API server fills in, so that two specs can be compared."""
    return {
        "parentRefs": [
            {"group": GATEWAY_GROUP, "kind": "Gateway", **parent} for parent in spec.get("parentRefs") or []
        ],
        "hostnames": spec.get("hostnames") or [],
        "rules": [_rule_with_defaults(rule) for rule in spec.get("rules") or [{}]],
    }


def _rule_with_defaults(rule: Object) -> Object:
    return {
        **rule,
        "matches": [_match_with_defaults(match) for match in rule.get("matches") or [{}]],
        "backendRefs": [_backend_with_defaults({"weight": 1, **backend}) for backend in rule.get("backendRefs") or []],
        "filters": [_filter_with_defaults(item) for item in rule.get("filters") or []],
    }


def _match_with_defaults(match: Object) -> Object:
    """Return a match with defaults; what is none, as a spec may ask for, is as it is: the API server refuses it."""
    full = {**match, "path": _filled(match.get("path") or {}, {"type": "PathPrefix", "value": "/"})}
    for part in ("headers", "queryParams"):
        if isinstance(full.get(part), list):
            full[part] = [_filled(item, {"type": "Exact"}) for item in full[part]]
    return full


def _filled(value: Any, defaults: Object) -> Any:  # noqa: ANN401 - whatever the user wrote
    return {**defaults, **value} if isinstance(value, dict) else value


def _backend_with_defaults(backend: Object) -> Object:
    return {"group": "", "kind": "Service", **backend}


def _filter_with_defaults(item: Object) -> Object:
    if "requestMirror" not in item:
        return item
    mirror = item["requestMirror"]
    return {**item, "requestMirror": {**mirror, "backendRef": _backend_with_defaults(mirror["backendRef"])}}


def _acceptance(live: Object) -> tuple[bool | None, str]:
    """Return what every parent Gateway says of the route as it is now, and the first complaint."""
    parents = live["spec"].get("parentRefs") or []
    answers = [_answer(live, parent) for parent in parents]
    for accepted, message in answers:
        if accepted is False:
            return False, message
    if answers and all(accepted for accepted, _ in answers):
        return True, ""
    return None, "the Gateway has not answered yet"


def _answer(live: Object, parent: Object) -> tuple[bool | None, str]:
    conditions = [condition for entry in _entries(live, parent) for condition in entry.get("conditions") or []]
    current = [item for item in conditions if item.get("observedGeneration", 0) >= live["metadata"]["generation"]]
    judged = [item for item in current if item["type"] in {"Accepted", "ResolvedRefs"}]
    for item in judged:
        if item["status"] == "False":
            return False, f"Gateway {parent['name']}: {item['reason']}: {item.get('message', '')}"
    agreed = {item["type"] for item in judged if item["status"] == "True"}
    return (True if agreed == {"Accepted", "ResolvedRefs"} else None), ""


def _entries(live: Object, parent: Object) -> Iterator[Object]:
    """Return what has been said about *parent*; several controllers may speak."""
    namespace = live["metadata"]["namespace"]
    for entry in (live.get("status") or {}).get("parents") or []:
        if _identity(entry["parentRef"], namespace) == _identity(parent, namespace):
            yield entry


def _identity(parent: Object, namespace: str) -> tuple[object, ...]:
    return (parent["name"], parent.get("namespace", namespace), parent.get("sectionName"), parent.get("port"))


# What the Gateways can do.


def gateway_problem(
    release: Release,
    gateways: Mapping[tuple[str, str], Object | None],
    classes: Mapping[str, Object | None],
    needs_mirror: bool,  # noqa: FBT001 - part of the question
) -> GatewayProblem | None:
    """
    Return why the traffic that the spec asks for cannot be had; None when it can, or when nobody says.

    Args:
        release: What is ordered.
        gateways: Every Gateway that the spec names, by namespace and name; None for one that is absent. One that we may
            not read is not among them.
        classes: Their GatewayClasses by name. One that is absent, or that publishes no features, says nothing.
        needs_mirror: Whether a shadow stage is to come.
    """
    for index, parent in enumerate(release.spec.traffic.gateway_api.parent_refs):
        where = f"{_PARENT_REFS}[{index}]"
        namespace = parent.namespace or release.namespace
        if (namespace, parent.name) not in gateways:
            continue
        gateway = gateways[namespace, parent.name]
        if gateway is None:
            message = f"{where}: Gateway {namespace}/{parent.name} does not exist; create it or name one that does"
            return GatewayProblem(reason=Reason.GATEWAY_NOT_FOUND, message=message)
        class_name = str(gateway["spec"].get("gatewayClassName", ""))
        missing = _missing_feature(release, classes.get(class_name)) if needs_mirror else None
        if missing:
            message = (
                f"{where}: GatewayClass {class_name} of Gateway {namespace}/{parent.name} does not list {missing} "
                f"in its status.supportedFeatures, so it cannot {_PURPOSE[missing]}; "
                "leave the shadow stage out of spec.stages or use another Gateway"
            )
            return GatewayProblem(reason=Reason.MIRROR_UNSUPPORTED, message=message)
    return None


_PURPOSE: Final = {
    MIRROR_FEATURE: "copy requests to a shadow",
    PERCENTAGE_MIRROR_FEATURE: "copy a share of requests to a shadow (shadow.percent below 100)",
}


def _missing_feature(release: Release, gateway_class: Object | None) -> str | None:
    published = ((gateway_class or {}).get("status") or {}).get("supportedFeatures") or []
    # Plain strings until Gateway API 1.2, objects with a name since.
    supported = {feature["name"] if isinstance(feature, dict) else feature for feature in published}
    if not supported:
        return None
    if MIRROR_FEATURE not in supported:
        return MIRROR_FEATURE
    partial = any(0 < stage.mirror_percent < 100 for stage in release.spec.plan_stages)
    return PERCENTAGE_MIRROR_FEATURE if partial and PERCENTAGE_MIRROR_FEATURE not in supported else None
