"""
The judge: counts in, verdicts out.

    counts by stage -> hypotheses (clause x slice) -> log e-values -> clause verdicts -> the gate's verdict

A breach is found by the weighted mean of all e-values: valid whatever depends on whatever, however often one looks, and
never later than a correction for many comparisons would find it (Vovk and Wang 2021; Ville 1939). Naming a slice needs
more: its own e-value must reach its own, smaller share of the error budget. A pass needs every clause and every slice
to exclude a harm, from what was counted in the current stage alone; that needs no correction, because all must pass.

The budget covers one family of clauses per action: those that roll back, those that hold, those that warn.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np

from modelrelease.api.contract import Clause, Contract, Metric, OnBreach
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.assess import Assessment, assess, split
from modelrelease.core.counts import FloatArray, Noise, StageCounts
from modelrelease.core.evidence import Engine, log_sum
from modelrelease.core.hypotheses import hypotheses
from modelrelease.core.interval import interval
from modelrelease.core.question import Question
from modelrelease.core.report import clause_message, gate_message, gate_status, words_of, worst_line
from modelrelease.core.verdict import Blame, ClauseVerdict, GateVerdict, SliceVerdict, Workings, worst_of

__all__ = ["gate_status", "judge"]

FEW_EVENTS: Final = 20
"""Events in both arms together below which doubt is called low traffic."""


NOISE_LEVEL: Final = 0.05
"""Chance to call traffic noisy that is not; two halves of the baseline must differ less than that proves."""


def judge(
    contract: Contract,
    evidence: tuple[StageCounts, ...],
    *,
    error_budget: float,
    has_baseline: bool,
    compared: bool = True,
    design_effect: float = 1.0,
    time_left: timedelta | None = None,
) -> GateVerdict:
    """
    Return the verdict on the gate of the current stage, the last of *evidence*.

    Args:
        contract: What must hold.
        evidence: Counts by stage; harm is looked for in all of them, a pass rests on the current one alone.
        error_budget: Chance of one false breach in the whole release, a fraction in (0, 1).
        has_baseline: Whether there is a stable revision; without one, only absolute clauses are judged.
        compared: Whether the stable revision still has traffic in the current stage; without any, only absolute
            clauses are judged now, with the share of the budget that they have in every stage.
        design_effect: How many requests tell no more than one, because they come in bursts; at least 1. All counts are
            divided by it, or by what the evidence tells of it if that is more, before they are judged, and none before
            it is shown.
        time_left: Until the stage's deadline; None when nobody knows it. Decides nothing: messages tell what is late.
    """
    kind = evidence[-1].kind
    in_stage = [clause for clause in contract.clauses if clause.judged_in(kind)]
    clauses = [clause for clause in in_stage if (has_baseline and compared) or not clause.needs_baseline]
    if not clauses:
        return _nothing_judged(kind, comparable=bool(in_stage))
    shares = clause_shares(contract, has_baseline=has_baseline)
    effects = {clause.name: _design_effect(clause, evidence[-1].noise, design_effect) for clause in clauses}
    found = [
        assess(contract, it, hypotheses(contract, it, evidence, effects[it.name]), shares[it.name], error_budget)
        for it in clauses
    ]
    noisy = frozenset(it.name for it in clauses if _is_noisy(contract, it, evidence[-1], effects[it.name]))
    speaking = [it for it in found if it.clause.name not in noisy]
    means = _means(speaking)
    broken = _broken(speaking, means, error_budget)
    verdicts = tuple(
        _clause_verdict(
            it,
            contract.metric(it.clause.metric),
            effects[it.clause.name],
            _Standing(broken=it.clause.name in broken, noisy=it.clause.name in noisy),
            budget=error_budget,
            time_left=time_left,
        )
        for it in found
    )
    return _gate_verdict(verdicts, means)


def _nothing_judged(kind: str, *, comparable: bool) -> GateVerdict:
    reason = Reason.NO_BASELINE if comparable else Reason.NOT_JUDGED
    message = (
        "no stable revision has traffic to compare with, and no clause is absolute"
        if comparable
        else f"no clause of the contract is judged in a {kind} stage"
    )
    return GateVerdict(Outcome.INCONCLUSIVE, None, reason, message, (), (), "", None)


def action(clause: Clause) -> OnBreach:
    """Return what a breach of *clause* does."""
    return clause.on_breach or OnBreach.ROLLBACK


def clause_shares(contract: Contract, *, has_baseline: bool) -> Mapping[str, float]:
    """Return each clause's share of its family's budget: the same in every stage, or the mean were no fair bet."""
    compared = [clause for clause in contract.clauses if has_baseline or not clause.needs_baseline]
    totals = {family: sum(c.weight or 1 for c in compared if action(c) is family) for family in OnBreach}
    return {clause.name: (clause.weight or 1) / totals[action(clause)] for clause in compared}


# What the baseline tells of noise.


def _design_effect(clause: Clause, noise: Noise | None, least: float) -> float:
    """Return by what the counts of *clause* are divided."""
    known = noise.design_effects.get(clause.metric, 1.0) if noise else 1.0
    return max(least, known)


def _is_noisy(contract: Contract, clause: Clause, current: StageCounts, design_effect: float) -> bool:
    """
    Return whether two halves of the baseline's own pods would break *clause*, whichever is taken for the candidate.

    The same questions as of the candidate, at a looser level: an arm that differs from itself proves nothing.
    """
    if not clause.needs_baseline or current.noise is None or current.noise.halves is None:
        return False
    # The window may be of another kind of stage for the halves; what is judged here is judged in this one.
    halves = replace(current.noise.halves, kind=current.kind)
    hyp = hypotheses(contract, clause, (halves,), design_effect)
    there = assess(contract, clause, hyp, 1.0, NOISE_LEVEL).log_mean
    back = assess(contract, clause, hyp.swapped(), 1.0, NOISE_LEVEL).log_mean
    return bool(np.logaddexp(there, back) - np.log(2) >= np.log(1 / NOISE_LEVEL))


# The gate.


def _means(found: Sequence[Assessment]) -> Mapping[OnBreach, float]:
    """Return the log of each family's mean e-value; a family without clauses has none."""
    families = {family: [it.log_mean for it in found if action(it.clause) is family] for family in OnBreach}
    return {family: float(log_sum(np.array(parts))) for family, parts in families.items() if parts}


def _broken(found: Sequence[Assessment], means: Mapping[OnBreach, float], budget: float) -> frozenset[str]:
    """
    Return the names of the broken clauses.

    A clause is broken when its part of the family's mean reaches the level alone, or when the whole mean does and no
    clause alone: then the one with most evidence is named.
    """
    needed = np.log(1 / budget)
    broken: set[str] = set()
    for family, mean in means.items():
        members = [it for it in found if action(it.clause) is family]
        alone = {it.clause.name for it in members if it.log_mean >= needed}
        if not alone and mean >= needed:
            alone = {max(members, key=lambda it: it.log_mean).clause.name}
        broken |= alone
    return frozenset(broken)


def _gate_verdict(verdicts: tuple[ClauseVerdict, ...], means: Mapping[OnBreach, float]) -> GateVerdict:
    worst = sorted(verdicts, key=_worst_clause_first)
    on_breach = min((v.on_breach for v in verdicts if v.outcome is Outcome.BREACH), key=_SEVERITY.index, default=None)
    binding = [verdict for verdict in worst if verdict.on_breach is not OnBreach.WARN]
    outcome = worst_of(verdict.outcome for verdict in binding) if binding else _advice_only(worst)
    return GateVerdict(
        outcome=outcome,
        on_breach=on_breach,
        reason=_gate_reason(outcome, binding or worst),
        message=gate_message(outcome, binding, [verdict for verdict in worst if verdict.on_breach is OnBreach.WARN]),
        clauses=verdicts,
        blame=tuple(_blamed(worst, on_breach)),
        worst=worst_line(worst),
        eta=latest(verdict.eta for verdict in binding if verdict.outcome is outcome is Outcome.INCONCLUSIVE),
        log_e=means,
    )


def latest(etas: Iterable[timedelta | None]) -> timedelta | None:
    """Return the latest; None when there is none, or when one will not come."""
    known = list(etas)
    return None if None in known else max((eta for eta in known if eta is not None), default=None)


_SEVERITY: Final = (OnBreach.ROLLBACK, OnBreach.HOLD, OnBreach.WARN)


def _worst_clause_first(verdict: ClauseVerdict) -> tuple[bool, bool, bool, int, float]:
    """Breaches, then what decides before what only warns, then doubt before what holds, then by the evidence."""
    advises = verdict.on_breach is OnBreach.WARN
    broken, holds = verdict.outcome is Outcome.BREACH, verdict.outcome is Outcome.PASS
    return (not broken, advises, holds, _SEVERITY.index(verdict.on_breach), -verdict.log_e)


def _blamed(worst: Sequence[ClauseVerdict], on_breach: OnBreach | None) -> Iterator[Blame]:
    """Yield what is proved broken by the clauses that ask for *on_breach*; slices before all traffic: they say more."""
    for verdict in worst:
        if verdict.on_breach is on_breach:
            parts = [*verdict.slices, *([verdict.overall] if verdict.overall else [])]
            yield from (Blame(verdict.clause, part.part) for part in parts if part.outcome is Outcome.BREACH)


def _advice_only(verdicts: Sequence[ClauseVerdict]) -> Outcome:
    """Return the outcome when every clause only warns: nothing can stop it but silence."""
    return Outcome.INCONCLUSIVE if all(v.reason is Reason.NO_DATA for v in verdicts) else Outcome.PASS


_DOUBTS: Final = (
    Reason.NO_DATA,
    Reason.SILENT_SLICE,
    Reason.NOISY,
    Reason.HISTOGRAM_TOO_COARSE,
    Reason.LOW_TRAFFIC,
    Reason.UNDECIDED,
)


def _gate_reason(outcome: Outcome, verdicts: Sequence[ClauseVerdict]) -> Reason:
    match outcome:
        case Outcome.PASS:
            return Reason.WITHIN_CONTRACT
        case Outcome.BREACH:
            return Reason.CONTRACT_BREACHED
        case Outcome.INCONCLUSIVE:
            reasons = {verdict.reason for verdict in verdicts}
            return next((reason for reason in _DOUBTS if reason in reasons), Reason.UNDECIDED)


# One clause in words.


@dataclass(frozen=True, slots=True)
class _Standing:
    """Whether the evidence against a clause breaks it, and whether there can be any."""

    broken: bool
    noisy: bool


def _clause_verdict(
    it: Assessment,
    metric: Metric,
    design_effect: float,
    standing: _Standing,
    *,
    budget: float,
    time_left: timedelta | None,
) -> ClauseVerdict:
    low, high = _intervals(it, budget)
    parts = [
        _slice_verdict(it, index, (low[index], high[index]), budget, noisy=standing.noisy)
        for index in range(len(it.hyp.parts))
    ]
    outcome, reason = _clause_outcome(it, parts, standing)
    words = words_of(it.clause, metric, it.shown.above)
    rows = (0, *sorted(range(1, len(parts)), key=lambda row: _worst_slice_first(parts[row])))
    slices = tuple(parts[row] for row in rows[1:])
    asked = [
        part for part, thin in zip(parts, it.thin, strict=True) if not thin and part.outcome is Outcome.INCONCLUSIVE
    ]
    return ClauseVerdict(
        clause=it.clause.name,
        metric=it.clause.metric,
        outcome=outcome,
        reason=reason,
        message=clause_message(it.clause, words, (outcome, reason), parts[0], slices, asked, time_left),
        eta=latest(part.eta for part in asked) if outcome is Outcome.INCONCLUSIVE else None,
        limit=it.clause.margin.text,
        words=words,
        on_breach=action(it.clause),
        engine=it.questions[0].engine.value,
        overall=parts[0],
        slices=slices,
        log_e=it.log_mean - float(np.log(it.share)),
        level=it.share * budget,
        design_effect=design_effect,
        workings=Workings(it.questions, it.exclusions, budget, it.hyp.names, it.hyp.raw, rows),
    )


def _intervals(it: Assessment, budget: float) -> tuple[FloatArray, FloatArray]:
    level = budget * it.weight
    ends = [
        interval(question, stages, its_level, budget)
        for question, stages, its_level in zip(it.questions, split(it.hyp), (level[:1], level[1:]), strict=True)
    ]
    return np.concatenate([low for low, _ in ends]), np.concatenate([high for _, high in ends])


def _worst_slice_first(part: SliceVerdict) -> tuple[bool, float, str]:
    return (part.outcome is not Outcome.BREACH, -part.log_e, str(part.part))


def _clause_outcome(it: Assessment, parts: Sequence[SliceVerdict], standing: _Standing) -> tuple[Outcome, Reason]:
    if standing.broken:
        return Outcome.BREACH, Reason.CONTRACT_BREACHED
    if standing.noisy:
        return Outcome.INCONCLUSIVE, Reason.NOISY
    if it.clause.per and len(parts) == 1 and not _nothing_happened(it):
        return Outcome.INCONCLUSIVE, Reason.NO_DATA
    doubts = {
        part.reason for part, thin in zip(parts, it.thin, strict=True) if not thin and part.outcome is not Outcome.PASS
    }
    if not it.rest_assured:
        doubts.add(Reason.LOW_TRAFFIC)
    if not doubts:
        return Outcome.PASS, Reason.WITHIN_CONTRACT
    return Outcome.INCONCLUSIVE, next(reason for reason in _DOUBTS if reason in doubts)


def _nothing_happened(it: Assessment) -> bool:
    """Return whether a rate has no slice because it has no events: it knows slices by their events alone."""
    counted = it.hyp.counted
    return it.timed and not counted.events[0] and not counted.base_events[0]


def _slice_verdict(
    it: Assessment, index: int, ends: tuple[float, float], budget: float, *, noisy: bool
) -> SliceVerdict:
    total = it.shown.arms
    baseline, candidate = (_known(values[index]) for values in it.values)
    change = _change(it.questions[0], baseline, candidate)
    low, high = (None, None) if change is None else _around(change, *ends)
    outcome, reason = (Outcome.INCONCLUSIVE, Reason.NOISY) if noisy else _slice_outcome(it, index)
    return SliceVerdict(
        part=it.hyp.parts[index],
        outcome=outcome,
        reason=reason,
        baseline=baseline,
        candidate=candidate,
        change=change,
        low=low,
        high=high,
        events=(float(total.base_events[index]), float(total.events[index])),
        of=(float(total.base_of[index]), float(total.of[index])),
        log_e=float(it.log_e[index]),
        level=float(it.weight[index]) * budget,
        eta=_eta(it, index) if outcome is Outcome.INCONCLUSIVE and not noisy else None,
        thin=bool(it.thin[index]),
    )


def _around(change: float, low: float, high: float) -> tuple[float, float]:
    """Return the interval, which ends at *change* where only rounding has put that outside."""
    low, high = (change if math.isclose(end, change, rel_tol=_ROUNDING) else end for end in (low, high))
    return float(low), float(high)


def _eta(it: Assessment, index: int) -> timedelta | None:
    times = float(it.traffic_needed[index])
    seconds = (times - 1) * it.hyp.seconds if times < np.inf else np.inf
    return timedelta(seconds=round(seconds)) if 0 < seconds < _CALENDAR else None


_ROUNDING: Final = 1e-12
"""Of numbers that are equal, and were computed in two ways."""

_CALENDAR: Final = timedelta(days=3650).total_seconds()
"""Later than this is never."""


def _slice_outcome(it: Assessment, index: int) -> tuple[Outcome, Reason]:
    if it.blamed[index]:
        return Outcome.BREACH, Reason.CONTRACT_BREACHED
    if not it.seen[index]:
        silent = it.hyp.expected[index]
        return Outcome.INCONCLUSIVE, Reason.SILENT_SLICE if silent else Reason.NO_DATA
    if it.assured[index]:
        return Outcome.PASS, Reason.WITHIN_CONTRACT
    if it.coarse[index]:
        return Outcome.INCONCLUSIVE, Reason.HISTOGRAM_TOO_COARSE
    events = np.sum(it.hyp.current.events[index]) + np.sum(it.hyp.current.base_events[index])
    return Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC if events < FEW_EVENTS else Reason.UNDECIDED


def _known(rate: float) -> float | None:
    return float(rate) if np.isfinite(rate) else None


def _change(question: Question, baseline: float | None, candidate: float | None) -> float | None:
    """Return the change on the scale of the clause: relative, a difference, or the distance from the limit."""
    if candidate is None:
        return None
    match question.engine:
        case Engine.LIMIT | Engine.FREQUENCY | Engine.QUANTILE_LEVEL | Engine.DISTANCE:
            return candidate - question.sides[0].bound
        case Engine.DIFFERENCE | Engine.QUANTILE_SHIFT:
            return None if baseline is None else candidate - baseline
        case Engine.COUNTS | Engine.RATIO | Engine.QUANTILE_RATIO:
            return None if baseline is None or baseline <= 0 else candidate / baseline - 1
