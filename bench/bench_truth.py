"""
How often each rule rolls back, in simulated releases whose truth is known.

    python bench/bench_truth.py                 # all worlds, about 10,000 releases, some minutes
    python bench/bench_truth.py --world harm    # only worlds whose name contains "harm"

A release: 60 minutes, 1000 requests a second, 10 % of them answered by the candidate, counts read every 30 seconds,
200 slices of very different size (Zipf) and one of exactly 1 %, each with its own base rate between 0.5 % and 5 % (2 %
in the 1 % slice). The promise: within 5 % of the baseline, over all traffic and in each slice.

Rules, each judging the same counts; where a rule has no notion of slices it looks at each slice as its own metric:

    ours          the judge: log_harm with its weights, over all traffic and slices, at budgets 1 % and 5 %
    argo          Argo Rollouts: every minute, rate of the last 5 minutes against the baseline's, all slices in one
                  condition, failureLimit 3; a slice without requests is left out, as isNaN() in the condition does
    flagger       Flagger: every minute, a thresholdRange a slice, rolled back at 10 failed checks in all
    kayenta       Kayenta: once, at the end; Mann-Whitney over 60 one-minute rates per slice, 98 % confidence, tolerance
                  0.25 of the Hodges-Lehmann estimate; fails when fewer than 75 % of the metrics pass (score), or when
                  any fails (critical)

argo and flagger are shown with the promise's own 5 % and with 50 %, which is what one would set after the first alarms.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.assess import excludes, log_harm, slice_weights
from modelrelease.core.evidence import ASSURANCE_MULTIPLIERS, HARM, SLICE_HARM, Arms, Bet, Engine
from modelrelease.core.noise import BEFORE, design_effect
from modelrelease.core.question import Question, Side

Array = NDArray[np.float64]
Narrow = NDArray[np.float32]

MINUTES, POLL_SECONDS, REQUESTS_PER_SECOND = 60, 30, 1000
POLLS = MINUTES * 60 // POLL_SECONDS
POLLS_BEFORE = int(BEFORE.total_seconds()) // POLL_SECONDS
MARGIN = 0.05
SIDES = (Side(1 + MARGIN, 1), Side(1 - MARGIN, -1))
OVERALL = Question(Engine.COUNTS, SIDES, HARM, "5%")
SLICES = Question(Engine.COUNTS, SIDES, SLICE_HARM, "5%")
BUDGETS = {"ours 1%": 0.01, "ours 5%": 0.05}
KAYENTA_RELEASES = 20


@dataclass(frozen=True)
class World:
    """
    What is true in a simulated release.

    Attributes:
        name: For the table.
        releases: How many are simulated.
        slices: Zipf slices beside the one of 1 %; 0 is one slice that is all traffic.
        everywhere: Ratio of the candidate's rates to the baseline's in all slices.
        one: The same in the slice of 1 %.
        burst: Requests with one common outcome.
        known: How the judge knows of the bursts: "told", "estimated" from the baseline's history, or "untold".
        drift: Whether the base rate doubles and falls back within the hour.
        ramp: Whether the candidate's share goes 1, 5, 25, 50 % in four stages while the base rate doubles.
        requests: Requests per second.
    """

    name: str
    releases: int
    slices: int = 200
    everywhere: float = 1.0
    one: float = 1.0
    burst: int = 1
    known: str = "told"
    drift: bool = False
    ramp: bool = False
    requests: float = REQUESTS_PER_SECOND


WORLDS = (
    World("no harm", 3000),
    World("no harm, 1 slice", 1500, slices=0),
    World("no harm, 20 slices", 1000, slices=20),
    World("no harm, 2000 slices", 100, slices=2000),
    World("no harm, thin (20/s)", 500, requests=20),
    World("no harm, rate drifts x2", 500, drift=True),
    World("no harm, ramp 1..50 %", 500, ramp=True),
    World("no harm, bursts of 2, told", 500, burst=2),
    World("no harm, bursts of 5, told", 500, burst=5),
    World("no harm, bursts of 2, estimated", 500, burst=2, known="estimated"),
    World("no harm, bursts of 5, estimated", 500, burst=5, known="estimated"),
    World("no harm, bursts of 5, untold", 100, burst=5, known="untold"),
    World("all at the margin, +5 %", 1000, everywhere=1 + MARGIN, one=1 + MARGIN),
    World("harm in 1 % slice, x1.5", 300, one=1.5),
    World("harm in 1 % slice, x2", 1000, one=2.0),
    World("harm in 1 % slice, x3", 300, one=3.0),
    World("harm in 1 % slice, x0.5", 300, one=0.5),
    World("harm everywhere, x1.1", 300, everywhere=1.1, one=1.1),
    World("harm everywhere, x1.2", 300, everywhere=1.2, one=1.2),
)


@dataclass
class Result:
    """When each rule rolled back: candidate requests ``(releases,)`` by rule, infinite for never."""

    world: World
    at: Mapping[str, Array]


def shares_and_rates(world: World) -> tuple[Array, Array]:
    """Return each slice's share of the traffic and its base rate, ``(slices,)`` each; the first slice has 1 %."""
    if not world.slices:
        return np.ones(1), np.full(1, 0.02)
    zipf = 1 / np.arange(1, world.slices + 1)
    rates = np.exp(np.random.default_rng(5).uniform(np.log(0.005), np.log(0.05), world.slices))
    return np.concatenate([[0.01], 0.99 * zipf / zipf.sum()]), np.concatenate([[0.02], rates])


def candidate_share(world: World, poll: int) -> float:
    """Return the candidate's share of the requests."""
    return (0.01, 0.05, 0.25, 0.5)[4 * poll // POLLS] if world.ramp else 0.1


def base_factor(world: World, poll: int) -> float:
    """Return how the base rate has moved by this poll."""
    if world.ramp:
        return 1 + poll / POLLS
    return 1 + np.sin(np.pi * poll / POLLS) if world.drift else 1.0


def simulate(world: World, seed: int) -> Result:
    """Simulate all releases of a world at once, poll by poll, and let every rule look at the same counts."""
    rng = np.random.default_rng(seed)
    shares, rates = shares_and_rates(world)
    harm = np.full(rates.shape, world.everywhere)
    harm[0] = world.one if world.slices else world.everywhere
    size = (world.releases, shares.size)
    stages = 4 if world.ramp else 1
    counts = np.zeros((stages, 4, *size))
    minutes: Narrow = np.zeros((MINUTES, 4, *size), dtype=np.float32)
    ours = {name: np.full(world.releases, np.inf) for name in BUDGETS}
    history = History(needed=world.known == "estimated")
    for _ in range(POLLS_BEFORE):
        history.saw(*some_requests(rng, world.requests * POLL_SECONDS * shares, rates, world.burst, size))
    requests = 0.0
    for poll in range(POLLS):
        stage = poll * stages // POLLS
        share = candidate_share(world, poll)
        total = world.requests * POLL_SECONDS
        requests += total * share
        for arm, part, factor in ((0, share, harm), (2, 1 - share, 1.0)):
            seen, rate = total * part * shares, rates * base_factor(world, poll) * factor
            events, batch = some_requests(rng, seen, rate, world.burst, size)
            for column, new in ((arm, events), (arm + 1, batch)):
                counts[stage, column] += new
                minutes[poll * POLL_SECONDS // 60, column] += new
            if arm == 2:
                history.saw(events, batch)
        effect = {"told": world.burst, "untold": 1.0}.get(world.known)
        log_mean = judge(counts[: stage + 1], history.design_effects() if effect is None else effect)
        for name, budget in BUDGETS.items():
            ours[name] = np.where((log_mean >= np.log(1 / budget)) & np.isinf(ours[name]), requests, ours[name])
    per_minute = np.cumsum([world.requests * 60 * candidate_share(world, 2 * minute) for minute in range(MINUTES)])
    return Result(world, {**ours, **threshold_rules(minutes, per_minute), **kayenta(minutes, per_minute)})


def some_requests(
    rng: np.random.Generator, seen: Array, rate: Array, burst: int, size: tuple[int, int]
) -> tuple[Array, Array]:
    """Return events and requests of one poll, in bursts with a common outcome."""
    events = (burst * rng.poisson(seen * rate / burst, size)).astype(float)
    return events, events + burst * rng.poisson(seen * (1 - rate) / burst, size)


class History:
    """What the baseline shows poll by poll, from ten minutes before the stage on; empty unless it is *needed*."""

    def __init__(self, *, needed: bool) -> None:
        self._needed = needed
        self._events: list[Narrow] = []
        self._requests: list[Narrow] = []

    def saw(self, events: Array, requests: Array) -> None:
        """Note one poll, ``(releases, slices)`` each."""
        if self._needed:
            self._events.append(events.astype(np.float32))
            self._requests.append(requests.astype(np.float32))

    def design_effects(self) -> Array:
        """Return what the operator makes of it, ``(releases,)``: over all traffic and by slice."""
        events, requests = (np.stack(polls, axis=2) for polls in (self._events, self._requests))
        found = [
            design_effect([(all_.sum(axis=0, keepdims=True), of.sum(axis=0, keepdims=True)), (all_, of)]) or 1.0
            for all_, of in zip(events, requests, strict=True)
        ]
        return np.array(found)


def judge(counts: Array, effect: float | Array) -> Array:
    """Return the log of the judge's weighted mean of e-values ``(releases,)``: half all traffic, half the slices."""
    counts = counts / np.asarray(effect)[..., None]
    releases, slices = counts.shape[2:]
    overall = log_harm(OVERALL, [Arms(*stage) for stage in counts.sum(axis=3)], 0.01)
    if slices == 1:
        return overall
    each = log_harm(SLICES, [Arms(*stage) for stage in counts.reshape(*counts.shape[:2], -1)], 0.01)
    seen = (counts[:, 1] + counts[:, 3]).sum(axis=0)
    weights = slice_weights(np.concatenate([seen.sum(axis=1, keepdims=True), seen], axis=1))
    every = np.concatenate([overall[:, None], each.reshape(releases, slices)], axis=1)
    return np.asarray(np.logaddexp.reduce(every + np.log(weights), axis=1))


def ratios(x1: Narrow, n1: Narrow, x0: Narrow, n0: Narrow) -> Narrow:
    """Return candidate rate over baseline rate; NaN without requests, infinite over a baseline rate of 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x1 / n1) / (x0 / n0)


def threshold_rules(minutes: Narrow, requests: Array) -> dict[str, Array]:
    """Argo Rollouts and Flagger, at 5 % and at 50 %."""
    releases = minutes.shape[2]
    failed = {limit: np.zeros((MINUTES, releases), dtype=bool) for limit in (0.05, 0.5)}
    for minute in range(MINUTES):
        window = minutes[max(0, minute - 4) : minute + 1].sum(axis=0)
        ratio = ratios(*window)
        for limit, checks in failed.items():
            checks[minute] = (np.abs(np.nan_to_num(ratio, nan=1.0) - 1) > limit).any(axis=1)
    return {
        f"{rule} {limit:.0%}": first(np.cumsum(checks, axis=0) > allowed, requests)
        for limit, checks in failed.items()
        for rule, allowed in (("argo", 3), ("flagger", 9))
    }


def first(stopped: NDArray[np.bool_], requests: Array) -> Array:
    """Return the candidate requests at the first minute that stops each release."""
    return np.where(stopped.any(axis=0), requests[stopped.argmax(axis=0)], np.inf)


def kayenta(minutes: Narrow, requests: Array) -> dict[str, Array]:
    """Kayenta's verdict at the end, for the first releases only: it is slow."""
    some = minutes[:, :, :KAYENTA_RELEASES]
    failing = np.array([kayenta_failing(some[:, :, release]) for release in range(some.shape[2])])
    end = requests[-1]
    return {
        "kayenta score": np.where(failing > 0.25, end, np.inf),
        "kayenta critical": np.where(failing > 0, end, np.inf),
    }


def kayenta_failing(minutes: Narrow) -> float:
    """Return the share of slices whose 98 % interval of the shift lies beyond a quarter of the estimated shift."""
    with np.errstate(divide="ignore", invalid="ignore"):
        candidate, baseline = minutes[:, 0] / minutes[:, 1], minutes[:, 2] / minutes[:, 3]
    shifts = np.nan_to_num(candidate[:, None, :] - baseline[None, :, :]).reshape(-1, minutes.shape[2])
    shifts.sort(axis=0)
    n = MINUTES
    cut = int(n * n / 2 - 2.326 * np.sqrt(n * n * (2 * n + 1) / 12))
    low, high, estimate = shifts[cut], shifts[-cut - 1], np.median(shifts, axis=0)
    tolerance = 0.25 * np.abs(estimate)
    return float(((low > tolerance) | (high < -tolerance)).mean())


def print_header(rules: list[str]) -> None:
    """Print the names of the rules."""
    print(f"{'world':<30}{'releases':>9}" + "".join(f"{rule:>18}" for rule in rules))


def print_result(result: Result) -> None:
    """Print the share rolled back and, of those, the median candidate requests."""
    cells = []
    for at in result.at.values():
        stopped = at[np.isfinite(at)]
        when = f"{np.median(stopped) / 1000:.0f}k" if stopped.size else ""
        cells.append(f"{np.isfinite(at).mean():>11.3f} {when:>6}")
    print(f"{result.world.name:<30}{result.world.releases:>9}" + "".join(cells), flush=True)


GOALS = (("ours 5%", 190_000), ("ours 1%", 220_000))


def print_goals(result: Result) -> None:
    """Print how much of the doubled slice is found by when."""
    for name, within in GOALS:
        print_found(f"{result.world.name}: {name}", result.at[name], within)


def print_found(name: str, at: Array, within: float) -> None:
    """Print the share found in the hour, the median of all releases, and the share found within some requests."""
    print(
        f"  {name}: {np.isfinite(at).mean():.1%} within the hour, half of all by {np.median(at):,.0f} candidate "
        f"requests, {(at <= within).mean():.1%} by {within:,}"
    )


def print_oracle(seed: int) -> None:
    """
    Print how soon the doubled slice of 1 % is found by one who knows everything but which of the slices it is.

    It knows both rates, so that it places a single bet, on exactly the truth; none wins sooner on average (Wald 1945).
    It has the same share of the budget: half for the slices, shared equally or as the judge shares it.
    """
    rng = np.random.default_rng(seed)
    world = World("", 20_000, one=2.0)
    shares, rates = shares_and_rates(world)
    seen = REQUESTS_PER_SECOND * POLL_SECONDS * shares[0] * np.array([0.1, 0.9])
    odds, factor = (1 + MARGIN) / 9, 2 / (1 + MARGIN)
    mine, base = (
        rng.poisson(n * rate, (POLLS, world.releases)).cumsum(axis=0)
        for n, rate in zip(seen, (2 * rates[0], rates[0]), strict=True)
    )
    log_e = mine * np.log(factor) + (mine + base) * np.log((1 + odds) / (1 + factor * odds))
    requests = np.arange(1.0, POLLS + 1) * (REQUESTS_PER_SECOND * POLL_SECONDS * 0.1)
    weights = {
        "equal shares": 0.5 / shares.size,
        "the judge's shares": slice_weights(np.concatenate([[1.0], shares]))[1],
    }
    print("\nwho knows the true rates, and not which slice it is:")
    for text, weight in weights.items():
        for name, within in GOALS:
            budget = BUDGETS[name]
            at = first(log_e >= np.log(1 / (budget * weight)), requests)
            print_found(f"{text}, budget {budget:.0%}", at, within)


def print_assurance(seed: int) -> None:
    """Print how many candidate requests half of 300 identical slices need until a change is excluded."""
    rng = np.random.default_rng(seed)
    looks, slices = 160, 300
    print("\ncandidate requests until a change is excluded (2 % rate, 10 % canary, no change, median):")
    for margin in (0.05, 0.1, 0.2, 0.3, 0.5):
        sides = (Side(1 + margin, 1), Side(1 - margin, -1))
        question = Question(Engine.COUNTS, sides, Bet(ASSURANCE_MULTIPLIERS, 100.0), f"{margin:.0%}")
        step = 13 / np.log1p(margin) ** 2
        events, base = (rng.poisson(step * share * 0.02, (looks, slices)).cumsum(axis=0).ravel() for share in (1, 9))
        of = np.repeat(step * np.arange(1, looks + 1), slices)
        counts = Arms(events.astype(float), of, base.astype(float), 9 * of)
        print(
            f"  {margin:.0%}: {np.median(first(excludes(question, counts).reshape(looks, slices), of[::slices])):,.0f}"
        )


def main() -> None:
    """Run the worlds and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--world", default="", help="only worlds whose name contains this")
    options.add_argument("--scale", type=float, default=1.0, help="releases, as a multiple of the usual number")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    start = time.monotonic()
    chosen = [world for world in WORLDS if given.world in world.name]
    goals = []
    total = 0
    for place, world in enumerate(chosen):
        result = run_in_batches(world, max(1, round(world.releases * given.scale)), given.seed + 1000 * place)
        if not place:
            print("share rolled back, and the median candidate requests of those\n")
            print_header(list(result.at))
        print_result(result)
        total += result.world.releases
        goals += [result] if world.one == 2.0 else []
    print(f"\n{total:,} releases in {time.monotonic() - start:.0f} s\n")
    for result in goals:
        print_goals(result)
    print_oracle(given.seed)
    print_assurance(given.seed)


def run_in_batches(world: World, releases: int, seed: int) -> Result:
    """Simulate a world in batches that fit into memory."""
    batch = max(1, min(250, 50_000 // (world.slices + 1)))
    sizes = [min(batch, releases - done) for done in range(0, releases, batch)]
    parts = [simulate(replace(world, releases=size), seed + number) for number, size in enumerate(sizes)]
    # Kayenta judges only the first releases, the same number of the first batch.
    joined = {
        rule: parts[0].at[rule] if rule.startswith("kayenta") else np.concatenate([part.at[rule] for part in parts])
        for rule in parts[0].at
    }
    return Result(replace(world, releases=releases), joined)


if __name__ == "__main__":
    main()
