"""The loop that both sides of a comparison are measured by."""

from __future__ import annotations

import itertools
import threading

import pytest

from tests.load.closed_loop import Measured, closed_loop


def test_clients_ask_at_the_same_time_and_in_one_order() -> None:
    together, calls = threading.Barrier(3), itertools.count()
    asked: list[str] = []

    def ask(query: str) -> None:
        asked.append(query)
        if next(calls) < 3:
            together.wait(timeout=20)

    measured = closed_loop(ask, ["a", "b", "c"], clients=3, seconds=0.0, fewest=6)

    assert sorted(asked[:3]) == ["a", "b", "c"]
    assert measured.clients == 3
    assert len(measured.latencies_ms) == len(asked) >= 6
    figures = measured.figures()
    assert figures["queries"] == len(asked)
    assert 0 <= figures["p50_ms"] <= figures["p99_ms"]


def test_what_a_client_meets_ends_the_measurement() -> None:
    def ask(query: str) -> None:
        raise ValueError(query)

    with pytest.raises(ValueError, match="a"):
        closed_loop(ask, ["a"], clients=2, seconds=20.0)


def test_processor_time_is_shared_out_over_the_queries() -> None:
    spent = iter([{"role": 1.0}, {"role": 3.0}])

    measured = closed_loop(
        lambda query: None, ["a"], clients=1, seconds=0.0, fewest=4, cpu=lambda: next(spent)
    )

    assert measured.figures()["cpu_ms"] == {"role": 2.0 * 1000 / 4}


def test_measurements_that_were_made_in_turns_count_as_one() -> None:
    first = Measured(2, [1.0, 3.0], 2.0, {"role": 1.0})
    second = Measured(2, [2.0, 4.0, 5.0], 3.0, {"role": 1.5})

    together = (first + second).figures()

    assert (together["clients"], together["queries"], together["per_second"]) == (2, 5, 1.0)
    assert together["p50_ms"] == 3.0
    assert together["cpu_ms"] == {"role": 500.0}
