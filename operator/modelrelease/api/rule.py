"""
A rule between the fields of one model, in two languages side by side.

As CEL the API server checks it at admission; as a Python function the parser and the command line do, which see specs
that no API server has admitted. Both give the same sentence; a table of bad specs holds the two together. Every list
and string that CEL iterates is bounded in the models: the API server refuses a CRD whose rules could cost too much.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from modelrelease.api.constraints import cel_string

Model = TypeVar("Model", bound=BaseModel)
Word = str | int | list[str] | list[int]
Words = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Rule(Generic[Model]):
    """
    What must hold between the fields of one model.

    Attributes:
        on: The model.
        path: The field that the problem is about, such as ``.deadline``; the whole object when empty.
        says: The problem and what is allowed; every ``{}`` stands for one word.
        cel: CEL over ``self`` that is true when all is well.
        words: CEL of each word: a string, a number or a list.
        broken: The words in Python when the rule is broken, else None.
    """

    on: type[Model]
    path: str
    says: str
    cel: str
    words: tuple[str, ...]
    broken: Callable[[Model], Words | None]

    def as_json(self) -> dict[str, str]:
        """Return the entry of ``x-kubernetes-validations``."""
        path = {"fieldPath": self.path} if self.path else {}
        if not self.words:
            return {"rule": self.cel, "message": self.says.format(), **path}
        # Only format() is cheap in the API server's estimate: + and join() count a filtered list as endless.
        sentence = cel_string(self.says.replace("%", "%%").format(*("%s" for _ in self.words)))
        return {"rule": self.cel, "messageExpression": f"{sentence}.format([{', '.join(self.words)}])", **path}

    def problem(self, model: Model) -> str | None:
        """Return what is wrong with *model*, if anything is."""
        words = self.broken(model)
        return None if words is None else self.says.format(*map(_as_cel_prints, words))


def words_if(broken: object, *words: Word | None) -> Words | None:
    """Return *words*, less those that are not there, when a rule is broken."""
    return tuple(word for word in words if word is not None) if broken else None


def cel_count(*fields: str) -> str:
    """Return CEL that counts which *fields* of ``self`` are given."""
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(given, given).size()"


def _as_cel_prints(word: Word) -> str:
    return json.dumps(word) if isinstance(word, list) else str(word)
