"""
The pod template of a release: a PodTemplateSpec that the cluster checks in full when the Deployment is applied.

Modelled here is only what would go wrong late or silently: a template without containers, a restart policy that no
Deployment takes, and the labels and environment variables that the operator sets itself.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from modelrelease.api.base import BY_NAME, GROUP
from modelrelease.api.constraints import CheckedAs

OWN_LABELS: Final = f"{GROUP}/"
OWN_ENVIRONMENT: Final = "MODELRELEASE_"

NonEmpty = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
ContainerName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
VariableName = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class OpenModel(BaseModel):
    """A part of a Kubernetes object of which only some fields are looked at."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class EnvironmentVariable(OpenModel):
    """An environment variable of a container."""

    name: VariableName


class Container(OpenModel):
    """A container of the pods."""

    name: ContainerName
    image: NonEmpty
    env: list[EnvironmentVariable] | None = Field(default=None, max_length=256)


class PodSpec(OpenModel):
    """The spec of the pods."""

    containers: list[Container] = Field(min_length=1, max_length=16, json_schema_extra=BY_NAME)
    restart_policy: Literal["Always"] | None = None


class PodMetadata(OpenModel):
    """The metadata of the pods."""

    labels: dict[str, Annotated[str, StringConstraints(max_length=63)]] | None = Field(default=None, max_length=64)


class PodTemplateFields(OpenModel):
    """A PodTemplateSpec."""

    metadata: PodMetadata | None = None
    spec: PodSpec


PodTemplate = Annotated[dict[str, Any], CheckedAs(PodTemplateFields)]
