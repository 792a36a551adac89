"""
Constraints that answer with a sentence: how a string is spelled, between what a number lies, what an open object holds.

A schema's ``pattern`` makes the API server answer with the regular expression alone. So a spelling is checked by a CEL
rule in the CRD and by pydantic here, and both answer with the same sentence.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidatorFunctionWrapHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS: Final = "x-kubernetes-validations"
PROBLEM: Final = "problem"
"""Type of the errors whose message already says what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """
    How a string must be written; stands in ``Annotated[str, ...]``.

    Attributes:
        pattern: Regular expression of the whole string, in the syntax that Python and RE2 share.
        wanted: What it is, and how to write it; continues the sentence "'5 %' is not ...".
    """

    pattern: str
    wanted: str

    def problem(self, text: str) -> str | None:
        """Return what is wrong with *text*, if anything is."""
        return None if re.fullmatch(self.pattern, text) else f"'{text}' is not {self.wanted}"

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the spelling after the type and the length."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Put the spelling into the schema as a CEL rule."""
        inner = handler(schema)
        return {**inner, VALIDATIONS: [*inner.get(VALIDATIONS, []), self.cel_rule("self")]}

    def cel_rule(self, subject: str, *, where: str = "") -> dict[str, str]:
        """
        Return the entry of ``x-kubernetes-validations`` for the string that the CEL expression *subject* gives.

        The message begins with *where* for a field that the API server cannot name itself.
        """
        return {
            "rule": f"{subject}.matches(r'^({self.pattern})$')",
            "messageExpression": f'"{where}\'" + {subject} + "\' is not " + {cel_string(self.wanted)}',
            "message": f"must be {self.wanted}",
        }

    def _checked(self, text: str) -> str:
        if problem := self.problem(text):
            raise problem_error(problem)
        return text


@dataclass(frozen=True, slots=True)
class Between:
    """A whole number from *least* to *most*; stands in ``Annotated[int, ...]``."""

    least: int
    most: int

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Put the bounds into the schema."""
        return {**handler(schema), "minimum": self.least, "maximum": self.most}

    def _checked(self, number: int) -> int:
        if not self.least <= number <= self.most:
            raise problem_error(f"{number} is outside {self.least}..{self.most}")
        return number


@dataclass(frozen=True, slots=True)
class CheckedAs:
    """An open object that *model* checks and that is kept as it was written; stands in ``Annotated[dict, ...]``."""

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate with the model, and return the input."""
        del source
        return core_schema.no_info_wrap_validator_function(
            _as_written,
            handler.generate_schema(self.model),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


def _as_written(value: Any, check: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - whatever the user wrote
    check(value)
    return value


def problem_error(problem: str) -> PydanticCustomError:
    """Return the error that makes *problem* the message of a field."""
    return PydanticCustomError(PROBLEM, "{problem}", {"problem": problem})


def cel_string(text: str) -> str:
    """Return *text* as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
