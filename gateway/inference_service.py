"""InferenceService: takes a permit, translates, hands over, translates back; also in streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import grpc

from core.deadline import Deadline
from core.documents import check_text
from core.errors import InvalidInput, TriremeError
from core.model_info import ModelInfo
from core.triton import BULK_PRIORITY, QUERY_PRIORITY
from gateway import inference_wire as wire
from gateway.admission import Admission, Permit
from gateway.config import GatewayConfig
from gateway.inference import Inference
from gateway.lanes import Lane, lane_of
from gateway.metrics import GatewayMetrics
from gateway.service import call_deadline, stream_deadline
from gateway.streams import in_order, messages
from gateway.texts import Cut
from gateway.work import Work
from gateway.work_wire import inference_work
from trireme.v1 import inference_pb2, inference_pb2_grpc

MAX_BATCH_ID_BYTES = 128
# One is worked on by Triton while the next is tokenised and its answer serialised.
BATCHES_AT_ONCE = 2

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Deadline, int], Awaitable[Any]]
Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Batch:
    """One message of a stream: its number from 0, and the request or why it cannot be read."""

    number: int
    request: Any


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Every rpc of the service; a stream's batch goes the same way as a call of its own."""

    def __init__(
        self,
        inference: Inference,
        admission: Admission,
        metrics: GatewayMetrics,
        config: GatewayConfig,
    ) -> None:
        self._inference = inference
        self._admission = admission
        self._metrics = metrics
        self._config = config

    async def Embed(  # noqa: N802
        self, request: inference_pb2.EmbedRequest, context: Context
    ) -> inference_pb2.EmbedResponse:
        return await self._alone(request, context, self._embed, _priority(request.kind))

    async def EmbedSparse(  # noqa: N802
        self, request: inference_pb2.EmbedSparseRequest, context: Context
    ) -> inference_pb2.EmbedSparseResponse:
        return await self._alone(request, context, self._embed_sparse, _priority(request.kind))

    async def Rerank(  # noqa: N802
        self, request: inference_pb2.RerankRequest, context: Context
    ) -> inference_pb2.RerankResponse:
        return await self._alone(request, context, self._rerank, QUERY_PRIORITY)

    async def StreamEmbed(  # noqa: N802
        self, requests: AsyncIterator[inference_pb2.StreamEmbedRequest], context: Context
    ) -> AsyncIterator[inference_pb2.StreamEmbedResponse]:
        reply = inference_pb2.StreamEmbedResponse
        async with aclosing(self._stream(requests, context, self._embed, reply)) as replies:
            async for response in replies:
                yield response

    async def StreamEmbedSparse(  # noqa: N802
        self, requests: AsyncIterator[inference_pb2.StreamEmbedSparseRequest], context: Context
    ) -> AsyncIterator[inference_pb2.StreamEmbedSparseResponse]:
        reply = inference_pb2.StreamEmbedSparseResponse
        async with aclosing(self._stream(requests, context, self._embed_sparse, reply)) as replies:
            async for response in replies:
                yield response

    async def StreamRerank(  # noqa: N802
        self, requests: AsyncIterator[inference_pb2.StreamRerankRequest], context: Context
    ) -> AsyncIterator[inference_pb2.StreamRerankResponse]:
        reply = inference_pb2.StreamRerankResponse
        async with aclosing(self._stream(requests, context, self._rerank, reply)) as replies:
            async for response in replies:
                yield response

    async def _embed(
        self, request: inference_pb2.EmbedRequest, deadline: Deadline, priority: int
    ) -> inference_pb2.EmbedResponse:
        texts = wire.texts_from_proto(request, self._config.encoder_model)
        form = wire.form_from_proto(request)
        embedded = await self._inference.embed(
            texts, deadline, priority=priority, dimensions=request.dimensions, form=form
        )
        self._count(embedded.info, embedded.cuts)
        return wire.embedded_to_proto(embedded, form)

    async def _embed_sparse(
        self, request: inference_pb2.EmbedSparseRequest, deadline: Deadline, priority: int
    ) -> inference_pb2.EmbedSparseResponse:
        texts = wire.texts_from_proto(request, self._config.sparse_encoder_model)
        embedded = await self._inference.embed_sparse(
            texts,
            deadline,
            priority=priority,
            top_terms=request.top_terms,
            with_tokens=request.with_tokens,
        )
        self._count(embedded.info, embedded.cuts)
        return wire.terms_to_proto(embedded)

    async def _rerank(
        self, request: inference_pb2.RerankRequest, deadline: Deadline, priority: int
    ) -> inference_pb2.RerankResponse:
        asked = wire.rerank_from_proto(request, self._config.reranker_model)
        judged = await self._inference.rerank(asked, deadline, priority=priority)
        self._count(judged.info, [judged.pairs.query, *judged.pairs.passages])
        return wire.judged_to_proto(judged)

    async def _alone(
        self,
        request: Request,
        context: Context,
        answer: Callable[[Request, Deadline, int], Awaitable[Response]],
        priority: int,
    ) -> Response:
        """One call: shed at once if there is no permit, otherwise answered by its deadline."""
        deadline = call_deadline(context, self._config)
        async with self._admission.admit(inference_work(request, lane_of(context)), deadline):
            return await answer(request, deadline, priority)

    def _count(self, info: ModelInfo, cuts: Sequence[Cut]) -> None:
        tokens = sum(cut.token_count for cut in cuts)
        self._metrics.inference_tokens.labels(info.name).inc(tokens)

    async def _stream(
        self, requests: AsyncIterator[Any], context: Context, answer: Answer, reply_type: Any
    ) -> AsyncGenerator[Any, None]:
        """One `reply_type` per message of the stream, by `answer` or with why there is none."""

        # Whose sender is held back can wait, unless it says otherwise.
        lane = lane_of(context, Lane.BATCH)

        async def work(batch: Batch) -> Any:
            reply = reply_type(batch=batch.number)
            try:
                request = _readable(batch)
                reply.batch_id = request.batch_id
                deadline = stream_deadline(context, self._config)
                async with self._turn(inference_work(request.request, lane), deadline):
                    response = await answer(request.request, deadline, BULK_PRIORITY)
                reply.response.CopyFrom(response)
            except TriremeError as error:
                reply.error.CopyFrom(wire.batch_error(error))
            self._metrics.stream_batches.labels(reply.error.reason or "OK").inc()
            return reply

        async with aclosing(in_order(_numbered(requests), work, at_once=BATCHES_AT_ONCE)) as line:
            async for reply in line:
                yield reply

    def _turn(self, work: Work, deadline: Deadline) -> AbstractAsyncContextManager[Permit]:
        """Permits, waited for in half of the time: the other half is for the work."""
        return self._admission.turn(work, deadline.at_most(deadline.remaining() / 2))


def _priority(kind: inference_pb2.EmbedKind.ValueType) -> int:
    """A person waits for a query; documents come in bulk."""
    return QUERY_PRIORITY if kind == inference_pb2.EMBED_KIND_QUERY else BULK_PRIORITY


async def _numbered(requests: AsyncIterator[Any]) -> AsyncIterator[Batch]:
    """The messages of a stream; one that cannot be read is an InvalidInput in its place."""
    numbers = count()
    async for message in messages(requests):
        yield Batch(next(numbers), message)


def _readable(batch: Batch) -> Any:
    if isinstance(batch.request, InvalidInput):
        raise batch.request
    check_text(batch.request.batch_id, MAX_BATCH_ID_BYTES, "batch_id")
    return batch.request
