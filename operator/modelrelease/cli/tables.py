"""Releases and their history as tables, as kubectl would print them if it knew more."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import COMPLETED, CandidateStatus, DecisionRecord, HistoryEntry, StageForecast
from modelrelease.cli.explanation import decided
from modelrelease.cli.explanation_view import COLOURS
from modelrelease.cli.sight import Sight, waits_for_a_person
from modelrelease.core.report import span

_OUTCOMES: Final = {"Completed": "green", "RolledBack": "bold red", "Cancelled": "yellow", "Superseded": "yellow"}

_NOTE_WIDTH: Final = 24
"""Characters that a text beside a row has at least."""
_ENDLESS: Final = 1000


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


@dataclass(frozen=True, slots=True)
class NotedTable:
    """
    Rows with a text of any length each: beside them, or below them where there is no room for it.

    Attributes:
        columns: Names of the cells of a row, and last the name of the text.
        rows: Cells and text of each row.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[Text], RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the list: what is cut off tells nothing."""
        *names, noted = self.columns
        table, cells_alone = _table(self.columns, wrapped=frozenset({noted})), _table(names)
        for cells, note in self.rows:
            table.add_row(*cells, note)
            cells_alone.add_row(*cells)
        needed = console.measure(cells_alone, options=options.update(width=_ENDLESS)).maximum
        if options.max_width - needed >= _NOTE_WIDTH:
            yield table
            return
        for cells, note in self.rows:
            yield Text("   ", overflow="fold").join(cell for cell in cells if cell)
            yield Padding(note, (0, 0, 0, 2))


def history(sight: Sight) -> NotedTable:
    """Return the rollouts, latest first, the one under way above them."""
    columns = ("version", "revision", "outcome", "reason", "began (UTC)", "took", "message")
    entries = [_entry(entry) for entry in reversed(sight.status.history)]
    return NotedTable(columns, [*([_under_way(sight, sight.trial)] if sight.trial else []), *entries])


def _under_way(sight: Sight, trial: CandidateStatus) -> tuple[Sequence[Text], RenderableType]:
    cells = [
        Text(trial.version),
        Text(trial.revision),
        Text(f"in {sight.status.stage}", "cyan"),
        Text(sight.reason),
        Text(f"{trial.since:%Y-%m-%d %H:%M}"),
        Text(span(max(sight.now - trial.since, timedelta(0)))),
    ]
    return cells, _told(sight.message, sight.status.decisions)


def _entry(entry: HistoryEntry) -> tuple[Sequence[Text], RenderableType]:
    cells = [
        Text(entry.version),
        Text(entry.revision),
        Text(entry.outcome, _OUTCOMES[entry.outcome]),
        Text(entry.reason),
        Text(f"{entry.start_time:%Y-%m-%d %H:%M}"),
        Text(span(entry.end_time - entry.start_time)),
    ]
    return cells, _told(entry.message, entry.decisions)


def _told(message: str, decisions: Iterable[DecisionRecord]) -> RenderableType:
    texts = (Text(message), *(Text(decided(record), "cyan") for record in decisions))
    return Group(*(text for text in texts if text))


def forecasts(stages: Iterable[StageForecast]) -> NotedTable:
    """Return what each stage can prove, as the operator worked it out when the rollout began."""
    return NotedTable(("stage", "passes after", "deadline", "slowest", "message"), [_foretold(it) for it in stages])


def _foretold(stage: StageForecast) -> tuple[Sequence[Text], RenderableType]:
    style = "" if stage.in_time else "yellow"
    cells = [
        Text(stage.stage),
        Text(stage.passes_after or "never", style),
        Text(stage.deadline),
        Text(stage.slowest),
    ]
    return cells, Text(stage.message, style)


def _table(columns: Sequence[str], *, wrapped: frozenset[str] = frozenset()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column.upper(), no_wrap=column not in wrapped, overflow="fold")
    return table
