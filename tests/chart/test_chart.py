"""The chart: what it renders, what it refuses, and that the real API server takes it."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import yaml

from modelrelease.api.selectors import INJECTED_LABELS
from modelrelease.config import Settings
from tests.apiserver import Cluster
from tests.chart.conftest import CHART, URL, Helm, Objects

Rendered = Callable[..., Objects]

NAME = "modelrelease-operator"
ALL = "get list watch create patch delete"

IN_NAMESPACES = {
    ("modelrelease.dev", "modelreleases"): "get list watch",
    ("modelrelease.dev", "modelcontracts"): "get list watch",
    ("modelrelease.dev", "modelreleases/status"): "patch",
    ("modelrelease.dev", "releasedecisions"): "list watch",
    ("modelrelease.dev", "releasedecisions/status"): "patch",
    ("apps", "deployments"): ALL,
    ("apps", "controllerrevisions"): "get list create delete",
    ("", "services"): ALL,
    ("", "configmaps"): "list create delete",
    ("gateway.networking.k8s.io", "httproutes"): "get list watch create patch",
    ("events.k8s.io", "events"): "create",
    ("gateway.networking.k8s.io", "gateways"): "get",
}
EVERYWHERE = {("gateway.networking.k8s.io", "gatewayclasses"): "get"}
VARIANTS = {
    "default": [],
    "two namespaces": ["watchNamespaces={fraud,loans}", "gatewayNamespaces={public}"],
    "a guarded Prometheus": ["prometheus.tokenSecret.name=token", "prometheus.caConfigMap.name=authorities"],
    "a Mimir behind a proxy": [
        "prometheus.lag=30s",
        "prometheus.headers.X-Scope-OrgID=fraud",
        "prometheus.headers.X-Asks=modelrelease: fraud",
        "prometheus.basicAuthSecret.name=user",
        "prometheus.clientCertificateSecret.name=client",
    ],
    "everything": [
        "image.repository=registry.example.com/modelrelease-operator",
        "image.tag=1.2.3",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=registry",
        "prometheus.scrapeInterval=15s",
        "log.format=text",
        "log.level=debug",
        "resources.limits.memory=1Gi",
        "priorityClassName=system-cluster-critical",
        "nodeSelector.pool=system",
        "tolerations[0].key=system",
        "tolerations[0].operator=Exists",
    ],
}


def _rights(role: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (group, resource): " ".join(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects[f"Deployment system/{NAME}"]["spec"]["template"]["spec"]
    return spec


def _environment(objects: Objects) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _pod(objects)["containers"][0]["env"]}


def test_lint(helm: Helm):
    """Helm finds nothing to complain about."""
    done = helm("lint", str(CHART), "--strict", f"--set=prometheus.url={URL}")

    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_rights_in_all_namespaces(rendered: Rendered):
    """One ClusterRole with exactly what the operator does."""
    objects = rendered()

    assert _rights(objects[f"ClusterRole {NAME}"]) == IN_NAMESPACES | EVERYWHERE
    assert [title for title in objects if title.startswith("Role")] == [
        f"Role system/{NAME}-lease",
        f"RoleBinding system/{NAME}-lease",
    ]


def test_rights_in_some_namespaces(rendered: Rendered):
    """A Role in each namespace; beyond them classes of Gateways can be read, Gateways where that is allowed."""
    objects = rendered("watchNamespaces={fraud,loans}", "gatewayNamespaces={public}")

    assert _rights(objects[f"ClusterRole {NAME}"]) == EVERYWHERE
    for namespace in ("fraud", "loans"):
        assert _rights(objects[f"Role {namespace}/{NAME}"]) == IN_NAMESPACES
        binding = objects[f"RoleBinding {namespace}/{NAME}"]
        assert binding["roleRef"]["name"] == NAME
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": "system"}]
    gateways = {("gateway.networking.k8s.io", "gateways"): "get"}
    assert _rights(objects[f"Role public/{NAME}-gateways"]) == gateways
    assert objects[f"RoleBinding public/{NAME}-gateways"]["roleRef"]["name"] == f"{NAME}-gateways"
    assert _environment(objects)["MODELRELEASE_WATCH_NAMESPACES"] == "fraud,loans"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_understands_its_environment(rendered: Rendered, variant: str, monkeypatch: pytest.MonkeyPatch):
    """Every variable is one that the operator reads, and its value is one that it takes."""
    environment = _environment(rendered(*VARIANTS[variant]))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert str(settings.prometheus_url).rstrip("/") == URL
    known = {f"MODELRELEASE_{name}".upper() for name in Settings.model_fields}
    assert environment.keys() <= known


def test_the_pod_may_do_nothing_else(rendered: Rendered):
    """Not root, nothing to write but /tmp, no capability, the runtime's system calls."""
    pod = _pod(rendered())

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_services_of_the_namespace_are_no_settings(rendered: Rendered):
    """Kubernetes sets MODELRELEASE_METRICS_PORT=tcp://... for a Service of that name, unless it is told not to."""
    assert _pod(rendered())["enableServiceLinks"] is False


def test_no_name_is_too_long(helm: Helm):
    """With the longest name that Helm allows for a release."""
    done = helm("template", "m" * 53, str(CHART), f"--set=prometheus.url={URL}")
    services = [body for body in yaml.safe_load_all(done.stdout) if body and body["kind"] == "Service"]

    assert [len(service["metadata"]["name"]) for service in services] == [63]


def test_the_lease_is_the_installations_own(rendered: Rendered):
    """Its pods elect among themselves, by a Lease of their namespace that nobody else uses, and may touch no other."""
    objects = rendered("replicas=3")
    role = objects[f"Role system/{NAME}-lease"]
    environment = _environment(objects)

    assert objects[f"Deployment system/{NAME}"]["spec"]["replicas"] == 3
    assert environment["MODELRELEASE_LEASE_NAMESPACE"] == "system"
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]] == [
        (["leases"], [environment["MODELRELEASE_LEASE_NAME"]], ["get", "update"]),
        (["leases"], None, ["create"]),
    ]


def test_a_standby_is_there_and_asked_how_it_is(rendered: Rendered):
    """An upgrade replaces one pod after the other; the kubelet asks the operator's own ports."""
    objects = rendered()
    deployment = objects[f"Deployment system/{NAME}"]["spec"]
    container = _pod(objects)["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert ports == {
        "probes": Settings.model_fields["probe_port"].default,
        "metrics": Settings.model_fields["metrics_port"].default,
    }
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "probes"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}
    assert objects[f"Service system/{NAME}-metrics"]["spec"]["ports"][0]["targetPort"] == "metrics"


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_drains_take_one_pod_at_a_time(rendered: Rendered, replicas: int):
    """Of several pods all but one stay; a single one is no obstacle to a drain."""
    objects = rendered(f"replicas={replicas}")
    budget = objects[f"PodDisruptionBudget system/{NAME}"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    deployment = objects[f"Deployment system/{NAME}"]["spec"]
    assert budget["selector"] == deployment["selector"]
    assert deployment["replicas"] == replicas


def test_files_for_a_guarded_prometheus(rendered: Rendered):
    """Token and authorities are mounted where the variables say."""
    objects = rendered("prometheus.tokenSecret.name=token", "prometheus.caConfigMap.name=authorities")
    environment = _environment(objects)
    pod = _pod(objects)
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    assert environment["MODELRELEASE_PROMETHEUS_TOKEN_FILE"] == f"{mounts['prometheus-token']}/token"
    assert environment["MODELRELEASE_PROMETHEUS_CA_FILE"] == f"{mounts['prometheus-ca']}/ca.crt"
    assert volumes["prometheus-token"]["secret"] == {"secretName": "token"}
    assert volumes["prometheus-ca"]["configMap"] == {"name": "authorities"}


def test_files_for_basic_authentication_and_a_client_certificate(rendered: Rendered):
    """The keys are those that Secrets of these types have."""
    objects = rendered(*VARIANTS["a Mimir behind a proxy"])
    environment = _environment(objects)
    pod = _pod(objects)
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume.get("secret") for volume in pod["volumes"]}

    for variable, path in {
        "USERNAME_FILE": f"{mounts['prometheus-user']}/username",
        "PASSWORD_FILE": f"{mounts['prometheus-user']}/password",
        "CLIENT_CERTIFICATE_FILE": f"{mounts['prometheus-client']}/tls.crt",
        "CLIENT_KEY_FILE": f"{mounts['prometheus-client']}/tls.key",
    }.items():
        assert environment[f"MODELRELEASE_PROMETHEUS_{variable}"] == path
    assert volumes["prometheus-user"] == {"secretName": "user"}
    assert volumes["prometheus-client"] == {"secretName": "client"}


def test_headers_arrive_as_they_are_written(rendered: Rendered, monkeypatch: pytest.MonkeyPatch):
    for name, value in _environment(rendered(*VARIANTS["a Mimir behind a proxy"])).items():
        monkeypatch.setenv(name, value)

    assert Settings().prometheus_headers == {"X-Scope-OrgID": "fraud", "X-Asks": "modelrelease: fraud"}
    assert Settings().prometheus_lag == timedelta(seconds=30)


def test_pod_monitor(rendered: Rendered):
    """Off by default; else it copies the labels that tell the arms apart, as the README says for all others."""
    assert not any(title.startswith("PodMonitor") for title in rendered())

    monitor = rendered("podMonitor.enabled=true", "podMonitor.labels.release=stack")[
        f"PodMonitor system/{NAME}-model-servers"
    ]
    rules = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]

    assert monitor["metadata"]["labels"]["release"] == "stack"
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    labelled = {rule["targetLabel"]: rule["sourceLabels"] for rule in rules}
    assert labelled.keys() == {"release", "revision"}
    # The Prometheus Operator sets the namespace by itself; nobody else does.
    by_hand = {rule["target_label"]: rule["source_labels"] for rule in _scrape_job() if "target_label" in rule}
    assert by_hand == labelled | {"namespace": ["__meta_kubernetes_namespace"]}
    assert by_hand.keys() == INJECTED_LABELS


def _scrape_job() -> list[dict[str, Any]]:
    """Return the relabel rules that the README gives to those without the Prometheus Operator."""
    example = (CHART / "README.md").read_text().split("```yaml")[1].split("```")[0]
    rules: list[dict[str, Any]] = yaml.safe_load(example)["relabel_configs"]
    return rules


def test_the_readme_names_every_value():
    """A value without a word about it is a value that nobody finds."""
    readme = (CHART / "README.md").read_text()

    for name in yaml.safe_load((CHART / "values.yaml").read_text()):
        assert f"`{name}" in readme, name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            ["prometheus.url="],
            "prometheus.url is required: the address of your Prometheus, such as --set prometheus.url=",
        ),
        (["prometheus.url=prometheus:9090"], "prometheus/url"),
        (["prometheus.url=http://ana:secret@prometheus:9090"], "prometheus/url"),
        (["prometheus.headers.X Y=z"], "X Y"),
        (["prometheus.urll=x"], "urll"),
        (["replicas=0"], "replicas"),
        (["log.level=verbose"], "log/level"),
        (["log.format=xml"], "log/format"),
        (["image.pullPolicy=Sometimes"], "image/pullPolicy"),
        (["prometheus.scrapeInterval=15"], "prometheus/scrapeInterval"),
        (["watchNamespaces=fraud"], "watchNamespaces"),
        (["watchNamespaces={Fraud}"], "watchNamespaces/0"),
        (["watchNamespaces={fraud,fraud}"], "watchNamespaces"),
        (["podMonitor.enabled=perhaps"], "podMonitor/enabled"),
        (["prometheus.tokenSecret.name=My_Secret"], "prometheus/tokenSecret/name"),
    ],
)
def test_bad_values_are_refused(helm: Helm, values: list[str], says: str):
    """The schema names the value."""
    settings = [f"--set={value}" for value in (f"prometheus.url={URL}", *values)]

    done = helm("template", "modelrelease", str(CHART), *settings)

    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.apiserver
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_takes_it(rendered: Rendered, cluster: Cluster, variant: str):
    """Every rendered object passes strict validation."""
    for name in ("system", "fraud", "loans", "public"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    objects = rendered(*VARIANTS[variant])

    taken = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-",
        given={"apiVersion": "v1", "kind": "List", "items": list(objects.values())},
    )  # fmt: skip

    assert len(taken.split()) == len(objects)


LEASES = ("coordination.k8s.io", "leases")


@pytest.mark.apiserver
@pytest.mark.parametrize("variant", ["default", "two namespaces"])
def test_the_operator_may_what_it_does(rendered: Rendered, cluster: Cluster, variant: str):
    """The API server itself says yes to each right where it is needed, and no to what was not asked for."""
    for name in ("system", "fraud", "loans", "public"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    objects = rendered(*VARIANTS[variant])
    rbac = [body for title, body in objects.items() if title.split()[0].endswith(("Role", "Binding"))]
    cluster.apply(*rbac)

    asked = {
        **{("fraud", *kind, verb): True for kind, verbs in IN_NAMESPACES.items() for verb in verbs.split()},
        **{("system", *LEASES, verb, NAME): True for verb in ("get", "update")},
        **{("system", *LEASES, verb, "of-somebody-else"): False for verb in ("get", "update")},
        ("public", "gateway.networking.k8s.io", "gateways", "get"): True,
        ("elsewhere", "gateway.networking.k8s.io", "gateways", "get"): variant == "default",
        ("other", "modelrelease.dev", "modelreleases", "list"): variant == "default",
        ("fraud", "modelrelease.dev", "modelreleases", "patch"): False,
        ("fraud", "", "secrets", "get"): False,
        ("fraud", "", "pods", "list"): False,
        ("fraud", "apiextensions.k8s.io", "customresourcedefinitions", "get"): False,
        ("fraud", *LEASES, "get"): False,
    }

    def allows(namespace, group, resource, verb, name=""):
        return cluster.allows(f"system:serviceaccount:system:{NAME}", namespace, (group, resource, verb), name)

    try:
        deadline = time.monotonic() + 10  # the API server takes rights up a moment after they are there
        while (answers := {it: allows(*it) for it in asked}) != asked and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answers == asked
    finally:
        cluster.remove(*rbac)
