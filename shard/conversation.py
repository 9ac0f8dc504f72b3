"""One gateway's calls over one stream: answered side by side, in the order they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from core import tracing
from core.errors import InvalidInput
from core.interceptors import failure_status
from core.metrics import CallMetrics
from core.rpc import MAX_RECEIVE_BYTES, packed_status
from shard.answers import Answers
from trireme.shard.v1 import shard_pb2

Ask = shard_pb2.Ask
Answer = shard_pb2.Answer
Request = shard_pb2.ConverseRequest
Response = shard_pb2.ConverseResponse

ENOUGH_BYTES = 256 * 1024
"""A message with so much takes no further answers along."""
MOST_BYTES = MAX_RECEIVE_BYTES - 2 * ENOUGH_BYTES
"""Of one answer."""

_METHOD = "/trireme.shard.v1.ShardService/Converse"
_FORGET = "forget"


class Conversation:
    """`hold` it until the caller ends the stream or `end` is called."""

    def __init__(
        self, answers: Answers, calls: CallMetrics, write: Callable[[Response], Awaitable[None]]
    ) -> None:
        self._answers = answers
        self._calls = calls
        self._write = write
        self._outgoing: asyncio.Queue[tuple[Response, int]] = asyncio.Queue()
        self._working: dict[int, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def hold(self, requests: AsyncIterator[Request]) -> None:
        """Answers all calls; returns when the last one that was read is answered."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send())
            async with asyncio.TaskGroup() as working:
                self._reading = working.create_task(self._read(requests, working))
            await self._outgoing.join()
            sending.cancel()

    def end(self) -> None:
        """Reads no more calls."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, requests: AsyncIterator[Request], group: asyncio.TaskGroup) -> None:
        async for request in requests:
            for ask in request.asks:
                question = ask.WhichOneof("question") or ""
                if question == _FORGET:
                    self._forget(ask.call)
                else:
                    self._working[ask.call] = group.create_task(self._work(ask, question))

    def _forget(self, call: int) -> None:
        task = self._working.pop(call, None)
        if task is not None:
            task.cancel()

    async def _work(self, ask: Ask, question: str) -> None:
        method = f"{_METHOD}/{question}"
        begun = self._calls.begin()
        code = "CANCELLED"
        try:
            with tracing.follow(question, ask.trace_context):
                response, size = await self._answer(ask, question)
            code = "OK"
        except Exception as error:
            status = failure_status(error, method)
            code = status.code.name
            response = Response(answers=[Answer(call=ask.call, failure=packed_status(status))])
            size = response.ByteSize()
        finally:
            self._calls.end(method, begun, code)
            self._working.pop(ask.call, None)
        self._outgoing.put_nowait((response, size))

    async def _answer(self, ask: Ask, question: str) -> tuple[Response, int]:
        """A message with the answer alone, and its size in bytes."""
        if not question:
            raise InvalidInput("FIELD_REQUIRED", "asks for nothing", field="question")
        response = Response()
        found = getattr(response.answers.add(call=ask.call), question)
        found.SetInParent()
        await getattr(self._answers, question)(getattr(ask, question), found)
        size = response.ByteSize()
        # It would end the stream, and every other call with it.
        if size > MOST_BYTES:
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"the answer has {size:,} bytes, more than {MOST_BYTES:,}",
                field=question,
                remedy="ask for fewer documents at a time",
            )
        return response, size

    async def _send(self) -> None:
        while True:
            response, size = await self._outgoing.get()
            answers = 1
            # What is ready meanwhile goes along: a message costs more than what is in it.
            while size < ENOUGH_BYTES and not self._outgoing.empty():
                another, more = self._outgoing.get_nowait()
                response.MergeFrom(another)
                answers += 1
                size += more
            await self._write(response)
            for _ in range(answers):
                self._outgoing.task_done()
