"""
Verdicts in words and in status: numbers as people read them, the same in events, conditions, tables and messages.

A breach names clause, slice, both values, the change with its interval, the limit and the counts. Doubt names what is
missing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from modelrelease.api.contract import Clause
from modelrelease.api.quantities import Unit, parse_margin
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import WORST_SLICES_KEPT, ArmNumbers, ClauseStatus, GateStatus, SliceStatus
from modelrelease.core.counts import slice_name
from modelrelease.core.verdict import ClauseVerdict, GateVerdict, SliceVerdict

_NAMED: Final = 3
"""Slices, and clauses, that a message names before it says how many more there are."""


# Numbers.


def percent(fraction: float) -> str:
    """Return a rate as people read it, such as ``2.1 %``."""
    number = 100 * fraction
    return f"{number:.1f} %" if number >= 1 or number == 0 else f"{number:.2g} %"


def count(number: float) -> str:
    """Return a count with thousands apart, such as ``13 700``."""
    return f"{number:,.0f}".replace(",", " ")


def change(verdict: SliceVerdict, unit: Unit, *, absolute: bool) -> str:
    """Return the change of a slice, such as ``+41 %``; for absolute clauses the candidate's value."""
    if absolute:
        return percent(verdict.candidate) if verdict.candidate is not None else "unknown"
    if verdict.change is None:
        return "from nothing" if verdict.candidate else "unknown"
    return signed(verdict.change, unit)


def signed(number: float, unit: Unit) -> str:
    """Return a change with its sign, relative (``+41 %``) or in percentage points (``+1.2 pp``)."""
    scaled = 100 * number
    digits = 0 if abs(scaled) >= 10 else 1 if abs(scaled) >= 1 or unit is Unit.RELATIVE else 2
    text = f"{scaled:+.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "+")
    return f"{text} {'%' if unit is Unit.RELATIVE else 'pp'}"


def bounds(verdict: SliceVerdict, unit: Unit) -> str:
    """Return the interval of the change, such as ``[+12 %, +77 %]``; empty when nothing is known."""
    if verdict.low is None or verdict.high is None:
        return ""
    high = "no bound" if verdict.high == float("inf") else signed(verdict.high, unit)
    return f"[{signed(verdict.low, unit)}, {high}]"


def unit_of(clause: Clause) -> Unit:
    """Return the unit in which the clause's change is told."""
    unit = clause.margin.unit
    return unit if clause.needs_baseline and unit is Unit.RELATIVE else Unit.POINTS


# Messages.


def clause_message(
    clause: Clause,
    outcome: Outcome,
    reason: Reason,
    overall: SliceVerdict,
    slices: Sequence[SliceVerdict],
    doubtful: Sequence[SliceVerdict],
) -> str:
    """Return what a clause found, for people; *slices* are worst first, *doubtful* ones keep it from passing."""
    match outcome:
        case Outcome.BREACH:
            return _broken(clause, overall, slices)
        case Outcome.PASS:
            alone = [part for part in slices if part.outcome is not Outcome.PASS]
            thin = f"; {_number(alone)} with little traffic only together" if alone else ""
            return f"clause {clause.name} holds in {_where([overall, *slices])}{thin}"
        case Outcome.INCONCLUSIVE:
            return _doubtful(clause, reason, overall, slices, doubtful)


def _broken(clause: Clause, overall: SliceVerdict, slices: Sequence[SliceVerdict]) -> str:
    parts = [*slices, overall]
    named = [part for part in parts if part.outcome is Outcome.BREACH]
    if named:
        first, others = named[0], len(named) - 1
        more = f"; and in {others} more" if others else ""
        return f"clause {clause.name} is broken in {_place(first)}: {_numbers(clause, first)}{more}"
    first = max(parts, key=lambda part: part.log_e)
    together = f"clause {clause.name} is broken over its slices taken together"
    return f"{together}; largest evidence in {_place(first)}: {_numbers(clause, first)}"


def _numbers(clause: Clause, part: SliceVerdict) -> str:
    unit = unit_of(clause)
    counts = f"{count(part.events[1])} of {count(part.of[1])} requests"
    limit = f"limit {_apart(clause.margin.text)}"
    if not clause.needs_baseline:
        value = percent(part.candidate) if part.candidate is not None else "unknown"
        return f"{value}, {limit}, {counts}"
    values = " -> ".join("unknown" if value is None else percent(value) for value in (part.baseline, part.candidate))
    moved = f"{change(part, unit, absolute=False)} {bounds(part, unit)}".strip()
    against = f"against {count(part.events[0])} of {count(part.of[0])}"
    return f"{values}, {moved}, {limit}, {counts} {against}"


def _apart(margin: str) -> str:
    """Return a margin as sentences write it: ``5 %``, ``0.5 pp``."""
    return margin.replace("%", " %").replace("pp", " pp")


def _doubtful(
    clause: Clause,
    reason: Reason,
    overall: SliceVerdict,
    slices: Sequence[SliceVerdict],
    doubtful: Sequence[SliceVerdict],
) -> str:
    if overall.reason is Reason.NO_DATA:
        arm = _silent_arm(clause, overall)
        return f"clause {clause.name}: metric {clause.metric} has no data in {arm}"
    if reason is Reason.NO_DATA and not slices:
        return f"clause {clause.name}: metric {clause.metric} was seen in no slice of {', '.join(clause.per or [])}"
    silent = [part for part in slices if part.reason is Reason.SILENT_SLICE]
    if silent:
        where = "; ".join(f"{_place(part)} in {_silent_arm(clause, part)}" for part in silent[:_NAMED])
        return f"clause {clause.name}: expected slices are silent: {where}{_and_more(silent)}"
    if not doubtful:
        return f"clause {clause.name}: harm is not excluded in the slices with little traffic taken together"
    slowest = sorted(doubtful, key=lambda part: (part.eta is not None, -(part.eta or timedelta(0)), str(part.part)))
    where = "; ".join(_doubt(clause, part) for part in slowest[:_NAMED])
    return f"clause {clause.name}: harm is neither proved nor excluded in {where}{_and_more(slowest)}"


def _doubt(clause: Clause, part: SliceVerdict) -> str:
    moved = change(part, unit_of(clause), absolute=not clause.needs_baseline)
    seen = f"{count(part.events[1])} events of {count(part.of[1])}"
    return f"{_place(part)} ({moved}, {seen}{_eta(part)})"


def _eta(part: SliceVerdict) -> str:
    return f", about {span(part.eta)} more" if part.eta else ""


def span(length: timedelta) -> str:
    """Return a length of time as people say it, in one unit: ``40 min``."""
    seconds = length.total_seconds()
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _silent_arm(clause: Clause, part: SliceVerdict) -> str:
    base, candidate = part.of
    if clause.needs_baseline and not base and not candidate:
        return "both arms"
    if clause.needs_baseline and not base:
        return "the baseline"
    return "the candidate" if not candidate else "this stage"


def _place(part: SliceVerdict) -> str:
    return slice_name(part.part) or "all traffic"


def _where(parts: Sequence[SliceVerdict]) -> str:
    return "all traffic" if len(parts) == 1 else f"all traffic and {_number(parts[1:])}"


def _number(parts: Sequence[SliceVerdict]) -> str:
    return "1 slice" if len(parts) == 1 else f"{len(parts)} slices"


def _and_more(parts: Sequence[SliceVerdict]) -> str:
    more = len(parts) - _NAMED
    return f" and {more} more" if more > 0 else ""


def gate_message(outcome: Outcome, worst: Sequence[ClauseVerdict]) -> str:
    """Return what a gate found, for people; *worst* are the clauses that count, worst first."""
    match outcome:
        case Outcome.PASS:
            return "every clause holds: " + ", ".join(verdict.clause for verdict in worst)
        case Outcome.BREACH | Outcome.INCONCLUSIVE:
            told = [verdict.message for verdict in worst if verdict.outcome is outcome]
            more = f"; and {len(told) - _NAMED} more clauses" if len(told) > _NAMED else ""
            return "; ".join(told[:_NAMED]) + more


def worst_line(worst: Sequence[ClauseVerdict]) -> str:
    """
    Return the worst slice in one line, such as ``block-rate country=FR +41% (limit 5%)``; "" if nothing is known.

    Args:
        worst: Clauses, worst first, each with its slices worst first.
    """
    for verdict in worst:
        parts = [*verdict.slices[:1], *([verdict.overall] if verdict.overall else [])]
        known = [part for part in parts if part.change is not None or part.outcome is Outcome.BREACH]
        if known:
            part = max(known, key=lambda part: (part.outcome is Outcome.BREACH, part.log_e))
            where = f" {slice_name(part.part)}" if part.part else ""
            number = change(part, verdict.unit, absolute=verdict.absolute).replace(" %", "%").replace(" pp", "pp")
            doubt = ", not proved" if _beyond_without_proof(part, verdict) else ""
            return f"{verdict.metric}{where} {number}{doubt} (limit {verdict.limit})"
    return ""


def _beyond_without_proof(part: SliceVerdict, clause: ClauseVerdict) -> bool:
    """Return whether a number looks broken and is not: the few requests of a thin slice say anything."""
    if part.outcome is Outcome.BREACH or part.change is None or clause.absolute:
        return False
    return abs(part.change) > parse_margin(clause.limit).value


# Status.


def gate_status(verdict: GateVerdict, stage: str, now: datetime) -> GateStatus:
    """Return *verdict* as status shows it: short strings, and only the worst slices of each clause."""
    return GateStatus(
        stage=stage,
        verdict=verdict.outcome,
        reason=verdict.reason,
        message=verdict.message,
        worst=verdict.worst,
        eta=span(verdict.eta) if verdict.eta else None,
        evaluated_at=now,
        clauses=[_clause_status(clause) for clause in verdict.clauses],
    )


def _clause_status(verdict: ClauseVerdict) -> ClauseStatus:
    return ClauseStatus(
        name=verdict.clause,
        metric=verdict.metric,
        verdict=verdict.outcome,
        reason=verdict.reason,
        message=verdict.message,
        overall=_slice_status(verdict, verdict.overall) if verdict.overall else None,
        worst=[_slice_status(verdict, part) for part in verdict.slices[:WORST_SLICES_KEPT]],
        slices_judged=len(verdict.slices),
        slices_inconclusive=sum(part.outcome is Outcome.INCONCLUSIVE for part in verdict.slices),
    )


def _slice_status(verdict: ClauseVerdict, part: SliceVerdict) -> SliceStatus:
    return SliceStatus(
        slice=slice_name(part.part),
        verdict=part.outcome,
        reason=part.reason,
        baseline=None if part.baseline is None else percent(part.baseline),
        candidate=None if part.candidate is None else percent(part.candidate),
        change=_told(part.change, verdict.unit),
        low=_told(part.low, verdict.unit),
        high=_told(part.high, verdict.unit),
        limit=verdict.limit,
        baseline_counts=ArmNumbers(events=f"{part.events[0]:.0f}", of=f"{part.of[0]:.0f}"),
        candidate_counts=ArmNumbers(events=f"{part.events[1]:.0f}", of=f"{part.of[1]:.0f}"),
    )


def _told(number: float | None, unit: Unit) -> str | None:
    return None if number is None or number == float("inf") else signed(number, unit)
