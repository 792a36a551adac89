"""
What users write: the spec of a ModelRelease.

One ModelRelease stands for one served model, for years. A new model version is an edit of it.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from modelrelease.api.base import BY_NAME, DISTINCT, SpecModel
from modelrelease.api.constraints import Between, Spelling
from modelrelease.api.contract import Contract, Name
from modelrelease.api.quantities import Duration, PercentText, PositiveDuration, parse_duration, parse_fraction
from modelrelease.api.template import PodTemplate

Percent = Annotated[int, Between(1, 100)]
Replicas = Annotated[int, Between(1, 1000)]
Port = Annotated[int, Between(1, 65535)]
OBJECT_NAME: Final = Spelling(
    pattern=r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?",
    wanted="an object's name: use lower-case letters, digits, inner dashes and dots",
)
ObjectName = Annotated[str, StringConstraints(max_length=253), OBJECT_NAME]
HostName = Annotated[
    str,
    StringConstraints(max_length=253),
    Spelling(
        pattern=r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        wanted="a host name: write lower case, such as radar.example.com or *.example.com, no scheme, port or path",
    ),
]
Version = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    Spelling(pattern=r"[!-~]*", wanted="a version: use printable ASCII characters and no spaces"),
]


LineageText = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class StageKind(StrEnum):
    """What users see of the candidate."""

    SHADOW = "shadow"
    CANARY = "canary"
    FULL = "full"


DEFAULT_BAKE: Final = {StageKind.SHADOW: "30m", StageKind.CANARY: "10m", StageKind.FULL: "24h"}


class OnInconclusive(StrEnum):
    """What happens at a stage's deadline without enough evidence."""

    HOLD = "Hold"
    ADVANCE = "Advance"
    ROLLBACK = "Rollback"


class OnNoMetrics(StrEnum):
    """What happens when Prometheus stays silent past the metrics deadline."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"


class ApprovalMode(StrEnum):
    """Who says that a stage is left whose gate passes."""

    AUTO = "Auto"
    SUGGEST = "Suggest"
    MANUAL = "Manual"


class StageApproval(StrEnum):
    """The same for one stage, whatever the release's mode is."""

    REQUIRED = "Required"
    AUTO = "Auto"


class Lineage(SpecModel):
    """Where a model comes from; kept in the history, and no part of what makes a revision another."""

    code: LineageText | None = Field(default=None, description="Commit of its code, such as git@4be1c0d.")
    data: LineageText | None = Field(default=None, description="Its training data, such as s3://datasets/radar/1.")
    run: LineageText | None = Field(default=None, description="The run that trained it, such as mlflow:/8812.")


class Model(SpecModel):
    """The model that is served."""

    version: Version = Field(
        description="Version of the model. Any change of it, or of the server's port or template, starts a rollout."
    )
    lineage: Lineage | None = Field(
        default=None, description="Where the model comes from. A change of it alone starts no rollout."
    )


class Server(SpecModel):
    """The pods that serve the model."""

    replicas: Replicas | None = Field(
        default=None, description="Pods per revision at full size. Changed in place, no rollout. Default 1."
    )
    port: Port = Field(description="Container port that takes requests.")
    progress_deadline: PositiveDuration | None = Field(
        default=None, description="A candidate must become available within this. Default 10m."
    )
    shadow_replicas: Replicas | None = Field(
        default=None, description="Pods of a candidate while it has no user traffic. Default: replicas."
    )
    template: PodTemplate = Field(description="A PodTemplateSpec.")


class ParentRef(SpecModel):
    """The Gateway that the route attaches to."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: Name | None = Field(default=None, description="Default: the release's own namespace.")
    section_name: ObjectName | None = Field(default=None, description="Only this listener. Default: all.")
    port: Port | None = Field(default=None, description="Only listeners on this port.")


class GatewayAPI(SpecModel):
    """Traffic through one HTTPRoute named like the release."""

    parent_refs: list[ParentRef] = Field(min_length=1, max_length=16, description="The Gateways, as in an HTTPRoute.")
    hostnames: list[HostName] | None = Field(
        default=None, max_length=16, description="Default: the listener's.", json_schema_extra=DISTINCT
    )
    matches: list[dict[str, Any]] | None = Field(
        default=None,
        max_length=8,
        description="HTTPRouteMatch list of the one rule. Default: every path.",
        json_schema_extra={"items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    )


class Traffic(SpecModel):
    """How requests reach the revisions."""

    gateway_api: GatewayAPI = Field(alias="gatewayAPI")


class Shadow(SpecModel):
    """Copies of requests go to the candidate; users see only the stable revision."""

    percent: Percent | None = Field(default=None, description="Share of requests that is copied. Default 100.")


class Canary(SpecModel):
    """A share of users is served by the candidate."""

    percent: Percent = Field(description="Share of requests that the candidate answers.")


class Full(SpecModel):
    """All users are served by the candidate; the old revision stays warm for the watch."""


class Stage(SpecModel):
    """One step of the rollout; exactly one of shadow, canary, full."""

    name: Name = Field(description="Name of the stage; status.stage and events use it.")
    shadow: Shadow | None = None
    canary: Canary | None = None
    full: Full | None = None
    bake: Duration | None = Field(
        default=None, description="Shortest time in the stage. Default: shadow 30m, canary 10m, full 24h (the watch)."
    )
    deadline: PositiveDuration | None = Field(
        default=None,
        description="With no verdict by then, analysis.onInconclusive decides. Default 2h, never less than twice bake.",
    )
    approval: StageApproval | None = Field(
        default=None,
        description="Required: the stage is left only when a person approves. Auto: it is left by itself when its gate "
        "passes. Default: as approval.mode says.",
    )

    @property
    def kind(self) -> StageKind:
        """The kind of the stage."""
        if self.shadow is not None:
            return StageKind.SHADOW
        return StageKind.CANARY if self.canary is not None else StageKind.FULL

    @property
    def weight(self) -> int:
        """Share of user requests that the candidate answers, in percent."""
        if self.canary is not None:
            return self.canary.percent
        return 0 if self.shadow is not None else 100

    @property
    def mirror_percent(self) -> int:
        """Share of user requests that is copied to the candidate, in percent."""
        return 0 if self.shadow is None else self.shadow.percent or 100

    @property
    def bake_time(self) -> timedelta:
        """Shortest time in the stage."""
        return parse_duration(self.bake or DEFAULT_BAKE[self.kind])

    @property
    def deadline_time(self) -> timedelta:
        """Time after which an inconclusive gate is decided by ``analysis.onInconclusive``."""
        return parse_duration(self.deadline) if self.deadline else max(timedelta(hours=2), 2 * self.bake_time)


DEFAULT_STAGES = (
    Stage(name="shadow", shadow=Shadow(percent=100)),
    Stage(name="canary-5", canary=Canary(percent=5)),
    Stage(name="canary-25", canary=Canary(percent=25)),
    Stage(name="canary-50", canary=Canary(percent=50)),
    Stage(name="full", full=Full()),
)


class Analysis(SpecModel):
    """How gates are judged."""

    interval: Duration | None = Field(default=None, description="How often gates are judged. Default 30s.")
    error_budget: PercentText | None = Field(
        default=None, description="Chance of one false rollback in the whole release. Default 1%."
    )
    on_inconclusive: OnInconclusive | None = Field(default=None, description="At a stage's deadline. Default Hold.")
    on_no_metrics: OnNoMetrics | None = Field(
        default=None, description="Prometheus silent past metricsDeadline. Default Hold."
    )
    metrics_deadline: PositiveDuration | None = Field(default=None, description="Default 30m.")


class Approval(SpecModel):
    """Whether people approve what the operator would do. A rollback never waits for anybody."""

    mode: ApprovalMode | None = Field(
        default=None,
        description="Auto: a stage is left when its gate passes. Suggest: the operator says so and waits for an "
        "Approve. Manual: every stage needs an Approve. Default Auto.",
    )
    automate_after: Annotated[int, Between(1, 100)] | None = Field(
        default=None,
        description="Suggest: so many suggestions followed in a row earn a stage its automation. Default 5.",
    )


class ContractRef(SpecModel):
    """A ModelContract of the release's own namespace."""

    name: ObjectName = Field(description="Name of the ModelContract.")


class ReleaseSpec(SpecModel):
    """The whole spec of a ModelRelease."""

    owner: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Who is told; shown in events."
    )
    suspend: bool | None = Field(default=None, description="True: nothing moves, traffic stays where it is.")
    model: Model
    server: Server
    traffic: Traffic
    contract: Contract | None = Field(default=None, description="What must hold; or write contractRef.")
    contract_ref: ContractRef | None = Field(
        default=None, description="A ModelContract in the namespace of the release, instead of contract."
    )
    stages: list[Stage] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Default: shadow 30m; canary 5, 25, 50 %, 10m each; full, watched for 24h.",
        json_schema_extra=BY_NAME,
    )
    analysis: Analysis | None = None
    approval: Approval | None = None
    history: Annotated[int, Between(1, 50)] | None = Field(
        default=None, description="How many ended rollouts status.history keeps. Default 10."
    )

    # Defaults live here, not in the CRD: a GitOps tool would show every defaulted field as a difference for ever.

    @property
    def plan_stages(self) -> tuple[Stage, ...]:
        """The stages in order, the default plan when the spec gives none."""
        return tuple(self.stages) if self.stages else DEFAULT_STAGES

    @property
    def replicas(self) -> int:
        """Pods per revision at full size."""
        return self.server.replicas or 1

    @property
    def shadow_replicas(self) -> int:
        """Pods of a candidate without user traffic."""
        return min(self.server.shadow_replicas or self.replicas, self.replicas)

    @property
    def progress_deadline(self) -> timedelta:
        """A candidate must become available within this."""
        return parse_duration(self.server.progress_deadline or "10m")

    @property
    def interval(self) -> timedelta:
        """How often gates are judged."""
        return parse_duration((self.analysis and self.analysis.interval) or "30s")

    @property
    def error_budget(self) -> float:
        """Chance of one false rollback in the whole release, as a fraction."""
        return parse_fraction((self.analysis and self.analysis.error_budget) or "1%")

    @property
    def on_inconclusive(self) -> OnInconclusive:
        """What happens at a stage's deadline without enough evidence."""
        return (self.analysis and self.analysis.on_inconclusive) or OnInconclusive.HOLD

    @property
    def on_no_metrics(self) -> OnNoMetrics:
        """What happens when Prometheus stays silent."""
        return (self.analysis and self.analysis.on_no_metrics) or OnNoMetrics.HOLD

    @property
    def metrics_deadline(self) -> timedelta:
        """How long Prometheus may stay silent before ``on_no_metrics`` decides."""
        return parse_duration((self.analysis and self.analysis.metrics_deadline) or "30m")

    @property
    def approval_mode(self) -> ApprovalMode:
        """Who says that a stage is left whose gate passes."""
        return (self.approval and self.approval.mode) or ApprovalMode.AUTO

    @property
    def automate_after(self) -> int:
        """How many suggestions in a row must be followed to earn automation."""
        return (self.approval and self.approval.automate_after) or 5

    @property
    def history_limit(self) -> int:
        """How many ended rollouts are kept in status."""
        return self.history or 10
