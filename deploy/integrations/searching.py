"""One search as retrievers ask for it: a query in, passages out, in a thread or an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import grpc
from google.protobuf import json_format

from trireme.v1 import document_pb2, search_pb2, search_pb2_grpc

Mode = Literal["hybrid", "dense", "lexical", "sparse"]

MODES: Mapping[str, search_pb2.SearchMode.ValueType] = {
    "hybrid": search_pb2.SEARCH_MODE_HYBRID,
    "dense": search_pb2.SEARCH_MODE_DENSE,
    "lexical": search_pb2.SEARCH_MODE_LEXICAL,
    "sparse": search_pb2.SEARCH_MODE_SPARSE,
}
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.lb_policy_name", "round_robin"),
)


class Options(TypedDict, total=False):
    """What every retriever may be told beside address, collection and number of hits.

    mode             legs to use; default: all that the collection has
    filter           only documents that match, as `year >= 2020 AND lang = "en"`
    rerank           whether the cross-encoder reads the head; default: as the collection says
    whole_documents  texts are those of documents, not of the passages that answer best
    seconds          deadline of a search, 2 by default
    ca_file          PEM file of the authority that signed the gateway's certificate; without one
                     the connection has no TLS
    """

    mode: Mode
    filter: str
    rerank: bool | None
    whole_documents: bool
    seconds: float
    ca_file: str


@dataclass(frozen=True, slots=True)
class Found:
    """One hit. `metadata` holds the document's attributes and what `provenance` says of the hit."""

    id: str
    text: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)


class Searcher:
    """Searches one collection over one connection, which is opened when it is first needed.

    Raises ValueError for a mode that there is not, and OSError for a `ca_file` that cannot be read.
    """

    def __init__(self, address: str, collection: str, api_key: str, options: Options) -> None:
        if options.get("mode", "hybrid") not in MODES:
            raise ValueError(f"mode is {options['mode']!r}; give one of {', '.join(MODES)}")
        self._collection = collection
        self._options = options
        self._metadata = [("authorization", f"Bearer {api_key}")] if api_key else []
        self._channel = _open(address, options.get("ca_file", ""))
        self._search: Any = search_pb2_grpc.SearchServiceStub(self._channel).Search

    def search(self, query: str, top_k: int) -> list[Found]:
        """The best `top_k`; raises grpc.RpcError, whose details say what the caller can do."""
        return self._found(self._search(self._request(query, top_k), **self._call_options()))

    async def search_async(self, query: str, top_k: int) -> list[Found]:
        """The same without blocking the event loop; cancelled, it ends the call."""
        return self._found(
            await _reply_of(
                self._search.future(self._request(query, top_k), **self._call_options())
            )
        )

    def close(self) -> None:
        """Ends the connection; the searcher cannot be used any more."""
        self._channel.close()

    def _request(self, query: str, top_k: int) -> search_pb2.SearchRequest:
        request = search_pb2.SearchRequest(
            collection=self._collection,
            query=query,
            page_size=top_k,
            mode=MODES[self._options.get("mode", "hybrid")],
            filter=self._options.get("filter", ""),
        )
        rerank = self._options.get("rerank")
        if rerank is not None:
            request.rerank.enabled = rerank
        return request

    def _call_options(self) -> dict[str, Any]:
        return {"timeout": self._options.get("seconds", 2.0), "metadata": self._metadata}

    def _found(self, reply: search_pb2.SearchResponse) -> list[Found]:
        shortfalls = [
            f"{search_pb2.Stage.Name(each.stage)}: {each.message}" for each in reply.degraded
        ]
        whole = self._options.get("whole_documents", False)
        return [_of_hit(hit, shortfalls, whole=whole) for hit in reply.hits]


def _open(address: str, ca_file: str) -> grpc.Channel:
    if not ca_file:
        return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
    return grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)


def _of_hit(hit: search_pb2.Hit, shortfalls: list[str], *, whole: bool) -> Found:
    document = hit.document
    text = document.text.encode()
    span = hit.passage
    metadata = {
        **{name: _plain(value) for name, value in document.attributes.items()},
        "id": document.id,
        "title": document.title,
        "provenance": json_format.MessageToDict(hit.provenance, preserving_proto_field_name=True),
        "degraded": shortfalls,
    }
    passage = text if whole else text[span.start_byte : span.end_byte]
    # A document that is a title alone has no text to show.
    return Found(document.id, passage.decode() or document.title, hit.score, metadata)


def _plain(value: document_pb2.AttributeValue) -> Any:
    """An attribute as Python has it; a time in its ISO form, which frameworks can store."""
    kind = value.WhichOneof("kind")
    if kind == "timestamp_value":
        return value.timestamp_value.ToJsonString()
    if kind == "strings_value":
        return list(value.strings_value.values)
    return getattr(value, kind) if kind else None


async def _reply_of(call: Any) -> Any:
    """The reply of a call that runs in gRPC's own thread."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake(_: Any) -> None:
        # Nobody waits any more when the loop is closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    call.add_done_callback(wake)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()
