"""Traffic as an HTTPRoute and back, some of it through a real API server with the real Gateway API CRDs."""

import copy
import json
from datetime import UTC, datetime

import pytest

from modelrelease.adapters.gateway import gateway_problem, read_route, route_manifest
from modelrelease.adapters.kube import KubeCluster
from modelrelease.api.reasons import Reason
from modelrelease.core.plan import Traffic
from tests.builders import a_release

CANARY = Traffic(weights={"aaa": 90, "bbb": 10}, mirror=None)
SHADOW = Traffic(weights={"aaa": 100}, mirror=("bbb", 40))

MATCHES = [
    {"path": {"type": "Exact", "value": "/score"}, "method": "POST"},
    {"path": {"value": "/v2"}, "headers": [{"name": "x-team", "value": "fraud"}]},
    {"queryParams": [{"name": "debug", "value": "1"}]},
]


def a_traffic(parents=({"name": "public"},), hostnames=None, matches=None):
    """Return a spec.traffic."""
    optional = {"hostnames": hostnames, "matches": matches}
    given = {key: value for key, value in optional.items() if value is not None}
    return {"gatewayAPI": {"parentRefs": list(parents), **given}}


def a_live(release, traffic, *, parents=None, generation=1):
    """Return the route of *release* as a Gateway has accepted it, unless *parents* says otherwise."""
    manifest = route_manifest(release, traffic)
    refs = manifest["spec"]["parentRefs"]
    answers = [an_answer(parent) for parent in refs] if parents is None else parents
    metadata = {**manifest["metadata"], "generation": generation}
    return {**manifest, "metadata": metadata, "status": {"parents": answers}}


def an_answer(parent, *, accepted="True", resolved="True", generation=1):
    """Return what a controller says about one parent."""
    conditions = [
        {
            "type": type_,
            "status": status,
            "reason": f"{type_}Reason",
            "message": "said so",
            "observedGeneration": generation,
        }
        for type_, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
        if status
    ]
    return {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}


class TestManifest:
    def test_canary_weights_are_backends_with_the_stable_one_first(self):
        """Each revision is reached through its own Service."""
        rule = route_manifest(a_release(), CANARY)["spec"]["rules"][0]
        backends = [(backend["name"], backend["port"], backend["weight"]) for backend in rule["backendRefs"]]
        assert backends == [("radar-aaa", 80, 90), ("radar-bbb", 80, 10)]
        assert "filters" not in rule

    def test_a_shadow_is_a_mirror_filter_with_a_percentage(self):
        """Users see the stable revision only."""
        rule = route_manifest(a_release(), SHADOW)["spec"]["rules"][0]
        assert [backend["name"] for backend in rule["backendRefs"]] == ["radar-aaa"]
        (mirror,) = rule["filters"]
        assert mirror["type"] == "RequestMirror"
        assert mirror["requestMirror"]["percent"] == 40
        assert mirror["requestMirror"]["backendRef"]["name"] == "radar-bbb"

    def test_the_route_belongs_to_the_release(self):
        """It is named like the release and goes with it."""
        metadata = route_manifest(a_release(), CANARY)["metadata"]
        assert (metadata["namespace"], metadata["name"]) == ("fraud", "radar")
        assert metadata["ownerReferences"][0]["uid"] == "u-1"
        assert metadata["labels"]["modelrelease.dev/release"] == "radar"

    def test_parents_host_names_and_matches_are_those_of_the_spec(self):
        """What the user wrote about traffic is passed on."""
        parents = [{"name": "public", "namespace": "infra", "sectionName": "https", "port": 443}]
        traffic = a_traffic(parents, ["radar.example.com"], MATCHES)
        spec = route_manifest(a_release(traffic=traffic), CANARY)["spec"]
        assert parents[0].items() <= spec["parentRefs"][0].items()
        assert spec["hostnames"] == ["radar.example.com"]
        assert spec["rules"][0]["matches"] == MATCHES


class TestReading:
    def test_no_route(self):
        """Absence is a value."""
        assert read_route(None, None, "radar") is None

    def test_shares_are_in_percent_of_all_weights(self):
        """Weights need not add up to 100, and may have been edited."""
        release = a_release()
        live = a_live(release, Traffic(weights={"aaa": 3, "bbb": 1}, mirror=None))
        live["spec"]["rules"][0]["backendRefs"].append({"name": "other", "port": 80, "weight": 4})
        route = read_route(live, route_manifest(release, CANARY), "radar")
        assert route.weights == {"aaa": 37.5, "bbb": 12.5}

    @pytest.mark.parametrize(
        ("mirror", "want"),
        [
            pytest.param({"percent": 40}, 40, id="percent"),
            pytest.param({"fraction": {"numerator": 1, "denominator": 8}}, 12.5, id="fraction"),
            pytest.param({"fraction": {"numerator": 7}}, 7, id="fraction of 100"),
            pytest.param({}, 100, id="all"),
        ],
    )
    def test_the_mirrored_share(self, mirror, want):
        """A mirror's share in each of its spellings."""
        live = a_live(a_release(), SHADOW)
        live["spec"]["rules"][0]["filters"][0]["requestMirror"] = {"backendRef": {"name": "radar-bbb"}, **mirror}
        assert read_route(live, None, "radar").mirror_percent == {"bbb": want}

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            pytest.param(lambda spec: spec["rules"][0]["backendRefs"][1].update(weight=50), "rules", id="weight"),
            pytest.param(lambda spec: spec["rules"][0]["backendRefs"].pop(), "rules", id="backend removed"),
            pytest.param(lambda spec: spec["rules"].append({"backendRefs": []}), "rules", id="rule added"),
            pytest.param(lambda spec: spec["rules"][0].update(filters=[{"type": "URLRewrite"}]), "rules", id="filter"),
            pytest.param(lambda spec: spec["rules"][0].update(timeouts={"request": "1s"}), "rules", id="timeout"),
            pytest.param(lambda spec: spec.update(hostnames=["evil.example.com"]), "hostnames", id="host name"),
            pytest.param(lambda spec: spec["parentRefs"][0].update(name="private"), "parentRefs", id="gateway"),
        ],
    )
    def test_any_edit_of_the_route_is_drift(self, edit, message):
        """Whatever somebody changed by hand is seen, and named."""
        release = a_release()
        live = copy.deepcopy(a_live(release, CANARY))
        edit(live["spec"])
        route = read_route(live, route_manifest(release, CANARY), "radar")
        assert route.in_sync is False
        assert message in route.message

    @pytest.mark.parametrize("part", [{"path": "/v1"}, {"headers": "x"}, {"headers": ["x"]}, {"queryParams": [None]}])
    def test_a_match_that_is_none_differs(self, part):
        """The spec may ask for anything there: what can be judged is judged, and the API server refuses the route."""
        desired = route_manifest(a_release(traffic=a_traffic(matches=[part])), CANARY)
        assert read_route(a_live(a_release(), CANARY), desired, "radar").in_sync is False

    def test_nobody_to_be_served_is_no_drift(self):
        """Before there is any traffic there is nothing to compare with."""
        assert read_route(a_live(a_release(), CANARY), None, "radar").in_sync is True

    @pytest.mark.parametrize(
        ("answers", "want"),
        [
            pytest.param([an_answer({"name": "public"})], True, id="accepted"),
            pytest.param([], None, id="nobody has spoken"),
            pytest.param([an_answer({"name": "public"}, accepted="False")], False, id="refused"),
            pytest.param([an_answer({"name": "public"}, resolved="False")], False, id="a backend is missing"),
            pytest.param([an_answer({"name": "public"}, resolved=None)], None, id="half an answer"),
            pytest.param([an_answer({"name": "public"}, accepted="Unknown")], None, id="unknown"),
            pytest.param([an_answer({"name": "public"}, generation=0)], None, id="an old yes"),
            pytest.param([an_answer({"name": "public"}, accepted="False", generation=0)], None, id="an old no"),
            pytest.param([an_answer({"name": "other"})], None, id="about another Gateway"),
            pytest.param([an_answer({"name": "public", "namespace": "fraud"})], True, id="the namespace spelled out"),
            pytest.param([an_answer({"name": "public", "namespace": "infra"})], None, id="in another namespace"),
        ],
    )
    def test_acceptance(self, answers, want):
        """Only what a controller says of this generation, about this Gateway, counts."""
        release = a_release()
        live = a_live(release, CANARY, parents=answers)
        assert read_route(live, route_manifest(release, CANARY), "radar").accepted is want

    @pytest.mark.parametrize(
        ("second", "want"),
        [pytest.param("True", True, id="both"), pytest.param("False", False, id="one refuses")],
    )
    def test_every_parent_counts(self, second, want):
        """Two Gateways, two answers."""
        release = a_release(traffic=a_traffic([{"name": "public"}, {"name": "public", "sectionName": "tls"}]))
        answers = [an_answer({"name": "public"}), an_answer({"name": "public", "sectionName": "tls"}, accepted=second)]
        route = read_route(a_live(release, CANARY, parents=answers), None, "radar")
        assert route.accepted is want

    def test_a_refusal_is_told_in_the_controllers_words(self):
        """Gateway, reason and message."""
        live = a_live(a_release(), CANARY, parents=[an_answer({"name": "public"}, accepted="False")])
        assert read_route(live, None, "radar").message == "Gateway public: AcceptedReason: said so"


@pytest.mark.apiserver
class TestRoundTrip:
    """What comes back from a real API server equals what was sent, defaults and all."""

    @pytest.mark.parametrize("traffic", [pytest.param(CANARY, id="canary"), pytest.param(SHADOW, id="shadow")])
    @pytest.mark.parametrize("matches", [pytest.param(None, id="every path"), pytest.param(MATCHES, id="own matches")])
    async def test_a_route_is_in_sync_after_it_was_applied(self, api, cluster, namespace, traffic, matches):
        """The API server's defaults are no drift."""
        release = a_release(traffic=a_traffic(hostnames=["radar.example.com"], matches=matches))
        desired = json.loads(json.dumps(route_manifest(release, traffic)).replace('"fraud"', f'"{namespace}"'))
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        await kube.apply(desired)
        route = read_route(await kube.get_route(namespace, "radar"), desired, "radar")
        assert (route.in_sync, route.message) == (True, "the Gateway has not answered yet")
        assert route.weights == {name: float(weight) for name, weight in traffic.weights.items()}
        assert route.mirror_percent == ({"bbb": 40.0} if traffic.mirror else {})

    @pytest.mark.parametrize(
        "match",
        [
            pytest.param({"path": {"value": "/a"}, "headers": None, "method": None}, id="a field"),
            pytest.param({"path": {"type": None, "value": "/a"}}, id="a field of a path"),
            pytest.param({"headers": [{"name": "x-team", "value": "fraud", "type": None}]}, id="a field of a header"),
        ],
    )
    async def test_a_null_is_an_absent_field(self, api, cluster, namespace, match):
        """Our CRD keeps it; a route with it is refused, or differs from the live one for ever."""
        release = a_release(traffic=a_traffic(matches=[match]))
        desired = json.loads(json.dumps(route_manifest(release, CANARY)).replace('"fraud"', f'"{namespace}"'))
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        await kube.apply(desired)
        assert read_route(await kube.get_route(namespace, "radar"), desired, "radar").in_sync is True

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param({"hostnames": ["evil.example.com"]}, id="a host name where there was none"),
            pytest.param({"parentRefs": [{"name": "private"}]}, id="another Gateway"),
            pytest.param({"rules": [{}]}, id="a rule without backends"),
        ],
    )
    async def test_what_was_edited_is_taken_back(self, api, cluster, namespace, edit):
        """Everything that counts as drift is also repaired, or it would be reported for ever."""
        desired = json.loads(json.dumps(route_manifest(a_release(), CANARY)).replace('"fraud"', f'"{namespace}"'))
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        await kube.apply(desired)
        cluster.patch("httproute", namespace, "radar", {"spec": edit})
        assert read_route(await kube.get_route(namespace, "radar"), desired, "radar").in_sync is False
        assert await kube.apply(desired) is True
        assert read_route(await kube.get_route(namespace, "radar"), desired, "radar").in_sync is True

    async def test_an_edit_by_hand_is_drift(self, api, cluster, namespace):
        """Half of the users sent to the candidate by kubectl."""
        desired = json.loads(json.dumps(route_manifest(a_release(), CANARY)).replace('"fraud"', f'"{namespace}"'))
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        await kube.apply(desired)
        rules = copy.deepcopy(desired["spec"]["rules"])
        rules[0]["backendRefs"][1]["weight"] = 90
        cluster.patch("httproute", namespace, "radar", {"spec": {"rules": rules}})
        route = read_route(await kube.get_route(namespace, "radar"), desired, "radar")
        assert route.in_sync is False
        assert route.weights == {"aaa": 50.0, "bbb": 50.0}


class TestGateways:
    def problem(self, *, gateways=None, features=None, needs_mirror=True, percent=100):
        stages = [{"name": "shadow", "shadow": {"percent": percent}}, {"name": "full", "full": {}}]
        release = a_release(stages=stages)
        found = {("fraud", "public"): {"spec": {"gatewayClassName": "envoy"}}} if gateways is None else gateways
        published = {"status": {"supportedFeatures": features}} if features is not None else {}
        return gateway_problem(release, found, {"envoy": published}, needs_mirror=needs_mirror)

    def test_an_absent_gateway_is_named(self):
        """Where, what, and what to do."""
        problem = self.problem(gateways={("fraud", "public"): None})
        assert problem.reason == Reason.GATEWAY_NOT_FOUND
        assert problem.message.startswith("spec.traffic.gatewayAPI.parentRefs[0]: Gateway fraud/public does not exist")

    @pytest.mark.parametrize(
        ("features", "percent", "missing"),
        [
            pytest.param(None, 100, None, id="a class that publishes nothing is unknown, not unable"),
            pytest.param([], 100, None, id="an empty list is nothing published"),
            pytest.param(["HTTPRouteRequestMirror"], 100, None, id="mirror"),
            pytest.param(["HTTPRouteHostRewrite"], 100, "HTTPRouteRequestMirror", id="no mirror"),
            pytest.param(["HTTPRouteRequestMirror"], 50, "HTTPRouteRequestPercentageMirror", id="no share"),
            pytest.param(["HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"], 50, None, id="share"),
        ],
    )
    @pytest.mark.parametrize("spelling", [pytest.param(dict, id="objects"), pytest.param(str, id="strings")])
    def test_a_class_that_cannot_mirror_is_named(self, features, percent, missing, spelling):
        """What a shadow stage needs is checked before it starts, where it can be known."""
        published = features and [{"name": name} if spelling is dict else name for name in features]
        problem = self.problem(features=published, percent=percent)
        assert (problem and problem.reason) == (Reason.MIRROR_UNSUPPORTED if missing else None)
        if missing:
            assert f"GatewayClass envoy of Gateway fraud/public does not list {missing} " in problem.message

    def test_a_gateway_that_may_not_be_read_is_unknown_not_absent(self):
        """Then the route's own status tells."""
        assert self.problem(gateways={}) is None

    def test_without_a_shadow_nothing_is_needed(self):
        """A class that cannot mirror is good enough for canaries."""
        assert self.problem(features=[{"name": "HTTPRouteHostRewrite"}], needs_mirror=False) is None
