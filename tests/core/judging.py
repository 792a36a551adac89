"""Builders for the judge: a contract about block rates per country, and counts written as (events, of) pairs."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from modelrelease.api.contract import Contract
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, Slice, SliceCounts, StageCounts
from modelrelease.core.judge import judge
from modelrelease.core.verdict import ClauseVerdict, GateVerdict, SliceVerdict

Pair = tuple[float, float]
Arms = tuple[Pair, Pair]
"""(events, of) of the baseline and of the candidate."""


def a_contract(*clauses: Mapping[str, Any], better: str = "Lower", **dimension: Any) -> Contract:
    """Return a contract with the metrics block-rate and error-rate and the dimension country."""
    return Contract.model_validate(
        {
            "slices": [{"name": "country", "labels": ["country"], **dimension}],
            "metrics": [
                {"name": "block-rate", "better": better, "ratio": {"events": "blocks", "of": "decisions"}},
                {"name": "error-rate", "ratio": {"events": "errors", "of": "requests"}},
            ],
            "clauses": list(clauses) or [STEADY],
        }
    )


STEADY: Mapping[str, Any] = {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"}
ROUGHLY_STEADY: Mapping[str, Any] = {
    **STEADY,
    "assure": {"overall": "50%", "slices": "50%"},
}
FEW_ERRORS: Mapping[str, Any] = {"name": "few-errors", "metric": "error-rate", "atMost": "0.1%"}


def country(value: str) -> Slice:
    """Return the slice of one country."""
    return (("country", value),)


def a_stage(
    overall: Arms | None = None,
    countries: Mapping[str, Arms] | None = None,
    *,
    errors: Arms | None = None,
    kind: str = "canary",
    seconds: float = 600,
) -> StageCounts:
    """Return the counts of one stage; all traffic is the sum of the countries unless given."""
    counts = {}
    if countries:
        counts["block-rate", "country"] = table({country(value): arms for value, arms in countries.items()})
        if overall is None:
            sums = np.nansum([np.array(arms) for arms in countries.values()], axis=0)
            overall = ((sums[0][0], sums[0][1]), (sums[1][0], sums[1][1]))
    if overall:
        counts["block-rate", OVERALL_DIMENSION] = table({OVERALL: overall})
    if errors:
        counts["error-rate", OVERALL_DIMENSION] = table({OVERALL: errors})
    return StageCounts(stage=f"{kind}-1", kind=kind, seconds=seconds, counts=counts)


def table(parts: Mapping[Slice, Arms]) -> SliceCounts:
    """Return counts by slice as the judge takes them."""
    array = np.array(list(parts.values()), dtype=float).reshape(len(parts), 2, 2)
    return SliceCounts(slices=tuple(parts), events=array[:, :, 0], of=array[:, :, 1])


def verdict_on(
    contract: Contract,
    *stages: StageCounts,
    error_budget: float = 0.01,
    has_baseline: bool = True,
    time_left: timedelta | None = None,
) -> GateVerdict:
    """Return the judge's verdict at the usual budget."""
    return judge(contract, stages, error_budget=error_budget, has_baseline=has_baseline, time_left=time_left)


def clause_of(verdict: GateVerdict, name: str = "steady") -> ClauseVerdict:
    """Return what the clause found."""
    return next(clause for clause in verdict.clauses if clause.clause == name)


def slice_of(verdict: GateVerdict, value: str, clause: str = "steady") -> SliceVerdict:
    """Return what the clause found in one country."""
    return next(part for part in clause_of(verdict, clause).slices if part.part == country(value))
