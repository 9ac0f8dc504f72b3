"""Calls to one shard over one stream, which is opened when it is needed and again after a loss."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import grpc

from core import tracing
from core.rpc import error_of, lost
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

Ask = shard_pb2.Ask
Answer = shard_pb2.Answer

MOST_ASKS = 64
"""In one message."""


class Line:
    """One method for everything that a shard can be asked, by the name of its field.

    Each waits `seconds` at most; raises TimeoutError, or AioRpcError as a call of its own would.
    """

    def __init__(self, stub: shard_pb2_grpc.ShardServiceAsyncStub) -> None:
        self._stub = stub
        self._stream: _Stream | None = None

    async def count_terms(
        self, request: shard_pb2.CountTermsRequest, seconds: float
    ) -> shard_pb2.CountTermsResponse:
        return (await self._ask(Ask(count_terms=request), seconds)).count_terms

    async def search_lexical(
        self, request: shard_pb2.SearchLexicalRequest, seconds: float
    ) -> shard_pb2.SearchLexicalResponse:
        return (await self._ask(Ask(search_lexical=request), seconds)).search_lexical

    async def search_dense(
        self, request: shard_pb2.SearchDenseRequest, seconds: float
    ) -> shard_pb2.SearchDenseResponse:
        return (await self._ask(Ask(search_dense=request), seconds)).search_dense

    async def search_sparse(
        self, request: shard_pb2.SearchSparseRequest, seconds: float
    ) -> shard_pb2.SearchSparseResponse:
        return (await self._ask(Ask(search_sparse=request), seconds)).search_sparse

    async def read_attribute(
        self, request: shard_pb2.ReadAttributeRequest, seconds: float
    ) -> shard_pb2.ReadAttributeResponse:
        return (await self._ask(Ask(read_attribute=request), seconds)).read_attribute

    async def fetch(
        self, request: shard_pb2.FetchRequest, seconds: float
    ) -> shard_pb2.FetchResponse:
        return (await self._ask(Ask(fetch=request), seconds)).fetch

    @property
    def is_waiting(self) -> bool:
        """Whether calls are under way."""
        return self._stream is not None and self._stream.is_waiting

    def give_up(self, why: str) -> None:
        """Fails the calls under way, as if the shard had gone."""
        if self._stream is not None:
            self._stream.give_up(why)

    async def close(self) -> None:
        """Ends the stream; calls under way fail."""
        if self._stream is not None:
            await self._stream.close()

    async def _ask(self, ask: Ask, seconds: float) -> Answer:
        async with asyncio.timeout(seconds):
            if self._stream is None or self._stream.is_over:
                self._stream = _Stream(self._stub.Converse())
            ask.trace_context = tracing.traceparent()
            answer = await self._stream.ask(ask)
        if answer.failure:
            raise error_of(answer.failure)
        return answer


class _Stream:
    """From its opening to its end; calls that are not answered by then fail as the stream did."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._numbers = count(1)
        self._outgoing: asyncio.Queue[Ask] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        # gRPC sends one message of a stream at a time, and a write that is cancelled ends it.
        self.is_over = False
        self._writing = asyncio.create_task(self._write())
        self._reading = asyncio.create_task(self._read())

    async def ask(self, ask: Ask) -> Answer:
        number = ask.call = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._outgoing.put_nowait(ask)
        try:
            return await answer
        finally:
            if self._waiting.pop(number, None) is not None:
                self._outgoing.put_nowait(Ask(call=number, forget=True))

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def give_up(self, why: str) -> None:
        self._fail(lost(why))

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, self._writing, return_exceptions=True)

    async def _write(self) -> None:
        while not self.is_over:
            # What has come up meanwhile goes along: a message costs more than what is in it.
            asks = [await self._outgoing.get()]
            while len(asks) < MOST_ASKS and not self._outgoing.empty():
                asks.append(self._outgoing.get_nowait())
            try:
                await self._call.write(shard_pb2.ConverseRequest(asks=asks))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream is over, and whoever reads it is told why

    async def _read(self) -> None:
        failure = lost("the conversation has ended")
        try:
            async for response in self._call:
                for answer in response.answers:
                    waiting = self._waiting.pop(answer.call, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
        except grpc.aio.AioRpcError as error:
            failure = error
        finally:
            self._end(failure)

    def _end(self, failure: grpc.aio.AioRpcError) -> None:
        self.is_over = True
        self._writing.cancel()
        self._call.cancel()
        self._fail(failure)
        self._waiting.clear()

    def _fail(self, failure: grpc.aio.AioRpcError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(failure)
