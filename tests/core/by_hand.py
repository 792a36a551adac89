"""
A verdict computed again by hand: from the JSON that is kept of it, by the formulas of docs/verdicts.md.

Nothing of the operator's code is used. Numbers that the formulas give are read from the page, and every key that is
read from the JSON is noted, so that the tests fail when page or JSON say less than is needed.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import copysign, erfc, exp, inf, log, log1p, pi, sqrt
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")

Number = int | float
Arm = Sequence[Number]
Stage = tuple[Arm, Arm]
"""Counts of the baseline and of the candidate."""


class Noted(dict[str, Any]):
    """A JSON object that notes which of its keys are read."""

    read: set[str]

    @classmethod
    def of(cls, value: Any, read: set[str]) -> Any:
        """Return *value* with all of its objects like this one."""
        if isinstance(value, list):
            return [cls.of(part, read) for part in value]
        if not isinstance(value, dict):
            return value
        noted = cls({key: cls.of(part, read) for key, part in value.items()})
        noted.read = read
        return noted

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)


def told(phrase: str) -> float:
    """Return the number that the page tells in a *phrase*, where it stands as ``#``."""
    found = {it.replace(",", "") for it in re.findall(re.escape(phrase).replace(r"\#", r"([\d.,]*\d)"), PAGE)}
    assert len(found) == 1, f"the page tells {sorted(found)} in {phrase!r}"
    return float(found.pop())


# The verdict.


def levels(clause: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the share of the budget of all traffic and of each slice: *parts*, all traffic first."""
    if len(parts) == 1:
        return [clause["level"]]
    sizes = [sum(size(clause, arm) for stage in part["counts"] for arm in stage) for part in parts]
    least = told("at least # and at most 1")
    roots = [sqrt(min(max(it / sizes[0], least), 1)) for it in sizes[1:]]
    return [clause["level"] / 2, *(clause["level"] / 2 * root / sum(roots) for root in roots)]


def size(clause: Mapping[str, Any], arm: Arm) -> float:
    return sum(arm) if "bounds" in clause else arm[1]


def log_mean(parts: Iterable[tuple[float, float]]) -> float:
    """Return the log of the sum of weights times e-values, given as logarithms."""
    return log_sum(log(weight) + log_e for weight, log_e in parts)


def log_sum(logarithms: Iterable[float]) -> float:
    known = list(logarithms)
    top = max(known)
    return top + log(sum(exp(it - top) for it in known))


def harm(clause: Mapping[str, Any], part: Mapping[str, Any], where: str) -> float:
    """Return the log e-value against "the clause holds here"; *where* is ``overall`` or ``slices``."""
    asked = clause["breach"][where]
    stages = divided(clause, part["counts"])
    found = [evidence(asked, clause, stages, bound, sign) for bound, sign in sides(asked)]
    return log_sum(found) - log(len(found)) if found else 0.0


def holds(clause: Mapping[str, Any], part: Mapping[str, Any], where: str) -> bool:
    """Return whether the harm that a pass excludes is excluded in every direction."""
    asked = clause["pass"][where]
    if asked is None:
        return True
    # What is looked for lies on the other side of where harm begins.
    stages = divided(clause, part["counts"])[-1:]
    current = {**clause, "times": clause["times"][-1:]} if "times" in clause else clause
    needed = log(told("and pass when each of them pays #"))
    return all(evidence(asked, current, stages, bound, -sign) >= needed for bound, sign in sides(asked))


def sides(asked: Mapping[str, Any]) -> list[tuple[float, int]]:
    return [(side["above"], 1) if "above" in side else (side["below"], -1) for side in asked["harm"]]


def divided(clause: Mapping[str, Any], stages: Sequence[Stage]) -> list[Stage]:
    phi = clause["designEffect"]
    return [tuple([number / phi for number in arm] for arm in stage) for stage in stages]


def evidence(
    asked: Mapping[str, Any], clause: Mapping[str, Any], stages: Sequence[Stage], bound: float, sign: int
) -> float:
    """Return the log e-value for "the effect is above *bound*" (*sign* +1) or below it (-1)."""
    if "times" in clause:
        stages = [timely(stage, its, sign) for stage, its in zip(stages, clause["times"], strict=True)]
    match asked["engine"]:
        case "counts":
            return grid(asked, sign, [split(*stage, bound) for stage in stages])
        case "limit":
            return limit(asked, [candidate for _, candidate in stages], bound, sign)
        case "frequency":
            return frequency(asked, [candidate for _, candidate in stages], bound, sign)
        case "ratio":
            return mixture(asked, sign, [ratio(*stage, bound) for stage in stages])
        case "difference":
            return mixture(asked, sign, [difference(*stage, bound) for stage in stages])
        case "quantile ratio":
            return pairs(asked, clause, stages, lambda b: bound * b, sign, [b for b in clause["bounds"] if b > 0])
        case "quantile shift":
            return pairs(asked, clause, stages, lambda b: b + bound, sign, clause["bounds"])
        case "quantile level":
            return beyond(asked, clause, [candidate for _, candidate in stages], bound, sign)
        case "distance":
            return mixture(asked, 1, [(above if sign > 0 else below)(*stage, bound) for stage in stages])
    raise AssertionError(asked)


def timely(stage: Stage, times: tuple[float, float | None], sign: int) -> Stage:
    """Return the counts of a rate with the time that proves less."""
    baseline, (events, seconds) = stage
    factor = times[1] if sign > 0 else times[0]
    return (baseline, (events, seconds * factor)) if factor else ((0, 0), (0, 0))


# Grids.


def grid(asked: Mapping[str, Any], sign: int, stages: Sequence[Callable[[float], float]]) -> float:
    """Return the log of the mean over the bets of what all stages pay."""
    factors = [m**sign for m in asked["bets"]]
    return log_sum(sum(pays(m) for pays in stages) for m in factors) - log(len(factors))


def split(baseline: Arm, candidate: Arm, r: float) -> Callable[[float], float]:
    (x0, n0), (x1, n1) = baseline, candidate
    if not n0 or not n1:
        return lambda m: 0.0
    k = r * n1 / n0
    return lambda m: x1 * log(m) + (x1 + x0) * log((1 + k) / (1 + m * k))


def limit(asked: Mapping[str, Any], arms: Sequence[Arm], c: float, sign: int) -> float:
    if c > told("Above # it looks at the misses"):
        return limit(asked, [(n - x, n) for x, n in arms], 1 - c, -sign)
    if c == 0:
        return nothing_allowed(sum(x for x, _ in arms), sign)
    most = told("`m c` at most #")

    def binomial(x: float, n: float) -> Callable[[float], float]:
        return lambda m: x * log(min(m * c, most) / c) + (n - x) * log((1 - min(m * c, most)) / (1 - c))

    return grid(asked, sign, [binomial(x, n) for x, n in arms])


def frequency(asked: Mapping[str, Any], arms: Sequence[Arm], c: float, sign: int) -> float:
    events, seconds = (sum(arm[which] for arm in arms) for which in (0, 1))
    if c == 0:
        return nothing_allowed(events, sign)
    return grid(asked, sign, [lambda m: events * log(m) - (m - 1) * c * seconds])


def nothing_allowed(events: float, sign: int) -> float:
    return told("one event pays `e^#`") if events and sign > 0 else 0.0


# The normal mixture.


def mixture(asked: Mapping[str, Any], sign: int, stages: Sequence[tuple[float, float]]) -> float:
    score, information = (sum(it[which] for it in stages) for which in (0, 1))
    if not information:
        return 0.0
    rho, total = asked["rho"], information + asked["rho"]
    root = sign * score / sqrt(total)
    return log(2) + log(rho / total) / 2 + root**2 / 2 + log_normal(root) - log(asked["price"])


def log_normal(z: float) -> float:
    """Return the log of the normal distribution function; far below 0, where a float has none of it, by its series."""
    if z > -30:
        return log(erfc(-z / sqrt(2)) / 2)
    return -(z**2) / 2 - log(-z * sqrt(2 * pi)) + log1p(-1 / z**2 + 3 / z**4 - 15 / z**6)


def ratio(baseline: Arm, candidate: Arm, r: float) -> tuple[float, float]:
    """Return score and information."""
    (x0, n0), (x1, n1) = baseline, candidate
    if not n0 or not n1:
        return 0.0, 0.0
    a, b, c = (n1 + n0) * r, n0 + x1 + r * (n1 + x0), x1 + x0
    p0 = min((b - sqrt(max(b * b - 4 * a * c, 0))) / (2 * a), 1, 1 / r)
    p1 = r * p0
    if not p0:
        return 0.0, 0.0
    return signed_root(baseline, candidate, p0, p1, (1 - p1) / (n1 * p1) + (1 - p0) / (n0 * p0))


def difference(baseline: Arm, candidate: Arm, d: float) -> tuple[float, float]:
    (x0, n0), (x1, n1) = baseline, candidate
    if not n0 or not n1:
        return 0.0, 0.0

    def slope(p0: float) -> float:
        p1 = p0 + d
        # What was never seen pulls nowhere.
        pulls = ((x0, p0), (-(n0 - x0), 1 - p0), (x1, p1), (-(n1 - x1), 1 - p1))
        return sum(number / rate for number, rate in pulls if number)

    low, high = max(0.0, -d), min(1.0, 1 - d)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    p0, p1 = low, low + d
    return signed_root(baseline, candidate, p0, p1, p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)


def signed_root(baseline: Arm, candidate: Arm, p0: float, p1: float, variance: float) -> tuple[float, float]:
    if not variance:
        return 0.0, 0.0
    gain = sum(
        seen * log(seen / n / rate)
        for (x, n), p in ((baseline, p0), (candidate, p1))
        for seen, rate in ((x, p), (n - x, 1 - p))
        if seen
    )
    away = (candidate[0] / candidate[1] - p1) - (baseline[0] / baseline[1] - p0)
    return copysign(sqrt(2 * max(gain, 0)), away) / sqrt(variance), 1 / variance


# Histograms.


def pairs(
    asked: Mapping[str, Any],
    clause: Mapping[str, Any],
    stages: Sequence[Stage],
    reached: Callable[[float], float],
    sign: int,
    bounds: Sequence[float],
) -> float:
    """Return the log of the mean over *bounds* of the weaker of two proofs."""
    if not bounds:
        return 0.0
    baselines, candidates = ([stage[arm] for stage in stages] for arm in (0, 1))
    proofs = [
        min(
            tail(asked, clause, baselines, clause["bounds"].index(b), -sign),
            beyond(asked, clause, candidates, reached(b), sign),
        )
        for b in bounds
    ]
    return log_sum(proofs) - log(len(proofs))


def beyond(asked: Mapping[str, Any], clause: Mapping[str, Any], arms: Sequence[Arm], place: float, sign: int) -> float:
    """Return the log e-value that the quantile is beyond *place*, at the nearest bound that says so."""
    bounds = clause["bounds"]
    if not bounds:
        return 0.0
    slack = 1e-9 * abs(place)
    index = bisect_left(bounds, place - slack) if sign > 0 else bisect_right(bounds, place + slack) - 1
    return tail(asked, clause, arms, index, sign) if 0 <= index < len(bounds) else -told("where no bound is, `e^-#`")


def tail(asked: Mapping[str, Any], clause: Mapping[str, Any], arms: Sequence[Arm], index: int, sign: int) -> float:
    """Return the log e-value that more (*sign* +1) or fewer (-1) than the tail lie above a bound."""
    return limit(asked, [(sum(arm[index + 1 :]), sum(arm)) for arm in arms], clause["tail"], sign)


def above(baseline: Arm, candidate: Arm, psi: float) -> tuple[float, float]:
    """Return score and information that the index is above *psi*."""
    if not comparable(baseline, candidate):
        return 0.0, 0.0
    index, variance = stability(baseline, candidate)
    return (index - psi) / variance, 1 / variance


def below(baseline: Arm, candidate: Arm, psi: float) -> tuple[float, float]:
    if not comparable(baseline, candidate):
        return 0.0, 0.0
    n0, n1, bins = sum(baseline), sum(candidate), len(baseline)
    size = n1 * n0 / (n1 + n0)
    index, _ = stability(baseline, candidate)
    return sqrt(size) * (sqrt(max(size * psi + bins - 2, 0)) - sqrt(max(size * index + bins - 1, 0))), size


def comparable(baseline: Arm, candidate: Arm) -> bool:
    n0, n1 = sum(baseline), sum(candidate)
    fewest = told("from # observations in each arm and stage on")
    if min(n0, n1) < fewest or len(baseline) < 2:
        return False
    expected = [(x0 + x1) / (n0 + n1) * min(n0, n1) for x0, x1 in zip(baseline, candidate, strict=True)]
    return min(expected) >= told("its share of both arms is at least # of the smaller arm")


def stability(baseline: Arm, candidate: Arm) -> tuple[float, float]:
    """Return the population stability index less its bias, and its variance."""
    n0, n1, more = sum(baseline), sum(candidate), told("a count plus #")
    p, q = ([(x + more) / (sum(arm) + more * len(arm)) for x in arm] for arm in (baseline, candidate))
    both = list(zip(p, q, strict=True))
    index = sum((b - a) * log(b / a) for a, b in both)
    bias = sum((1 - b) * (1 + a / b) for a, b in both) / (2 * n1) + sum((1 - a) * (1 + b / a) for a, b in both) / (
        2 * n0
    )
    variance = (
        spread(q, [log(b / a) + 1 - a / b for a, b in both]) / n1
        + spread(p, [-log(b / a) + 1 - b / a for a, b in both]) / n0
    )
    return index - bias, variance


def spread(weights: Sequence[float], values: Sequence[float]) -> float:
    mean = sum(w * v for w, v in zip(weights, values, strict=True))
    return sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True))


# The gate.


def outcome(clause: Mapping[str, Any], part: Mapping[str, Any], where: str) -> str:
    """Return what is found in a slice of a clause that is not noisy."""
    if harm(clause, part, where) >= log(1 / part["level"]):
        return "Breach"
    return "Pass" if seen(clause, part) and holds(clause, part, where) else "Inconclusive"


def seen(clause: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    sizes = [size(clause, arm) for arm in part["counts"][-1]]
    return min(sizes[1:] if is_alone(clause) else sizes) > 0


def is_alone(clause: Mapping[str, Any]) -> bool:
    """Return whether the candidate is compared with nothing but a limit."""
    return clause["breach"]["overall"]["engine"] in {"limit", "frequency", "quantile level"}


def families(verdict: Mapping[str, Any], budget: float) -> dict[str, float]:
    """Return the log of the mean e-value by what a breach does."""
    found: dict[str, list[tuple[float, float]]] = {}
    for clause in verdict["clauses"]:
        if clause["reason"] != "Noisy":
            found.setdefault(clause["onBreach"], []).append((clause["level"] / budget, clause_mean(clause)))
    return {action: log_mean(parts) for action, parts in found.items()}


def clause_mean(clause: Mapping[str, Any]) -> float:
    """Return the log of the clause's mean e-value."""
    each = [(clause["overall"]["level"], harm(clause, clause["overall"], "overall"))]
    each += [(part["level"], harm(clause, part, "slices")) for part in clause["slices"]]
    mean = log_mean((level / clause["level"], log_e) for level, log_e in each)
    return log_sum([mean, clause["rest"]["logE"] if "rest" in clause else -inf])


def broken(verdict: Mapping[str, Any], budget: float) -> set[str]:
    """Return the names of the broken clauses."""
    needed, result = log(1 / budget), set()
    for action, mean in families(verdict, budget).items():
        parts = {
            clause["name"]: log(clause["level"] / budget) + clause_mean(clause)
            for clause in verdict["clauses"]
            if clause["onBreach"] == action and clause["reason"] != "Noisy"
        }
        alone = {name for name, part in parts.items() if part >= needed}
        result |= alone or ({max(parts, key=parts.__getitem__)} if mean >= needed else set())
    return result


def found(verdict: Mapping[str, Any], budget: float) -> dict[str, str]:
    """Return the outcome of each clause that is not noisy, by its name."""
    proved = broken(verdict, budget)
    return {
        clause["name"]: "Breach" if clause["name"] in proved else "Pass" if passes(clause) else "Inconclusive"
        for clause in verdict["clauses"]
    }


def passes(clause: Mapping[str, Any]) -> bool:
    """Return whether all traffic and all slices but the thin ones pass, and the thin ones of a dimension together."""
    thin = [part for part in clause["slices"] if part["thin"]]
    alone = [part for part in clause["slices"] if not part["thin"]]
    if outcome(clause, clause["overall"], "overall") != "Pass":
        return False
    if any(outcome(clause, part, "slices") != "Pass" for part in alone):
        return False
    rests = [together(parts) for parts in by_dimension(thin)]
    return all(little(clause, rest, clause["overall"]) or holds(clause, rest, "slices") for rest in rests)


def by_dimension(parts: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return slices by their labels; the values have no commas here."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for part in parts:
        labels = tuple(pair.partition("=")[0] for pair in part["slice"].split(","))
        found.setdefault(labels, []).append(part)
    return list(found.values())


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was counted in slices in the current stage, as of one."""
    arms = zip(*(part["counts"][-1] for part in parts), strict=True)
    return {"counts": [[[sum(numbers) for numbers in zip(*arm, strict=True)] for arm in arms]]}


def little(clause: Mapping[str, Any], part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Return whether there is so little of a part of all traffic, in the current stage, that it is thin."""
    share = told("less than # % of the events of all traffic") / 100
    arms = list(zip(part["counts"][-1], whole["counts"][-1], strict=True))
    if is_alone(clause):
        return size(clause, arms[1][0]) < share * size(clause, arms[1][1])
    return all(
        size(clause, arm) < share * size(clause, of) if "bounds" in clause or not of[0] else arm[0] < share * of[0]
        for arm, of in arms
    )
