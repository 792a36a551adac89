"""
The judge: counts in, verdicts out.

    counts by stage -> hypotheses (clause x slice) -> log e-values -> clause verdicts -> the gate's verdict

A breach is found by the weighted mean of all e-values: valid whatever depends on whatever, however often one looks, and
never later than a correction for many comparisons would find it (Vovk and Wang 2021; Ville 1939). Naming a slice needs
more: its own e-value must reach its own, smaller share of the error budget. A pass needs every clause and every slice
to exclude a harm, from what was counted in the current stage alone; that needs no correction, because all must pass.

The budget covers one family of clauses per action: those that roll back, those that hold, those that warn.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from modelrelease.api.contract import Clause, Contract, OnBreach
from modelrelease.api.reasons import Outcome, Reason
from modelrelease.core.assess import Assessment, assess, split
from modelrelease.core.counts import FloatArray, StageCounts
from modelrelease.core.evidence import Engine
from modelrelease.core.hypotheses import hypotheses
from modelrelease.core.interval import interval
from modelrelease.core.question import Question
from modelrelease.core.report import clause_message, gate_message, gate_status, unit_of, worst_line
from modelrelease.core.verdict import Blame, ClauseVerdict, GateVerdict, SliceVerdict, worst_of

__all__ = ["gate_status", "judge"]

FEW_EVENTS: Final = 20
"""Events in both arms together below which doubt is called low traffic."""


def judge(
    contract: Contract,
    evidence: tuple[StageCounts, ...],
    *,
    error_budget: float,
    has_baseline: bool,
    compared: bool = True,
    design_effect: float = 1.0,
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
            divided by it before they are judged, none before it is shown.
    """
    kind = evidence[-1].kind
    in_stage = [clause for clause in contract.clauses if clause.judged_in(kind)]
    clauses = [clause for clause in in_stage if (has_baseline and compared) or not clause.needs_baseline]
    if not clauses:
        return _nothing_judged(kind, comparable=bool(in_stage))
    shares = clause_shares(contract, has_baseline=has_baseline)
    found = [
        assess(
            contract, clause, hypotheses(contract, clause, evidence, design_effect), shares[clause.name], error_budget
        )
        for clause in clauses
    ]
    broken = _broken(found, error_budget)
    verdicts = tuple(_clause_verdict(it, broken=it.clause.name in broken, budget=error_budget) for it in found)
    return _gate_verdict(verdicts)


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


# The gate.


def _broken(found: Sequence[Assessment], budget: float) -> frozenset[str]:
    """
    Return the names of the broken clauses.

    A clause is broken when its part of the family's mean reaches the level alone, or when the whole mean does and no
    clause alone: then the one with most evidence is named.
    """
    needed = np.log(1 / budget)
    broken: set[str] = set()
    for family in OnBreach:
        members = [it for it in found if action(it.clause) is family]
        alone = {it.clause.name for it in members if it.log_mean >= needed}
        if not alone and members and _log_sum(np.array([it.log_mean for it in members])) >= needed:
            alone = {max(members, key=lambda it: it.log_mean).clause.name}
        broken |= alone
    return frozenset(broken)


def _log_sum(values: FloatArray) -> float:
    return float(np.logaddexp.reduce(values))


def _gate_verdict(verdicts: tuple[ClauseVerdict, ...]) -> GateVerdict:
    worst = sorted(verdicts, key=_worst_clause_first)
    on_breach = min((v.on_breach for v in verdicts if v.outcome is Outcome.BREACH), key=_SEVERITY.index, default=None)
    binding = [verdict for verdict in worst if verdict.on_breach is not OnBreach.WARN]
    outcome = worst_of(verdict.outcome for verdict in binding) if binding else _advice_only(worst)
    return GateVerdict(
        outcome=outcome,
        on_breach=on_breach,
        reason=_gate_reason(outcome, binding or worst),
        message=gate_message(outcome, binding or worst),
        clauses=verdicts,
        blame=tuple(_blamed(worst, on_breach)),
        worst=worst_line(worst),
        eta=latest(verdict.eta for verdict in binding if verdict.outcome is Outcome.INCONCLUSIVE),
    )


def latest(etas: Iterable[timedelta | None]) -> timedelta | None:
    """Return the latest; None when there is none, or when one will not come."""
    known = list(etas)
    return None if None in known else max((eta for eta in known if eta is not None), default=None)


_SEVERITY: Final = (OnBreach.ROLLBACK, OnBreach.HOLD, OnBreach.WARN)


def _worst_clause_first(verdict: ClauseVerdict) -> tuple[bool, int, float]:
    return (verdict.outcome is not Outcome.BREACH, _SEVERITY.index(verdict.on_breach), -verdict.log_e)


def _blamed(worst: Sequence[ClauseVerdict], on_breach: OnBreach | None) -> Iterator[Blame]:
    """Yield what is proved broken by the clauses that ask for *on_breach*; slices before all traffic: they say more."""
    for verdict in worst:
        if verdict.on_breach is on_breach:
            parts = [*verdict.slices, *([verdict.overall] if verdict.overall else [])]
            yield from (Blame(verdict.clause, part.part) for part in parts if part.outcome is Outcome.BREACH)


def _advice_only(verdicts: Sequence[ClauseVerdict]) -> Outcome:
    """Return the outcome when every clause only warns: nothing can stop it but silence."""
    return Outcome.INCONCLUSIVE if all(v.reason is Reason.NO_DATA for v in verdicts) else Outcome.PASS


_DOUBTS: Final = (Reason.NO_DATA, Reason.SILENT_SLICE, Reason.LOW_TRAFFIC, Reason.UNDECIDED)


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


def _clause_verdict(it: Assessment, *, broken: bool, budget: float) -> ClauseVerdict:
    low, high = _intervals(it, budget)
    parts = [_slice_verdict(it, index, (low[index], high[index]), budget) for index in range(len(it.hyp.parts))]
    outcome, reason = _clause_outcome(it, parts, broken=broken)
    slices = tuple(sorted(parts[1:], key=_worst_slice_first))
    asked = [
        part for part, thin in zip(parts, it.thin, strict=True) if not thin and part.outcome is Outcome.INCONCLUSIVE
    ]
    return ClauseVerdict(
        clause=it.clause.name,
        metric=it.clause.metric,
        outcome=outcome,
        reason=reason,
        message=clause_message(it.clause, outcome, reason, parts[0], slices, asked),
        eta=latest(part.eta for part in asked) if outcome is Outcome.INCONCLUSIVE else None,
        limit=it.clause.margin.text,
        unit=unit_of(it.clause),
        absolute=not it.clause.needs_baseline,
        on_breach=action(it.clause),
        engine=it.questions[0].engine.value,
        overall=parts[0],
        slices=slices,
        log_e=it.log_mean - float(np.log(it.share)),
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


def _clause_outcome(it: Assessment, parts: Sequence[SliceVerdict], *, broken: bool) -> tuple[Outcome, Reason]:
    if broken:
        return Outcome.BREACH, Reason.CONTRACT_BREACHED
    if it.clause.per and len(parts) == 1:
        return Outcome.INCONCLUSIVE, Reason.NO_DATA
    doubts = {
        part.reason for part, thin in zip(parts, it.thin, strict=True) if not thin and part.outcome is not Outcome.PASS
    }
    if not it.rest_assured:
        doubts.add(Reason.LOW_TRAFFIC)
    if not doubts:
        return Outcome.PASS, Reason.WITHIN_CONTRACT
    return Outcome.INCONCLUSIVE, next(reason for reason in _DOUBTS if reason in doubts)


def _slice_verdict(it: Assessment, index: int, ends: tuple[float, float], budget: float) -> SliceVerdict:
    total = it.hyp.counted
    baseline, candidate = (_known(rates[index]) for rates in it.rates)
    change = _change(it.questions[0], baseline, candidate)
    outcome, reason = _slice_outcome(it, index)
    return SliceVerdict(
        part=it.hyp.parts[index],
        outcome=outcome,
        reason=reason,
        baseline=baseline,
        candidate=candidate,
        change=change,
        low=float(ends[0]) if change is not None else None,
        high=float(ends[1]) if change is not None else None,
        events=(float(total.base_events[index]), float(total.events[index])),
        of=(float(total.base_of[index]), float(total.of[index])),
        log_e=float(it.log_e[index]),
        level=float(it.weight[index]) * budget,
        eta=_eta(it, index) if outcome is Outcome.INCONCLUSIVE else None,
    )


def _eta(it: Assessment, index: int) -> timedelta | None:
    times = float(it.traffic_needed[index])
    seconds = (times - 1) * it.hyp.seconds if times < np.inf else np.inf
    return timedelta(seconds=round(seconds)) if 0 < seconds < _CALENDAR else None


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
    events = it.hyp.current.events[index] + it.hyp.current.base_events[index]
    return Outcome.INCONCLUSIVE, Reason.LOW_TRAFFIC if events < FEW_EVENTS else Reason.UNDECIDED


def _known(rate: float) -> float | None:
    return float(rate) if np.isfinite(rate) else None


def _change(question: Question, baseline: float | None, candidate: float | None) -> float | None:
    """Return the change on the scale of the clause: relative, a difference, or the distance from the limit."""
    if candidate is None:
        return None
    if question.engine is Engine.LIMIT:
        return candidate - question.sides[0].bound
    if baseline is None:
        return None
    if question.engine is Engine.DIFFERENCE:
        return candidate - baseline
    return candidate / baseline - 1 if baseline > 0 else None
