"""
What a cluster refuses of a pod template when the operator applies it: names, labels, fields that do not exist. Pure.

The API server takes a ModelRelease with any template, because a CRD cannot hold Kubernetes' own schema. So a typing
error would be found by the operator's first apply, with the release under way; here it is found in the file. Values
are not looked at beyond names and labels: quantities, ports and volumes that do not fit are the cluster's to refuse.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelrelease.cli.object_rules import SHORT_NAME, Problem, annotation_problems, label_problems

TEMPLATE: Final = "spec.server.template"


def template_problems(spec: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what any cluster refuses of the template in the *spec* of a release."""
    template = _field(_field(spec, "server"), "template")
    meta, pod = _field(template, "metadata"), _field(template, "spec")
    yield from label_problems(_field(meta, "labels"), f"{TEMPLATE}.metadata.labels")
    yield from annotation_problems(_field(meta, "annotations"), f"{TEMPLATE}.metadata.annotations")
    for field in ("containers", "initContainers"):
        containers = _field(pod, field)
        for index, container in enumerate(containers if isinstance(containers, list) else ()):
            name = _field(container, "name")
            if isinstance(name, str) and (problem := SHORT_NAME.problem(name)):
                yield f"{TEMPLATE}.spec.{field}[{index}].name", problem


def unknown_fields(template: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the fields of *template* that the client library's version of Kubernetes does not have."""
    from kubernetes import __version__

    release = f"Kubernetes 1.{__version__.partition('.')[0]}"
    for path, field, known in _unknown(template, "V1PodTemplateSpec", TEMPLATE):
        alike = difflib.get_close_matches(field, known, n=1)
        meant = f"did you mean {alike[0]}? " if alike else ""
        yield path, f"{release} has no such field; {meant}A cluster that does not know it refuses the pods"


def _unknown(given: object, type_: str, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield path and name of each field that a *type_* of the client library lacks, and the names of those it has."""
    from kubernetes.client import models

    if isinstance(given, list) and (items := re.fullmatch(r"[Ll]ist\[(\w+)\]", type_)):
        for index, item in enumerate(given):
            yield from _unknown(item, items[1], f"{path}[{index}]")
    model = getattr(models, type_, None)
    if model is None or not isinstance(given, Mapping):
        return
    types = {on_the_wire: model.openapi_types[name] for name, on_the_wire in model.attribute_map.items()}
    for field, value in given.items():
        if field in types:
            yield from _unknown(value, types[field], f"{path}.{field}")
        else:
            yield f"{path}.{field}", field, list(types)


def _field(given: object, name: str) -> Any:  # noqa: ANN401 - whatever the user wrote
    return given.get(name) if isinstance(given, Mapping) else None
