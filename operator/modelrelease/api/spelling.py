"""
Strings with a spelling: a pattern, and the sentence that explains it.

A schema's ``pattern`` makes the API server answer with the regular expression alone. So a spelling is checked by a CEL
rule in the CRD and by pydantic here, and both answer with the same sentence.
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


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

    def _checked(self, text: str) -> str:
        if problem := self.problem(text):
            raise PydanticCustomError("spelling", "{problem}", {"problem": problem})
        return text

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the spelling after the type and the length."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Put the spelling into the schema as a CEL rule."""
        rule = {
            "rule": f"self.matches(r'^({self.pattern})$')",
            "messageExpression": f'"\'" + self + "\' is not " + {cel_string(self.wanted)}',
            "message": f"must be {self.wanted}",
        }
        return {**handler(schema), VALIDATIONS: [rule]}


def cel_string(text: str) -> str:
    """Return *text* as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
