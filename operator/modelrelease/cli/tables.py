"""Releases and their history as tables, as kubectl would print them if it knew more."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import COMPLETED, HistoryEntry, StageForecast
from modelrelease.cli.explanation import decided
from modelrelease.cli.explanation_view import COLOURS
from modelrelease.cli.sight import Sight, waits_for_a_person
from modelrelease.core.report import span

_OUTCOMES: Final = {"Completed": "green", "RolledBack": "bold red", "Cancelled": "yellow", "Superseded": "yellow"}


def releases(sights: Sequence[Sight], *, namespaces: bool) -> Table:
    """Return one line a release; with *namespaces*, each begins with its own."""
    columns = ("name", "stage", "stable", "candidate", "weight", "verdict", "worst", "next", "ready", "age")
    table = _table([*(["namespace"] if namespaces else []), *columns])
    for sight in sights:
        status = sight.status
        gate, trial = status.gate, status.candidate
        cells = [
            Text(sight.name),
            Text(status.stage),
            Text(status.stable.version if status.stable else ""),
            Text(trial.version if trial else ""),
            Text(f"{trial.weight} %" if trial else ""),
            Text(gate.verdict, COLOURS[gate.verdict]) if gate else Text(""),
            Text(gate.worst if gate else ""),
            Text(coming(sight)),
            Text(sight.state("Ready") or "Unknown", "green" if sight.ready else "yellow"),
            Text(span(sight.now - sight.created) if sight.created else ""),
        ]
        table.add_row(*([Text(sight.namespace)] if namespaces else []), *cells)
    return table


def coming(sight: Sight) -> str:
    """Return what comes next in a few words, such as ``canary-50 in 6 min``."""
    if sight.unseen:
        return "not looked at yet"
    if sight.unserved and sight.alarming:
        return f"ALARM: {sight.unserved[0]}"
    if sight.reason == Reason.SUSPENDED:
        return "suspended"
    if sight.reason == Reason.ROLLED_BACK:
        return "another version, or retry"
    if sight.reason == Reason.AWAITING_APPROVAL:
        return f"{sight.next_stage.name if sight.next_stage else 'release'}, awaits approval"
    if waits_for_a_person(sight):
        return "a person decides"
    if sight.stalled:
        return f"stuck: {sight.reason}"
    if sight.status.stage == COMPLETED or not sight.trial:
        return ""
    return _coming_by_itself(sight)


def _coming_by_itself(sight: Sight) -> str:
    goal = sight.next_stage.name if sight.next_stage else "release"
    approved = " if approved" if sight.unapproved else ""
    gate = sight.status.gate
    if sight.reason == Reason.METRICS_UNAVAILABLE:
        return "waits for Prometheus"
    if sight.reason == Reason.DEADLINE_EXCEEDED:
        return f"{goal}, past its deadline"
    if gate and gate.verdict is Outcome.INCONCLUSIVE:
        return f"{goal} in about {gate.eta}{approved}" if gate.eta else f"{goal}, not in sight"
    if sight.bake_left > timedelta(0):
        return f"{goal} in {span(sight.bake_left)}{approved}"
    return f"{goal}, waits for pods" if sight.reason in {Reason.PENDING, Reason.SCALING_UP} else goal


def history(sight: Sight) -> Table:
    """Return the rollouts, latest first, the one under way above them."""
    table = _table(
        ["version", "revision", "outcome", "reason", "began (UTC)", "took", "message"], wrapped=frozenset({"message"})
    )
    trial = sight.trial
    if trial:
        took = span(max(sight.now - trial.since, timedelta(0)))
        table.add_row(
            Text(trial.version),
            Text(trial.revision),
            Text(f"in {sight.status.stage}", "cyan"),
            Text(sight.reason),
            f"{trial.since:%Y-%m-%d %H:%M}",
            took,
            Group(Text(sight.message), *(Text(decided(record), "cyan") for record in sight.status.decisions)),
        )
    for entry in reversed(sight.status.history):
        _add_entry(table, entry)
    return table


def _add_entry(table: Table, entry: HistoryEntry) -> None:
    table.add_row(
        Text(entry.version),
        Text(entry.revision),
        Text(entry.outcome, _OUTCOMES[entry.outcome]),
        Text(entry.reason),
        f"{entry.start_time:%Y-%m-%d %H:%M}",
        span(entry.end_time - entry.start_time),
        Group(Text(entry.message), *(Text(decided(record), "cyan") for record in entry.decisions)),
    )


def forecasts(stages: Iterable[StageForecast]) -> Table:
    """Return what each stage can prove, as the operator worked it out when the rollout began."""
    table = _table(["stage", "passes after", "deadline", "slowest", "message"], wrapped=frozenset({"message"}))
    for stage in stages:
        style = "" if stage.in_time else "yellow"
        table.add_row(
            Text(stage.stage),
            Text(stage.passes_after or "never", style),
            Text(stage.deadline),
            Text(stage.slowest),
            Text(stage.message, style),
        )
    return table


def _table(columns: Sequence[str], *, wrapped: frozenset[str] = frozenset()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column.upper(), no_wrap=column not in wrapped, overflow="fold")
    return table
