"""What a model server's /metrics says: as text with classic histograms, or as protobuf with native ones."""

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5)
"""Of the classic histogram."""

SCHEMA = 3
"""Of the native histogram: eight buckets for each doubling."""

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
TEXT = "text/plain; version=0.0.4"

Decisions = Mapping[tuple[str, str], int]
"""Values of ``d_total`` by country and decision; country "" leaves the label out."""

Latencies = Mapping[str, Mapping[float, int]]
"""Observations of ``d_seconds`` by country and value."""


def text(decisions: Decisions, latencies: Latencies) -> bytes:
    """Return the classic exposition."""
    lines = ["# TYPE d_total counter"]
    lines += [f"d_total{_braces(country, decision=decision)} {n}" for (country, decision), n in decisions.items()]
    lines += ["# TYPE d_seconds histogram"]
    for country, observed in latencies.items():
        for bound in (*BOUNDS, math.inf):
            below = sum(n for value, n in observed.items() if value <= bound)
            lines.append(f"d_seconds_bucket{_braces(country, le='+Inf' if math.isinf(bound) else f'{bound}')} {below}")
        lines.append(f"d_seconds_sum{_braces(country)} {sum(value * n for value, n in observed.items())}")
        lines.append(f"d_seconds_count{_braces(country)} {sum(observed.values())}")
    return ("\n".join(lines) + "\n").encode()


def _braces(country: str, **labels: str) -> str:
    pairs = {"country": country, **labels} if country else labels
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs.items()) + "}"


def protobuf(decisions: Decisions, latencies: Latencies) -> bytes:
    """Return the exposition with native histograms (io.prometheus.client.MetricFamily, written by hand)."""
    counters = [
        _labels(country, decision=decision) + _field(3, _double(1, n)) for (country, decision), n in decisions.items()
    ]
    histograms = [_labels(country) + _field(7, _histogram(observed)) for country, observed in latencies.items()]
    return _family("d_total", 0, counters) + _family("d_seconds", 4, histograms)


def _histogram(observed: Mapping[float, int]) -> bytes:
    indexes: Counter[int] = Counter()
    for value, n in observed.items():
        indexes[math.ceil(math.log2(value) * 2**SCHEMA - 1e-9)] += n
    total = sum(value * n for value, n in observed.items())
    parts = [_number(1, sum(observed.values())), _double(2, total), _number(5, _zigzag(SCHEMA)), _double(6, 2.0**-128)]
    parts += [_field(12, _number(1, _zigzag(offset)) + _number(2, length)) for offset, length in _spans(indexes)]
    deltas = b""
    before = 0
    for index in sorted(indexes):
        deltas += _varint(_zigzag(indexes[index] - before))
        before = indexes[index]
    return b"".join(parts) + _field(13, deltas)


def _spans(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Return runs of indexes: the gap before each (of the first, its index) and its length; one run when empty."""
    spans: list[tuple[int, int]] = []
    end = 0
    for index in sorted(indexes):
        if spans and index == end:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((index - end, 1))
        end = index + 1
    return spans or [(0, 0)]


def _family(name: str, kind: int, metrics: Iterable[bytes]) -> bytes:
    body = _field(1, name.encode()) + _number(3, kind) + b"".join(_field(4, metric) for metric in metrics)
    return _varint(len(body)) + body


def _labels(country: str, **labels: str) -> bytes:
    pairs = {"country": country, **labels} if country else labels
    return b"".join(_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in pairs.items())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
