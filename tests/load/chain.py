"""The messages of a hybrid query without the work between them: services so shaped need as many.

    client -> gateway -> Triton, then -> every shard: the vector
                         meanwhile    -> every shard: a question, and another one

Processes of their own that talk through grpc.aio as the services do, with shards over one stream
each. All that they compute is FAISS's search for the vector in a flat index of as many as there are
in the shards of the same run. No words are looked up, nothing is parsed, checked, fused or counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import faiss
import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from core.rpc import CHANNEL_OPTIONS
from tests.load.processes import process_of, serve

Ask = Callable[[bytes], bytes]

_SERVICE, _METHOD = "Chain", "Ask"
_PATH = f"/{_SERVICE}/{_METHOD}"
_WINDOW = 100
_WORDS, _QUESTION = bytes(100), bytes(300)
# Counts of some words; a window of ids with their scores; ten documents.
_COUNTS, _ANSWER, _REPLY = bytes(200), bytes(4_000), bytes(8_000)
_SECONDS = 10.0


@contextmanager
def chained(triton: str, model: str, dimension: int, rows: Sequence[int]) -> Iterator[Ask]:
    """Runs a chain, with a shard for each number of `rows`, and stops it at the end.

    Gives what sends a query through it: its token ids, special ones too, as int64.
    """
    with ExitStack() as stack:
        shards = [stack.enter_context(process_of(_shard, count, dimension)) for count in rows]
        gateway = stack.enter_context(process_of(_gateway, triton, model, shards))
        channel = stack.enter_context(grpc.insecure_channel(gateway, options=list(CHANNEL_OPTIONS)))
        yield partial(channel.unary_unary(_PATH), timeout=_SECONDS)


def _shard(told: Connection, rows: int, dimension: int) -> None:
    index = faiss.IndexFlatIP(dimension)
    index.add(np.random.default_rng(0).standard_normal((rows, dimension), np.float32))

    async def answer(questions: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for question in questions:
            if len(question) > len(_QUESTION):
                index.search(np.frombuffer(question, np.float32)[np.newaxis], _WINDOW)
            yield _COUNTS if len(question) == len(_WORDS) else _ANSWER

    asyncio.run(_serve(told, grpc.stream_stream_rpc_method_handler(answer)))


def _gateway(told: Connection, triton: str, model: str, shards: Sequence[str]) -> None:
    async def run() -> None:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(_channel(triton))
        lines = [_Line(shard) for shard in shards]

        async def ask_all(question: bytes) -> None:
            await asyncio.gather(*(line.ask(question) for line in lines))

        async def search_words() -> None:
            await ask_all(_WORDS)
            await ask_all(_QUESTION)

        async def search(ids: bytes, _: object) -> bytes:
            meanwhile = asyncio.create_task(search_words())
            response = await stub.ModelInfer(_request(model, ids))
            await ask_all(response.raw_output_contents[0])
            await meanwhile
            return _REPLY

        await _serve(told, grpc.unary_unary_rpc_method_handler(search))

    asyncio.run(run())


async def _serve(told: Connection, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})]
    )
    await serve(told, server)


class _Line:
    """Questions over one stream; answers come in their order."""

    def __init__(self, address: str) -> None:
        self._stream: Any = _channel(address).stream_stream(_PATH)()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sending = asyncio.Lock()
        self._reading = asyncio.create_task(self._read())

    async def ask(self, question: bytes) -> None:
        answered = asyncio.get_running_loop().create_future()
        async with self._sending:
            self._waiting.append(answered)
            await self._stream.write(question)
        await answered

    async def _read(self) -> None:
        async for _ in self._stream:
            self._waiting.popleft().set_result(None)


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=list(CHANNEL_OPTIONS))


def _request(model: str, ids: bytes) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model)
    tokens = np.frombuffer(ids, np.int64)
    for number, array in enumerate((tokens, np.ones_like(tokens))):
        request.inputs.add(name=f"INPUT__{number}", datatype="INT64", shape=[1, len(tokens)])
        request.raw_input_contents.append(array.tobytes())
    return request
