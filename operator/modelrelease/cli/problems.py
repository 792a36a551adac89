"""What a person gave that cannot be used: every problem says where, what, and what is allowed."""

from collections.abc import Sequence
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
