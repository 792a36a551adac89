"""
The outputs on the API's pages: what a real API server shows of a release in a state.

A page says what it wants, ``<!-- recorded: conditions rolled-back Ready,Stalled -->``, before a fenced block; kinds are
``conditions``, ``events`` (both of these types or reasons, or all), ``status`` (these fields), ``decision`` (what
became of it) and ``ready`` (reason and message of the condition Ready in several states, a line each). Write them anew
with

    python -m tests.docs.record

which needs no API server; a test shows that a real one gives the same.
"""

import asyncio
import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from modelrelease.adapters.kube import KubeCluster
from tests.apiserver import Cluster
from tests.builders import NOW
from tests.gitops.states import Recorded, decide, place, recorded

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """A release, its events in the order in which they were said, and what people decided about it."""

    body: Object
    events: list[Object]
    decisions: list[Object]


PAGES: Final = sorted((Path(__file__).resolve().parents[2] / "docs" / "spec" / "v1alpha1").glob("*.md"))

_BLOCK: Final = re.compile(
    r"(?P<head><!-- recorded: (?P<what>\w+) (?P<state>[-a-z,]+)(?: (?P<pick>\S+))? -->\n)"
    r"```(?P<language>\w+)\n.*?^```$",
    re.DOTALL | re.MULTILINE,
)


def refilled(page: str, shown: Callable[[str], Shown]) -> str:
    """Return *page* with its outputs as *shown* for each state."""

    def block(found: re.Match[str]) -> str:
        pick = found["pick"].split(",") if found["pick"] else None
        states = [shown(state) for state in found["state"].split(",")]
        lines = _ready(states) if found["what"] == "ready" else _PRINTED[found["what"]](*states, pick)
        return f"{found['head']}```{found['language']}\n{lines}```"

    return _BLOCK.sub(block, page)


def as_written(state: str) -> Shown:
    """Return the release as the operator's code writes it."""
    release = recorded(state)
    said = [{"type": a.type, "reason": a.reason, "note": a.message} for a in release.said]
    return Shown(release.body, said, release.decisions)


def on(cluster: Cluster, namespace: str) -> Callable[[str], Shown]:
    """Return what gives the release as a real API server has it, placed there at its first use."""

    @functools.cache
    def shown(state: str) -> Shown:
        release = recorded(state)
        body = place(cluster, namespace, state, release)
        asyncio.run(_say(cluster, body, release))
        selector = f"regarding.name={state}"
        events = json.loads(
            cluster.kubectl("get", "events.events.k8s.io", "-n", namespace, "--field-selector", selector, "-o", "json")
        )["items"]
        decisions = [decide(cluster, namespace, state, decision) for decision in release.decisions]
        return Shown(body, sorted(events, key=lambda event: str(event["eventTime"])), decisions)

    return shown


async def _say(cluster: Cluster, body: Object, release: Recorded) -> None:
    async with cluster.client() as client:
        moment = NOW
        for second, announcement in enumerate(release.said):
            # What tells of no recorded moment is told right after what does.
            moment = announcement.time or moment + timedelta(microseconds=1)
            # Each was said of another version of the object; what is said of one version twice is one event.
            version = {**body, "metadata": {**body["metadata"], "resourceVersion": f"{second}"}}
            await KubeCluster(client, clock=lambda moment=moment: moment).emit(version, announcement)


def _conditions(shown: Shown, pick: list[str] | None) -> str:
    conditions = shown.body["status"]["conditions"]
    chosen = [c for c in conditions if pick is None or c["type"] in pick]
    assert pick is None or {c["type"] for c in chosen} == set(pick), f"{pick}, present are {conditions}"
    return _yaml({"conditions": chosen})


def _status(shown: Shown, pick: list[str] | None) -> str:
    status = shown.body["status"]
    return _yaml({field: status[field] for field in pick or status})


def _events(shown: Shown, pick: list[str] | None) -> str:
    chosen = [event for event in shown.events if pick is None or event["reason"] in pick]
    assert pick is None or {event["reason"] for event in chosen} == set(pick), f"{pick}, said was {shown.events}"
    width = max(len(event["reason"]) for event in chosen)
    return "".join(f"{event['type']:<7}  {event['reason']:<{width}}  {event['note']}\n" for event in chosen)


def _ready(states: list[Shown]) -> str:
    conditions = [c for shown in states for c in shown.body["status"]["conditions"] if c["type"] == "Ready"]
    width = max(len(condition["reason"]) for condition in conditions)
    return "".join(f"{condition['reason']:<{width}}  {condition['message']}\n" for condition in conditions)


def _decision(shown: Shown, _: list[str] | None) -> str:
    (decision,) = shown.decisions
    return _yaml({"spec": {**decision["spec"], "release": "radar"}, "status": decision["status"]})


_PRINTED: Final[dict[str, Callable[..., str]]] = {
    "conditions": _conditions,
    "status": _status,
    "events": _events,
    "decision": _decision,
}


def _yaml(value: Object) -> str:
    """Return *value* as kubectl prints it: keys in alphabetical order."""
    text: str = yaml.safe_dump(value, sort_keys=True, width=110, allow_unicode=True)
    return text
