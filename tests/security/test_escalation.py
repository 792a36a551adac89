"""
Mallory may write ModelReleases in one namespace, and nothing else. What can she make the operator do?

The operator reconciles with exactly the rights of its chart, on a real API server that checks them.
"""

import copy
import json
import re
import sys
from datetime import UTC, datetime, timedelta

import promql_parser
import pytest
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry

from modelrelease.adapters.errors import AdapterError, Conflict
from modelrelease.adapters.kube import KubeCluster
from modelrelease.adapters.telemetry import Telemetry
from modelrelease.api.parse import MOST_BYTES, InvalidSpec, parse
from modelrelease.core.counts import MetricsUnavailable
from modelrelease.core.queries import StageWindow, stage_queries
from modelrelease.reconcile import World, reconcile
from tests.adapters.test_kube import _manifests
from tests.builders import NOW, a_body, a_contract, a_release
from tests.security.conftest import ACCOUNT, HOME, Admin, a_gateway, a_gateway_class

pytestmark = pytest.mark.apiserver

MALLORY = "mallory"
RELEASES = {"apiGroups": ["modelrelease.dev"], "resources": ["modelreleases"], "verbs": ["*"]}


class NoMetrics:
    """Prometheus, away."""

    async def read(self, *_):
        return MetricsUnavailable("there is no Prometheus here")


@pytest.fixture
def mallory(cluster, namespace):
    """Create or replace a ModelRelease as Mallory, who has no other right; return what the API server said."""
    meta = {"name": "releases", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "releases"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": MALLORY}
    api = "rbac.authorization.k8s.io/v1"
    cluster.create(
        {"apiVersion": api, "kind": "Role", "metadata": meta, "rules": [RELEASES]},
        {"apiVersion": api, "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": [subject]},
        a_gateway(namespace),
    )

    def write(name="shop", version="1", **spec):
        given = _without_nothing(a_body(version, **spec))
        body = {**given, "metadata": {"name": name, "namespace": namespace}}
        return cluster.kubectl("apply", "--server-side", f"--as={MALLORY}", "-f", "-", given=body)

    return write


def _without_nothing(body):
    """Return the release without what its spec gives as None."""
    return {**body, "spec": {key: value for key, value in body["spec"].items() if value is not None}}


@pytest.fixture
def installed(install):
    """The operator's account, with the rights of the chart in all namespaces."""
    return install()


@pytest.fixture
async def operator(cluster, installed):
    """Reconcile with the rights of the chart: three ticks, as the engine would, errors and all."""
    access = installed.access.server.kubeconfig
    token = json.loads(access.read_text())["users"][0]["user"]["token"]
    configuration = Configuration(host=cluster.server.url, ssl_ca_cert=str(cluster.server.ca_file))
    configuration.api_key["BearerToken"] = f"Bearer {token}"
    configuration.client_session_kwargs = {"trust_env": False}
    async with ApiClient(configuration) as api:
        kube = KubeCluster(api, clock=lambda: datetime.now(UTC))
        log = Telemetry(CollectorRegistry())
        world = World(kube, NoMetrics(), log, drain=timedelta(0), scrape_interval=timedelta(seconds=1))

        async def ticks(namespace, name="shop", times=3, later=timedelta(0)):
            failures = []
            for _ in range(times):
                try:
                    await reconcile(namespace, name, world, datetime.now(UTC) + later)
                except AdapterError as error:
                    failures.append(str(error))
            return failures

        yield ticks


def condition(cluster, namespace, name="shop", kind="Ready"):
    status = cluster.get("mrel", namespace, name)["status"]
    return next(item for item in status["conditions"] if item["type"] == kind)


# Rights.


async def test_the_operator_has_the_rights_of_its_chart_and_those_of_everybody(cluster, install, namespace):
    """The API server lists all that the account may do, in its namespaces and in others; the chart granted each."""
    installed = install(f"watchNamespaces={{{namespace}}}", "gatewayNamespaces={kube-public}")
    cluster.kubectl("create", "serviceaccount", "-n", HOME, f"nobody-{namespace}")
    for where in (namespace, "kube-public", HOME):
        everybody = _rules(cluster, f"nobody-{namespace}", where)
        granted = {
            (grant.right.group, grant.right.resource, grant.right.verb, grant.names)
            for grant in installed.grants
            if grant.namespace in ("", where)
        }
        assert _rules(cluster, ACCOUNT, where) - everybody == granted, where


def _rules(cluster, account, namespace):
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    user = f"--as=system:serviceaccount:{HOME}:{account}"
    groups = [f"--as-group={group}" for group in ("system:serviceaccounts", "system:authenticated")]
    answer = json.loads(
        cluster.kubectl("create", "--validate=false", user, *groups, "-f", "-", "-o", "json", given=review)
    )["status"]
    assert answer["incomplete"] is False
    return {
        (group, resource, verb, tuple(rule.get("resourceNames") or ()))
        for rule in answer["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("values", [pytest.param((), id="everywhere"), pytest.param(("",), id="in one namespace")])
async def test_no_secret_is_readable_and_no_pod_can_be_entered(cluster, install, admin, namespace, values):
    """Not by any verb, in any namespace, not even in its own."""
    install(*(f"watchNamespaces={{{namespace}}}" for _ in values))
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    asked = [
        *(("", "secrets", "", verb) for verb in verbs),
        *(("", "pods", part, "create") for part in ("exec", "attach", "portforward", "")),
        *(("", "pods", part, "get") for part in ("exec", "log", "")),
        *(("", "serviceaccounts", part, "create") for part in ("", "token")),
        *(("", kind, "", "impersonate") for kind in ("users", "groups", "serviceaccounts")),
        *(("rbac.authorization.k8s.io", "clusterroles", "", verb) for verb in ("bind", "escalate", "create")),
        ("modelrelease.dev", "modelreleases", "", "patch"),
        ("modelrelease.dev", "modelreleases", "", "update"),
    ]  # fmt: skip
    allowed = [
        (where, *one) for where in (namespace, HOME, "kube-system") for one in asked if await _may(admin, where, *one)
    ]
    assert allowed == []
    assert await _may(admin, namespace, "modelrelease.dev", "modelreleases", "", "get"), "the question is a real one"


async def _may(admin: Admin, namespace, group, resource, subresource, verb):
    attributes = {"group": group, "resource": resource, "subresource": subresource, "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{HOME}:{ACCOUNT}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{HOME}", "system:authenticated"],
            "resourceAttributes": {**attributes, "namespace": namespace},
        },
    }
    status, answer = await admin.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert status == 201, answer
    return answer["status"]["allowed"]


# Containers.


ROOT = {
    "spec": {
        "hostPID": True,
        "containers": [{"name": "server", "image": "x", "securityContext": {"runAsUser": 0}}],
    }
}
MODEST = {
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "server",
                "image": "x",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
}


async def test_pod_security_admission_still_applies(cluster, mallory, operator, namespace):
    """Root among the host's processes is refused to a Deployment's pods as to any other, and the release says so."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    mallory("modest", server={"port": 3000, "template": MODEST})
    mallory("shop", server={"port": 3000, "template": ROOT})
    for name in ("modest", "shop"):
        assert await operator(namespace, name) == []
    deployments = {name.split("/")[1] for name in cluster.names("deployment", namespace)}
    modest, bold = sorted(deployments)
    assert _refusal_of_pod(cluster, namespace, modest) == ""
    refusal = _refusal_of_pod(cluster, namespace, bold)
    assert "violates PodSecurity" in refusal
    assert "hostPID" in refusal
    # What the Deployment controller writes into the Deployment when its pods are refused.
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refusal}
    status = {"observedGeneration": 1, "conditions": [failure]}
    cluster.patch("deployment", namespace, bold, {"status": status}, status=True)
    await operator(namespace)
    assert "violates PodSecurity" in condition(cluster, namespace)["message"]
    await operator(namespace, later=timedelta(minutes=11))
    assert condition(cluster, namespace, kind="Stalled")["reason"] == "ProgressDeadlineExceeded"
    assert "violates PodSecurity" in cluster.kubectl("get", "events", "-n", namespace)


def _refusal_of_pod(cluster, namespace, deployment):
    """Create a pod of the Deployment as its controllers would; return why not, or "" if it was created."""
    template = cluster.get("deployment", namespace, deployment)["spec"]["template"]
    meta = {"name": f"{deployment}-pod", "namespace": namespace, "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    try:
        cluster.kubectl("create", "-f", "-", given=pod)
    except AssertionError as error:
        return str(error)
    return ""


async def test_the_operator_gives_pods_nothing_that_the_template_does_not_ask_for(
    cluster, mallory, operator, namespace
):
    """Three variables and two labels; the service account is the one that the template names, as with a Deployment."""
    asked = {**copy.deepcopy(MODEST["spec"]), "serviceAccountName": "trainer"}
    mallory(server={"port": 3000, "template": {"spec": asked}})
    await operator(namespace)
    [name] = cluster.names("deployment", namespace)
    template = cluster.get("deployment", namespace, name.split("/")[1])["spec"]["template"]
    assert template["metadata"]["labels"].keys() == {"modelrelease.dev/release", "modelrelease.dev/revision"}
    [container] = template["spec"]["containers"]
    ours = {"MODELRELEASE_NAME", "MODELRELEASE_REVISION", "MODELRELEASE_VERSION"}
    assert {variable["name"] for variable in container.pop("env")} == ours
    assert {key: template["spec"][key] for key in asked if key != "containers"} == {
        key: value for key, value in asked.items() if key != "containers"
    }
    assert asked["containers"][0].items() <= container.items()
    # What the API server adds to every Deployment.
    added = {"dnsPolicy", "restartPolicy", "schedulerName", "terminationGracePeriodSeconds", "serviceAccount"}
    assert template["spec"].keys() - asked.keys() == added


# Other namespaces.


SECRETS = ("secret-host.example.com", "secret-listener", "secret-certificate", "secret-note", "10.9.8.7")


def _a_gateway_with_secrets(namespace):
    tls = {"certificateRefs": [{"name": SECRETS[2]}]}
    listener = {"name": SECRETS[1], "hostname": SECRETS[0], "port": 443, "protocol": "HTTPS", "tls": tls}
    gateway = a_gateway(
        namespace,
        spec={"gatewayClassName": "lacking", "listeners": [listener], "addresses": [{"value": SECRETS[4]}]},
    )
    gateway["metadata"]["annotations"] = {"note": SECRETS[3]}
    return gateway


async def test_of_a_gateway_elsewhere_is_told_that_it_exists_and_what_its_class_lacks(
    cluster, mallory, operator, namespace
):
    """Both say why a release cannot begin. Host names, listeners, certificates and addresses are not told."""
    infra = f"{namespace}-infra"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": infra}})
    cluster.apply(a_gateway_class("lacking"))
    cluster.patch("gatewayclass", "default", "lacking", _lacking_mirror(), status=True)
    cluster.create(_a_gateway_with_secrets(infra))

    def through(gateway):
        return {"gatewayAPI": {"parentRefs": [{"name": gateway, "namespace": infra}]}}

    # Only a rollout beside a stable version needs a mirror.
    mallory("shop", version="1", traffic=through("public"))
    since = {"since": "2026-11-24T12:00:00Z"}
    stable = {"revision": a_release("1").desired.name, "version": "1", "weight": 100, **since}
    status = {"observedGeneration": 1, "stage": "Completed", "stable": stable}
    cluster.patch("mrel", namespace, "shop", {"status": status}, status=True)
    for gateway, says in (("absent", f"Gateway {infra}/absent does not exist"), ("public", "does not list")):
        mallory("shop", version="2", traffic=through(gateway))
        await operator(namespace)
        told = cluster.kubectl("get", "mrel,events", "-n", namespace, "-o", "json")
        assert says in condition(cluster, namespace)["message"]
        assert [secret for secret in SECRETS if secret in told] == []


async def test_of_other_namespaces_only_the_gateway_that_she_names_is_read(
    cluster, mallory, operator, installed, namespace
):
    """By the API server's own log, whatever has the names that she writes there, too."""
    other = f"{namespace}-bank"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}, a_gateway(other))
    promise = {**a_contract("promise"), "metadata": {"name": "promise", "namespace": other}}
    cluster.create(promise, *_victims(other, "shop", a_release("1").desired.name, {}, []))
    through = {"gatewayAPI": {"parentRefs": [{"name": "public", "namespace": other}]}}
    mallory("shop", traffic=through)
    mallory("referring", contract=None, contractRef={"name": "promise"}, traffic=through)
    for name in ("shop", "referring"):
        assert await operator(namespace, name) == []
    assert condition(cluster, namespace, "referring")["reason"] == "ContractNotFound"
    requests = [event for event in installed.requests() if "objectRef" in event]
    elsewhere = [event for event in requests if event["objectRef"].get("namespace") != namespace]
    assert len(elsewhere) < len(requests), "the log is a real one"
    reached = {(it["verb"], it["objectRef"].get("namespace"), it["objectRef"]["resource"]) for it in elsewhere}
    assert reached == {("get", other, "gateways"), ("get", None, "gatewayclasses")}


ELSEWHERE = ("../../kube-system/configmaps/x", "..", "a/b", "a%2Fb", "a?b=c", "a#b", "a b", "")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_is_no_path(mallory, name):
    """Names become parts of addresses at the API server: what could lead elsewhere is refused, at both doors."""

    def through(**parent):
        return {"traffic": {"gatewayAPI": {"parentRefs": [{"name": "public", **parent}]}}}

    for where, spec in {
        "spec.traffic.gatewayAPI.parentRefs[0].name": through(name=name),
        "spec.traffic.gatewayAPI.parentRefs[0].namespace": through(namespace=name),
        "spec.contractRef.name": {"contract": None, "contractRef": {"name": name}},
    }.items():
        refused = parse(_without_nothing(a_body(**spec)))
        assert isinstance(refused, InvalidSpec)
        assert refused.message.startswith(where)
        with pytest.raises(AssertionError, match=re.escape(where)):
            mallory(**spec)


URL = "http://evil.example.com:8443/x"


class Addresses:
    """Whom this process connects to, and which names it looks up."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self._noting = True
        sys.addaudithook(self._note)  # there is no way to take one away

    def _note(self, event: str, details: tuple[object, ...]) -> None:
        if not self._noting:
            return
        if event == "socket.connect" and isinstance(details[1], tuple):
            self.asked.add(f"{details[1][0]}:{details[1][1]}")
        if event == "socket.getaddrinfo":
            self.asked.add(f"{details[0]}:{details[1]}")

    def end(self) -> None:
        self._noting = False


async def test_no_text_of_a_spec_is_an_address(cluster, mallory, operator, namespace):
    """Wherever a text may stand, a URL is only that: the operator talks to the API server, and looks no name up."""
    container = {
        "name": "server",
        "image": "evil.example.com:8443/x",
        "args": [URL],
        "env": [{"name": "U", "value": URL}],
    }
    contract = copy.deepcopy(a_body()["spec"]["contract"])
    contract["slices"][0]["expected"] = [URL]
    contract["metrics"][0]["ratio"]["events"] = f'd_total{{decision="{URL}"}}'
    match = {"headers": [{"name": "X-Url", "value": URL}]}
    gateways = {"parentRefs": [{"name": "public"}], "hostnames": ["evil.example.com"], "matches": [match]}
    addresses = Addresses()
    try:
        mallory(
            owner=URL,
            model={"version": URL, "lineage": {"data": URL}},
            server={
                "port": 3000,
                "template": {"metadata": {"annotations": {"u": URL}}, "spec": {"containers": [container]}},
            },
            contract=contract,
            traffic={"gatewayAPI": gateways},
        )
        assert await operator(namespace) == []
    finally:
        addresses.end()
    assert cluster.names("deployment", namespace), "the spec is a good one"
    assert addresses.asked == {cluster.server.url.removeprefix("https://")}


def _lacking_mirror():
    accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    moment = {"lastTransitionTime": "2026-11-24T12:00:00Z", "observedGeneration": 1}
    return {"status": {"conditions": [{**accepted, **moment}], "supportedFeatures": [{"name": "HTTPRouteHostRewrite"}]}}


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"backendRefs": [{"name": "vault", "namespace": "kube-system", "port": 80}]}, id="backend"),
        pytest.param(
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "evil"}}]}, id="redirect"
        ),
        pytest.param({"filters": [{"type": "RequestMirror"}], "path": {"value": "/"}}, id="mirror"),
    ],
)
def test_a_route_goes_to_the_release_s_own_services_only(extra):
    """Whatever stands in a match stays a match; backends and filters are ours, and name no namespace and no URL."""
    from modelrelease.adapters.gateway import route_manifest
    from modelrelease.core.plan import Traffic

    traffic = {"gatewayAPI": {"parentRefs": [{"name": "public"}], "matches": [extra]}}
    release = parse(a_body(traffic=traffic))
    if isinstance(release, InvalidSpec):
        return
    [rule] = route_manifest(release, Traffic({"aaa": 90, "bbb": 10}, mirror=("bbb", 5)))["spec"]["rules"]
    targets = [*rule["backendRefs"], *(item["requestMirror"]["backendRef"] for item in rule["filters"])]
    assert {frozenset(target) - {"weight"} for target in targets} == {frozenset({"group", "kind", "name", "port"})}
    assert all(target["kind"] == "Service" and target["name"].startswith("radar-") for target in targets)
    assert [item["type"] for item in rule["filters"]] == ["RequestMirror"]


async def test_a_match_that_is_none_is_refused_and_nothing_else_happens(cluster, mallory, operator, namespace):
    """The API server knows what a match is; Mallory is told in its words."""
    matches = [{"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "evil.example.com"}}]}]
    traffic = {"gatewayAPI": {"parentRefs": [{"name": "public"}], "matches": matches}}
    try:
        mallory(traffic=traffic)
    except AssertionError as refused:
        assert "matches" in str(refused)  # noqa: PT017 - either door may be the one that is closed
        return
    await operator(namespace, times=2)
    for name in cluster.names("deployment", namespace):
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 3)
        status = {"observedGeneration": 1, **counts}
        cluster.patch("deployment", namespace, name.split("/")[1], {"status": status}, status=True)
    failures = await operator(namespace)
    assert cluster.names("httproute", namespace) == set()
    assert any("filters" in failure for failure in failures)
    assert "NotApplied" in cluster.kubectl("get", "events", "-n", namespace)


# Objects of others.


def _victims(namespace, release, revision, labels, owners):
    def meta(name):
        return {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owners}

    child = f"{release}-{revision}"
    port = {"name": "bank", "port": 80, "targetPort": 1}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "bank", "image": "bank"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(child), "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta(child), "spec": {"ports": [port]}},
        {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta(child), "revision": 1, "data": {}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": meta(release),
            "spec": {"hostnames": ["bank.example.com"]},
        },
    ]


@pytest.mark.parametrize(
    ("labels", "owned"),
    [
        pytest.param({}, False, id="strangers"),
        pytest.param({"modelrelease.dev/release": "shop"}, False, id="with our label"),
        pytest.param({"modelrelease.dev/release": "shop"}, True, id="with our label, of another release"),
    ],
)
async def test_names_that_collide_take_nothing_over(cluster, mallory, operator, namespace, labels, owned):
    """A release named so that its objects have the names of others': none of them is written or deleted."""
    revision = a_release("1").desired.name
    controller = {"controller": True, "blockOwnerDeletion": False}
    owner = {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "name": "bank",
        "uid": "u",
        **controller,
    }
    victims = _victims(namespace, "shop", revision, labels, [owner] if owned else [])
    cluster.create(*victims)
    kinds = "deployment,service,controllerrevision,httproute"
    before = cluster.kubectl("get", kinds, "-n", namespace, "-o", "json")
    mallory("shop", version="1")
    await operator(namespace)
    mallory("shop", version="2")
    await operator(namespace)
    cluster.kubectl("delete", "mrel", "-n", namespace, f"--as={MALLORY}", "shop")
    await operator(namespace)
    assert cluster.kubectl("get", kinds, "-n", namespace, "-o", "json") == before


async def test_a_name_that_is_taken_stalls_and_is_told(cluster, mallory, operator, namespace):
    """Where, what, and what to do."""
    cluster.create(*_victims(namespace, "shop", a_release("1").desired.name, {}, [])[:1])
    mallory("shop", version="1")
    await operator(namespace)
    assert condition(cluster, namespace)["reason"] == "NameConflict"
    assert "does not belong to this release" in condition(cluster, namespace)["message"]


async def test_a_label_of_ours_cannot_be_put_on_pods_by_hand(mallory):
    """Else the Services of another release would send it their users."""
    template = {"metadata": {"labels": {"modelrelease.dev/release": "bank"}}, **MODEST}
    with pytest.raises(AssertionError, match=r"the operator sets the labels that start with modelrelease\.dev/"):
        mallory(server={"port": 3000, "template": template})


class TestBetweenLookAndWrite:
    """Somebody makes or replaces an object after it was looked at: the write must miss."""

    @pytest.fixture
    async def body(self, api, cluster, namespace):
        cluster.create({**a_body(), "metadata": {"name": "radar", "namespace": namespace}})
        return cluster.get("mrel", namespace, "radar")

    @pytest.fixture
    async def api(self, cluster):
        async with cluster.client() as client:
            yield client

    @pytest.mark.parametrize("index", [pytest.param(1, id="Service"), pytest.param(2, id="Deployment")])
    async def test_an_object_made_meanwhile_is_not_taken_over(self, api, cluster, body, namespace, index):
        """Without having seen it we write without force: two who say different things do not meet."""
        kube = KubeCluster(api, clock=lambda: NOW)
        manifest = _manifests(body)[index]
        revision = manifest["metadata"]["name"].removeprefix("radar-")
        kinds = {victim["kind"]: victim for victim in _victims(namespace, "radar", revision, {}, [])}
        victim = kinds[manifest["kind"]]

        look = kube._look

        async def look_before_it_was_made(*_):
            cluster.create(victim)
            kube._look = look

        kube._look = look_before_it_was_made
        with pytest.raises(Conflict):
            await kube.apply(manifest)
        live = cluster.get(manifest["kind"], namespace, manifest["metadata"]["name"])
        assert "ownerReferences" not in live["metadata"]

    async def test_an_object_replaced_meanwhile_is_not_taken_over(self, api, cluster, body, namespace):
        """What was ours is gone, and what has its name now is another object."""
        kube = KubeCluster(api, clock=lambda: NOW)
        service = _manifests(body)[1]
        await kube.apply(service)
        name = service["metadata"]["name"]
        cluster.kubectl("delete", "service", "-n", namespace, name)
        revision = name.removeprefix("radar-")
        cluster.create(_victims(namespace, "radar", revision, {}, [])[1])
        changed = copy.deepcopy(service)
        changed["spec"]["ports"][0]["port"] = 81
        with pytest.raises(Conflict):
            await kube.apply(changed)
        assert "ownerReferences" not in cluster.get("service", namespace, name)["metadata"]


# Prometheus.


HOSTILE = [
    'd_total{decision="block"} or vector(1)',
    'd_total{decision="block"}) or (d_total',
    'd_total{release="bank"}',
    'd_total{namespace=~".*"}',
    'd_total{"release"="bank"}',
    'd_total{decision="\\"} or up{x=\\""}',
    "d_total{decision='\"} or up{x=\"'}",
    '{__name__=~".+"}',
    '{"d_total", decision="} or up{"}',
    "d_total # {",
    "d_total[5m]",
    "d_total @ 0",
]


@pytest.mark.parametrize("selector", HOSTILE)
def test_a_selector_is_refused_or_asks_about_this_release_alone(selector):
    """What is sent is parsed again: every part of it is about the release's namespace, name and revisions."""
    contract = copy.deepcopy(a_body()["spec"]["contract"])
    contract["metrics"][0]["ratio"]["events"] = selector
    release = parse(a_body(contract=contract))
    if isinstance(release, InvalidSpec):
        assert "allowed" in release.message or "leave it out" in release.message
        return
    window = StageWindow("canary-10", "canary", NOW - timedelta(minutes=5), NOW, 10)
    asked = stage_queries(release, window, "old", "new", lag=timedelta(0))
    for query in asked.queries:
        selectors = list(_selectors(promql_parser.parse(query.text)))
        assert selectors
        for one in selectors:
            matchers = {(m.name, m.value) for m in one.matchers.matchers if m.op == promql_parser.MatchOp.Equal}
            assert {("namespace", "fraud"), ("release", "radar")} <= matchers, query.text


def _selectors(node):
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(node, part, None)
        if isinstance(inner, promql_parser.Expr):
            yield from _selectors(inner)
    for inner in getattr(node, "args", None) or []:
        yield from _selectors(inner)


# Exhaustion.


def test_everything_in_a_spec_is_bounded():
    """Every list, text and map of a spec has a largest size; pod template and matches are bounded by the object's."""
    from modelrelease.api.crd import crd

    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert list(_unbounded(spec, "spec")) == []


def _unbounded(schema, where):
    kind = schema.get("type")
    if kind == "array" and "maxItems" not in schema:
        yield f"{where}: a list without maxItems"
    if kind == "string" and not {"maxLength", "enum"} & schema.keys():
        yield f"{where}: a text without maxLength"
    if "additionalProperties" in schema and "maxProperties" not in schema:
        yield f"{where}: a map without maxProperties"
    if kind == "integer" and not {"minimum", "maximum"} <= schema.keys():
        yield f"{where}: a number without bounds"
    for name, part in schema.get("properties", {}).items():
        yield from _unbounded(part, f"{where}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _unbounded(schema[name], f"{where}[]")


async def test_a_spec_of_a_megabyte_is_told_and_nothing_else_happens(cluster, mallory, operator, namespace):
    """The API server takes it, for a pod template may hold anything; the operator says how much is allowed."""
    template = copy.deepcopy(MODEST)
    template["spec"]["containers"][0]["env"] = [{"name": "BLOB", "value": "x" * 1_000_000}]
    mallory(server={"port": 3000, "template": template})
    assert await operator(namespace) == []
    assert condition(cluster, namespace)["reason"] == "InvalidSpec"
    assert f"allowed are {MOST_BYTES}" in condition(cluster, namespace)["message"]
    assert len(json.dumps(cluster.get("mrel", namespace, "shop")["status"])) < 10_000
    assert cluster.names("deployment,service,controllerrevision,configmap,httproute", namespace) == set()


def test_the_smallest_interval_is_no_busy_loop():
    """Whatever interval is asked for, a release is not looked at more often than its metrics can change."""
    from modelrelease.api.reasons import Reason
    from modelrelease.core.attention import look_again
    from modelrelease.core.decide import Hold
    from modelrelease.core.plan import Plan
    from tests.builders import a_status, a_verdict

    hold = Hold(Reason.BAKING, "")
    scrape = timedelta(seconds=5)
    release = a_release(analysis={"interval": "1s"})
    wait = look_again(release, a_status(), hold, a_verdict(), Plan(None, (), (), None), NOW, shortest=scrape)
    assert wait >= timedelta(seconds=1)
