"""
The contract: which parts of the traffic are judged on their own, what is measured, and what must hold.

A contract is slices + metrics + clauses. A clause is one promise about one metric; it is judged over all traffic and,
with ``per``, in every slice of the named dimensions.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Final, Literal

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
QuantileText = Annotated[
    str,
    StringConstraints(max_length=16),
    Spelling(pattern=r"0\.[0-9]*[1-9][0-9]*", wanted="a quantile: write a decimal between 0 and 1, such as 0.99"),
]
DecimalText = Annotated[
    str,
    StringConstraints(max_length=16),
    Spelling(pattern=r"[0-9]+(\.[0-9]+)?", wanted="a decimal: write such as 0.2, no sign and no unit"),
]
StageKindName = Literal["shadow", "canary", "full"]

DIGEST_LENGTH: Final = 12


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


class Quantile(SpecModel):
    """A quantile of a histogram, such as the 99th percentile of a latency; in the histogram's unit."""

    histogram: Selector = Field(
        description="PromQL instant vector selector of the histogram, classic or native, by its name without `_bucket`."
    )
    q: QuantileText = Field(description="Which quantile: more than 0 and less than 1, such as 0.99.")


class Distribution(SpecModel):
    """The distribution of a histogram's values, such as a model's scores."""

    histogram: Selector = Field(
        description="PromQL instant vector selector of the histogram, classic or native, by its name without `_bucket`."
    )


class Rate(SpecModel):
    """Events per second, as if the arm had all of the traffic."""

    events: Selector = Field(description="PromQL instant vector selector of the counter of events.")


class Similar(SpecModel):
    """How far apart two distributions may be."""

    psi: DecimalText = Field(
        description="Largest population stability index, such as 0.2; 0.1 is a small change, 0.25 a large one."
    )


Measured = Ratio | Quantile | Distribution | Rate


class Metric(SpecModel):
    """Something measured in both arms; exactly one of ratio, quantile, distribution, rate."""

    name: Name = Field(description="Name of the metric; clauses refer to it.")
    better: Better | None = Field(
        default=None, description="Which direction is good: what `noWorse` means by worse. Default Lower."
    )
    ratio: Ratio | None = Field(default=None, description="The metric is a share of events.")
    quantile: Quantile | None = Field(default=None, description="The metric is a quantile of a histogram.")
    distribution: Distribution | None = Field(
        default=None, description="The metric is the distribution of a histogram; only `similar` judges it."
    )
    rate: Rate | None = Field(default=None, description="The metric is a number of events per second.")

    @property
    def measured(self) -> Measured:
        """The one thing that the metric measures."""
        given = self.ratio or self.quantile or self.distribution or self.rate
        assert given, "the schema asks for exactly one"
        return given

    @property
    def selectors(self) -> tuple[tuple[str, str], ...]:
        """Every selector with the field that it stands in, such as ``ratio.events``."""
        given = (
            ("ratio.events", self.ratio and self.ratio.events),
            ("ratio.of", self.ratio and self.ratio.of),
            ("quantile.histogram", self.quantile and self.quantile.histogram),
            ("distribution.histogram", self.distribution and self.distribution.histogram),
            ("rate.events", self.rate and self.rate.events),
        )
        return tuple((path, text) for path, text in given if text)


class Assure(SpecModel):
    """How large a harm must be excluded before the clause passes, in a unit of its verb; `none` asks for no proof."""

    overall: MarginOrNoneText | None = Field(
        default=None, description="Over all traffic, in a unit of the clause's verb. Default: the clause's own margin."
    )
    slices: MarginOrNoneText | None = Field(
        default=None,
        description="In each slice, in a unit of the clause's verb. Default 50% of the baseline, or the clause's own "
        "percentage if that is more; with atMost, atLeast and similar the clause's own margin.",
    )


class Clause(SpecModel):
    """One promise about one metric; exactly one of within, noWorse, improves, atMost, atLeast, similar."""

    name: Name = Field(description="Name of the clause; verdicts, events and reports use it.")
    metric: Name = Field(description="The metric that is judged: a name of `metrics`.")
    per: list[Name] | None = Field(
        default=None,
        max_length=8,
        description="Slice dimensions that are judged besides all traffic: names of `slices`.",
        json_schema_extra=DISTINCT,
    )
    within: MarginText | None = Field(
        default=None,
        description="Breach: the change is proved larger, up or down. `5%` is of the baseline; a ratio also takes "
        "`0.5pp` (points) or `0.005`, a quantile a decimal in the histogram's unit.",
    )
    no_worse: MarginText | None = Field(
        default=None,
        description="Breach: proved worse than the baseline by more. `5%` is of the baseline; a ratio also takes "
        "`0.5pp` (points) or `0.005`, a quantile a decimal in the histogram's unit.",
    )
    improves: bool | None = Field(
        default=None, description="True. Pass: proved better than the baseline. Breach: proved worse."
    )
    at_most: MarginText | None = Field(
        default=None,
        description="Breach: the candidate is proved above this: `0.1%` or `0.001` of a ratio, a decimal in the "
        "histogram's unit of a quantile, events per second of a rate.",
    )
    at_least: MarginText | None = Field(
        default=None,
        description="Breach: the candidate is proved below this: `99%` or `0.99` of a ratio, a decimal in the "
        "histogram's unit of a quantile, events per second of a rate.",
    )
    similar: Similar | None = Field(
        default=None, description="Breach: the distributions are proved further apart. Only for distributions."
    )
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
        relative = self.within or self.no_worse or ("0%" if self.improves else None)
        text = relative or self.at_most or self.at_least or (self.similar.psi if self.similar else None)
        assert text, "the schema asks for exactly one verb"
        return parse_margin(text)

    @property
    def needs_baseline(self) -> bool:
        """Whether the clause compares with the baseline arm."""
        return self.at_most is None and self.at_least is None

    def judged_in(self, kind: str) -> bool:
        """Whether the clause is judged in stages of this *kind*."""
        return self.stages is None or kind in self.stages


class Contract(SpecModel):
    """Slices, metrics and clauses."""

    slices: list[SliceDimension] | None = Field(
        default=None, max_length=16, description="Ways to cut the traffic.", json_schema_extra=BY_NAME
    )
    metrics: list[Metric] = Field(
        min_length=1,
        max_length=32,
        description="What is measured; one at least is no rate, to count the requests.",
        json_schema_extra=BY_NAME,
    )
    clauses: list[Clause] = Field(min_length=1, max_length=64, description="What must hold.", json_schema_extra=BY_NAME)

    @property
    def digest(self) -> str:
        """A short hash of what it says: two contracts of one digest ask for the same, however they are written."""
        said = json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:DIGEST_LENGTH]

    def metric(self, name: str) -> Metric:
        """Return the metric called *name*; the schema makes sure that clauses name an existing one."""
        return next(metric for metric in self.metrics if metric.name == name)

    def dimension(self, name: str) -> SliceDimension:
        """Return the slice dimension called *name*."""
        return next(dimension for dimension in self.slices or [] if dimension.name == name)
