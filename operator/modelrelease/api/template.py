"""
The pod template of a release: a PodTemplateSpec that the cluster checks in full when the Deployment is applied.

The schema knows only what would go wrong late or silently: a template without containers, and the labels and
environment variables that the operator sets itself.
"""

from typing import Annotated, Any, Final

from pydantic import WithJsonSchema

from modelrelease.api.base import BY_NAME, GROUP

OWN_LABELS: Final = f"{GROUP}/"
OWN_ENVIRONMENT: Final = "MODELRELEASE_"

_OPEN: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}, "maxProperties": 64}

SCHEMA: Final[dict[str, Any]] = {
    **_OPEN,
    "required": ["spec"],
    "properties": {
        "metadata": {**_OPEN, "properties": {"labels": _STRINGS}},
        "spec": {
            **_OPEN,
            "required": ["containers"],
            "properties": {
                "restartPolicy": {"type": "string", "enum": ["Always"]},
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 16,
                    **BY_NAME,
                    "items": {
                        **_OPEN,
                        "required": ["name", "image"],
                        "properties": {
                            "name": {"type": "string", "minLength": 1, "maxLength": 63},
                            "image": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "env": {
                                "type": "array",
                                "maxItems": 256,
                                "items": {
                                    **_OPEN,
                                    "required": ["name"],
                                    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253}},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

PodTemplate = Annotated[dict[str, Any], WithJsonSchema(SCHEMA)]
