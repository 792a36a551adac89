"""
What exact projections would gain: candidate requests until a doubled slice is named, with three engines.

    python bench/bench_ripr.py

A slice with 30 candidate and 270 baseline requests a look, one of 201 with equal shares, promise 5 %, both directions.

    counts   the judge's engine up to a base rate of 20 %
    ratio    its engine above
    ripr     bets on the same ratios, with the base rate of all looks before, against the likeliest rates that keep the
             promise: exact at any rate (Turner, Ly and Grünwald, arXiv 2106.02693). It needs the counts of every look.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.evidence import SLICE_HARM, Arms, Engine, log_evidence, mixture, ratio_mle

Array = NDArray[np.float64]

MARGIN = 1.05
PATHS, LOOKS = 2000, 200
MINE, BASE = 30.0, 270.0
SHARE = 0.5 / 201
MULTIPLIERS = np.array(SLICE_HARM.multipliers)[:, None]


def at_each_look(rate: float, seed: int) -> dict[str, Array]:
    """Return the log e-values ``(looks, paths)`` of every engine, in a slice at twice its *rate*."""
    rng = np.random.default_rng(seed)
    x1 = rng.binomial(int(MINE), min(1.0, 2 * rate), (LOOKS, PATHS)).astype(float)
    x0 = rng.binomial(int(BASE), rate, (LOOKS, PATHS)).astype(float)
    found = {name: np.zeros((LOOKS, PATHS)) for name in ("counts", "ratio", "ripr")}
    bets = np.zeros((MULTIPLIERS.size, PATHS))
    mine, base = np.zeros(PATHS), np.zeros(PATHS)
    for look in range(LOOKS):
        bets += projected(x1[look], x0[look], (base + 0.5) / (BASE * look + 25))
        mine, base = mine + x1[look], base + x0[look]
        counts = Arms(mine, np.full(PATHS, MINE * (look + 1)), base, np.full(PATHS, BASE * (look + 1)))
        found["ripr"][look] = mixture(bets)
        for name, engine in (("counts", Engine.COUNTS), ("ratio", Engine.RATIO)):
            found[name][look] = log_evidence(engine, [counts], MARGIN, 1, SLICE_HARM, 0.01)
    return found


def projected(events: Array, base_events: Array, rate: Array) -> Array:
    """Return what one look pays ``(bets, paths)``: each bet against its projection on the promise."""
    mine = np.minimum(MULTIPLIERS * MARGIN * rate, 0.999)
    size = mine.size
    expected = Arms(
        (MINE * mine).ravel(),
        np.full(size, MINE),
        np.broadcast_to(BASE * rate, mine.shape).ravel(),
        np.full(size, BASE),
    )
    base = ratio_mle(expected, MARGIN).reshape(mine.shape)
    held = MARGIN * base
    hits = events * np.log(mine / held) + base_events * np.log(rate / base)
    misses = (MINE - events) * np.log((1 - mine) / (1 - held)) + (BASE - base_events) * np.log((1 - rate) / (1 - base))
    return np.asarray(hits + misses)


def main() -> None:
    """Print the mean candidate requests of the slice until it is named."""
    print(f"{'base rate':<12}{'budget':>8}" + "".join(f"{name:>10}" for name in ("counts", "ratio", "ripr")))
    for place, rate in enumerate((0.02, 0.05, 0.1, 0.15, 0.19)):
        found = at_each_look(rate, place)
        for budget in (0.05, 0.01):
            needed = np.log(2 / (budget * SHARE))
            cells = ""
            for log_e in found.values():
                reached = log_e >= needed
                looks = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, LOOKS)
                cells += f"{MINE * looks.mean():>10.0f}"
            print(f"{rate:<12.0%}{budget:>8.0%}{cells}")


if __name__ == "__main__":
    main()
