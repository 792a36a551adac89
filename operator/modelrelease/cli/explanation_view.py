"""An explanation on paper: headline, then a column of questions and a column of answers."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from modelrelease.api.reasons import Outcome
from modelrelease.cli.evidence_rows import ClauseRows, Row
from modelrelease.cli.explanation import Command, Explanation, Item

COLOURS: Final = {Outcome.PASS: "green", Outcome.INCONCLUSIVE: "yellow", Outcome.BREACH: "bold red"}

_JUSTIFIED: Final[tuple[JustifyMethod, ...]] = ("left", "left", "right", "left", "left", "right", "left")
_LABEL_WIDTH: Final = len("You can")


def as_text(explanation: Explanation) -> RenderableType:
    """Return the explanation as people read it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=_LABEL_WIDTH, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for section in explanation.sections:
        for index, block in enumerate(_blocks(section.items)):
            grid.add_row(section.label if index == 0 else "", block)
    return Group(Text(explanation.headline, style="bold"), Text(), grid)


def _blocks(items: Sequence[Item]) -> list[RenderableType]:
    """Return one block an item; commands that follow each other stand in one table."""
    blocks: list[RenderableType] = []
    commands = [item for item in items if isinstance(item, Command)]
    for item in items:
        match item:
            case str():
                blocks.append(Text(item, style="bold red" if item.startswith("ALARM") else ""))
            case ClauseRows():
                blocks.append(clause_block(item))
            case Command():
                continue
    if commands:
        blocks.append(_command_table(commands))
    return blocks


def clause_block(found: ClauseRows) -> RenderableType:
    """Return what a clause found: a sentence and its rows."""
    return Group(Text(found.says, style=COLOURS[found.outcome]), rows_table(found.rows))


def rows_table(rows: Sequence[Row], clauses: Sequence[str] = ()) -> Table:
    """Return slices as a table without a head, for a cell says itself what it is; *clauses* may name each row's."""
    table = Table.grid(padding=(0, 3, 0, 0))
    if clauses:
        table.add_column(no_wrap=True)
    for justify in _JUSTIFIED:
        table.add_column(justify=justify, no_wrap=True)
    for index, row in enumerate(rows):
        first = [Text(clauses[index]), Text(row.cells[0])] if clauses else [Text(f"  {row.cells[0]}")]
        table.add_row(*first, *(Text(cell) for cell in row.cells[1:-1]), _verdict(row))
    return table


def _verdict(row: Row) -> Text:
    return Text(row.cells[-1], style=COLOURS[row.outcome])


def _command_table(commands: Sequence[Command]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True)  # a line that is to be copied
    table.add_column(style="dim", overflow="fold")
    for command in commands:
        table.add_row(Text(command.text), Text(command.does))
    return table
