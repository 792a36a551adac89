"""
What all models of the API share: camelCase on the wire, snake_case in Python, immutable, nothing unknown.

Spec models refuse unknown fields, so that a typing error is never silently ignored. Status models ignore them, so
that an older operator can read what a newer one wrote.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from modelrelease.api.constraints import problem_error

GROUP: Final = "modelrelease.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

RELEASE_LABEL: Final = f"{GROUP}/release"
REVISION_LABEL: Final = f"{GROUP}/revision"


# How the API server merges a list, and that it refuses two items with one name, or one value twice.
BY_NAME: Final[JsonDict] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
BY_TYPE: Final[JsonDict] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
DISTINCT: Final[JsonDict] = {"x-kubernetes-list-type": "set"}


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[AwareDatetime, PlainSerializer(_rfc3339, when_used="json")]
"""A moment in a status, to the second."""


def _rfc3339_micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


MicroTime = Annotated[AwareDatetime, PlainSerializer(_rfc3339_micro, when_used="json")]
"""A moment in a status, to the microsecond."""


class SpecModel(BaseModel):
    """A part of a spec: written by users, refused when it holds a field that does not exist."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _no_unknown_field(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:  # noqa: ANN401 - whatever the user wrote
        """Refuse what does not exist with the names of what does; pydantic's own refusal gives none."""
        if info.mode == "json" and isinstance(given, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            if unknown := [name for name in given if name not in known]:
                allowed = f"allowed: {', '.join(known)}" if known else "no field is allowed here"
                raise problem_error(f"{', '.join(map(repr, unknown))} does not exist, {allowed}")
        return handler(given)


class StatusModel(BaseModel):
    """A part of a status: written by the operator, read back leniently."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)
