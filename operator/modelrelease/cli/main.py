"""
The command line: what the operator does, without a cluster.

Exit codes of ``judge``: 0 Pass, 10 Breach, 11 Inconclusive, 2 bad input.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.release import DEFAULT_STAGES, Stage
from modelrelease.cli import forecast_view, verdict_view
from modelrelease.cli.contract_file import read_contract
from modelrelease.cli.counts_file import read_counts
from modelrelease.cli.problems import BadInput
from modelrelease.core.counts import StageCounts
from modelrelease.core.forecast import forecast as outlooks_of
from modelrelease.core.judge import judge as judge_gate
from modelrelease.core.verdict import GateVerdict

EXIT_CODES: Final = {Outcome.PASS: 0, Outcome.BREACH: 10, Outcome.INCONCLUSIVE: 11}
BAD_INPUT: Final = 2
TABLE_WIDTH: Final = 120
"""Narrower terminals wrap lines: a cell that is cut off tells nothing."""

app = typer.Typer(
    help="Release machine-learning models through shadow, canary and full, judged slice by slice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Output(StrEnum):
    """How a verdict is printed."""

    TABLE = "table"
    JSON = "json"


ContractFile = Annotated[Path, typer.Argument(help="YAML of a ModelRelease, a ModelContract or a bare contract.")]
CountsFile = Annotated[
    Path,
    typer.Argument(help="CSV with the columns stage,metric,arm,slice,events,of; le for the buckets of histograms."),
]
DesignEffect = Annotated[
    float, typer.Option(min=1, help="How many requests tell no more than one, because they come in bursts.")
]
ErrorBudget = Annotated[
    float | None, typer.Option(help="Chance of one false breach, such as 0.01. Default: the release's, else 0.01.")
]
OutputForm = Annotated[Output, typer.Option("-o", "--output", help="table for people, json for programs.")]


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("modelrelease"))


@app.command()
def judge(
    contract: ContractFile,
    counts: CountsFile,
    stage: Annotated[
        str | None, typer.Option(help="The stage to judge; later ones are ignored. Default: last.")
    ] = None,
    design_effect: DesignEffect = 1.0,
    error_budget: ErrorBudget = None,
    output: OutputForm = Output.TABLE,
) -> None:
    """
    Judge counts against a contract, exactly as the operator does.

    Exit code: 0 Pass, 10 Breach, 11 Inconclusive, 2 bad input.
    """
    try:
        asked = read_contract(contract)
        evidence = _until(stage, read_counts(counts, asked.contract, asked.stages))
        budget = _budget(error_budget, asked.error_budget)
    except BadInput as bad:
        typer.echo(str(bad), err=True)
        raise typer.Exit(BAD_INPUT) from bad
    verdict = judge_gate(
        asked.contract,
        evidence,
        error_budget=budget,
        has_baseline=True,
        compared=_compared(evidence[-1]),
        design_effect=design_effect,
    )
    if problems := _cannot_be_told(verdict):
        typer.echo("\n".join(f"{counts}: {problem}" for problem in problems), err=True)
        raise typer.Exit(BAD_INPUT)
    if output is Output.JSON:
        typer.echo(json.dumps(verdict_view.as_json(verdict), allow_nan=False))
    else:
        _wide_console().print(verdict_view.as_table(verdict, evidence[-1].stage))
    raise typer.Exit(EXIT_CODES[verdict.outcome])


@app.command()
def forecast(
    contract: ContractFile,
    counts: CountsFile,
    stage: Annotated[str | None, typer.Option(help="Only this stage of the plan. Default: all.")] = None,
    design_effect: DesignEffect = 1.0,
    error_budget: ErrorBudget = None,
    output: OutputForm = Output.TABLE,
) -> None:
    """
    Tell what each stage can prove, from counts of the baseline alone, before anything is released.

    The counts are of one stage, of any name, with the column seconds. Exit code: 0 when every gate can pass before its
    deadline, 11 when one cannot, 2 bad input.
    """
    try:
        asked = read_contract(contract)
        history = _history(read_counts(counts, asked.contract, (), any_stage=True))
        budget = _budget(error_budget, asked.error_budget)
        stages = _only(stage, asked.stages or DEFAULT_STAGES)
    except BadInput as bad:
        typer.echo(str(bad), err=True)
        raise typer.Exit(BAD_INPUT) from bad
    outlooks = outlooks_of(
        asked.contract,
        history,
        stages,
        error_budget=budget,
        design_effect=design_effect,
    )
    if output is Output.JSON:
        typer.echo(json.dumps(forecast_view.as_json(outlooks), allow_nan=False))
    else:
        _wide_console().print(forecast_view.as_table(outlooks))
    raise typer.Exit(0 if all(outlook.in_time for outlook in outlooks) else EXIT_CODES[Outcome.INCONCLUSIVE])


def _cannot_be_told(verdict: GateVerdict) -> list[str]:
    """
    Return what the histograms are too coarse to judge over all traffic, clause by clause.

    More of the same counts would not help. Harm that is proved all the same stays a breach.
    """
    if verdict.outcome is Outcome.BREACH:
        return []
    return [
        clause.message
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


def _wide_console() -> Console:
    return Console(width=max(Console().width, TABLE_WIDTH))


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
