"""The generated CRD: what the API server does with it beyond refusing, and that what is committed is generated."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import paths
from modelrelease.api.crd import crd, main, rendered
from modelrelease.api.parse import Release, named_contract, parse
from modelrelease.api.status import ReleaseStatus
from tests.api.conftest import Admission
from tests.api.specs import GOOD
from tests.apiserver import Cluster

FILE = "modelrelease.dev_modelreleases.yaml"
KINDS = ("ModelRelease", "ModelContract", "ReleaseDecision")
CHART = paths.REPOSITORY / "charts" / "modelrelease-operator" / "crds"


def test_the_committed_copies_are_the_generated_ones():
    """What is in git is what the models say."""
    text = rendered()[FILE]

    assert text == (paths.REPOSITORY / "crds" / FILE).read_text()
    assert text == (CHART / FILE).read_text()
    for folder in (paths.REPOSITORY / "crds", CHART):
        assert rendered() == {file.name: file.read_text() for file in folder.iterdir()}


def test_no_category_is_the_name_of_a_kind():
    """``kubectl get modelrelease NAME`` would mean all kinds of that category, and be refused."""
    names = [yaml.safe_load(text)["spec"]["names"] for text in rendered().values()]
    of_kinds = {word for it in names for word in (it["singular"], it["plural"], *it["shortNames"])}
    assert of_kinds.isdisjoint({category for it in names for category in it["categories"]})


@pytest.mark.slow
def test_check_shows_the_difference_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """``--check`` fails with a diff as long as a file is not what it should be."""
    arguments = ["--out", str(tmp_path / "crds"), "--chart", str(tmp_path / "chart")]
    assert main([*arguments, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []

    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    assert capsys.readouterr().out == ""

    file = tmp_path / "chart" / FILE
    file.write_text(file.read_text().replace("shortNames", "longNames"))
    assert main([*arguments, "--check"]) == 1
    assert "+    shortNames:" in capsys.readouterr().err


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for part in schema.get("properties", {}).values():
        yield from _parts(part)
    if "items" in schema:
        yield from _parts(schema["items"])


def test_only_the_status_has_a_default():
    """A defaulted field is a difference for GitOps tools; the status default says that nobody has looked yet."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    defaults = [part["default"] for part in _parts(schema) if "default" in part]

    assert defaults == [{"observedGeneration": -1}]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_spec_says_what_it_is(kind: str):
    """``kubectl explain`` answers for every field that users write."""
    spec = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    silent = [name for part in _parts(spec) for name, field in _own(part).items() if not field.get("description")]

    assert silent == []


def _own(part: dict[str, Any]) -> dict[str, Any]:
    # Parts of the pod template are Kubernetes' own and explained there.
    return {} if "x-kubernetes-preserve-unknown-fields" in part else part.get("properties", {})


def test_a_union_that_no_schema_can_say_is_an_error():
    """The generator refuses what it would have to guess."""
    from pydantic import BaseModel

    from modelrelease.api.crd import structural_schema

    class Undecided(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="use optional fields and a CEL rule"):
        structural_schema(Undecided)


@pytest.mark.apiserver
def test_kubectl_shows_the_columns(cluster: Cluster, namespace: str):
    """The table answers: which stage, who serves, who is on trial, how it looks."""
    cluster.create(_in(namespace))
    cluster.patch("mrel", namespace, "radar", {"status": FULL_STATUS}, status=True)

    header, row = cluster.kubectl("get", "mrel", "-n", namespace).splitlines()

    assert header.split() == ["NAME", "STAGE", "STABLE", "CANDIDATE", "WEIGHT", "VERDICT", "WORST", "READY", "AGE"]
    assert row.startswith(
        "radar   canary-5   2026-10-01   2026-11-20   5        Breach    block-rate country=FR 2.0% -> 2.8%, +41%"
    )
    wide = cluster.kubectl("get", "mrel", "-n", namespace, "-o", "wide")
    assert "REASON" in wide
    assert "ContractBreached" in wide


@pytest.mark.apiserver
def test_a_new_release_is_not_taken_for_finished(cluster: Cluster, namespace: str):
    """kstatus calls an object without status Current; ours begins with a generation that nobody has observed."""
    cluster.create(_in(namespace))

    assert cluster.get("mrel", namespace, "radar")["status"] == {"observedGeneration": -1}


@pytest.mark.apiserver
def test_a_full_status_is_stored_as_it_was_written(cluster: Cluster, namespace: str):
    """The schema of the status prunes nothing that the operator writes."""
    cluster.create(_in(namespace))

    cluster.patch("mrel", namespace, "radar", {"status": FULL_STATUS}, status=True)

    stored = cluster.get("mrel", namespace, "radar")["status"]
    assert stored == FULL_STATUS
    assert ReleaseStatus.model_validate(stored).as_json() == FULL_STATUS


@pytest.mark.apiserver
def test_applying_twice_changes_nothing(cluster: Cluster, namespace: str, tmp_path: Path):
    """
    No default and no rewrite by the API server: GitOps tools see no difference.

    The first write after the creation stores the default of the status, which changes nothing that can be seen.
    """
    file = tmp_path / "release.json"
    file.write_text(json.dumps(_in(namespace)))
    cluster.kubectl("apply", "--server-side", "-f", str(file))
    created = cluster.get("mrel", namespace, "radar")
    cluster.kubectl("apply", "--server-side", "-f", str(file))
    before = cluster.get("mrel", namespace, "radar")

    cluster.kubectl("apply", "--server-side", "-f", str(file))
    dry = json.loads(cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", str(file), "-o", "json"))

    after = cluster.get("mrel", namespace, "radar")
    assert created["metadata"]["generation"] == after["metadata"]["generation"] == 1
    assert before == after
    assert dry["spec"] == after["spec"] == GOOD["spec"]


@pytest.mark.apiserver
def test_the_examples_of_the_documentation_are_admitted(admission: Admission):
    """Every ModelRelease in a Markdown file can be applied as it stands."""
    contracts = {body["metadata"]["name"]: body for _, body in _documented("ModelContract")}

    for where, body in _documented("ModelRelease"):
        assert admission.refusal(_in("default", body)) is None, where
        named = named_contract(body)
        assert isinstance(parse(body, contracts[named] if named else None), Release), where


def _documented(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    pages = [
        paths.REPOSITORY / "README.md",
        *paths.REPOSITORY.glob("docs/**/*.md"),
        *paths.REPOSITORY.glob("charts/*/README.md"),
    ]
    for page in pages:
        for block in page.read_text().split("```yaml")[1:]:
            for body in yaml.safe_load_all(block.split("```")[0]):
                if isinstance(body, dict) and body.get("kind") == kind and "spec" in body:
                    yield f"{page.name}: {body['metadata']}", body


def test_the_parser_takes_the_good_spec():
    """What is admitted can be carried out."""
    assert isinstance(parse(GOOD), Release)


def _in(namespace: str, body: dict[str, Any] = GOOD) -> dict[str, Any]:
    body = copy.deepcopy(body)
    body["metadata"]["namespace"] = namespace
    return body


TIME = "2026-11-23T12:00:00Z"
ARM = {"revision": "7f3c9b1", "version": "2026-11-20", "weight": 5, "mirrorPercent": 0, "since": TIME}
FINDING = {
    "slice": "country=FR",
    "verdict": "Breach",
    "reason": "ContractBreached",
    "baseline": "16.1%",
    "candidate": "44.3%",
    "change": "+175%",
    "low": "+102%",
    "high": "+270%",
    "limit": "60%",
    "baselineCounts": {"events": "150", "of": "930"},
    "candidateCounts": {"events": "412", "of": "930"},
}
DECISION = {
    "name": "radar-x7k2p",
    "uid": "0b2d",
    "decision": "Approve",
    "revision": "7f3c9b1",
    "stage": "shadow",
    "approvedBy": "ana@example.com",
    "reason": "checked by hand",
    "despite": "BreachHeld",
    "overruled": ["steady"],
    "voidSince": TIME,
    "time": TIME,
}
FULL_STATUS: dict[str, Any] = ReleaseStatus.model_validate(
    {
        "observedGeneration": 3,
        "stage": "canary-5",
        "stageStartTime": TIME,
        "stable": {**ARM, "version": "2026-10-01", "weight": 95},
        "candidate": {
            **ARM,
            "replicas": 3,
            "unavailableSince": TIME,
            "silentSince": TIME,
            "stages": [
                {
                    "name": "shadow",
                    "kind": "shadow",
                    "startTime": TIME,
                    "endTime": TIME,
                    "contract": "868243682a2f",
                    "evidence": "radar-7f3c9b1-shadow-0123abcd",
                },
                {
                    "name": "canary-5",
                    "kind": "canary",
                    "percent": 5,
                    "raiseTo": 10,
                    "startTime": TIME,
                    "pausedSince": TIME,
                    "deadlineSince": TIME,
                },
            ],
        },
        "gate": {
            "stage": "canary-5",
            "verdict": "Breach",
            "reason": "ContractBreached",
            "message": "clause steady is broken in 1 of 10 slices",
            "worst": "block-rate country=FR 2.0% -> 2.8%, +41% (limit 5%)",
            "contract": "868243682a2f",
            "evaluatedAt": TIME,
            "clauses": [
                {
                    "name": "steady",
                    "metric": "block-rate",
                    "verdict": "Breach",
                    "reason": "ContractBreached",
                    "message": "broken",
                    "overall": {**FINDING, "slice": ""},
                    "worst": [FINDING],
                    "slicesJudged": 10,
                    "slicesInconclusive": 1,
                }
            ],
        },
        "suggestion": {
            "stage": "canary-5",
            "action": "Advance",
            "to": "canary-50",
            "message": "every clause holds",
            "since": TIME,
        },
        "followed": [
            {"stage": "shadow", "inARow": 5, "followed": 7, "overruled": 1, "automationEarned": True},
        ],
        "decisions": [DECISION],
        "metricsMissingSince": TIME,
        "rejected": [
            {
                "revision": "7f3c9b1",
                "version": "1",
                "stage": "shadow",
                "reason": "ContractBreached",
                "message": "broken",
                "clause": "steady",
                "slice": "country=FR",
                "time": TIME,
            }
        ],
        "history": [
            {
                "revision": "7f3c9b1",
                "version": "1",
                "outcome": "RolledBack",
                "reason": "ContractBreached",
                "message": "broken",
                "lineage": {"code": "git@4be1c0d", "data": "s3://datasets/radar", "run": "mlflow:/8812"},
                "decisions": [DECISION],
                "evidence": ["radar-7f3c9b1-shadow-0123abcd"],
                "startTime": TIME,
                "endTime": TIME,
            }
        ],
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "ContractBreached",
                "message": "broken",
                "observedGeneration": 3,
                "lastTransitionTime": TIME,
            }
        ],
    }
).as_json()
