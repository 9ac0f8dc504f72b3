"""One gateway's calls over one stream: answered side by side, in the order they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from core.errors import InvalidInput
from core.interceptors import failure_status
from core.interceptors import CallMetrics
from core.rpc import MAX_RECEIVE_BYTES, packed_status
from shard.answers import Answers
from trireme.shard.v1 import shard_pb2

Request = shard_pb2.ConverseRequest
Response = shard_pb2.ConverseResponse

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
        # gRPC sends one message of a stream at a time.
        self._writing = asyncio.Lock()
        self._working: dict[int, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def hold(self, requests: AsyncIterator[Request]) -> None:
        """Answers all calls; returns when the last one that was read is answered."""
        async with asyncio.TaskGroup() as group:
            self._reading = group.create_task(self._read(requests, group))

    def end(self) -> None:
        """Reads no more calls."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, requests: AsyncIterator[Request], group: asyncio.TaskGroup) -> None:
        async for request in requests:
            ask = request.WhichOneof("ask") or ""
            if ask == _FORGET:
                self._forget(request.call)
            else:
                self._working[request.call] = group.create_task(self._answer(request, ask))

    def _forget(self, call: int) -> None:
        task = self._working.pop(call, None)
        if task is not None:
            task.cancel()

    async def _answer(self, request: Request, ask: str) -> None:
        method = f"{_METHOD}/{ask}"
        begun = self._calls.begin()
        code = "CANCELLED"
        try:
            response = await self._response(request, ask)
            code = "OK"
        except Exception as error:
            status = failure_status(error, method)
            response = Response(call=request.call, failure=packed_status(status))
            code = status.code.name
        finally:
            self._calls.end(method, begun, code)
            # Not to be forgotten from here on: a write that is cancelled would end the stream.
            self._working.pop(request.call, None)
        async with self._writing:
            await self._write(response)

    async def _response(self, request: Request, ask: str) -> Response:
        if not ask:
            raise InvalidInput("FIELD_REQUIRED", "asks for nothing", field="ask")
        found = await getattr(self._answers, ask)(getattr(request, ask))
        response = Response(call=request.call, **{ask: found})
        size = response.ByteSize()
        # It would end the stream, and every other call with it.
        if size > MAX_RECEIVE_BYTES:
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"the answer has {size:,} bytes, more than {MAX_RECEIVE_BYTES:,}",
                field=ask,
                remedy="ask for fewer documents at a time",
            )
        return response
