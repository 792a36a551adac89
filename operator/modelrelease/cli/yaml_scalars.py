"""
What a scalar of YAML is for kubectl: read as ``go.yaml.in/yaml/v2`` reads it, then written as JSON.

It is YAML 1.1 with traps of its own: ``N`` is false, ``1234e56`` a number and ``017`` fifteen, yet ``12:30:45`` and
``2026-11-20`` are strings. JSON knows one kind of number: ``1.0`` becomes 1, and what 64 bits do not hold a float.
"""

import math
import re
from typing import Final

Scalar = str | int | float | bool | None

KINDS: Final = ("str", "int", "float", "bool", "null")
"""The tags ``!!str`` and so on that a scalar may have."""


def plain(text: str) -> Scalar:
    """Return what *text* without quotes and without a tag is."""
    return _resolved(text)[1]


def tagged(kind: str, text: str) -> Scalar:
    """
    Return what *text* with the tag ``!!kind`` is.

    Raises:
        ValueError: It cannot be read as one.
    """
    if kind == "str":
        return text
    found, value = _resolved(text)
    if found != kind and (found, kind) != ("int", "float"):
        raise ValueError(f"{text!r} is not !!{kind}")
    return value


_WORDS: Final[dict[str, tuple[str, Scalar]]] = {
    word: (kind, value)
    for kind, value, words in (
        ("bool", True, "y Y yes Yes YES true True TRUE on On ON"),
        ("bool", False, "n N no No NO false False FALSE off Off OFF"),
        ("null", None, "~ null Null NULL"),
        ("float", math.nan, ".nan .NaN .NAN"),
        ("float", math.inf, ".inf .Inf .INF +.inf +.Inf +.INF"),
        ("float", -math.inf, "-.inf -.Inf -.INF"),
    )
    for word in words.split()
}

_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOTTED: Final = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?")
_OLD_OCTAL: Final = re.compile(r"([-+]?)0([0-7]+)")


def _resolved(text: str) -> tuple[str, Scalar]:
    """Return the kind and the value of a plain scalar."""
    if not text:
        return "null", None
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return "str", text
    if text[0] == ".":
        return _float(text, _DOTTED) or ("str", text)
    digits = text.replace("_", "")
    return _integer(digits) or _float(digits, _FLOAT) or ("str", text)


def _integer(digits: str) -> tuple[str, Scalar] | None:
    if not _INTEGER.fullmatch(digits):
        return None
    value = int(_OLD_OCTAL.sub(r"\g<1>0o\2", digits) if _OLD_OCTAL.fullmatch(digits) else digits, 0)
    if -(2**63) <= value < 2**63:
        return "int", value
    return ("int", float(value)) if 0 < value < 2**64 else None


def _float(digits: str, spelling: re.Pattern[str]) -> tuple[str, Scalar] | None:
    if not spelling.fullmatch(digits) or math.isinf(value := float(digits)):
        return None
    return "float", int(value) if value.is_integer() and abs(value) < 2**63 else value
