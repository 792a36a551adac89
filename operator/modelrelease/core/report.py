"""
Verdicts in words and in status: numbers as people read them, the same in events, conditions, tables and messages.

A breach names clause, slice, both values, the change with its interval, the limit and the counts. Doubt names what is
missing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import exp, floor, isinf, log, log10
from typing import Final

from modelrelease.api.contract import Clause, Distribution, Metric, Quantile, Rate, Ratio
from modelrelease.api.quantities import Unit, parse_margin
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import WORST_SLICES_KEPT, ArmNumbers, ClauseStatus, GateStatus, SliceStatus
from modelrelease.core.counts import slice_name
from modelrelease.core.verdict import ClauseVerdict, Counted, GateVerdict, SliceVerdict, Words

SPANS: Final = {
    "days": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
"""Units of ``span``, longest first."""

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


def value(number: float | None, words: Words) -> str:
    """Return a metric's value as people read it: shares in percent, everything else in its own unit."""
    if number is None:
        return "unknown"
    return percent(number) if words.counted is Counted.REQUESTS else f"{number:.3g}"


def change(verdict: SliceVerdict, words: Words) -> str:
    """Return the change of a slice, such as ``+41 %``; the candidate's value where that alone is judged."""
    if words.alone or words.counted is Counted.DISTANCE:
        return value(verdict.candidate, words)
    if verdict.change is None:
        return "from nothing" if verdict.baseline == 0 and verdict.candidate else "unknown"
    return signed(verdict.change, words.unit)


def signed(number: float, unit: Unit) -> str:
    """Return a change with its sign: relative (``+41 %``), in percentage points (``+1.2 pp``) or plain (``+0.12``)."""
    if unit is Unit.ABSOLUTE:
        return f"{number + 0.0:+.3g}"
    scaled = 100 * number
    digits = 0 if abs(scaled) >= 10 else 1 if abs(scaled) >= 1 or unit is Unit.RELATIVE else _digits(scaled)
    text = f"{scaled:+.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "+")
    return f"{text} {'%' if unit is Unit.RELATIVE else 'pp'}"


def _digits(points: float) -> int:
    """Return the decimals of less than one percentage point: 2, or as many as show two digits, down to a millionth."""
    return 2 if abs(points) < _LEAST_POINTS else max(2, 1 - floor(log10(abs(points))))


_LEAST_POINTS: Final = 1e-6


def bounds(verdict: SliceVerdict, words: Words) -> str:
    """Return the interval of the change, such as ``[+12 %, +77 %]``; empty when nothing is known."""
    if verdict.low is None or verdict.high is None:
        return ""
    low, high = ("no bound" if isinf(end) else signed(end, words.unit) for end in (verdict.low, verdict.high))
    return f"[{low}, {high}]"


def words_of(clause: Clause, metric: Metric, above: float | None) -> Words:
    """Return how the numbers of *clause* are told; *above* is the bound above which observations are counted."""
    alone, relative = not clause.needs_baseline, clause.needs_baseline and clause.margin.unit is Unit.RELATIVE
    match metric.measured:
        case Ratio():
            return Words(Unit.RELATIVE if relative else Unit.POINTS, alone)
        case Rate():
            return Words(Unit.RELATIVE if relative else Unit.ABSOLUTE, alone, Counted.SECONDS)
        case Quantile():
            return Words(Unit.RELATIVE if relative else Unit.ABSOLUTE, alone, Counted.OBSERVATIONS, above)
        case Distribution():
            return Words(Unit.ABSOLUTE, alone, Counted.DISTANCE)


# Messages.


def clause_message(
    clause: Clause,
    words: Words,
    found: tuple[Outcome, Reason],
    overall: SliceVerdict,
    slices: Sequence[SliceVerdict],
    doubtful: Sequence[SliceVerdict],
    time_left: timedelta | None,
) -> str:
    """
    Return what a clause found, for people; *slices* are worst first, *doubtful* ones keep it from passing.

    *time_left* is the time until the stage's deadline; None when nobody knows it.
    """
    outcome, reason = found
    match outcome:
        case Outcome.BREACH:
            return _broken(clause, words, overall, slices)
        case Outcome.PASS:
            alone = [part for part in slices if part.outcome is not Outcome.PASS]
            thin = f"; {_number(alone)} with little traffic only together" if alone else ""
            return f"clause {clause.name} holds in {_where([overall, *slices])}{thin}"
        case Outcome.INCONCLUSIVE:
            return _doubtful(clause, words, reason, overall, slices, doubtful, time_left)


def _broken(clause: Clause, words: Words, overall: SliceVerdict, slices: Sequence[SliceVerdict]) -> str:
    parts = [*slices, overall]
    named = [part for part in parts if part.outcome is Outcome.BREACH]
    if named:
        first, others = named[0], len(named) - 1
        more = f"; and in {others} more" if others else ""
        return f"clause {clause.name} is broken in {_place(first)}: {_numbers(clause, words, first)}{more}"
    first = max(parts, key=lambda part: part.log_e)
    # Its own part of the mean e-value; each of its parts has less than proves it broken there.
    alone = sum(exp(part.log_e + log(part.level)) for part in parts) >= 1
    what = "over its slices taken together" if alone else "together with other clauses, none of which is broken alone"
    where = f"largest evidence in {_place(first)}: {_numbers(clause, words, first)}"
    return f"clause {clause.name} is broken {what}; {where}"


def _numbers(clause: Clause, words: Words, part: SliceVerdict) -> str:
    limit = f"limit {_apart(clause.margin.text)}"
    if words.alone:
        return f"{value(part.candidate, words)}, {limit}, {_counts(part, words)}"
    against = f"{_counts(part, words)} against {_of(part, 0, words)}"
    if words.counted is Counted.DISTANCE:
        return f"PSI {value(part.candidate, words)}, {limit}, {against}"
    values = f"{value(part.baseline, words)} -> {value(part.candidate, words)}"
    return f"{values}, {change(part, words)} {bounds(part, words)}".strip() + f", {limit}, {against}"


def _counts(part: SliceVerdict, words: Words) -> str:
    """Return the candidate's counts with what they count, such as ``412 of 930 requests``."""
    match words.counted:
        case Counted.REQUESTS:
            return f"{_of(part, 1, words)} requests"
        case Counted.OBSERVATIONS:
            return f"{_of(part, 1, words)} observations above {words.above:.3g}"
        case Counted.DISTANCE:
            return f"{_of(part, 1, words)} observations"
        case Counted.SECONDS:
            return f"{_of(part, 1, words)} (of all traffic)"


def _of(part: SliceVerdict, arm: int, words: Words) -> str:
    match words.counted:
        case Counted.DISTANCE:
            return count(part.of[arm])
        case Counted.SECONDS:
            return f"{count(part.events[arm])} events in {count(part.of[arm])} s"
        case _:
            return f"{count(part.events[arm])} of {count(part.of[arm])}"


def _apart(margin: str) -> str:
    """Return a margin as sentences write it: ``5 %``, ``0.5 pp``."""
    return margin.replace("%", " %").replace("pp", " pp")


def _doubtful(
    clause: Clause,
    words: Words,
    reason: Reason,
    overall: SliceVerdict,
    slices: Sequence[SliceVerdict],
    doubtful: Sequence[SliceVerdict],
    time_left: timedelta | None,
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
    if reason is Reason.NOISY:
        return (
            f"clause {clause.name}: two halves of the baseline's own pods differ as much as a breach would: "
            "nothing is concluded from a difference. Do all pods get the same mix of requests?"
        )
    if reason is Reason.HISTOGRAM_TOO_COARSE:
        return f"clause {clause.name}: {_too_coarse(clause, words, doubtful)}"
    if not doubtful:
        return f"clause {clause.name}: harm is not excluded in the slices with little traffic taken together"
    slowest = sorted(doubtful, key=lambda part: (part.eta is not None, -(part.eta or timedelta(0)), str(part.part)))
    where = "; ".join(_doubt(words, part, time_left) for part in slowest[:_NAMED])
    return f"clause {clause.name}: harm is neither proved nor excluded in {where}{_and_more(slowest)}"


def _too_coarse(clause: Clause, words: Words, doubtful: Sequence[SliceVerdict]) -> str:
    where = "; ".join(_place(part) for part in doubtful[:_NAMED] if part.reason is Reason.HISTOGRAM_TOO_COARSE)
    limit = _apart(clause.margin.text)
    near = "" if words.above is None else f" near {words.above:.3g}"
    if words.alone:
        return f"the histogram has no bucket bound at the limit {limit}: add one"
    return f"the histogram's buckets are too wide{near} to judge {limit} in {where}: add bounds there, closer together"


def _doubt(words: Words, part: SliceVerdict, time_left: timedelta | None) -> str:
    match words.counted:
        case Counted.DISTANCE:
            seen = f"{count(part.of[1])} observations"
        case Counted.SECONDS:
            seen = _of(part, 1, words)
        case _:
            seen = f"{count(part.events[1])} events of {count(part.of[1])}"
    return f"{_place(part)} ({change(part, words)}, {seen}{_eta(part, time_left)})"


def _eta(part: SliceVerdict, time_left: timedelta | None) -> str:
    late = time_left is not None and (part.eta is None or part.eta > time_left)
    parts = [f"about {span(part.eta)} more" if part.eta else "", "not within the deadline" if late else ""]
    return "".join(f", {text}" for text in parts if text)


def span(length: timedelta) -> str:
    """Return a length of time as people say it, in one unit: ``40 min``."""
    name = next((name for name, unit in SPANS.items() if length >= 2 * unit), "s")
    return f"{length / SPANS[name]:.0f} {name}"


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


def gate_message(outcome: Outcome, binding: Sequence[ClauseVerdict], advice: Sequence[ClauseVerdict]) -> str:
    """Return what a gate found, for people; *binding* clauses decide it, *advice* only warns; worst first, both."""
    match outcome:
        case Outcome.PASS:
            return _passed(binding, advice)
        case Outcome.BREACH | Outcome.INCONCLUSIVE:
            return _some([verdict.message for verdict in binding or advice if verdict.outcome is outcome])


def _passed(binding: Sequence[ClauseVerdict], advice: Sequence[ClauseVerdict]) -> str:
    """Return why a gate passes, and what it passes in spite of."""
    broken = [verdict.message for verdict in advice if verdict.outcome is Outcome.BREACH]
    if not binding and any(verdict.outcome is not Outcome.PASS for verdict in advice):
        return f"every clause only warns: {_some(broken) or 'none is broken'}"
    holds = "every clause holds: " + ", ".join(verdict.clause for verdict in binding or advice)
    return f"{holds}; a warning only: {_some(broken)}" if broken else holds


def _some(told: Sequence[str]) -> str:
    more = f"; and {len(told) - _NAMED} more clauses" if len(told) > _NAMED else ""
    return "; ".join(told[:_NAMED]) + more


def worst_line(worst: Sequence[ClauseVerdict]) -> str:
    """
    Return the worst slice in one line; "" if nothing is known.

    Such as ``block-rate country=FR 2.0% -> 2.8%, +41% (limit 5%)``: the numbers of both arms where two are compared.

    Args:
        worst: Clauses, worst first, each with its slices worst first.
    """
    for verdict in worst:
        parts = [*verdict.slices[:1], *([verdict.overall] if verdict.overall else [])]
        known = [part for part in parts if part.change is not None or part.outcome is Outcome.BREACH]
        if known:
            part = max(known, key=lambda part: (part.outcome is Outcome.BREACH, part.log_e))
            where = f" {slice_name(part.part)}" if part.part else ""
            numbers = _in_both_arms(part, verdict.words).replace(" %", "%").replace(" pp", "pp")
            doubt = ", not proved" if _beyond_without_proof(part, verdict) else ""
            return f"{verdict.metric}{where} {numbers}{doubt} (limit {verdict.limit})"
    return ""


def _in_both_arms(part: SliceVerdict, words: Words) -> str:
    """Return both values and the change; where there is one value, that."""
    told = change(part, words)
    if words.alone or words.counted is Counted.DISTANCE or part.baseline is None or part.candidate is None:
        return told
    return f"{value(part.baseline, words)} -> {value(part.candidate, words)}, {told}"


def _beyond_without_proof(part: SliceVerdict, clause: ClauseVerdict) -> bool:
    """Return whether a number looks broken and is not: the few requests of a thin slice say anything."""
    if part.outcome is Outcome.BREACH or part.change is None or clause.words.alone:
        return False
    if clause.words.counted is Counted.DISTANCE:
        return part.change > 0
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
        engine=verdict.engine,
        level=f"{verdict.level:.3g}",
        design_effect=f"{verdict.design_effect:.2f}",
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
        baseline=None if part.baseline is None else value(part.baseline, verdict.words),
        candidate=None if part.candidate is None else value(part.candidate, verdict.words),
        change=_told(part.change, verdict.words.unit),
        low=_told(part.low, verdict.words.unit),
        high=_told(part.high, verdict.words.unit),
        limit=verdict.limit,
        log_e=f"{part.log_e:.2f}",
        baseline_counts=ArmNumbers(events=f"{part.events[0]:.0f}", of=f"{part.of[0]:.0f}"),
        candidate_counts=ArmNumbers(events=f"{part.events[1]:.0f}", of=f"{part.of[1]:.0f}"),
    )


def _told(number: float | None, unit: Unit) -> str | None:
    return None if number is None or isinf(number) else signed(number, unit)
