"""Judging and forecasting from files: what the operator does, without a cluster."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer
from rich.text import Text

from modelrelease.api.contract import OnBreach
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import DEFAULT_STAGES, Stage
from modelrelease.cli import forecast_view, verdict_view
from modelrelease.cli.contract_file import read_contract
from modelrelease.cli.counts_file import read_counts
from modelrelease.cli.problems import BadInput
from modelrelease.cli.terminal import BAD_INPUT, BREACH, DONE, INCONCLUSIVE, Output, show, show_objects
from modelrelease.cli.yaml_file import STANDARD_INPUT
from modelrelease.core.counts import StageCounts
from modelrelease.core.forecast import forecast as outlooks_of
from modelrelease.core.forecast import gaps
from modelrelease.core.judge import judge as judge_gate
from modelrelease.core.verdict import ClauseVerdict, GateVerdict

EXIT_CODES: Final = {Outcome.PASS: DONE, Outcome.BREACH: BREACH, Outcome.INCONCLUSIVE: INCONCLUSIVE}


def judge(
    contract: Path,
    counts: Path,
    *,
    stage: str | None,
    design_effect: float,
    error_budget: float | None,
    output: Output,
) -> int:
    """
    Print the verdict on the counts of *stage*, and return the exit code.

    Raises:
        BadInput: A file or an option cannot be used.
    """
    _readable(contract, counts, design_effect)
    asked = read_contract(contract)
    evidence = _until(stage, read_counts(counts, asked.contract, asked.stages))
    budget = _budget(error_budget, asked.error_budget)
    verdict = judge_gate(
        asked.contract,
        evidence,
        error_budget=budget,
        has_baseline=True,
        compared=_compared(evidence[-1]),
        design_effect=design_effect,
    )
    if output is not Output.TABLE:
        show_objects(verdict_view.as_json(verdict, budget), output)
    else:
        show(verdict_view.as_table(verdict, evidence[-1].stage), wrap=False)
        show(Text(verdict.message))
    untold = _untold(verdict)
    for clause in untold:
        advice = "; it only warns, and does not count" if clause.on_breach is OnBreach.WARN else ""
        typer.echo(f"{counts}: {clause.message}{advice}", err=True)
    binding = any(clause.on_breach is not OnBreach.WARN for clause in untold)
    return BAD_INPUT if binding and verdict.outcome is not Outcome.BREACH else EXIT_CODES[verdict.outcome]


def forecast(
    contract: Path,
    counts: Path,
    *,
    stage: str | None,
    design_effect: float,
    error_budget: float | None,
    output: Output,
) -> int:
    """
    Print what each stage can prove, by the baseline's *counts*, and return the exit code.

    Raises:
        BadInput: A file or an option cannot be used.
    """
    _readable(contract, counts, design_effect)
    asked = read_contract(contract)
    history = _history(read_counts(counts, asked.contract, (), any_stage=True))
    budget = _budget(error_budget, asked.error_budget)
    stages = _only(stage, asked.stages or DEFAULT_STAGES)
    outlooks = outlooks_of(asked.contract, history, stages, error_budget=budget, design_effect=design_effect)
    if output is not Output.TABLE:
        show_objects(forecast_view.as_json(outlooks), output)
    elif outlooks:
        show(forecast_view.as_table(outlooks), wrap=False)
    untold = gaps(asked.contract, history, stages)
    for gap in untold:
        typer.echo(gap.message, err=True)
    told = outlooks and all(outlook.in_time for outlook in outlooks) and all(gap.passes for gap in untold)
    return DONE if told else INCONCLUSIVE


def _readable(contract: Path, counts: Path, design_effect: float) -> None:
    """Refuse what cannot be read twice, and a number that is none."""
    if contract == counts == STANDARD_INPUT:
        raise BadInput(["only one of the two files can be standard input, -"])
    if not math.isfinite(design_effect):
        raise BadInput([f"--design-effect: {design_effect} is not a number of requests; 1 or more is allowed"])


def _untold(verdict: GateVerdict) -> list[ClauseVerdict]:
    """
    Return the clauses for which the histograms are too coarse over all traffic: more of the same counts is no help.

    Harm that is proved all the same stays a breach.
    """
    return [
        clause
        for clause in verdict.clauses
        if clause.reason is Reason.HISTOGRAM_TOO_COARSE
        and clause.overall
        and clause.overall.reason is Reason.HISTOGRAM_TOO_COARSE
    ]


def _only(stage: str | None, plan: Sequence[Stage]) -> Sequence[Stage]:
    """Return the one stage that is asked for, or all."""
    chosen = [planned for planned in plan if stage in (None, planned.name)]
    if not chosen:
        raise BadInput([f"--stage: {stage!r} is not in the plan; allowed are {', '.join(p.name for p in plan)}"])
    return chosen


def _history(evidence: tuple[StageCounts, ...]) -> StageCounts:
    """Return the one stage of a baseline's history."""
    if len(evidence) != 1:
        names = ", ".join(counts.stage for counts in evidence)
        raise BadInput([f"a forecast is made from one stage's counts; there are {names}"])
    history = evidence[0]
    if history.seconds <= 0:
        raise BadInput(["a forecast needs to know how long was counted: give the column seconds, more than 0"])
    if _seen(history, 1):
        raise BadInput(["a forecast is made before there is a candidate; only the arm baseline is allowed"])
    return history


def _until(stage: str | None, evidence: tuple[StageCounts, ...]) -> tuple[StageCounts, ...]:
    """Return the evidence up to *stage*, which becomes the current one."""
    if stage is None:
        return evidence
    names = [counts.stage for counts in evidence]
    if stage not in names:
        raise BadInput([f"--stage: {stage!r} has no counts; allowed are {', '.join(names)}"])
    return evidence[: names.index(stage) + 1]


def _compared(current: StageCounts) -> bool:
    """Return whether relative clauses are judged: at full, nobody may be left on the old revision."""
    return current.kind != "full" or _seen(current, 0)


def _seen(stage: StageCounts, arm: int) -> bool:
    """Return whether anything was counted in an arm: 0 is the baseline, 1 the candidate."""
    counted = [table.of for table in stage.counts.values()] + [table.of for table in stage.histograms.values()]
    return any(bool((of[:, arm] > 0).any()) for of in counted)


def _budget(given: float | None, default: float) -> float:
    if given is None:
        return default
    if not 0 < given < 1:
        raise BadInput([f"--error-budget: {given} is not a chance; more than 0 and less than 1 is allowed"])
    return given
