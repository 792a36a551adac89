"""
The contract: which parts of the traffic are judged on their own, what is measured, and what must hold.

A contract is slices + metrics + clauses. A clause is one promise about one metric; it is judged over all traffic and,
with ``per``, in every slice of the named dimensions.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelrelease.api.base import BY_NAME, DISTINCT, SpecModel
from modelrelease.api.constraints import Between, Spelling
from modelrelease.api.quantities import Margin, MarginOrNoneText, MarginText, parse_margin

Name = Annotated[
    str,
    StringConstraints(max_length=63),
    Spelling(
        pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        wanted="a name: use lower-case letters, digits and inner dashes, such as few-errors",
    ),
]
LabelName = Annotated[
    str,
    StringConstraints(max_length=63),
    Spelling(
        pattern=r"[a-zA-Z_][a-zA-Z0-9_]*",
        wanted="a Prometheus label name: use letters, digits and underscores, no digit first",
    ),
]
Selector = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
StageKindName = Literal["shadow", "canary", "full"]


class Better(StrEnum):
    """Which direction of a metric is good."""

    HIGHER = "Higher"
    LOWER = "Lower"


class OnBreach(StrEnum):
    """What a broken clause does."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"
    WARN = "Warn"


class SliceDimension(SpecModel):
    """A way to cut the traffic: by one label, or by the cross of several."""

    name: Name = Field(description="Name of the dimension; clauses refer to it in `per`.")
    labels: list[LabelName] = Field(
        min_length=1,
        max_length=4,
        description="Metric labels whose values name the slices; several make the cross.",
        json_schema_extra=DISTINCT,
    )
    expected: list[Annotated[str, StringConstraints(min_length=1, max_length=253)]] | None = Field(
        default=None,
        max_length=500,
        description="Label values that must be seen (for several labels joined by a comma, in the order of `labels`): "
        "a silent one is Inconclusive, never a pass.",
        json_schema_extra=DISTINCT,
    )
    at_most: Annotated[int, Between(1, 10_000)] | None = Field(
        default=None, description='More values than this: the smallest go to "other". Default 500.'
    )


class Ratio(SpecModel):
    """A share of events, as two counters."""

    events: Selector = Field(description="PromQL instant vector selector of the counter of events.")
    of: Selector = Field(description="PromQL instant vector selector of the counter of everything that can be one.")


class Metric(SpecModel):
    """Something measured in both arms."""

    name: Name = Field(description="Name of the metric; clauses refer to it.")
    better: Better | None = Field(
        default=None, description="Which direction is good: what `noWorse` means by worse. Default Lower."
    )
    ratio: Ratio = Field(description="The metric is a share of events.")


class Assure(SpecModel):
    """How large a harm must be excluded before the clause passes; `none` asks for no proof."""

    overall: MarginOrNoneText | None = Field(
        default=None, description="Over all traffic. Default: the clause's own margin."
    )
    slices: MarginOrNoneText | None = Field(default=None, description="In each slice. Default 50%.")


class Clause(SpecModel):
    """One promise about one metric; exactly one of within, noWorse, improves, atMost, atLeast."""

    name: Name = Field(description="Name of the clause; verdicts, events and reports use it.")
    metric: Name = Field(description="The metric that is judged: a name of `metrics`.")
    per: list[Name] | None = Field(
        default=None,
        max_length=8,
        description="Slice dimensions that are judged besides all traffic: names of `slices`.",
        json_schema_extra=DISTINCT,
    )
    within: MarginText | None = Field(default=None, description="Breach: the change is proved larger, up or down.")
    no_worse: MarginText | None = Field(default=None, description="Breach: proved worse than the baseline by more.")
    improves: bool | None = Field(
        default=None, description="True. Pass: proved better than the baseline. Breach: proved worse."
    )
    at_most: MarginText | None = Field(default=None, description="Breach: the candidate is proved above this.")
    at_least: MarginText | None = Field(default=None, description="Breach: the candidate is proved below this.")
    stages: list[StageKindName] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Kinds of stage in which it is judged. Default: all.",
        json_schema_extra=DISTINCT,
    )
    on_breach: OnBreach | None = Field(default=None, description="What a breach does. Default Rollback.")
    assure: Assure | None = Field(default=None, description="How large a harm must be excluded before a pass.")
    weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Share of the error budget, against other clauses of the same onBreach. Default 1."
    )

    @property
    def margin(self) -> Margin:
        """The margin of the clause's one verb; to improve is to be no worse by nothing."""
        text = self.within or self.no_worse or (self.improves and "0%") or self.at_most or self.at_least
        assert text, "the schema asks for exactly one verb"
        return parse_margin(text)

    @property
    def needs_baseline(self) -> bool:
        """Whether the clause compares with the baseline arm."""
        return self.within is not None or self.no_worse is not None or self.improves is not None

    def judged_in(self, kind: str) -> bool:
        """Whether the clause is judged in stages of this *kind*."""
        return self.stages is None or kind in self.stages


class Contract(SpecModel):
    """Slices, metrics and clauses."""

    slices: list[SliceDimension] | None = Field(
        default=None, max_length=16, description="Ways to cut the traffic.", json_schema_extra=BY_NAME
    )
    metrics: list[Metric] = Field(
        min_length=1, max_length=32, description="What is measured.", json_schema_extra=BY_NAME
    )
    clauses: list[Clause] = Field(min_length=1, max_length=64, description="What must hold.", json_schema_extra=BY_NAME)

    def metric(self, name: str) -> Metric:
        """Return the metric called *name*; the schema makes sure that clauses name an existing one."""
        return next(metric for metric in self.metrics if metric.name == name)

    def dimension(self, name: str) -> SliceDimension:
        """Return the slice dimension called *name*."""
        return next(dimension for dimension in self.slices or [] if dimension.name == name)
