"""What may follow what in a migration. Pure: states and events are plain data.

BUILDING -> COMPARING -> READY -> SWITCHED -> FINISHED
    |        |  ^  \\      |  |        |
    |        v  |   \\     |  +--> ROLLED_BACK, also from every state before it
    |       REFUSED  +----+
    +-> READY if there is nothing to compare by
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from core.errors import MigrationNotReady


class State(str, Enum):
    """How far a migration is; the values stand in the document store."""

    BUILDING = "building"
    COMPARING = "comparing"
    REFUSED = "refused"
    READY = "ready"
    SWITCHED = "switched"
    FINISHED = "finished"
    ROLLED_BACK = "rolled back"

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be asked of it."""
        return self in (State.FINISHED, State.ROLLED_BACK)

    @property
    def target_answers(self) -> bool:
        """Whether searches are answered by the target, not by the source."""
        return self in (State.SWITCHED, State.FINISHED)


class Event(str, Enum):
    """What moves a migration; the values say it in words."""

    CAUGHT_UP = "catch up"
    CAUGHT_UP_UNCOMPARED = "catch up without a comparison"
    COMPARE = "compare"
    PASS = "pass the gate"
    REFUSE = "be refused by the gate"
    SWITCH = "switch"
    FORCE = "switch by force"
    ROLL_BACK = "roll back"
    FINISH = "finish"


_COMPARABLE = (State.COMPARING, State.REFUSED, State.READY)
_MOVES: Mapping[Event, tuple[tuple[State, ...], State]] = {
    Event.CAUGHT_UP: ((State.BUILDING,), State.COMPARING),
    Event.CAUGHT_UP_UNCOMPARED: ((State.BUILDING,), State.READY),
    Event.COMPARE: (_COMPARABLE, State.COMPARING),
    Event.PASS: ((State.COMPARING,), State.READY),
    Event.REFUSE: ((State.COMPARING,), State.REFUSED),
    Event.SWITCH: ((State.READY,), State.SWITCHED),
    Event.FORCE: (_COMPARABLE, State.SWITCHED),
    Event.ROLL_BACK: ((State.BUILDING, *_COMPARABLE, State.SWITCHED), State.ROLLED_BACK),
    Event.FINISH: ((State.SWITCHED,), State.FINISHED),
}
_REMEDIES: Mapping[Event, str] = {
    Event.COMPARE: "wait until the target is built; after the switch there is nothing to decide",
    Event.PASS: "ask for a comparison first",
    Event.REFUSE: "ask for a comparison first",
    Event.SWITCH: "wait until it is ready, or switch by force once the target is built",
    Event.FORCE: "wait until the target is built",
    Event.ROLL_BACK: "it has ended: migrate again, to the version of before",
    Event.FINISH: "switch first; to give the target up, roll back",
}


def after(state: State, event: Event) -> State:
    """The state that follows; raises MigrationNotReady if the event is not possible now."""
    possible_in, following = _MOVES[event]
    if state in possible_in:
        return following
    raise MigrationNotReady(
        f"is {state.value}, so it cannot {event.value}",
        field="migration",
        remedy=_REMEDIES.get(event, ""),
    )
