"""
The CEL rules of the CRD: what one object can know beyond the types.

rules.py says the same in Python, for specs that no API server has admitted; tests hold the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One entry of ``x-kubernetes-validations``.

    Attributes:
        rule: CEL that must be true.
        says: CEL that gives the message: what, and what is allowed.
        message: The message where ``says`` cannot be evaluated, and for readers of the schema.
        path: Field that the error names, such as ``.metric``; the object itself when empty.
    """

    rule: str
    message: str
    says: str = ""
    path: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the rule as the schema holds it."""
        optional = {"messageExpression": self.says, "fieldPath": self.path}
        return {"rule": self.rule, "message": self.message, **{key: text for key, text in optional.items() if text}}


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "ModelRelease": (),
}
