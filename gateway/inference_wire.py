"""InferenceService's messages to what the narrator knows, and its answers back."""

from __future__ import annotations

from core.errors import InvalidInput, TriremeError
from core.model_info import ModelInfo
from core.wire import batch_error_to_proto
from gateway.inference import Embedded, EmbeddedTerms, Judged, RerankAsked, Texts
from gateway.inference_scores import MODEL_DEFAULT, RAW, SIGMOID, SOFTMAX, label_names
from gateway.request_wire import MAX_QUERY_BYTES
from gateway.texts import MAX_TEXTS, Cut, check_query, check_texts
from gateway.vector_formats import BINARY, FLOAT16, FLOAT32, INT8
from trireme.v1 import collection_pb2, document_pb2, inference_pb2

_FORMATS = {
    inference_pb2.VECTOR_FORMAT_UNSPECIFIED: FLOAT32,
    inference_pb2.VECTOR_FORMAT_FLOAT32: FLOAT32,
    inference_pb2.VECTOR_FORMAT_FLOAT16: FLOAT16,
    inference_pb2.VECTOR_FORMAT_INT8: INT8,
    inference_pb2.VECTOR_FORMAT_BINARY: BINARY,
}
_SCORE_KINDS = {
    inference_pb2.SCORE_KIND_UNSPECIFIED: RAW,
    inference_pb2.SCORE_KIND_RAW: RAW,
    inference_pb2.SCORE_KIND_SIGMOID: SIGMOID,
    inference_pb2.SCORE_KIND_SOFTMAX: SOFTMAX,
    inference_pb2.SCORE_KIND_MODEL_DEFAULT: MODEL_DEFAULT,
}
_FORMAT_NUMBERS = {name: number for number, name in _FORMATS.items() if number}
_SCORE_KIND_NUMBERS = {name: number for number, name in _SCORE_KINDS.items() if number}
_KINDS = inference_pb2.EmbedKind.values()


def texts_from_proto(
    request: inference_pb2.EmbedRequest | inference_pb2.EmbedSparseRequest, default_model: str
) -> Texts:
    """The checked texts; raises InvalidInput naming the field."""
    check_texts(request.texts, "texts")
    if request.kind not in _KINDS:
        raise InvalidInput("OUT_OF_RANGE", f"{request.kind} is not an EmbedKind", field="kind")
    query = request.kind == inference_pb2.EMBED_KIND_QUERY
    encoder = request.encoder
    return Texts(list(request.texts), query, encoder.model or default_model, encoder.version)


def form_from_proto(request: inference_pb2.EmbedRequest) -> str:
    """The format wanted; raises InvalidInput."""
    if request.format not in _FORMATS:
        raise InvalidInput(
            "OUT_OF_RANGE", f"{request.format} is not a VectorFormat", field="format"
        )
    return _FORMATS[request.format]


def rerank_from_proto(request: inference_pb2.RerankRequest, default_model: str) -> RerankAsked:
    """The checked query and passages; raises InvalidInput naming the field."""
    check_query(request.query, MAX_QUERY_BYTES)
    check_texts(request.passages, "passages")
    if not 0 <= request.top_k <= MAX_TEXTS:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {request.top_k}",
            field="top_k",
            remedy=f"give 1 to {MAX_TEXTS}, or 0 for all",
        )
    if request.score_kind not in _SCORE_KINDS:
        raise InvalidInput(
            "OUT_OF_RANGE", f"{request.score_kind} is not a ScoreKind", field="score_kind"
        )
    return RerankAsked(
        query=request.query,
        passages=list(request.passages),
        model=request.reranker.model or default_model,
        version=request.reranker.version,
        top_k=request.top_k,
        score_kind=_SCORE_KINDS[request.score_kind],
        label=request.label,
    )


def embedded_to_proto(embedded: Embedded, form: str) -> inference_pb2.EmbedResponse:
    """Vectors as callers see them."""
    rows, scales = embedded.vectors.rows, embedded.vectors.scales
    return inference_pb2.EmbedResponse(
        embeddings=[
            inference_pb2.Embedding(
                values=row.tolist() if form == FLOAT32 else (),
                data=b"" if form == FLOAT32 else row.tobytes(),
                scale=scale,
                token_count=cut.token_count,
                truncated=cut.truncated,
            )
            for row, scale, cut in zip(rows, scales, embedded.cuts, strict=True)
        ],
        encoder=_version(embedded.info),
        dimensions=embedded.dimensions,
        format=_FORMAT_NUMBERS[form],
        normalized=embedded.normalized,
        similarity=embedded.info.similarity,
    )


def terms_to_proto(embedded: EmbeddedTerms) -> inference_pb2.EmbedSparseResponse:
    """Weighted terms as callers see them."""
    tokens = embedded.tokens or [()] * len(embedded.terms)
    return inference_pb2.EmbedSparseResponse(
        embeddings=[
            inference_pb2.SparseEmbedding(
                term_ids=terms.ids.tolist(),
                weights=terms.weights.tolist(),
                tokens=spelt,
                token_count=cut.token_count,
                truncated=cut.truncated,
            )
            for terms, spelt, cut in zip(embedded.terms, tokens, embedded.cuts, strict=True)
        ],
        encoder=_version(embedded.info),
        vocabulary_size=embedded.info.dimension,
    )


def judged_to_proto(judged: Judged) -> inference_pb2.RerankResponse:
    """Scored passages as callers see them."""
    names = label_names(judged.info)
    query = judged.pairs.query
    return inference_pb2.RerankResponse(
        passages=[_ranked(judged, names, place) for place in judged.best],
        reranker=_version(judged.info),
        score_kind=_SCORE_KIND_NUMBERS[judged.score_kind],
        label=names[judged.column] if names else "",
        query_token_count=query.token_count,
        query_truncated=query.truncated,
    )


def batch_error(error: TriremeError) -> document_pb2.BatchError:
    """Why one batch failed; a path within `request` is given without that word."""
    message = batch_error_to_proto(error)
    message.field = message.field.removeprefix("request.")
    return message


def _ranked(judged: Judged, names: tuple[str, ...], place: int) -> inference_pb2.RankedPassage:
    scores: list[float] = judged.scores[place].tolist()
    cut: Cut = judged.pairs.passages[place]
    return inference_pb2.RankedPassage(
        index=place,
        score=scores[judged.column],
        labels=[
            inference_pb2.LabelScore(label=name, score=score)
            for name, score in zip(names, scores, strict=False)
        ],
        token_count=cut.token_count,
        truncated=cut.truncated,
    )


def _version(info: ModelInfo) -> collection_pb2.ModelVersion:
    return collection_pb2.ModelVersion(
        model=info.name, version=info.version, fingerprint=info.fingerprint
    )
