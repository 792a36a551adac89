"""A forecast on paper: a table for people, JSON for programs."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelrelease.core.counts import slice_name, whole_slice_name
from modelrelease.core.forecast import Outlook
from modelrelease.core.report import span

_SHOWN: Final = 12
"""Slices of a clause that a table shows: the largest; all of them are in the JSON."""


def as_table(outlooks: Sequence[Outlook]) -> RenderableType:
    """Return one table a stage and clause."""
    groups = groupby(outlooks, key=lambda outlook: (outlook.stage, outlook.clause))
    return Group(*(_clause_table(stage, clause, list(parts)) for (stage, clause), parts in groups))


def _clause_table(stage: str, clause: str, parts: Sequence[Outlook]) -> Table:
    title = f"stage {stage}, clause {clause}, deadline {span(parts[0].deadline)}"
    more = len(parts) - 1 - _SHOWN
    table = Table(
        title=title,
        caption=f"and {more} smaller slices" if more > 0 else None,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("slice", "candidate requests/s", "no change passes after", "harm is named after", ""):
        table.add_column(name, justify="left" if name in {"slice", ""} else "right", no_wrap=True)
    for part in parts[: _SHOWN + 1]:
        table.add_row(
            Text(slice_name(part.part) or "all traffic"),
            f"{part.candidate_per_second:.3g}",
            _after(part.passes_after),
            _after(part.found_after),
            _note(part),
        )
    return table


def _after(length: timedelta | None) -> str:
    return "never" if length is None else span(length)


def _note(part: Outlook) -> str:
    if part.thin:
        return "thin: assured with the others"
    if part.too_coarse:
        return "the histogram's buckets are too wide"
    return "" if part.in_time else "not before the deadline"


def as_json(outlooks: Sequence[Outlook]) -> list[dict[str, Any]]:
    """Return one object for every stage, clause and slice; never is null."""
    return [
        {
            "stage": outlook.stage,
            "clause": outlook.clause,
            "slice": whole_slice_name(outlook.part),
            "candidatePerSecond": outlook.candidate_per_second,
            "passesAfterSeconds": _seconds(outlook.passes_after),
            "foundAfterSeconds": _seconds(outlook.found_after),
            "deadlineSeconds": outlook.deadline.total_seconds(),
            "thin": outlook.thin,
            "tooCoarse": outlook.too_coarse,
            "inTime": outlook.in_time,
        }
        for outlook in outlooks
    ]


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
