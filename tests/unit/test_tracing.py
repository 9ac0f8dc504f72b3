"""Traces go from caller to callee as W3C Trace Context says, recorded or not."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from core import logs, tracing
from core.tracing import PARENT, STATE

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def outside_of_calls() -> Iterator[None]:
    """What a test settles is forgotten after it."""
    token = tracing._trail.set(None)
    yield
    tracing._trail.reset(token)


def test_a_callers_trace_is_handed_on_with_its_state() -> None:
    with tracing.arrival("S/M", [(PARENT, GIVEN), (STATE, "vendor=1"), ("other", b"\x00")]):
        assert tracing.request_id() == TRACE
        assert tracing.outgoing() == ((PARENT, GIVEN), (STATE, "vendor=1"))
        assert tracing.traceparent() == GIVEN


def test_a_call_without_a_trace_begins_one_that_nobody_records() -> None:
    with tracing.arrival("S/M", []):
        first = tracing.traceparent()
        assert tracing.exemplar() is None
        assert tracing.recorded() is None
    with tracing.arrival("S/M", []):
        second = tracing.traceparent()

    for made in (first, second):
        version, trace_id, span_id, flags = made.split("-")
        assert (version, flags) == ("00", "00")
        assert (len(trace_id), len(span_id)) == (32, 16)
        assert int(trace_id, 16) * int(span_id, 16) != 0
    assert first != second


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        f"00-{TRACE}-b7ad6b7169203331",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        GIVEN.upper(),
    ],
)
def test_what_is_no_trace_context_is_passed_over(wrong: str) -> None:
    with tracing.arrival("S/M", [(PARENT, wrong)]):
        assert tracing.request_id() not in ("", TRACE, "0" * 32)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    with tracing.arrival("S/M", [(PARENT, f"01-{TRACE}-b7ad6b7169203331-01-more")]):
        assert tracing.traceparent() == GIVEN


def test_what_a_caller_records_is_an_exemplar() -> None:
    with tracing.follow("S/M", GIVEN):
        assert tracing.exemplar() == {"trace_id": TRACE, "span_id": "b7ad6b7169203331"}
        assert tracing.recorded() == ((PARENT, GIVEN),)


def test_outside_of_calls_there_is_nothing() -> None:
    assert tracing.request_id() == tracing.traceparent() == ""
    assert tracing.outgoing() is None
    assert tracing.exemplar() is None
    with tracing.span("search", rows=3):
        assert tracing.current() is None


async def test_tasks_of_a_call_work_for_its_trace_and_others_do_not() -> None:
    async def asked() -> str:
        return tracing.request_id()

    async def call(traceparent: str) -> str:
        with tracing.follow("S/M", traceparent):
            return await asyncio.create_task(asked())

    other = GIVEN.replace("0af7", "1bf8")
    found = await asyncio.gather(asyncio.create_task(call(GIVEN)), asyncio.create_task(call(other)))

    assert list(found) == [TRACE, TRACE.replace("0af7", "1bf8")]
    assert tracing.request_id() == ""


def test_a_log_line_of_a_call_has_its_request_id() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    log = logging.Logger("trireme-test")
    log.addHandler(handler)

    def call() -> None:
        with tracing.follow("S/M", GIVEN):
            log.info("work done", extra={"rows": 3})

    copy_context().run(call)
    log.info("nothing to do")

    during, outside = map(json.loads, stream.getvalue().splitlines())
    assert during["event"] == "work done"
    assert during["rows"] == 3
    assert during["request_id"] == TRACE
    assert "request_id" not in outside
