"""A verdict on paper: a table for people, JSON for programs."""

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome
from modelrelease.core.counts import slice_name, whole_slice_name
from modelrelease.core.report import bounds, change, count, span, value
from modelrelease.core.verdict import ClauseVerdict, Counted, GateVerdict, SliceVerdict, Words
from modelrelease.core.workings import counts, workings

_COLOURS = {Outcome.PASS: "green", Outcome.INCONCLUSIVE: "yellow", Outcome.BREACH: "bold red"}


def as_table(verdict: GateVerdict, stage: str) -> RenderableType:
    """Return the verdict as tables, one a clause, worst slices first."""
    head = Text.assemble((verdict.outcome.value, _COLOURS[verdict.outcome]), f" ({verdict.reason}) in stage {stage}")
    return Group(head, *(_clause_table(clause) for clause in verdict.clauses))


def _clause_table(clause: ClauseVerdict) -> Table:
    title = Text.assemble(
        f"{clause.clause}: {clause.metric}, limit {clause.limit}: ", (clause.outcome.value, _COLOURS[clause.outcome])
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("slice", "verdict", "value", "change", "interval", _counted(clause.words), "e-value", "needs"):
        table.add_column(name, justify="left" if name in {"slice", "verdict"} else "right", no_wrap=True)
    for part in [*([clause.overall] if clause.overall else []), *clause.slices]:
        table.add_row(*_cells(clause, part))
    return table


def _counted(words: Words) -> str:
    """Return what the column of counts is called."""
    match words.counted:
        case Counted.REQUESTS | Counted.SECONDS:
            return "events"
        case Counted.OBSERVATIONS:
            return "observations" if words.above is None else f"above {words.above:.3g}"
        case Counted.DISTANCE:
            return "observations"


def _counts(part: SliceVerdict, words: Words) -> str:
    """Return the candidate's counts."""
    events, of = count(part.events[1]), count(part.of[1])
    match words.counted:
        case Counted.REQUESTS | Counted.OBSERVATIONS:
            return f"{events} of {of}"
        case Counted.SECONDS:
            return f"{events} in {of} s"
        case Counted.DISTANCE:
            return of


def _cells(clause: ClauseVerdict, part: SliceVerdict) -> list[Text]:
    words = clause.words
    values = ["none" if number is None else value(number, words) for number in (part.baseline, part.candidate)]
    alone = words.alone or words.counted is Counted.DISTANCE
    cells = [
        slice_name(part.part) or "all traffic",
        "",
        values[1] if alone else " -> ".join(values),
        "" if alone else change(part, words),
        bounds(part, words),
        _counts(part, words),
        f"{math.exp(part.log_e):.3g}" if part.log_e < 30 else f"e^{part.log_e:.0f}",
        span(part.eta) if part.eta else "",
    ]
    texts = [Text(cell) for cell in cells]
    texts[1] = _found(part)
    return texts


def _found(part: SliceVerdict) -> Text:
    """Return the slice's verdict; the doubt of a thin one keeps nothing from passing, and is told apart."""
    if part.thin and part.outcome is Outcome.INCONCLUSIVE:
        return Text("not assured", "dim")
    return Text(part.outcome.value, _COLOURS[part.outcome])


def as_json(verdict: GateVerdict, error_budget: float) -> dict[str, Any]:
    """
    Return the verdict as the documented JSON; what is not known is null.

    Of a quantile, events are the observations above the bound *above*; of a rate, *of* is seconds. What e-values are
    computed from is in the words of the dossier.
    """
    return {
        "verdict": verdict.outcome.value,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "errorBudget": error_budget,
        "logE": {action.value: log_e for action, log_e in verdict.log_e.items()},
        "clauses": [_clause_json(clause) for clause in verdict.clauses],
        "breaches": [{"clause": blame.clause, "slice": whole_slice_name(blame.part)} for blame in verdict.blame],
    }


def _clause_json(clause: ClauseVerdict) -> dict[str, Any]:
    parts = [*([clause.overall] if clause.overall else []), *clause.slices]
    by_stage = counts(clause, len(clause.slices))
    return {
        "name": clause.clause,
        "metric": clause.metric,
        "verdict": clause.outcome.value,
        "reason": clause.reason.value,
        "message": clause.message,
        "onBreach": clause.on_breach.value,
        "engine": clause.engine,
        "logE": clause.log_e,
        "level": clause.level,
        "designEffect": clause.design_effect,
        "above": clause.words.above,
        **workings(clause),
        "slices": [_slice_json(part, its) for part, its in zip(parts, by_stage, strict=True)],
    }


def _slice_json(part: SliceVerdict, by_stage: list[Any]) -> dict[str, Any]:
    return {
        "slice": whole_slice_name(part.part),
        "verdict": part.outcome.value,
        "reason": part.reason.value,
        "baseline": part.baseline,
        "candidate": part.candidate,
        "change": part.change,
        "low": _finite(part.low),
        "high": _finite(part.high),
        "events": dict(zip(("baseline", "candidate"), part.events, strict=True)),
        "of": dict(zip(("baseline", "candidate"), part.of, strict=True)),
        "logE": part.log_e,
        "level": part.level,
        "eta": part.eta.total_seconds() if part.eta else None,
        "thin": part.thin,
        "counts": by_stage,
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
