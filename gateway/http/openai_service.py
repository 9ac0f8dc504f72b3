"""`POST /v1/embeddings`, as OpenAI's clients ask for it: InferenceService.Embed."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from aiohttp import web

from core.errors import InvalidInput
from gateway.http.body import Body, read_text
from gateway.http.rpc import OwnServer
from trireme.v1 import collection_pb2, inference_pb2, inference_pb2_grpc

# What the rpc calls `texts` is `input` here; a model and its version are one word.
FIELD_NAMES = {"texts": "input", "encoder": "model", "kind": "input_type"}
_KINDS = {
    "": inference_pb2.EMBED_KIND_DOCUMENT,
    "document": inference_pb2.EMBED_KIND_DOCUMENT,
    "passage": inference_pb2.EMBED_KIND_DOCUMENT,
    "query": inference_pb2.EMBED_KIND_QUERY,
}
_ENCODINGS = ("float", "base64")


class OpenAIDoor:
    """Answers with the newest version of a model unless `model` is `name:version`."""

    def __init__(self, own: OwnServer, *, seconds: float) -> None:
        self._own = own
        self._stub: Any = inference_pb2_grpc.InferenceServiceStub(own.channel)
        self._seconds = seconds

    async def embeddings(self, request: web.Request) -> web.Response:
        """One embedding per input; clients of this shape send no deadline, so it is the longest."""
        body = Body(await read_text(request))
        encoding = encoding_of(body)
        message = embed_request(body)
        reply = await self._own.call(
            self._stub.Embed, message, request.headers, seconds=self._seconds
        )
        return web.json_response(embeddings_reply(reply, encoding))


def encoding_of(body: Body) -> str:
    """`float` or `base64`; raises InvalidInput."""
    encoding = body.text("encoding_format", "float")
    if encoding not in _ENCODINGS:
        raise _unknown("encoding_format", encoding, _ENCODINGS)
    return encoding


def embed_request(body: Body) -> inference_pb2.EmbedRequest:
    """The rpc's request; raises InvalidInput, also for tokens in place of texts."""
    kind = body.text("input_type")
    if kind not in _KINDS:
        raise _unknown("input_type", kind, tuple(filter(None, _KINDS)))
    dimensions = body.whole("dimensions")
    if dimensions is not None and dimensions < 1:
        raise InvalidInput(
            "OUT_OF_RANGE", f"is {dimensions}", field="dimensions", remedy="give 1 or more"
        )
    message = inference_pb2.EmbedRequest(
        texts=body.text_or_texts("input"),
        kind=_KINDS[kind],
        encoder=model_version(body.text("model")),
        dimensions=dimensions or 0,
    )
    # Who asks on whose behalf is for the books of others.
    body.text("user")
    body.done()
    return message


def embeddings_reply(reply: inference_pb2.EmbedResponse, encoding: str) -> dict[str, Any]:
    """A list of embeddings with the tokens that were read, prompts and special tokens included."""
    tokens = sum(each.token_count for each in reply.embeddings)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _vector(each, encoding),
                "truncated": each.truncated,
            }
            for index, each in enumerate(reply.embeddings)
        ],
        "model": f"{reply.encoder.model}:{reply.encoder.version}",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def model_version(name: str) -> collection_pb2.ModelVersion:
    """`bi_encoder` or `bi_encoder:2`."""
    model, _, version = name.partition(":")
    return collection_pb2.ModelVersion(model=model, version=version)


def _vector(embedding: inference_pb2.Embedding, encoding: str) -> str | list[float]:
    """The components, or their little-endian float32 bytes in base64."""
    if encoding == "float":
        return list(embedding.values)
    return base64.b64encode(np.asarray(embedding.values, dtype="<f4").tobytes()).decode()


def _unknown(field: str, value: str, known: tuple[str, ...]) -> InvalidInput:
    return InvalidInput(
        "OUT_OF_RANGE", f"is {value!r}", field=field, remedy=f"give {' or '.join(known)}"
    )
