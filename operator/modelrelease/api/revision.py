"""
A revision: one immutable (model, server) pair, named by a short hash of its content.

Replicas and deadlines are not content: they say how a revision is run, not what it is, and change in place.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from modelrelease.api.release import ReleaseSpec

HASH_LENGTH: Final = 7


@dataclass(frozen=True, slots=True)
class Revision:
    """
    One immutable (model, server) pair.

    Attributes:
        name: Short hash of the content, such as ``7f3c9b1``.
        version: The model's version.
        port: Container port that takes requests.
        template: The pod template as the user wrote it.
    """

    name: str
    version: str
    port: int
    template: dict[str, Any]

    @classmethod
    def of(cls, spec: ReleaseSpec) -> "Revision":
        """Return the revision that *spec* asks for."""
        content = {"version": spec.model.version, "port": spec.server.port, "template": spec.server.template}
        return cls.from_content(content)

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Revision":
        """Return the revision with this stored content; the name is computed, never trusted."""
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(canonical.encode()).hexdigest()[:HASH_LENGTH]
        return cls(name=name, version=content["version"], port=content["port"], template=content["template"])

    @property
    def content(self) -> dict[str, Any]:
        """What the name is a hash of, as it is stored."""
        return {"version": self.version, "port": self.port, "template": self.template}
