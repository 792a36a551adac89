"""
How long 100,000 verdicts take on one core: clause x slice, relative, judged in both directions.

    python bench/bench_judge.py

"evidence" is what decides a rollback: e-values in both directions, their weighted mean, and each slice's own level.
"verdict" adds the assurance that a pass needs, in both directions too. Times are processor time, the best of several
runs: the machine may be busy with other things.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import platform
import resource
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from modelrelease.core.assess import excludes, log_harm
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, Arms, Bet, Engine, log_sum
from modelrelease.core.question import Question, Side

BUDGET = 0.01


def questions(engine: Engine) -> tuple[Question, Question]:
    """Return what is harm (5 %) and what a pass excludes (50 %), in both directions."""
    harm = Question(engine, (Side(1.05, 1), Side(0.95, -1)), HARM, "5%")
    return harm, Question(engine, (Side(1.5, 1), Side(0.5, -1)), Bet(ASSURANCE_MULTIPLIERS, 36.0), "50%")


def counts(verdicts: int, rate: float) -> Arms:
    """Return counts of healthy slices of very different sizes, at a canary of about 10 %."""
    rng = np.random.default_rng(1)
    of = np.ceil(rng.lognormal(6, 1.5, verdicts))
    base_of = np.ceil(of * rng.uniform(8, 10, verdicts))
    return Arms(
        rng.binomial(of.astype(int), rate).astype(float),
        of,
        rng.binomial(base_of.astype(int), rate).astype(float),
        base_of,
    )


def evidence(engine: Engine, arms: Arms) -> np.ndarray:
    """Judge as far as a rollback needs it."""
    harm, _ = questions(engine)
    log_e = log_harm(harm, (arms,), BUDGET)
    log_weight = -np.log(log_e.size)
    breach = log_sum(log_e + log_weight) >= np.log(1 / BUDGET)
    return np.where(breach, log_e + log_weight >= np.log(1 / BUDGET), False)


def verdict(engine: Engine, arms: Arms) -> np.ndarray:
    """Judge completely: 2 breach, 0 pass, 1 inconclusive."""
    return np.where(evidence(engine, arms), 2, np.where(excludes(questions(engine)[1], arms), 0, 1))


def best_milliseconds(work: Callable[[], object], runs: int) -> float:
    """Return the processor time of the quickest run."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--verdicts", type=int, default=100_000)
    options.add_argument("--runs", type=int, default=9)
    given = options.parse_args()
    print(
        f"{given.verdicts:,} two-sided verdicts, one core, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}\n"
    )
    print(f"{'engine':<12}{'evidence':>12}{'verdict':>12}{'extra memory':>16}")
    for engine, rate in ((Engine.COUNTS, 0.02), (Engine.RATIO, 0.4)):
        arms = counts(given.verdicts, rate)
        quick = best_milliseconds(lambda: evidence(engine, arms), given.runs)  # noqa: B023 - called at once
        whole = best_milliseconds(lambda: verdict(engine, arms), given.runs)  # noqa: B023 - called at once
        tracemalloc.start()
        verdict(engine, arms)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{engine.value:<12}{quick:>9.1f} ms{whole:>9.1f} ms{peak / 2**20:>12.1f} MiB")
    print(f"\nlargest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
