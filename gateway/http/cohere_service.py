"""`POST /v2/rerank`, as Cohere's clients ask for it: InferenceService.Rerank."""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from core.errors import InvalidInput
from gateway.http.body import Body, read_text
from gateway.http.openai_service import model_version
from gateway.http.rpc import OwnServer
from trireme.v1 import inference_pb2, inference_pb2_grpc

FIELD_NAMES = {"passages": "documents", "reranker": "model"}


class CohereDoor:
    """Scores are between 0 and 1, the sigmoid of the cross-encoder's logit."""

    def __init__(self, own: OwnServer, *, seconds: float) -> None:
        self._own = own
        self._stub: Any = inference_pb2_grpc.InferenceServiceStub(own.channel)
        self._seconds = seconds

    async def rerank(self, request: web.Request) -> web.Response:
        """The best documents; clients of this shape send no deadline, so it is the longest."""
        body = Body(await read_text(request))
        wanted = top_n_of(body)
        message = rerank_request(body)
        reply = await self._own.call(
            self._stub.Rerank, message, request.headers, seconds=self._seconds
        )
        return web.json_response(rerank_reply(reply, wanted))


def top_n_of(body: Body) -> int | None:
    """Results wanted, None for all; raises InvalidInput."""
    wanted = body.whole("top_n")
    if wanted is not None and wanted < 1:
        raise InvalidInput("OUT_OF_RANGE", f"is {wanted}", field="top_n", remedy="give 1 or more")
    return wanted


def rerank_request(body: Body) -> inference_pb2.RerankRequest:
    """The rpc's request for all documents, so that all tokens are counted; raises InvalidInput."""
    if body.whole("max_tokens_per_doc") is not None:
        raise InvalidInput(
            "OUT_OF_RANGE",
            "cannot be chosen: documents are cut where the cross-encoder's input ends",
            field="max_tokens_per_doc",
            remedy="leave it out",
        )
    message = inference_pb2.RerankRequest(
        query=body.text("query"),
        passages=body.texts("documents"),
        reranker=model_version(body.text("model")),
        score_kind=inference_pb2.SCORE_KIND_SIGMOID,
    )
    body.done()
    return message


def rerank_reply(reply: inference_pb2.RerankResponse, wanted: int | None) -> dict[str, Any]:
    """The best `wanted` results, what was read, and a warning if something was cut."""
    each_query = reply.query_token_count
    tokens = sum(passage.token_count + each_query for passage in reply.passages)
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }
    warnings = _warnings(reply)
    if warnings:
        meta["warnings"] = warnings
    return {
        "id": str(uuid.uuid4()),
        "results": [
            {"index": passage.index, "relevance_score": passage.score}
            for passage in reply.passages[:wanted]
        ],
        "meta": meta,
    }


def _warnings(reply: inference_pb2.RerankResponse) -> list[str]:
    cut = sum(passage.truncated for passage in reply.passages)
    warnings = ["the query was cut to half of the model's input"] if reply.query_truncated else []
    if cut:
        warnings.append(f"{cut} documents were cut where the model's input ends")
    return warnings
