"""SearchService: protobuf to a validated query and the answer back, also in batches and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from core import tracing
from core.deadline import Deadline
from core.documents import check_count, check_text
from core.errors import InvalidInput, TriremeError
from core.rpc import deadline_of
from gateway.admission import Admission, Permit
from gateway.answer_wire import answer_to_proto
from gateway.batch import side_by_side
from gateway.config import GatewayConfig
from gateway.explain import Explainer
from gateway.explain_wire import explain_from_proto, explanation_to_proto
from gateway.lanes import Lane, lane_of
from gateway.live_queries import LiveQueries
from gateway.metrics import GatewayMetrics
from gateway.outcome_wire import failed
from gateway.query import Answer
from gateway.reply_time import ReplyTime
from gateway.request_wire import query_from_proto
from gateway.search import Search
from gateway.slow_log import SlowLog
from gateway.streams import as_done, messages
from gateway.work import Work
from gateway.work_wire import batch_work, search_work
from trireme.v1 import search_pb2, search_pb2_grpc

MAX_BATCH_SEARCHES = 100
MAX_SEARCH_ID_BYTES = 128
SEARCHES_AT_ONCE = 16
# It repeats the search and looks at every leg again.
EXPLAIN_UNITS = 3
# What building and sending each answer of a batch takes at its end.
BATCH_REPLY_SECONDS = 0.002

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Takes a permit, translates, hands over to the narrator, translates back."""

    def __init__(
        self,
        search: Search,
        explainer: Explainer,
        admission: Admission,
        metrics: GatewayMetrics,
        live: LiveQueries,
        config: GatewayConfig,
    ) -> None:
        self._search = search
        self._explainer = explainer
        self._admission = admission
        self._metrics = metrics
        self._live = live
        self._config = config
        self._slow = SlowLog(config.slow_search_seconds, metrics, with_text=config.log_query_text)
        self._reply_time = ReplyTime()

    async def Search(  # noqa: N802
        self, request: search_pb2.SearchRequest, context: Context
    ) -> search_pb2.SearchResponse:
        whole = call_deadline(context, self._config)
        work = search_work(request, self._config.rerank_depth, lane_of(context))
        async with self._admission.admit(work, whole) as permit:
            deadline = self._reply_time.before(whole)
            try:
                answer = await self._find(request, deadline, permit)
            except asyncio.CancelledError:
                self._reply_time.missed(deadline)
                raise
            self._reply_time.measure(answer, deadline, context)
            return answer_to_proto(answer)

    async def BatchSearch(  # noqa: N802
        self, request: search_pb2.BatchSearchRequest, context: Context
    ) -> search_pb2.BatchSearchResponse:
        check_count(len(request.requests), "requests", MAX_BATCH_SEARCHES)
        reply_seconds = BATCH_REPLY_SECONDS * len(request.requests)
        whole = call_deadline(context, self._config)
        deadline = self._reply_time.before(whole).earlier_by(reply_seconds)
        each = batch_work(request.requests, self._config.rerank_depth, lane_of(context))
        async with self._admission.admit(each, deadline) as permit:
            works = [
                partial(self._outcome, each, deadline, permit, f"requests[{number}]")
                for number, each in enumerate(request.requests)
            ]
            spare = partial(self._admission.spare, each)
            outcomes = await side_by_side(works, spare, at_once=SEARCHES_AT_ONCE)
        self._count(*outcomes)
        return search_pb2.BatchSearchResponse(outcomes=outcomes)

    async def StreamSearch(  # noqa: N802
        self, requests: AsyncIterator[search_pb2.StreamSearchRequest], context: Context
    ) -> AsyncIterator[search_pb2.StreamSearchResponse]:
        # Whose sender is held back can wait, unless it says otherwise.
        work = partial(self._turn, context=context, lane=lane_of(context, Lane.BATCH))
        async with aclosing(
            as_done(messages(requests), work, at_once=SEARCHES_AT_ONCE)
        ) as responses:
            async for response in responses:
                yield response

    async def ExplainHit(  # noqa: N802
        self, request: search_pb2.ExplainHitRequest, context: Context
    ) -> search_pb2.ExplainHitResponse:
        whole = call_deadline(context, self._config)
        work = Work("explain", EXPLAIN_UNITS, lane_of(context))
        async with self._admission.admit(work, whole) as permit:
            deadline = self._reply_time.before(whole)
            query, document_id = explain_from_proto(request, self._config)
            explanation = await self._explainer.explain(query, document_id, deadline)
            self._metrics.observe(explanation.answer)
            permit.usual = not explanation.answer.lacks_a_peer
            return explanation_to_proto(explanation)

    async def _find(
        self, request: search_pb2.SearchRequest, deadline: Deadline, permit: Permit
    ) -> Answer:
        answer = await self._search.search(query_from_proto(request, self._config), deadline)
        permit.usual = not answer.lacks_a_peer
        self._live.note(request.collection, request.query)
        self._metrics.observe(answer)
        self._slow.note(request.collection, request.query, answer)
        return answer

    async def _outcome(
        self, request: search_pb2.SearchRequest, deadline: Deadline, permit: Permit, path: str = ""
    ) -> search_pb2.SearchOutcome:
        """The answer, or why there is none; `path` is where the request stands."""
        try:
            deadline.check("the search could begin")
            with tracing.span("search"):
                answer = await self._find(request, deadline, permit)
                return search_pb2.SearchOutcome(response=answer_to_proto(answer))
        except TriremeError as error:
            return failed(error, path)

    async def _turn(
        self,
        message: search_pb2.StreamSearchRequest | InvalidInput,
        context: Context,
        lane: Lane,
    ) -> search_pb2.StreamSearchResponse:
        """What becomes of one message of a stream, or of one that cannot be read."""
        response = search_pb2.StreamSearchResponse()
        try:
            request = _request(message, response)
            patience = stream_deadline(context, self._config)
            work = search_work(request, self._config.rerank_depth, lane)
            async with self._admission.turn(work, patience) as permit:
                own = self._reply_time.before(
                    patience.at_most(self._config.default_deadline_seconds)
                )
                response.outcome.CopyFrom(await self._outcome(request, own, permit))
        except TriremeError as error:
            response.outcome.CopyFrom(failed(error))
        self._count(response.outcome)
        return response

    def _count(self, *outcomes: search_pb2.SearchOutcome) -> None:
        for outcome in outcomes:
            self._metrics.bulk_searches.labels(outcome.error.reason or "OK").inc()


def _request(
    message: search_pb2.StreamSearchRequest | InvalidInput,
    response: search_pb2.StreamSearchResponse,
) -> search_pb2.SearchRequest:
    """The request in a message, its id written into `response`; raises why it cannot be read."""
    if isinstance(message, InvalidInput):
        raise message
    response.id = message.id
    check_text(message.id, MAX_SEARCH_ID_BYTES, "id")
    return message.request


def call_deadline(context: Context, config: GatewayConfig) -> Deadline:
    """The caller's deadline within the gateway's limits."""
    return deadline_of(
        context,
        default_seconds=config.default_deadline_seconds,
        longest_seconds=config.longest_deadline_seconds,
    )


def stream_deadline(context: Context, config: GatewayConfig) -> Deadline:
    """The stream's deadline, but nothing within it takes longer than any call may."""
    return deadline_of(
        context,
        default_seconds=config.longest_deadline_seconds,
        longest_seconds=config.longest_deadline_seconds,
    )
