"""A release while it moves: one screen that is drawn again and again, or one line a change where there is no screen."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome, Reason
from modelrelease.api.status import ROLLED_BACK, GateStatus, StageRecord
from modelrelease.cli.evidence_rows import worst_rows
from modelrelease.cli.explanation import Command, Explanation, Invocation, circumstances, explain
from modelrelease.cli.explanation_view import COLOURS, CommandsTable, RowsTable, headline
from modelrelease.cli.sight import Sight, called, waits_for_a_person
from modelrelease.core.report import span

_WORST_SHOWN: Final = 8
_WORST_BESIDE_COMMANDS: Final = 4
_BAR: Final = 40
"""Characters of the bar that stands for all users."""

_DONE, _OPEN, _AHEAD, _FAILED = "✓", "●", "○", "✗"


def as_live(sight: Sight, by: Invocation, trouble: str | None = None) -> RenderableType:
    """
    Return the screen.

    Args:
        sight: The release as it was last read.
        by: How commands are written.
        trouble: Why it could not be read again since; None when it was.
    """
    told = explain(sight, by)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=7, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for label, part in _parts(sight, told, by):
        grid.add_row(label, part)
    how = f"'{by.line('explain', sight.name)}' says how to stop it"
    foot = f"{sight.now:%H:%M:%S} UTC; Ctrl-C ends the view, not the rollout; {how}"
    lines: list[RenderableType] = [headline(told), Text(), grid, Text(), Text(foot, style="dim")]
    if trouble:
        lines.append(Text(f"cannot be read since then: {trouble}", style="bold red"))
    return Group(*lines)


def _parts(sight: Sight, told: Explanation, by: Invocation) -> Iterator[tuple[str, RenderableType]]:
    if sight.status.candidate:
        yield "Plan", progress(sight)
    if sight.status.stable or sight.trial:
        yield "Users", _bar(sight)
    gate = sight.status.gate
    if gate and not sight.ready:
        yield "Gate", _gate(sight, gate)
        most = _WORST_BESIDE_COMMANDS if _calls_for_somebody(sight) else _WORST_SHOWN
        worst = worst_rows(gate, sight.contract, most)
        if worst:
            yield "Worst", RowsTable([row for _, row in worst], [name for name, _ in worst])
    if why := [Text(item) for item in circumstances(sight)]:
        yield "Why", Group(*why)
    for section in told.sections:
        if section.label in {"Next", "Needs", "Route"}:
            yield section.label, Group(*(Text(item) for item in section.items if isinstance(item, str)))
        if section.label == "You can" and _calls_for_somebody(sight):
            ways = [item for item in section.items if isinstance(item, Command)]
            yield "You can", CommandsTable([way for way in ways if f"{by.program} watch" not in way.text])


def _calls_for_somebody(sight: Sight) -> bool:
    """Return whether whoever looks on is to do something, and should not have to look for the words."""
    overdue = sight.reason == Reason.DEADLINE_EXCEEDED
    return overdue or sight.alarming or waits_for_a_person(sight) or sight.reason == Reason.SUSPENDED


def progress(sight: Sight) -> Text:
    """Return the stages as one line: which are done, which is open and for how long, which are ahead."""
    trial = sight.status.candidate
    records = {record.name: record for record in trial.stages} if trial else {}
    names = list(dict.fromkeys([*records, *(stage.name for stage in sight.plan)]))
    line = Text()
    for name in names:
        mark, style, length = _mark(sight, records.get(name), last=bool(records) and name == list(records)[-1])
        line.append(f"{mark} {name}", style)
        line.append(f" {length}   " if length else "   ", "dim")
    return line


def _mark(sight: Sight, record: StageRecord | None, *, last: bool) -> tuple[str, str, str]:
    """Return sign, style and length of a stage."""
    if record is None:
        return _AHEAD, "dim", ""
    if record.end_time is None:
        bake = f" of {span(sight.stage.bake_time)}" if sight.stage and sight.bake_left > timedelta(0) else ""
        return _OPEN, "bold cyan", f"{span(max(sight.now - record.start_time, timedelta(0)))}{bake}"
    failed = last and sight.status.stage == ROLLED_BACK
    return (
        (_FAILED if failed else _DONE),
        ("bold red" if failed else "green"),
        span(record.end_time - record.start_time),
    )


def _bar(sight: Sight) -> Text:
    stable, trial = sight.status.stable or sight.status.serving, sight.trial
    weight = trial.weight if trial else 0
    candidates = round(_BAR * weight / 100)
    if weight:
        candidates = max(1, candidates)
    bar = Text()
    if stable:
        bar.append(f"{called(sight.status, stable)} {stable.weight} % ", "green")
    others = _BAR - candidates
    bar.append(*("█" * others, "green") if stable else ("░" * others, "dim"))
    bar.append("█" * candidates, "cyan")
    if trial:
        copies = f" and copies of {trial.mirror_percent} %" if trial.mirror_percent else ""
        bar.append(f" {called(sight.status, trial)} {weight} %{copies}", "cyan")
    return bar


def _gate(sight: Sight, gate: GateStatus) -> Text:
    more = f"; about {gate.eta} more" if gate.eta and gate.verdict is Outcome.INCONCLUSIVE else ""
    judged = f"; judged {sight.ago(gate.evaluated_at)}" if sight.trial else ""
    return Text.assemble((gate.verdict.value, COLOURS[gate.verdict]), f" ({gate.reason}){more}{judged}")


def milestone(sight: Sight) -> tuple[object, ...]:
    """Return what makes a new line where there is no screen."""
    gate, trial = sight.status.gate, sight.status.candidate
    return (sight.status.stage, sight.reason, trial and (trial.version, trial.weight), gate and gate.verdict)


def as_line(sight: Sight) -> str:
    """Return the release in one line."""
    gate, trial = sight.status.gate, sight.status.candidate
    cells = [
        f"{sight.now:%Y-%m-%dT%H:%M:%SZ}",
        sight.status.stage or "-",
        f"{trial.version} {trial.weight}%" if trial else "-",
        gate.verdict.value if gate else "-",
        sight.reason or "-",
        (gate.worst if gate and gate.worst else sight.message.replace("\n", "; ")) or "-",
    ]
    return "  ".join(cells)
