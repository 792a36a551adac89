"""Every word that a status or an event may carry, as the code says it: what pages and states have to show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from modelrelease import reconcile
from modelrelease.api.decision import DecisionOutcome
from modelrelease.api.reasons import Reason
from modelrelease.core import announce

_STALLING: Final = {
    Reason.INVALID_SPEC,
    Reason.CONTRACT_NOT_FOUND,
    Reason.CONTRACT_INVALID,
    Reason.GATEWAY_NOT_FOUND,
    Reason.MIRROR_UNSUPPORTED,
    Reason.ROUTE_REJECTED,
    Reason.NAME_CONFLICT,
    Reason.PROGRESS_DEADLINE_EXCEEDED,
    Reason.EVIDENCE_NOT_KEPT,
}
"""Reasons of Stalled that are an event of the same name."""


def announced() -> set[str]:
    """Return every reason that an event can have, as the code says it."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(reconcile.__file__).parent.rglob("*.py"))
    plain = re.findall(r'Announcement\(\s*"(?:Normal|Warning)",\s*"(\w+)"', source)
    answers = {f"Decision{outcome}" for outcome in DecisionOutcome if outcome is not DecisionOutcome.APPLIED}
    return {
        *plain,
        *answers,
        *announce._STARTED.values(),
        *(reason for reason, _ in announce._DECIDED.values()),
        *_STALLING,
        Reason.STAGE_MAY_NOT_CONCLUDE,
    }


def reasons_in(value: Any) -> Iterator[str]:
    """Yield every reason that stands anywhere in *value*."""
    match value:
        case dict():
            yield from (str(value[key]) for key in ("reason", "despite") if key in value)
            for item in value.values():
                yield from reasons_in(item)
        case list():
            for item in value:
                yield from reasons_in(item)
