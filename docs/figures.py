"""
Draw the figures of docs/verdicts.md with the judge's own code, into docs/build (not in git).

    python docs/figures.py
"""

from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modelrelease.core.assess import log_harm
from modelrelease.core.evidence import HARM, SLICE_HARM, Arms, Engine
from modelrelease.core.question import Question, Side

mpl.use("Agg")

import matplotlib.pyplot as plt

BUILD: Final = Path(__file__).parent / "build"
SIDES: Final = (Side(1.05, 1), Side(0.95, -1))
OVERALL: Final = Question(Engine.COUNTS, SIDES, HARM, "5%")
SLICE: Final = Question(Engine.COUNTS, SIDES, SLICE_HARM, "5%")
BUDGET: Final = 0.01
SLICES: Final = 200
NEEDED: Final = np.log(2 * SLICES / BUDGET)
RATE: Final = 0.02
Array = NDArray[np.float64]


def paths(ratio: float, looks: int, batch: float, releases: int, seed: int) -> tuple[Arms, Array]:
    """Return cumulative counts ``(looks * releases,)`` and the candidate requests at each look; a 10 % canary."""
    rng = np.random.default_rng(seed)
    size = (looks, releases)
    events = rng.binomial(int(batch), RATE * ratio, size).cumsum(axis=0)
    base = rng.binomial(int(9 * batch), RATE, size).cumsum(axis=0)
    of = np.broadcast_to(batch * np.arange(1, looks + 1)[:, None], size).astype(float)
    flat = Arms(events.ravel().astype(float), of.ravel(), base.ravel().astype(float), 9 * of.ravel())
    return flat, of[:, 0]


def evidence_over_time() -> None:
    """Evidence of a harmless and of a harmful slice while requests come in."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for ratio, colour, name in ((1.0, "tab:green", "no change"), (2.0, "tab:red", "twice the rate")):
        counts, requests = paths(ratio, 120, 30, 12, seed=4)
        log_e = log_harm(SLICE, [counts], BUDGET).reshape(120, 12) / np.log(10)
        axes.plot(requests, log_e, color=colour, alpha=0.5, linewidth=1)
        axes.plot([], [], color=colour, label=name)
    axes.axhline(NEEDED / np.log(10), color="black", linestyle="--", label=f"named: 1 of {SLICES} slices, budget 1 %")
    axes.set(xlabel="candidate requests in the slice", ylabel="evidence (powers of ten)", ylim=(-4, 12))
    axes.set_title("Evidence against a promise: 12 slices each, 2 % base rate, limit 5 %")
    axes.legend()
    save(figure, "evidence")


def power() -> None:
    """Share of harmed slices found, by traffic and size of the harm."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for ratio in (1.2, 1.5, 2.0, 3.0, 0.5):
        counts, requests = paths(ratio, 150, 200, 400, seed=5)
        log_e = log_harm(SLICE, [counts], BUDGET).reshape(150, 400)
        found = (np.maximum.accumulate(log_e, axis=0) >= NEEDED).mean(axis=1)
        axes.plot(requests, 100 * found, label=f"x {ratio:g}")
    axes.set(xlabel="candidate requests in the slice", ylabel="found (%)", xscale="log")
    axes.set_title(f"How soon harm in 1 of {SLICES} slices is found (2 % base rate, 10 % canary)")
    axes.legend(title="true change")
    save(figure, "power")


def thresholds() -> None:
    """Share of healthy releases that a threshold stops, against the judge."""
    slices = np.array([1, 2, 5, 10, 20, 50, 100, 200])
    rng = np.random.default_rng(6)
    releases, looks, batch = 200, 20, 300
    size = (looks, releases, slices.max())
    events = rng.binomial(batch, RATE, size).cumsum(axis=0).astype(float)
    base = rng.binomial(9 * batch, RATE, size).cumsum(axis=0).astype(float)
    of = np.broadcast_to(batch * np.arange(1, looks + 1)[:, None, None], size).astype(float)
    ratio = (events / of) / (base / (9 * of))
    log_e = log_harm(SLICE, [Arms(events.ravel(), of.ravel(), base.ravel(), 9 * of.ravel())], BUDGET).reshape(size)
    figure, axes = plt.subplots(figsize=(7, 4))
    for limit in (0.05, 0.2, 0.5):
        stopped = [100 * (np.abs(ratio[:, :, :k] - 1) > limit).any(axis=(0, 2)).mean() for k in slices]
        axes.plot(slices, stopped, marker="o", label=f"threshold {limit:.0%}")
    judged = [np.logaddexp.reduce(log_e[:, :, :k], axis=2) - np.log(k) for k in slices]
    stopped = [100 * (mean >= np.log(1 / BUDGET)).any(axis=0).mean() for mean in judged]
    axes.plot(slices, stopped, marker="o", color="black", label="the judge, limit 5 %, budget 1 %")
    axes.set(xlabel="slices", ylabel="healthy releases stopped (%)", xscale="log", ylim=(-3, 103))
    axes.set_title("Identical models, looked at 20 times")
    axes.legend()
    save(figure, "thresholds")


def save(figure: Figure, name: str) -> None:
    """Write the figure as SVG."""
    BUILD.mkdir(exist_ok=True)
    path = BUILD / f"{name}.svg"
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    print(path.relative_to(BUILD.parent.parent))


if __name__ == "__main__":
    evidence_over_time()
    power()
    thresholds()
