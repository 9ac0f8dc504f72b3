"""The HTTP server: every door, in one list."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter

from core.errors import BadEnvironment
from core.role_server import RoleServer, check_free
from core.security.identity import Identity
from core.security.tls import TlsSettings
from gateway.config import GatewayConfig
from gateway.http import cohere_service, openai_service
from gateway.http.body import MAX_BODY_BYTES
from gateway.http.collections_service import CollectionsDoor
from gateway.http.console_pages import ConsolePages
from gateway.http.failure_wire import (
    Failure,
    cohere_shape,
    failure_of,
    google_shape,
    openai_shape,
    retry_headers,
)
from gateway.http.rpc import OwnServer
from gateway.http.tls import https_context

log = logging.getLogger(__name__)

HEALTH = "/health"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v2/rerank"


def open_doors(
    config: GatewayConfig, server: RoleServer, requests: Counter, identity: Identity | None
) -> HttpServer | None:
    """The doors before `server`, None if the configuration wants none; raises BadEnvironment."""
    if not config.http_address:
        if config.console:
            raise BadEnvironment(
                "needs http_address", field="console", remedy="say where to serve it"
            )
        return None
    _parts(config.http_address)
    if config.workers == 1:
        check_free(config.http_address)
    own = OwnServer()
    server.also_at(own.address)
    return HttpServer(config, own, requests, identity)


class HttpServer:
    """`open_doors(...)` makes one; then `start()`, `stop()`."""

    def __init__(
        self,
        config: GatewayConfig,
        own: OwnServer,
        requests: Counter,
        identity: Identity | None,
    ) -> None:
        self._own = own
        self._config = config
        self._requests = requests
        self._identity = identity
        self._application = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._boundary]
        )
        self._application.add_routes(self._routes())
        self._runner = web.AppRunner(
            self._application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=config.drain_seconds,
        )
        self._address = config.http_address

    @property
    def address(self) -> str:
        """The `host:port` that is really bound, once started."""
        return self._address

    async def start(self) -> None:
        """Begins to answer."""
        host, port = _parts(self._config.http_address)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            host,
            port,
            reuse_port=self._config.workers > 1,
            ssl_context=https_context(TlsSettings.of(self._config)),
        )
        try:
            await site.start()
        except OSError as error:
            raise BadEnvironment(
                f"cannot listen at {self._config.http_address}: {error}",
                field="http_address",
                remedy="choose another port, or port 0 for a free one",
            ) from error
        bound = self._runner.addresses[0][1]
        self._address = f"{self._config.http_address.rpartition(':')[0]}:{bound}"
        log.info("http doors are open", extra={"address": self._address})

    async def stop(self) -> None:
        """Lets requests in flight end for up to the configuration's `drain_seconds`."""
        await self._runner.cleanup()
        await self._own.close()

    def _routes(self) -> list[web.RouteDef]:
        longest = self._config.longest_deadline_seconds
        collections = CollectionsDoor(self._own)
        routes = [
            web.get(HEALTH, collections.health),
            web.post(EMBEDDINGS, openai_service.OpenAIDoor(self._own, seconds=longest).embeddings),
            web.post(RERANK, cohere_service.CohereDoor(self._own, seconds=longest).rerank),
            web.get("/v1/collections", collections.list),
            web.get("/v1/collections/{collection}", collections.get),
            web.post("/v1/collections/{collection}/search", collections.search),
        ]
        if self._config.console:
            pages = ConsolePages()
            routes += [
                web.get("/console", pages.page),
                web.get("/console/{file:[^/]*}", pages.file),
            ]
        return routes

    @web.middleware
    async def _boundary(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts every request and turns what was raised into the shape of its door."""
        try:
            await self._admit(request)
            response = await handler(request)
        except web.HTTPRedirection as redirection:
            response = web.Response(status=redirection.status, headers=redirection.headers)
        except Exception as error:
            response = _refusal(request, error)
        # Not the versions of what serves it, which is aiohttp's default.
        response.headers["Server"] = "trireme"
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "unknown"
        self._requests.labels(path, str(response.status)).inc()
        return response

    async def _admit(self, request: web.Request) -> None:
        """Raises before a stranger's body is read; gRPC asks again who may do what."""
        if self._identity is not None and not _is_open(request.path):
            await self._identity.authenticate(request.headers)


def _is_open(path: str) -> bool:
    """Health and the console's files, which hold no data, are for everybody."""
    return path == HEALTH or path.startswith("/console")


def _refusal(request: web.Request, error: Exception) -> web.Response:
    failure = failure_of(error)
    if failure.http_status == 500 and not isinstance(error, grpc.aio.AioRpcError):
        log.error("http request failed", extra={"path": request.path}, exc_info=error)
    shape, names = _shape_of(request.path)
    return web.json_response(
        shape(failure.renamed(names)), status=failure.http_status, headers=retry_headers(failure)
    )


def _shape_of(path: str) -> tuple[Callable[[Failure], dict[str, Any]], dict[str, str]]:
    """How a door says that something failed, and what it calls the fields of its rpc."""
    if path == EMBEDDINGS:
        return openai_shape, openai_service.FIELD_NAMES
    if path == RERANK:
        return cohere_shape, cohere_service.FIELD_NAMES
    return google_shape, {}


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise BadEnvironment(
            f"is {address!r}", field="http_address", remedy="give host:port, or leave it empty"
        )
    return host.strip("[]"), int(port)
