"""An explanation on paper: headline, then a column of questions and a column of answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome
from modelrelease.cli.evidence_rows import ClauseRows, Row
from modelrelease.cli.explanation import Command, Explanation, Item

COLOURS: Final = {Outcome.PASS: "green", Outcome.INCONCLUSIVE: "yellow", Outcome.BREACH: "bold red"}

_CELLS: Final = ("slice", "values", "change", "interval", "limit", "counts", "verdict")
"""What the cells of a row are."""
_JUSTIFIED: Final[tuple[JustifyMethod, ...]] = ("left", "left", "right", "left", "left", "right", "left")
"""How they stand."""
_DROPPED: Final = (frozenset[int](), frozenset({3}), frozenset({3, 5}), frozenset({3, 4, 5}))
"""Which cells are left out where there is less and less room."""
_LISTED: Final = 3
"""Slices of several clauses that are shown where they are a list."""
_ENDLESS: Final = 1000

_LABEL_WIDTH: Final = len("You can")


def as_text(explanation: Explanation) -> RenderableType:
    """Return the explanation as people read it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=_LABEL_WIDTH, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for section in explanation.sections:
        for index, block in enumerate(_blocks(section.items)):
            grid.add_row(section.label if index == 0 else "", block)
    return Group(headline(explanation), Text(), grid)


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation for programs, such as one that posts it where people talk."""
    sections = [{"label": it.label, "items": [_item_json(item) for item in it.items]} for it in explanation.sections]
    return {"headline": explanation.headline, "sections": sections}


def _item_json(item: Item) -> dict[str, Any]:
    match item:
        case str():
            return {"text": item}
        case Command():
            return {"command": item.text, "does": item.does}
        case ClauseRows():
            slices = [dict(zip(_CELLS, row.cells, strict=True)) for row in item.rows]
            return {"text": item.says, "verdict": item.outcome.value, "slices": slices}


def headline(explanation: Explanation) -> Text:
    """Return the first line: red where users are not served."""
    return Text(explanation.headline, style="bold red" if "ALARM" in explanation.headline else "bold")


def _blocks(items: Sequence[Item]) -> list[RenderableType]:
    """Return one block an item; commands that follow each other stand in one table."""
    blocks: list[RenderableType] = []
    commands = [item for item in items if isinstance(item, Command)]
    for item in items:
        match item:
            case str():
                blocks.append(Text(item))
            case ClauseRows():
                blocks.append(clause_block(item))
            case Command():
                continue
    if commands:
        blocks.append(CommandsTable(commands))
    return blocks


def clause_block(found: ClauseRows) -> RenderableType:
    """Return what a clause found: a sentence and its rows."""
    return Group(Text(found.says, style=COLOURS[found.outcome]), Padding(RowsTable(found.rows), (0, 0, 0, 2)))


@dataclass(frozen=True, slots=True)
class RowsTable:
    """
    Slices as a table without a head, for a cell says itself what it is; on a narrow terminal with fewer columns, and
    where there is no room for these either as a list.

    Attributes:
        rows: The slices.
        clauses: The clause of each row, where rows are of several.
    """

    rows: Sequence[Row]
    clauses: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with most columns that fits, or the list: a number that is cut off tells nothing."""
        tables = [self._table(dropped) for dropped in _DROPPED]
        endless = options.update(width=_ENDLESS)
        widths = [console.measure(table, options=endless).maximum for table in tables]
        fitting = (table for table, width in zip(tables, widths, strict=True) if width <= options.max_width)
        if table := next(fitting, None):
            yield table
        else:
            yield from self._list()

    def _list(self) -> Iterator[RenderableType]:
        # Beside a clause's name they stand on a screen, which is short as well.
        for number, row in enumerate(self.rows[:_LISTED] if self.clauses else self.rows):
            part, *numbers, found = row.cells
            of = f"{self.clauses[number]}   " if self.clauses else ""
            yield Text(f"{of}{part}", overflow="fold")
            told = Text("   ", overflow="fold").join(Text(cell) for cell in numbers if cell)
            told.append(f"   {found}", COLOURS[row.outcome])
            yield Padding(told, (0, 0, 0, 2))

    def _table(self, dropped: frozenset[int]) -> Table:
        shown = [index for index in range(len(_JUSTIFIED)) if index not in dropped]
        table = Table.grid(padding=(0, 3, 0, 0))
        if self.clauses:
            table.add_column(no_wrap=True)
        for index in shown:
            table.add_column(justify=_JUSTIFIED[index], no_wrap=True)
        for number, row in enumerate(self.rows):
            cells = [Text(cell) for cell in row.cells]
            cells[-1].stylize(COLOURS[row.outcome])
            table.add_row(*([Text(self.clauses[number])] if self.clauses else []), *(cells[index] for index in shown))
        return table


@dataclass(frozen=True, slots=True)
class CommandsTable:
    """Commands with what they do beside them, or below them where there is no room: a command is never cut off."""

    commands: Sequence[Command]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the list."""
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="dim")
        for command in self.commands:
            table.add_row(Text(command.text), Text(command.does))
        if console.measure(table, options=options.update(width=_ENDLESS)).maximum <= options.max_width:
            yield table
            return
        for command in self.commands:
            yield Text(command.text, overflow="fold")
            yield Padding(Text(command.does, style="dim"), (0, 0, 0, 2))
