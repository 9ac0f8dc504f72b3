"""A server of grpc.aio that refuses every search and does nothing else.

Asked now and then beside a flood that another server gets, it tells how late a refusal comes on
this machine from a process that is not busy at all: what is left is waiting for a core.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

from core.errors import Overloaded
from core.role_server import SERVER_OPTIONS
from core.rpc import status_of
from tests.load.processes import process_of, serve
from trireme.v1 import search_pb2

_REFUSAL = status_of(Overloaded("this server answers nobody", retry_after_seconds=1.0))


def bystander() -> AbstractContextManager[str]:
    """The address of one that runs until the end of the context."""
    return process_of(_run)


def _run(told: Connection) -> None:
    uvloop.run(_serve(told))


async def _serve(told: Connection) -> None:
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        _refuse, request_deserializer=search_pb2.SearchRequest.FromString
    )
    service = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name
    server = grpc.aio.server(options=list(SERVER_OPTIONS))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Search": handler})]
    )
    await serve(told, server)


async def _refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort_with_status(_REFUSAL)
