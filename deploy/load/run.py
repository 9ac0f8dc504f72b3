"""Measures one rate, or looks for the greatest that keeps its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.load.capacity import Bounds, Outcome, capacity, next_rate
from deploy.load.crew import Crew
from deploy.load.report import summarise

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rate is measured: seconds of it that do not count, and then seconds that do."""

    seconds: float
    warm_up: float
    seed: int
    processes: int


@dataclass(frozen=True, slots=True)
class Ramp:
    """Rates grow from the first by `growth` up to `most` until a bound is passed."""

    bounds: Bounds
    growth: float
    most: float


def measure(crew: Crew, plan: Plan, rate: float) -> dict[str, Any]:
    """The report of one rate, see report.summarise."""
    if plan.warm_up:
        crew.send(rate, plan.warm_up, seed=plan.seed + 1)
    tally = crew.send(rate, plan.seconds, seed=plan.seed)
    return summarise(tally, rate=rate, seconds=plan.seconds, processes=plan.processes)


def climb(
    crew: Crew, plan: Plan, ramp: Ramp, *, first: float, on_step: OnStep = lambda _: None
) -> dict[str, Any]:
    """Reports of rising rates, the capacity that they show and why the search ended."""
    steps: list[dict[str, Any]] = []
    outcomes: list[Outcome] = []
    rate: float | None = first
    while rate is not None:
        steps.append(measure(crew, plan, rate))
        outcomes.append(_outcome(rate, steps[-1]))
        on_step(steps[-1])
        rate = next_rate(outcomes, ramp.bounds, growth=ramp.growth, most=ramp.most)
    found = capacity(outcomes, ramp.bounds)
    return {
        "capacity_per_second": round(found.rate, 3),
        "stopped_because": found.stopped_because,
        "bounds": {"p99_ms": ramp.bounds.p99_ms, "failures": ramp.bounds.failures},
        "steps": sorted(steps, key=lambda step: float(step["rate_per_second"])),
    }


def _outcome(rate: float, report: dict[str, Any]) -> Outcome:
    failed: dict[str, int] = report["failed"]
    return Outcome(
        rate=rate,
        p99_ms=report["p99_ms"],
        failures=sum(failed.values()) / max(1, report["sent"]),
        reasons=", ".join(failed),
        late=report["generator"]["was_late"],
    )
