"""What was tried, as a table that reads the same on every day: counts, no times of day."""

import os
from collections import Counter

FULL = os.environ.get("FAULTS") == "full"
"""Whether everything is tried: ``make faults``."""


class Table:
    """Outcomes counted by row, in the form of Markdown."""

    def __init__(self, title: str, *columns: str) -> None:
        self._title = title
        self._columns = (*columns, "fault", "outcome", "tried")
        self.rows: Counter[tuple[str, ...]] = Counter()

    def add(self, *cells: str) -> None:
        self.rows[cells] += 1

    def __str__(self) -> str:
        lines = [f"\n### {self._title}\n", _line(self._columns), _line("---" for _ in self._columns)]
        lines += [_line((*cells, str(count))) for cells, count in sorted(self.rows.items())]
        return "\n".join(lines)


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
