"""
Reading a counts file: one row for each stage, metric, arm and slice.

    stage,metric,arm,slice,events,of
    canary-10,block-rate,baseline,,648,32400
    canary-10,block-rate,candidate,,144,3600
    canary-10,block-rate,candidate,country=FR,12,280

An empty slice is all traffic. Of a rate, ``of`` are the seconds in which the arm would have seen all of the traffic. A
column ``le`` gives the bounds of histograms (``bucket_rows``), for quantiles and distributions. A column ``seconds``
may give how long the stage has lasted; then verdicts can say how much longer they need. What cannot be a count is
refused here, with its place: in a file it is somebody's mistake.
"""

import codecs
import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from modelrelease.api.contract import Contract, Distribution, Metric, Quantile, SliceDimension
from modelrelease.api.release import Stage
from modelrelease.cli.bucket_rows import Histogram, bin_counts, bound_of, common_bounds, decimal, problems_of
from modelrelease.cli.problems import BadInput, RowProblem
from modelrelease.cli.yaml_file import STANDARD_INPUT
from modelrelease.core.counts import OVERALL, OVERALL_DIMENSION, Slice, SliceCounts, StageCounts
from modelrelease.core.hypotheses import LARGEST_COUNT

COLUMNS: Final = ("stage", "metric", "arm", "slice", "events", "of")
OPTIONAL: Final = ("le", "seconds")
Arm = Literal["baseline", "candidate"]
ARMS: Final[tuple[str, ...]] = get_args(Arm)
Kind = Literal["shadow", "canary", "full"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(slots=True)
class _StageRows:
    """
    Rows of one stage while the file is read.

    Attributes:
        kind: Kind of the stage.
        seconds: Length of the stage; 0 when the file does not say.
        counts: By (metric, dimension), slice and arm: events and of.
        histograms: By metric, dimension, slice and arm.
    """

    kind: Kind
    seconds: float
    counts: dict[tuple[str, str], dict[Slice, dict[str, tuple[float, float]]]] = field(default_factory=dict)
    histograms: dict[str, dict[str, dict[Slice, dict[str, Histogram]]]] = field(default_factory=dict)

    def histograms_of(self, metric: str) -> list[Histogram]:
        """Return the histograms of *metric* in all dimensions, slices and arms."""
        return [it for parts in self.histograms[metric].values() for arms in parts.values() for it in arms.values()]


def read_counts(
    path: Path, contract: Contract, stages: Sequence[Stage], *, any_stage: bool = False
) -> tuple[StageCounts, ...]:
    """
    Return the counts in the file at *path* by stage: in the order of *stages*, or as they first appear without any.

    Args:
        path: The file.
        contract: Says which metrics and labels there are.
        stages: The stages of a release; their names are the only ones allowed.
        any_stage: Whether the kind of a stage does not matter, so that its name need not tell it.

    Raises:
        BadInput: The file cannot be read, or a row cannot be used.
    """
    found: dict[str, _StageRows] = {}
    problems: list[str] = []
    telling = bool(stages) or (not any_stage and any(clause.stages for clause in contract.clauses))

    def kind_of(name: str) -> Kind:
        return _kind(name, stages, telling=telling)

    try:
        rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True, skipinitialspace=True)
        header = _header(next(rows, None), path)
        for cells in rows:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                row = _Row(header, cells, rows.line_num)
                problems += [f"{path}:{problem}" for problem in _add(row, contract, kind_of, found)]
    except OSError as error:
        raise BadInput([f"{path}: {error.strerror}"]) from error
    except csv.Error as error:
        raise BadInput([f"{path}:{rows.line_num}: not CSV: {error}"]) from error
    problems = problems or [f"{path}:{problem}" for problem in _together(found, header)]
    if problems:
        raise BadInput(problems)
    if not found:
        raise BadInput([f"{path}:2: no rows; at least one is needed"])
    planned = [stage.name for stage in stages] or list(found)
    return tuple(_stage_counts(name, found[name]) for name in planned if name in found)


def _text(path: Path) -> str:
    """Return what the file at *path* holds, ``-`` for standard input, without the mark that Excel begins with."""
    read = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    data = read.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].split(b"\n")
        where = f"{path}:{len(before)}: byte {len(before[-1]) + 1} of the line"
        raise BadInput([f"{where} is not UTF-8; save the table as UTF-8"]) from error


def _header(cells: list[str] | None, path: Path) -> dict[str, int]:
    """Return the place of each column, from 0."""
    names = [cell.strip() for cell in cells or []]
    if not any(names):
        raise BadInput([f"{path}:1: empty; a first line of {','.join(COLUMNS)} is needed"])
    if other := next((name for mark, name in _OTHER_SEPARATORS.items() if len(names) == 1 and mark in names[0]), None):
        raise BadInput([f"{path}:1: the columns are separated by {other}; separate them by commas"])
    allowed = f"allowed are {','.join(COLUMNS)} and, if you like, {','.join(OPTIONAL)}"
    problems = [f"{path}:1: column {name!r} is missing; {allowed}" for name in COLUMNS if name not in names]
    problems += [
        f"{path}:1: column {name!r} is {'there twice' if name in COLUMNS + OPTIONAL else 'unknown'}; {allowed}"
        for place, name in enumerate(names)
        if name not in COLUMNS + OPTIONAL or name in names[:place]
    ]
    if problems:
        raise BadInput(problems)
    return {name: place for place, name in enumerate(names)}


_OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: the place of each column from 0, the cells, and the number of its line."""

    header: Mapping[str, int]
    cells: Sequence[str]
    line: int

    def __getitem__(self, column: str) -> str:
        """Return the cell of *column*; "" when the table has no such column."""
        place = self.header.get(column)
        return "" if place is None else self.cells[place].strip()


def _add(row: _Row, contract: Contract, kind_of: Callable[[str], Kind], found: dict[str, _StageRows]) -> Iterator[str]:
    """Add one row to *found*, or yield what is wrong with it."""
    if len(row.cells) != len(row.header):
        needed = f"as many as the header's {len(row.header)} columns are needed"
        split = len(row.cells) > len(row.header) and any("=" in cell for cell in row.cells)
        quotes = '; a slice of two labels needs quotes: "country=FR,channel=web"' if split else ""
        yield f"{row.line}: {len(row.cells)} cells; {needed}{quotes}"
        return
    try:
        _add_row(row, contract, kind_of, found)
    except RowProblem as problem:
        yield _placed(row.line, row.header, problem.column, str(problem))


def _placed(line: int, header: Mapping[str, int], column: str, what: str) -> str:
    return f"{line}: column {header[column] + 1} ({column}): {what}"


def _add_row(row: _Row, contract: Contract, kind_of: Callable[[str], Kind], found: dict[str, _StageRows]) -> None:
    _printable(row)
    metric = contract.metric(_one_of("metric", row["metric"], [metric.name for metric in contract.metrics]))
    arm = _one_of("arm", row["arm"], ARMS)
    dimension, part = _slice(row["slice"], contract)
    bound = _bound(row, metric)
    events, of = _number("events", row["events"]), _number("of", row["of"])
    if events > of and metric.rate is None:
        raise RowProblem("events", f"{row['events']} is more than of, {row['of']}; at most as many are allowed")
    stage = _stage(row, kind_of, found)
    if bound is not None:
        arms_of_part = stage.histograms.setdefault(metric.name, {}).setdefault(dimension, {}).setdefault(part, {})
        arms_of_part.setdefault(arm, Histogram(of, row.line)).add(bound, events, of, row.line)
        return
    arms = stage.counts.setdefault((metric.name, dimension), {}).setdefault(part, {})
    if arm in arms:
        raise RowProblem("slice", "stage, metric, arm and slice are those of an earlier row; each is allowed once")
    arms[arm] = (events, of)


def _printable(row: _Row) -> None:
    """Refuse what no terminal should be shown, and what no label of a metric has by intention."""
    for column in row.header:
        if found := _CONTROL.search(row[column]):
            held = f"{row[column]!r} holds the control character {found.group()!r}"
            raise RowProblem(column, f"{held}; text without any is allowed")


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _bound(row: _Row, metric: Metric) -> float | None:
    """Return the bucket's bound that the row is about; None when the metric has no histogram."""
    if not isinstance(metric.measured, Quantile | Distribution):
        if row["le"]:
            raise RowProblem(
                "le", f"{row['le']!r} is given, and metric {metric.name!r} has no histogram; leave it empty"
            )
        return None
    needs = f"metric {metric.name!r} has a histogram, which needs a row for each bound"
    if "le" not in row.header:
        raise RowProblem("metric", f"{needs}; add the column le")
    if not row["le"]:
        raise RowProblem("le", f"empty; {needs}, a decimal or +Inf")
    return bound_of(row["le"])


def _together(found: Mapping[str, _StageRows], header: Mapping[str, int]) -> Iterator[str]:
    """Yield what is wrong with rows that are fine one by one."""
    for stage in found.values():
        for metric in stage.histograms:
            for line, column, what in problems_of(stage.histograms_of(metric)):
                yield _placed(line, header, column, what)


def _stage(row: _Row, kind_of: Callable[[str], Kind], found: dict[str, _StageRows]) -> _StageRows:
    name, seconds = row["stage"], _number("seconds", row["seconds"] or "0")
    if name not in found:
        found[name] = _StageRows(kind_of(name), seconds)
    elif found[name].seconds != seconds:
        raise RowProblem("seconds", f"stage {name!r} lasts {found[name].seconds:g} in an earlier row; one is allowed")
    return found[name]


def _kind(name: str, stages: Sequence[Stage], *, telling: bool) -> Kind:
    """Return the kind of a stage: the release's, else what its name begins with, which matters if it is *telling*."""
    if stages:
        _one_of("stage", name, [stage.name for stage in stages])
        return next(stage for stage in stages if stage.name == name).kind.value
    if kind := next((kind for kind in KINDS if name.startswith(kind)), None):
        return kind
    if not name or telling:
        raise RowProblem("stage", f"{name!r} does not tell its kind; begin with shadow, canary or full")
    return "canary"


def _one_of(column: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise RowProblem(column, f"{value!r} is unknown; allowed are {', '.join(allowed)}")
    return value


def _number(column: str, text: str) -> float:
    number = decimal(text)
    if not number >= 0:
        raise RowProblem(column, f"{text!r} is not a count; a number of 0 or more is allowed")
    if number > LARGEST_COUNT:
        raise RowProblem(column, f"{text} is more than can be counted one by one, {LARGEST_COUNT:.0f}")
    return number


def _slice(text: str, contract: Contract) -> tuple[str, Slice]:
    """
    Return dimension and slice of such as ``country=FR,channel=web``, labels in any order.

    A value may hold commas; what looks like a label behind one is taken for one, so that no misspelt label is a value.
    """
    if not text:
        return OVERALL_DIMENSION, OVERALL
    labels: dict[str, str] = {}
    for pair in _BEFORE_LABEL.split(text):
        label, equals, value = (side.strip() for side in pair.partition("="))
        if not (label and equals and value) or label in labels:
            raise RowProblem("slice", f"{text!r} is not a slice; write country=FR or country=FR,channel=web")
        labels[label] = value
    dimension = _dimension(labels, text, contract)
    return dimension.name, tuple((label, labels[label]) for label in dimension.labels)


_BEFORE_LABEL: Final = re.compile(r",(?=\s*[a-zA-Z_]\w*\s*=)", re.ASCII)


def _dimension(labels: Mapping[str, str], text: str, contract: Contract) -> SliceDimension:
    for dimension in contract.slices or []:
        if set(dimension.labels) == set(labels):
            return dimension
    known = " or ".join(",".join(dimension.labels) for dimension in contract.slices or []) or "none"
    raise RowProblem("slice", f"{text!r} has labels {','.join(labels)}; allowed are {known}")


def _stage_counts(name: str, rows: _StageRows) -> StageCounts:
    counts = {}
    for key, parts in rows.counts.items():
        table = np.array([[parts[part].get(arm, (0.0, 0.0)) for arm in ARMS] for part in parts])
        counts[key] = SliceCounts(slices=tuple(parts), events=table[:, :, 0], of=table[:, :, 1])
    histograms = {}
    for metric, dimensions in rows.histograms.items():
        bounds = common_bounds(rows.histograms_of(metric))
        for dimension, cut in dimensions.items():
            histograms[metric, dimension] = bin_counts(cut, bounds, ARMS)
    return StageCounts(stage=name, kind=rows.kind, seconds=rows.seconds, counts=counts, histograms=histograms)
