"""What a person gave that cannot be used: every problem says where, what, and what is allowed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SHOWN: Final = 20


class BadInput(Exception):  # noqa: N818 - it is what the person gave that is bad, not the program
    """
    Input that cannot be used.

    Attributes:
        problems: One line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the first *problems*, and say how many more there are."""
        more = len(problems) - _SHOWN
        self.problems = (*problems[:_SHOWN], *([f"and {more} more"] if more > 0 else []))
        super().__init__("\n".join(self.problems))


class BadFile(BadInput):
    """
    A file that cannot be read.

    Attributes:
        file: The file.
        line, column: Where the problem is, from 1; None when it is not in one place.
        what: What is wrong, and what is allowed.
    """

    def __init__(self, file: Path, what: str, line: int | None = None, column: int | None = None) -> None:
        """Say *what* is wrong, after the place."""
        self.file, self.line, self.column, self.what = file, line, column, what
        where = f":{line}:{column}" if line else ""
        super().__init__([f"{file}{where}: {what}"])


class RowProblem(Exception):  # noqa: N818 - a problem of the row
    """
    What is wrong with a row of a table.

    Attributes:
        column: Name of the column in which it is.
    """

    def __init__(self, column: str, what: str) -> None:
        """Say *what* is wrong, and what is allowed."""
        super().__init__(what)
        self.column = column
