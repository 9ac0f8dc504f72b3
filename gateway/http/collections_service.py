"""Searches and collections as the protos' own JSON, and whether the gateway is ready."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.errors import InvalidInput
from gateway.http.body import read_text
from gateway.http.rpc import OwnServer
from trireme.v1 import collection_pb2, collection_pb2_grpc, search_pb2, search_pb2_grpc


class CollectionsDoor:
    """Each handler is one rpc, its messages in the proto's JSON mapping."""

    def __init__(self, own: OwnServer) -> None:
        self._own = own
        self._searches: Any = search_pb2_grpc.SearchServiceStub(own.channel)
        self._collections: Any = collection_pb2_grpc.CollectionServiceStub(own.channel)
        self._health: Any = health_pb2_grpc.HealthStub(own.channel)

    async def search(self, request: web.Request) -> web.Response:
        """SearchService.Search of the collection that the path names."""
        message = search_request(await read_text(request), request.match_info["collection"])
        return _as_json(await self._own.call(self._searches.Search, message, request.headers))

    async def list(self, request: web.Request) -> web.Response:
        """CollectionService.ListCollections; `pageSize` and `pageToken` stand in the query."""
        message = json_format.ParseDict({}, collection_pb2.ListCollectionsRequest())
        _fill(message, dict(request.query))
        method = self._collections.ListCollections
        return _as_json(await self._own.call(method, message, request.headers))

    async def get(self, request: web.Request) -> web.Response:
        """CollectionService.GetCollection."""
        message = collection_pb2.GetCollectionRequest(name=request.match_info["collection"])
        method = self._collections.GetCollection
        return _as_json(await self._own.call(method, message, request.headers))

    async def health(self, request: web.Request) -> web.Response:
        """200 if the gateway serves, else 503; open to all."""
        message = health_pb2.HealthCheckRequest()
        reply = await self._own.call(self._health.Check, message, request.headers)
        serving = reply.status == health_pb2.HealthCheckResponse.SERVING
        return _as_json(reply, status=200 if serving else 503)


def search_request(text: str, collection: str) -> search_pb2.SearchRequest:
    """The request in a body; raises InvalidInput, also if the body names another collection."""
    message = search_pb2.SearchRequest()
    try:
        json_format.Parse(text, message)
    except (json_format.ParseError, RecursionError) as error:
        raise _malformed(error) from error
    if message.collection not in ("", collection):
        raise InvalidInput(
            "MALFORMED",
            f"is {message.collection!r}, but the path names {collection!r}",
            field="collection",
            remedy="leave it out of the body",
        )
    message.collection = collection
    return message


def _fill(message: Message, values: dict[str, str]) -> None:
    try:
        json_format.ParseDict(values, message)
    except json_format.ParseError as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> InvalidInput:
    return InvalidInput(
        "MALFORMED",
        f"is not the message's JSON: {error}",
        field="body",
        remedy="see protos/trireme/v1 for the fields",
    )


def _as_json(message: Message, *, status: int = 200) -> web.Response:
    text = json_format.MessageToJson(message, indent=None)
    return web.Response(text=text, content_type="application/json", status=status)
