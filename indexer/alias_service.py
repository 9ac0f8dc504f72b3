"""AliasService: translates between protobuf and the aliases in the document store."""

from __future__ import annotations

from typing import Any

from core.errors import InvalidInput
from core.wire import timestamp
from indexer import aliases, pages
from indexer.aliases import Alias
from indexer.clock import moment
from indexer.database import Database
from indexer.names import NameBook
from indexer.wishes import check_name
from trireme.v1 import alias_pb2, alias_pb2_grpc

Context = Any

_LISTING = "aliases"


class AliasServicer(alias_pb2_grpc.AliasServiceServicer):
    """Creates, shows, moves and removes aliases."""

    def __init__(self, database: Database, names: NameBook) -> None:
        self._database = database
        self._names = names

    async def CreateAlias(  # noqa: N802
        self, request: alias_pb2.CreateAliasRequest, context: Context
    ) -> alias_pb2.CreateAliasResponse:
        asked = request.alias
        check_name(asked.name, "alias.name")
        _check_given(asked.collection, "alias.collection")
        created = await self._names.change(
            lambda connection: aliases.add(connection, asked.name, asked.collection)
        )
        return alias_pb2.CreateAliasResponse(alias=_to_proto(created))

    async def GetAlias(  # noqa: N802
        self, request: alias_pb2.GetAliasRequest, context: Context
    ) -> alias_pb2.GetAliasResponse:
        _check_given(request.name, "name")
        found = await self._database.read(lambda connection: aliases.find(connection, request.name))
        return alias_pb2.GetAliasResponse(alias=_to_proto(found))

    async def ListAliases(  # noqa: N802
        self, request: alias_pb2.ListAliasesRequest, context: Context
    ) -> alias_pb2.ListAliasesResponse:
        limit = pages.page_size(request.page_size)
        after = pages.last_of(_LISTING, request.page_token)
        found = await self._database.read(
            lambda connection: aliases.page(connection, after, limit + 1)
        )
        more = len(found) > limit
        return alias_pb2.ListAliasesResponse(
            aliases=map(_to_proto, found[:limit]),
            next_page_token=pages.token_after(_LISTING, found[limit - 1].name) if more else "",
        )

    async def UpdateAlias(  # noqa: N802
        self, request: alias_pb2.UpdateAliasRequest, context: Context
    ) -> alias_pb2.UpdateAliasResponse:
        asked = request.alias
        _check_given(asked.name, "alias.name")
        _check_given(asked.collection, "alias.collection")
        for path in request.update_mask.paths:
            _check_path(path)
        moved = await self._names.change(
            lambda connection: aliases.move(connection, asked.name, asked.collection)
        )
        return alias_pb2.UpdateAliasResponse(alias=_to_proto(moved))

    async def DeleteAlias(  # noqa: N802
        self, request: alias_pb2.DeleteAliasRequest, context: Context
    ) -> alias_pb2.DeleteAliasResponse:
        _check_given(request.name, "name")
        await self._names.change(lambda connection: aliases.remove(connection, request.name))
        return alias_pb2.DeleteAliasResponse()


def _check_given(name: str, field: str) -> None:
    if not name:
        what = "a collection" if field.endswith("collection") else "an alias"
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=field, remedy=f"name {what}")


def _check_path(path: str) -> None:
    if path != "collection":
        raise InvalidInput(
            "MALFORMED",
            f"{path!r} cannot be changed",
            field="update_mask",
            remedy="name collection, or leave it empty",
        )


def _to_proto(found: Alias) -> alias_pb2.Alias:
    return alias_pb2.Alias(
        name=found.name,
        collection=found.collection,
        create_time=timestamp(moment(found.create_micros)),
        update_time=timestamp(moment(found.update_micros)),
    )
