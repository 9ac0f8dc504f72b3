"""Who is next and who has to go: shares by weight, between lanes and between callers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.fair_queue import MOST_IDLE_CALLERS, Entry, FairQueue
from gateway.lanes import LANE_WEIGHTS, Lane
from gateway.work import Work


def entry(
    caller: str = "",
    lane: Lane = Lane.INTERACTIVE,
    *,
    weight: float = 1.0,
    units: float = 1.0,
    fixed: bool = False,
) -> Entry:
    return Entry(Work("search", units, lane), caller, weight, fixed)


def queue_of(*entries: Entry) -> FairQueue:
    queue = FairQueue()
    for each in entries:
        queue.push(each)
    return queue


def test_one_callers_work_is_done_in_the_order_of_arrival() -> None:
    entries = [entry() for _ in range(5)]
    queue = queue_of(*entries)

    assert [queue.pop() for _ in range(5)] == entries
    assert len(queue) == queue.units == 0


def test_callers_take_turns_however_much_one_of_them_brings() -> None:
    queue = queue_of(*(entry("many") for _ in range(10)), entry("few"), entry("few"))

    assert [queue.pop().caller for _ in range(5)] == ["many", "few", "many", "few", "many"]


def test_a_caller_of_twice_the_weight_gets_twice_as_much() -> None:
    queue = queue_of(
        *(entry("one") for _ in range(60)), *(entry("two", weight=2) for _ in range(60))
    )

    assert Counter(queue.pop().caller for _ in range(60)) == {"two": 40, "one": 20}


def test_dear_work_is_charged_at_its_price() -> None:
    cheap, dear = [entry("cheap") for _ in range(60)], [entry("dear", units=5) for _ in range(60)]
    queue = queue_of(*cheap, *dear)

    assert Counter(queue.pop().caller for _ in range(60)) == {"cheap": 50, "dear": 10}


def test_who_comes_later_has_no_claims_from_before() -> None:
    queue = queue_of(*(entry("early") for _ in range(100)))
    for _ in range(50):
        queue.pop()
    for _ in range(10):
        queue.push(entry("late"))

    assert Counter(queue.pop().caller for _ in range(20)) == {"early": 10, "late": 10}


def test_lanes_share_by_their_weights_and_none_stands_still() -> None:
    everything = [entry(lane=lane) for lane in Lane for _ in range(100)]
    queue = queue_of(*everything)

    taken = Counter(queue.pop().work.lane for _ in range(73))

    assert taken == LANE_WEIGHTS


def test_a_new_caller_takes_the_place_of_the_newest_of_who_holds_most() -> None:
    held = [entry("greedy") for _ in range(5)]
    queue = queue_of(*held, entry("modest"))

    assert queue.displaced_by(entry("new")) is held[-1]
    assert queue.displaced_by(entry("greedy")) is None


def test_of_equal_callers_nobody_is_displaced() -> None:
    queue = queue_of(entry("a"), entry("b"))

    assert queue.displaced_by(entry("b")) is None
    assert queue.displaced_by(entry("c")) is None


def test_a_person_displaces_a_job_but_not_the_other_way_round() -> None:
    job = entry("job", Lane.BATCH)
    queue = queue_of(job, *(entry("person") for _ in range(6)))

    assert queue.displaced_by(entry("person")) is job
    assert queue.displaced_by(entry("job", Lane.BATCH)) is None


def test_many_waiting_people_leave_a_job_its_small_share() -> None:
    people = [entry("person") for _ in range(20)]
    queue = queue_of(*people)

    assert queue.displaced_by(entry("job", Lane.BATCH)) is people[-1]


def test_what_is_fixed_takes_no_room_and_is_never_displaced() -> None:
    queue = queue_of(*(entry("stream", Lane.BATCH, fixed=True) for _ in range(9)), entry("a"))

    assert queue.units == 1
    assert queue.displaced_by(entry("a")) is None
    assert queue.waiting(Lane.BATCH) == 9


def test_idle_callers_are_forgotten() -> None:
    queue = FairQueue()
    for number in range(3 * MOST_IDLE_CALLERS):
        queue.push(entry(f"caller-{number}"))
        queue.pop()

    assert queue.remembered <= MOST_IDLE_CALLERS + 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(list(Lane)), st.integers(1, 5), st.booleans()
        )
    ),
    st.data(),
)
def test_everything_comes_out_once_whatever_leaves_before(
    arrivals: list[tuple[str, Lane, int, bool]], data: st.DataObject
) -> None:
    entries = [entry(c, lane, units=u, fixed=f) for c, lane, u, f in arrivals]
    queue = queue_of(*entries)
    gone = [each for each in entries if data.draw(st.booleans())]
    for each in gone:
        queue.remove(each)

    popped = [queue.pop() for _ in range(len(queue))]

    assert len(popped) == len(set(map(id, popped))) == len(entries) - len(gone)
    assert set(map(id, popped)) | set(map(id, gone)) == set(map(id, entries))
    assert queue.units == len(queue) == sum(queue.waiting(lane) for lane in Lane) == 0
