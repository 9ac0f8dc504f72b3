"""What may follow what in a migration, and what the gate lets through."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MigrationNotReady
from indexer.migration.gate import Comparison, Gate, objections
from indexer.migration.states import Event, State, after

SAME = Comparison(
    query_count=4,
    incomplete_count=0,
    mean_overlap=0.9,
    lowest_overlap=0.5,
    lowest_query="owl",
    judged_count=3,
    source_ndcg=0.6,
    target_ndcg=0.62,
    ndcg_difference_low=-0.01,
    ndcg_difference_high=0.05,
    compare_micros=0,
)


def walk(*events: Event) -> State:
    state = State.BUILDING
    for event in events:
        state = after(state, event)
    return state


def possible(event: Event) -> set[State]:
    found = set()
    for state in State:
        try:
            after(state, event)
        except MigrationNotReady:
            continue
        found.add(state)
    return found


def test_the_usual_way_ends_with_the_target_answering() -> None:
    way = (Event.CAUGHT_UP, Event.PASS, Event.SWITCH, Event.FINISH)

    assert walk(*way) is State.FINISHED
    assert walk(*way).target_answers


def test_without_a_comparison_a_target_that_has_caught_up_is_ready() -> None:
    assert walk(Event.CAUGHT_UP_UNCOMPARED) is State.READY


def test_a_refused_target_can_be_compared_again_and_pass() -> None:
    assert walk(Event.CAUGHT_UP, Event.REFUSE, Event.COMPARE, Event.PASS) is State.READY


def test_only_a_ready_target_switches_unless_by_force() -> None:
    assert possible(Event.SWITCH) == {State.READY}
    assert possible(Event.FORCE) == {State.COMPARING, State.REFUSED, State.READY}


def test_every_migration_that_is_not_over_can_be_rolled_back() -> None:
    assert possible(Event.ROLL_BACK) == {state for state in State if not state.is_over}


def test_what_is_not_possible_says_what_to_do() -> None:
    with pytest.raises(MigrationNotReady, match="is building, so it cannot switch") as error:
        after(State.BUILDING, Event.SWITCH)

    assert "wait until it is ready" in error.value.remedy


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_indexes_change_places_by_a_switch_or_a_rollback_alone(events: list[Event]) -> None:
    state = State.BUILDING
    for event in events:
        try:
            following = after(state, event)
        except MigrationNotReady:
            continue
        assert not state.is_over
        if following.target_answers != state.target_answers:
            assert event in (Event.SWITCH, Event.FORCE, Event.ROLL_BACK)
        assert following.is_over == (event in (Event.ROLL_BACK, Event.FINISH))
        state = following


def test_a_gate_that_asks_for_nothing_lets_every_whole_comparison_pass() -> None:
    assert objections(replace(SAME, mean_overlap=0.0), Gate()) == []


def test_a_comparison_that_is_not_whole_never_passes() -> None:
    found = objections(replace(SAME, incomplete_count=1), Gate())

    assert found == ["1 of 4 queries were not answered whole"]


def test_a_comparison_of_no_queries_never_passes() -> None:
    assert objections(replace(SAME, query_count=0), Gate()) == ["no query was asked"]


def test_overlap_below_the_gate_is_refused() -> None:
    assert objections(SAME, Gate(min_overlap=0.9)) == []
    assert objections(SAME, Gate(min_overlap=0.91)) == ["overlap@10 is 0.900, below 0.91"]


def test_a_loss_that_the_interval_allows_is_refused() -> None:
    assert objections(SAME, Gate(max_ndcg_loss=0.01)) == []
    (reason,) = objections(SAME, Gate(max_ndcg_loss=0.005))
    assert "nDCG@10 may fall by 0.010 (from 0.600 to 0.620 as measured)" in reason


def test_a_loss_that_nobody_can_judge_is_refused() -> None:
    (reason,) = objections(replace(SAME, judged_count=0), Gate(max_ndcg_loss=0.5))

    assert "nDCG@10 is not known" in reason
