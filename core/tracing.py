"""The trace that a call belongs to, handed from role to role as W3C Trace Context says.

Every call has one: its caller's if that sent a `traceparent`, otherwise a new one. The trace's id
is the request id in log lines. Spans are recorded only in a process in which `core.otel` was
started; elsewhere `span` costs a function call, and what callers sent is handed on unchanged.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple, Protocol

PARENT = "traceparent"
STATE = "tracestate"
_FORMAT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST_STATE = 512
_SAMPLED = 0x01

Metadata = tuple[tuple[str, str], ...]
Headers = Iterable[tuple[str, str | bytes]]
Attribute = str | int | float | bool
Running = AbstractContextManager[object]


class Trail(NamedTuple):
    """A place in a trace: ids in lowercase hex; `state` is its vendors', handed on as it is.

    `sampled` if somebody records the trace, None if nobody has decided that yet. `place` is the
    tracer's own, None where the span is none of this process.
    """

    trace_id: str
    span_id: str
    sampled: bool | None = False
    state: str = ""
    place: object = None

    @property
    def parent(self) -> str:
        """As a `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


class Tracer(Protocol):
    """What records spans; while one runs, the task is settled for its trail."""

    def arrival(self, name: str, given: Trail | None) -> Running:
        """The span of a call that has just arrived; a child of what its caller gave."""

    def span(self, name: str, within: Trail | None, attributes: dict[str, Attribute]) -> Running:
        """A child of `within`; a trace of its own if that is None or not decided."""


NOTHING: Running = nullcontext()
_trail: ContextVar[Trail | None] = ContextVar("trail", default=None)
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Records spans with `tracer` from now on, or none any more."""
    global _tracer
    _tracer = tracer


def arrival(name: str, headers: Headers, *, recorded: bool = True) -> Running:
    """A call that has arrived with these headers; from now on this task works for it.

    `recorded` as a span; what lasts as long as a connection should not be.
    """
    given = _given(headers)
    if _tracer is not None and recorded:
        return _tracer.arrival(name, given)
    settle(given or _begun(sampled=False if recorded else None))
    return NOTHING


def follow(name: str, traceparent: str) -> Running:
    """As `arrival`, of a call that came within a message."""
    return arrival(name, ((PARENT, traceparent),))


def settle(trail: Trail | None) -> None:
    """From now on this task works for that trace."""
    _trail.set(trail)


def span(name: str, **attributes: Attribute) -> Running:
    """A part of the work for a call, recorded if the call is."""
    if _tracer is None:
        return NOTHING
    within = _trail.get()
    if within is not None and within.sampled is False:
        return NOTHING
    return _tracer.span(name, within, attributes)


def current() -> Trail | None:
    """Where the trace stands that this task works for; None outside of calls."""
    return _trail.get()


def request_id() -> str:
    """The id of the trace that this task works for; empty outside of calls."""
    trail = current()
    return trail.trace_id if trail is not None else ""


def traceparent() -> str:
    """What a message for another role carries; empty outside of calls."""
    trail = current()
    return trail.parent if trail is not None else ""


def outgoing() -> Metadata | None:
    """The metadata of a call that is made for the current one; None outside of calls."""
    trail = current()
    if trail is None:
        return None
    state = ((STATE, trail.state),) if trail.state else ()
    return ((PARENT, trail.parent), *state)


def recorded() -> Metadata | None:
    """As `outgoing`, but None unless the trace is recorded: some record all that they are told."""
    trail = current()
    return outgoing() if trail is not None and trail.sampled else None


def exemplar() -> dict[str, str] | None:
    """What ties a measurement to a trace that somebody records; None without one."""
    trail = current()
    if trail is None or not trail.sampled:
        return None
    return {"trace_id": trail.trace_id, "span_id": trail.span_id}


def _given(headers: Headers) -> Trail | None:
    """What a caller gave; None if that is nothing, or nothing that can be read."""
    parent = state = ""
    for key, value in headers:
        if key == PARENT and isinstance(value, str):
            parent = value
        elif key == STATE and isinstance(value, str):
            state = value
    found = _FORMAT.fullmatch(parent) if parent else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) * int(span_id, 16):
        return None
    sampled = bool(int(flags, 16) & _SAMPLED)
    return Trail(trace_id, span_id, sampled, state[:_LONGEST_STATE])


def _begun(*, sampled: bool | None) -> Trail:
    # Neither secret nor guessed at by anybody: the cheapest source will do.
    bits = random.getrandbits(192) | 1 << 64 | 1
    digits = f"{bits:048x}"
    return Trail(digits[:32], digits[32:], sampled)
