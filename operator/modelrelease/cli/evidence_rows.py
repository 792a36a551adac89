"""What a gate found, as rows of numbers: the slices that matter, worst first, and all traffic. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from modelrelease.api.contract import Contract, Distribution, Quantile, Rate, Ratio
from modelrelease.api.quantities import Unit, parse_margin
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import ArmNumbers, ClauseStatus, GateStatus, SliceStatus
from modelrelease.core.report import count

_SHOWN: Final = 5
"""Slices of a clause that are shown, besides all traffic."""

_ORDER: Final = (Outcome.BREACH, Outcome.INCONCLUSIVE, Outcome.PASS)
_COUNTING: Final = frozenset({Reason.LOW_TRAFFIC, Reason.UNDECIDED, Reason.NO_DATA})
"""Reasons that the rows show."""

_SAYS: Final = {Outcome.BREACH: "broken", Outcome.INCONCLUSIVE: "not decided", Outcome.PASS: "holds"}


@dataclass(frozen=True, slots=True)
class Row:
    """
    One slice of one clause.

    Attributes:
        cells: Slice, values, change, interval, limit, counts, verdict.
        outcome: The verdict.
    """

    cells: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ClauseRows:
    """
    One clause: a sentence and its rows.

    Attributes:
        says: What it found.
        rows: The slices that matter; empty when nothing was counted.
        outcome: The verdict.
    """

    says: str
    rows: tuple[Row, ...]
    outcome: Outcome


def clause_rows(gate: GateStatus, contract: Contract | None) -> list[ClauseRows]:
    """
    Return what each clause that does not hold found, worst first.

    Args:
        gate: The gate.
        contract: Says what is counted; None when it is not known here.
    """
    doubtful = [clause for clause in gate.clauses if clause.verdict is not Outcome.PASS]
    return [_clause(clause, contract) for clause in sorted(doubtful, key=lambda it: _ORDER.index(it.verdict))]


def worst_rows(gate: GateStatus, contract: Contract | None, most: int) -> list[tuple[str, Row]]:
    """Return the worst slices of all clauses with the clause's name, at most *most*."""
    found = [
        (_ORDER.index(part.verdict), -float(part.log_e or "-inf"), clause.name, _row(clause, part, contract))
        for clause in gate.clauses
        for part in _parts(clause)
    ]
    return [(name, row) for *_, name, row in sorted(found, key=lambda it: it[:3])[:most]]


def holding(gate: GateStatus) -> list[str]:
    """Return the names of the clauses that hold."""
    return [clause.name for clause in gate.clauses if clause.verdict is Outcome.PASS]


def _clause(clause: ClauseStatus, contract: Contract | None) -> ClauseRows:
    shown = [part for part in clause.worst if part.verdict is clause.verdict][:_SHOWN]
    parts = [*shown, *([clause.overall] if clause.overall else [])]
    return ClauseRows(_says(clause), tuple(_row(clause, part, contract) for part in parts), clause.verdict)


def _says(clause: ClauseStatus) -> str:
    if clause.verdict is not Outcome.BREACH:
        counted = clause.reason in _COUNTING and clause.slices_inconclusive
        where = f"{clause.slices_inconclusive} of {_slices(clause.slices_judged)}"
        short = f"clause {clause.name} is not decided yet in {where} ({clause.reason})"
        return short if counted else clause.message or f"clause {clause.name}: {clause.reason}"
    broken = [part for part in clause.worst if part.verdict is Outcome.BREACH]
    if broken:
        at_least = "at least " if len(broken) == len(clause.worst) < clause.slices_judged else ""
        return f"clause {clause.name} is broken in {at_least}{len(broken)} of {_slices(clause.slices_judged)}"
    if clause.overall and clause.overall.verdict is Outcome.BREACH:
        return f"clause {clause.name} is broken over all traffic"
    return clause.message or f"clause {clause.name} is broken"


def _slices(number: int) -> str:
    return "1 slice" if number == 1 else f"{number} slices"


def _parts(clause: ClauseStatus) -> Iterator[SliceStatus]:
    yield from clause.worst
    if clause.overall:
        yield clause.overall


def _row(clause: ClauseStatus, part: SliceStatus, contract: Contract | None) -> Row:
    alone = _judged_alone(clause.name, contract) if contract else part.baseline is None
    values = f"{part.baseline or '?'} -> {part.candidate or '?'}"
    return Row(
        cells=(
            part.slice or "all traffic",
            (part.candidate or "?") if alone else values,
            "" if alone else (part.change or ""),
            "" if alone else _interval(part),
            f"limit {apart(part.limit)}" if part.limit else "",
            _counts(part.candidate_counts, clause.metric, contract),
            "not proved" if not alone and _beyond_without_proof(part) else _SAYS[part.verdict],
        ),
        outcome=part.verdict,
    )


def _beyond_without_proof(part: SliceStatus) -> bool:
    """Return whether the number itself is beyond the limit of a clause that is not broken there."""
    if part.verdict is not Outcome.PASS or not part.change or not part.limit:
        return False
    number, _, unit = part.change.partition(" ")
    limit = parse_margin(part.limit)
    scale = 1.0 if limit.unit is Unit.ABSOLUTE else 100.0
    return unit == limit.unit and abs(float(number)) > scale * limit.value


def apart(margin: str) -> str:
    """Return a margin as sentences write it: ``5 %``, ``0.5 pp``."""
    return margin.replace("%", " %").replace("pp", " pp")


def _interval(part: SliceStatus) -> str:
    if part.low is None and part.high is None:
        return ""
    return f"[{part.low or 'no bound'}, {part.high or 'no bound'}]"


def _judged_alone(name: str, contract: Contract) -> bool:
    return name in [clause.name for clause in contract.clauses if not clause.needs_baseline]


def _counts(numbers: ArmNumbers | None, metric: str, contract: Contract | None) -> str:
    """Return the candidate's counts with what they count."""
    if numbers is None:
        return ""
    events, of = count(float(numbers.events)), count(float(numbers.of))
    measured = next((it.measured for it in contract.metrics if it.name == metric), None) if contract else None
    match measured:
        case Ratio():
            return f"{events} of {of} requests"
        case Quantile():
            return f"{of} observations"
        case Distribution():
            return f"{of} observations"
        case Rate():
            return f"{events} in {of} s"
        case None:
            return f"{events} of {of}"
