"""InferenceService: the models alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from core.documents import check_text
from core.errors import InvalidInput
from gateway.admission import Admission
from gateway.config import GatewayConfig
from gateway.encoder import QUERY_PRIORITY, QueryEncoder
from gateway.query import ModelUsed
from gateway.rerank import Reranker
from gateway.service import MAX_QUERY_BYTES, call_deadline, model_to_proto
from trireme.v1 import inference_pb2, inference_pb2_grpc

MAX_TEXTS = 256
MAX_BYTES = 1024 * 1024

_KINDS = inference_pb2.EmbedKind.values()


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Embeds and reranks texts that callers bring."""

    def __init__(
        self,
        encoder: QueryEncoder,
        reranker: Reranker,
        admission: Admission,
        config: GatewayConfig,
    ) -> None:
        self._encoder = encoder
        self._reranker = reranker
        self._admission = admission
        self._config = config

    async def Embed(  # noqa: N802
        self,
        request: inference_pb2.EmbedRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> inference_pb2.EmbedResponse:
        with self._admission.permit():
            deadline = call_deadline(context, self._config)
            _check_texts(request.texts, "texts")
            if request.kind not in _KINDS:
                raise InvalidInput(
                    "OUT_OF_RANGE", f"{request.kind} is not an EmbedKind", field="kind"
                )
            asked = request.encoder
            encoder = await self._encoder.open(
                ModelUsed(asked.model or self._config.encoder_model, asked.version, ""), deadline
            )
            info = encoder.info
            query = request.kind == inference_pb2.EMBED_KIND_QUERY
            prompt = info.query_prompt if query else info.document_prompt
            tokens = encoder.tokenizer.encode_batch([prompt + text for text in request.texts])
            vectors = await encoder.encode(
                [t.ids for t in tokens], deadline, priority=QUERY_PRIORITY
            )
            lengths = [len(t.ids) + encoder.tokenizer.single.count for t in tokens]
            return inference_pb2.EmbedResponse(
                embeddings=[
                    inference_pb2.Embedding(
                        values=vector,
                        token_count=min(length, info.max_length),
                        truncated=length > info.max_length,
                    )
                    for vector, length in zip(vectors, lengths, strict=True)
                ],
                encoder=model_to_proto(ModelUsed(info.name, info.version, info.fingerprint)),
            )

    async def Rerank(  # noqa: N802
        self,
        request: inference_pb2.RerankRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> inference_pb2.RerankResponse:
        with self._admission.permit():
            deadline = call_deadline(context, self._config)
            _check_texts([request.query], "query", limit=MAX_QUERY_BYTES)
            _check_texts(request.passages, "passages")
            if not 0 <= request.top_k <= MAX_TEXTS:
                raise InvalidInput(
                    "OUT_OF_RANGE",
                    f"is {request.top_k}",
                    field="top_k",
                    remedy=f"give 1 to {MAX_TEXTS}, or 0 for all",
                )
            model = await self._reranker.open(deadline)
            query = model.tokenizer.encode(request.query).ids
            passages = [t.ids for t in model.tokenizer.encode_batch(list(request.passages))]
            scores = await model.score(query, passages, deadline, priority=QUERY_PRIORITY)
            order = np.argsort(-scores, kind="stable")[: request.top_k or None]
            info = model.info
            return inference_pb2.RerankResponse(
                passages=[
                    inference_pb2.RankedPassage(index=int(index), score=float(scores[index]))
                    for index in order
                ],
                reranker=model_to_proto(ModelUsed(info.name, info.version, info.fingerprint)),
            )


def _check_texts(texts: Sequence[str], path: str, *, limit: int = MAX_BYTES) -> None:
    if not texts:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=path, remedy="send at least one")
    if len(texts) > MAX_TEXTS:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"has {len(texts)} members, the limit is {MAX_TEXTS}",
            field=path,
            remedy="send fewer at a time",
        )
    total = 0
    for index, text in enumerate(texts):
        where = f"{path}[{index}]" if path.endswith("s") else path
        total += check_text(text, limit, where)
        if not text.strip():
            raise InvalidInput("FIELD_REQUIRED", "is empty", field=where, remedy="leave it out")
    if total > limit:
        raise InvalidInput(
            "TOO_LONG", f"has {total:,} bytes together, the limit is {limit:,}", field=path
        )
