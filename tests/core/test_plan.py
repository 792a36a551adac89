"""The plan: the same list every tick, traffic from status alone, and nothing goes before its requests have."""

from datetime import timedelta

import pytest

from modelrelease.core.plan import Traffic, plan, traffic_of
from tests.builders import NOW, a_release, a_route, a_status, revision_of, seen

DRAIN = timedelta(seconds=10)
ONE, TWO = revision_of("1").name, revision_of("2").name


def _sizes(manifests):
    return {m["metadata"]["name"]: m["spec"]["replicas"] for m in manifests if m["kind"] == "Deployment"}


def test_shadow_sends_copies_and_no_user():
    """In shadow, users see only stable."""
    assert Traffic(weights={ONE: 100}, mirror=(TWO, 100)) == traffic_of(a_status("shadow"))


def test_canary_splits_users_stable_first():
    """The weights add up to 100, stable first."""
    traffic = traffic_of(a_status("canary-10"))
    assert [(ONE, 90), (TWO, 10)] == list(traffic.weights.items())
    assert traffic.mirror is None


def test_a_rolled_back_candidate_gets_nothing():
    """After a rollback every user is on stable."""
    assert Traffic(weights={ONE: 100}, mirror=None) == traffic_of(
        a_status("RolledBack").model_copy(update={"stable": a_status("shadow").stable})
    )


def test_without_a_stable_revision_a_pending_candidate_gets_no_route():
    """Before the first pods are there, there is nothing to route to."""
    assert traffic_of(a_status("Pending", stable=None)) is None


def test_stable_keeps_its_size_and_a_shadow_may_be_smaller():
    """Users' revision has all its pods; the shadow has as many as status says."""
    planned = plan(a_release(), a_status("shadow"), seen(revisions=["1", "2"]), NOW, drain=DRAIN)
    assert {f"radar-{ONE}": 3, f"radar-{TWO}": 1} == _sizes(planned.manifests)


def test_a_change_of_replicas_reaches_revisions_that_serve_users():
    """spec.server.replicas changes in place, without a rollout."""
    bigger = a_release(server={**a_release().spec.server.model_dump(by_alias=True, exclude_none=True), "replicas": 5})
    assert bigger.desired == a_release().desired
    planned = plan(bigger, a_status("canary-10"), seen(), NOW, drain=DRAIN)
    assert {f"radar-{ONE}": 5, f"radar-{TWO}": 5} == _sizes(planned.manifests)


def test_stable_is_made_from_its_stored_content_not_from_the_new_spec():
    """The spec has moved on; the stable pods are still what they were."""
    release = a_release(
        "2", server={"port": 4000, "template": {"spec": {"containers": [{"name": "s", "image": "new"}]}}}
    )
    planned = plan(release, a_status("shadow"), seen(revisions=["1"]), NOW, drain=DRAIN)
    images = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]["containers"][0]["image"]
        for m in planned.manifests
        if m["kind"] == "Deployment"
    }
    assert images[f"radar-{ONE}"] == "radar:1"


def test_pods_are_promoted_in_place():
    """The same Deployment with the same template serves in canary, in full, and as the release."""

    def of_two(stage, **kw):
        planned = plan(a_release(), a_status(stage, **kw), seen(), NOW, drain=DRAIN)
        return next(
            m for m in planned.manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == f"radar-{TWO}"
        )

    assert of_two("canary-10") == of_two("full") == of_two("Completed", stable="2", candidate=None)


def test_a_revision_without_traffic_drains_before_it_goes():
    """Pods outlive the route by the drain time, so that their last requests are answered."""
    early = plan(a_release("1"), a_status("RolledBack", entered=timedelta(seconds=4)), seen(), NOW, drain=DRAIN)
    assert ((), timedelta(seconds=6)) == (early.prune, early.prune_after)
    late = plan(a_release("1"), a_status("RolledBack", entered=DRAIN), seen(), NOW, drain=DRAIN)
    assert ((TWO,), None) == (late.prune, late.prune_after)


def test_a_revision_that_the_live_route_names_never_goes():
    """The live route is asked before anything is deleted: a lost write must not take pods from users."""
    routed = seen(route=a_route(weights={ONE: 50, TWO: 50}, in_sync=False))
    assert plan(a_release("1"), a_status("RolledBack"), routed, NOW, drain=DRAIN).prune == ()


def test_the_pods_know_who_they_are_and_the_users_template_is_kept():
    """Labels and environment of ours are added; everything else is the user's."""
    template = {
        "metadata": {"labels": {"team": "fraud"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "sa",
            "containers": [{"name": "s", "image": "i", "env": [{"name": "X", "value": "1"}]}],
        },
    }
    release = a_release("2", server={"port": 3000, "template": template})
    status = a_status("Completed", stable="2", candidate=None)
    status = status.model_copy(update={"stable": status.stable.model_copy(update={"revision": release.desired.name})})
    planned = plan(release, status, seen(available={}), NOW, drain=DRAIN)
    pod = next(m for m in planned.manifests if m["kind"] == "Deployment")["spec"]["template"]
    assert {
        "team": "fraud",
        "modelrelease.dev/release": "radar",
        "modelrelease.dev/revision": release.desired.name,
    } == pod["metadata"]["labels"]
    assert pod["metadata"]["annotations"] == {"a": "b"}
    assert pod["spec"]["serviceAccountName"] == "sa"
    env = {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}
    assert {
        "X": "1",
        "MODELRELEASE_NAME": "radar",
        "MODELRELEASE_REVISION": release.desired.name,
        "MODELRELEASE_VERSION": "2",
    } == env
    assert release.desired.template == template


@pytest.mark.parametrize(
    ("value", "order"),
    [
        ("s3://models/$(MODELRELEASE_VERSION)", ["MODELRELEASE_VERSION", "X"]),
        ("$(OTHER) MODELRELEASE_VERSION", ["X", "MODELRELEASE_VERSION"]),
        (None, ["X", "MODELRELEASE_VERSION"]),
    ],
)
def test_a_value_may_name_what_the_operator_adds(value, order):
    """Kubernetes expands what comes before only; where nothing asks for that, pods stay what they are."""
    entry = {"name": "X", "value": value} if value else {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}
    template = {"spec": {"containers": [{"name": "s", "image": "i", "env": [entry]}]}}
    release = a_release("2", server={"port": 3000, "template": template})
    status = a_status("Completed", stable="2", candidate=None)
    status = status.model_copy(update={"stable": status.stable.model_copy(update={"revision": release.desired.name})})
    planned = plan(release, status, seen(available={}), NOW, drain=DRAIN)
    pod = next(m for m in planned.manifests if m["kind"] == "Deployment")["spec"]["template"]
    names = [entry["name"] for entry in pod["spec"]["containers"][0]["env"]]
    assert [name for name in names if name in order] == order
