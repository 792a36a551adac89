"""
The command line: what the operator does without a cluster, and what people do in one.

It is one program under two names: ``modelrelease``, and ``kubectl-modelrelease`` for ``kubectl modelrelease``. What
takes long to import is imported by the command that needs it.
"""

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelrelease.cli import decisions, files, live
from modelrelease.cli.problems import BadInput
from modelrelease.cli.terminal import BAD_INPUT, Output, OutputForm, fail, reaches_cluster

if TYPE_CHECKING:
    from modelrelease.cli.cluster import Access

app = typer.Typer(
    help="Release machine-learning models through shadow, canary and full, judged slice by slice.",
    epilog="Exit codes: 0 done or Pass, 1 lint warns or diff would change something, 2 bad input, 3 the cluster "
    "refuses or cannot be reached, 4 the operator did not follow a decision, 10 Breach, rolled back, 11 Inconclusive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ContractFile = Annotated[
    Path,
    typer.Argument(
        help="YAML of a ModelRelease (with the ModelContract it names), a ModelContract or a bare contract."
    ),
]
CountsFile = Annotated[
    Path,
    typer.Argument(
        help="CSV with the columns stage,metric,arm,slice,events,of; le for the buckets of histograms; - is standard "
        "input."
    ),
]
DesignEffect = Annotated[
    float, typer.Option(min=1, help="How many requests tell no more than one, because they come in bursts.")
]
ErrorBudget = Annotated[
    float | None, typer.Option(help="Chance of one false breach, such as 0.01. Default: the release's, else 0.01.")
]


def version() -> None:
    """Print the version."""
    typer.echo(installed_version("modelrelease"))


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
    from modelrelease.cli import offline

    try:
        code = offline.judge(
            contract, counts, stage=stage, design_effect=design_effect, error_budget=error_budget, output=output
        )
    except BadInput as bad:
        fail(str(bad), BAD_INPUT)
    raise typer.Exit(code)


@reaches_cluster
def forecast(
    asked: "Access",
    contract: Annotated[
        Path, typer.Argument(help="As for judge; or, without COUNTS, the name of a release in the cluster.")
    ],
    counts: Annotated[Path | None, typer.Argument(help="CSV as for judge, of the arm baseline alone.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage of the plan. Default: all.")] = None,
    design_effect: DesignEffect = 1.0,
    error_budget: ErrorBudget = None,
    output: OutputForm = Output.TABLE,
) -> None:
    """
    Tell what each stage can prove, from counts of the baseline alone, before anything is released.

    The counts are of one stage, of any name, with the column seconds. With the name of a release instead of files, what
    the operator foretold when its rollout began. Exit code: 0 when every gate can pass before its deadline, 11 when one
    cannot or nothing is judged, 2 bad input.
    """
    if counts is None:
        if contract.is_file():
            fail(f"COUNTS is missing: {contract} is a file; give the counts of the baseline as well", BAD_INPUT)
        given = {
            "--stage": stage is not None,
            "--design-effect": design_effect != 1,
            "--error-budget": error_budget is not None,
        }
        if unused := [option for option, is_given in given.items() if is_given]:
            fail(f"{', '.join(unused)}: only with files; what the operator foretold is shown as it is", BAD_INPUT)
        live.forecast_of(str(contract), output, asked)
    from modelrelease.cli import offline

    try:
        code = offline.forecast(
            contract, counts, stage=stage, design_effect=design_effect, error_budget=error_budget, output=output
        )
    except BadInput as bad:
        fail(str(bad), BAD_INPUT)
    raise typer.Exit(code)


for panel, commands in (
    ("Look at releases", (live.get, live.explain, live.watch, live.history)),
    (
        "Decide about releases",
        (
            decisions.approve,
            decisions.rollback,
            decisions.retry,
            decisions.promote,
            decisions.suspend,
            decisions.resume,
        ),
    ),
    ("Files, before they are applied", (files.lint, files.diff, forecast, judge)),
    ("And", (version,)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
