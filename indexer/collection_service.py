"""CollectionService: translates between protobuf and `collections`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import InvalidInput
from core.ranking_wire import wish_from_proto, wish_to_proto
from core.ranking_wish import OPEN, RankingWish
from core.rpc import deadline_of
from core.wire import timestamp
from indexer import pages
from indexer.catalogue import CollectionRecord
from indexer.clock import moment
from indexer.collections import Collections, CollectionStatus
from indexer.wishes import Wish
from trireme.v1 import collection_pb2, collection_pb2_grpc

Context = Any

_LISTING = "collections"
_DEFAULTS = "search_defaults"

CREATE_SECONDS = 30.0


class CollectionServicer(collection_pb2_grpc.CollectionServiceServicer):
    """Creates, shows, changes and removes collections."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def CreateCollection(  # noqa: N802
        self, request: collection_pb2.CreateCollectionRequest, context: Context
    ) -> collection_pb2.CreateCollectionResponse:
        asked = request.collection
        wish = Wish(
            name=asked.name,
            encoder_model=asked.encoder.model,
            encoder_version=asked.encoder.version,
            max_tokens=asked.passaging.max_tokens,
            overlap_tokens=asked.passaging.overlap_tokens,
            dimensions=asked.dimensions,
            sparse_model=asked.sparse_encoder.model,
            sparse_version=asked.sparse_encoder.version,
            search_defaults=wish_from_proto(asked.search_defaults, "collection.search_defaults."),
        )
        deadline = deadline_of(
            context, default_seconds=CREATE_SECONDS, longest_seconds=CREATE_SECONDS
        )
        status = await self._collections.create(wish, deadline)
        return collection_pb2.CreateCollectionResponse(collection=_to_proto(status))

    async def GetCollection(  # noqa: N802
        self, request: collection_pb2.GetCollectionRequest, context: Context
    ) -> collection_pb2.GetCollectionResponse:
        _check_named(request.name)
        status = await self._collections.get(request.name)
        return collection_pb2.GetCollectionResponse(collection=_to_proto(status))

    async def ListCollections(  # noqa: N802
        self, request: collection_pb2.ListCollectionsRequest, context: Context
    ) -> collection_pb2.ListCollectionsResponse:
        limit = pages.page_size(request.page_size)
        after = pages.last_of(_LISTING, request.page_token)
        statuses, more = await self._collections.page(after, limit)
        return collection_pb2.ListCollectionsResponse(
            collections=[_to_proto(status) for status in statuses],
            next_page_token=pages.token_after(_LISTING, statuses[-1].record.name) if more else "",
        )

    async def UpdateCollection(  # noqa: N802
        self, request: collection_pb2.UpdateCollectionRequest, context: Context
    ) -> collection_pb2.UpdateCollectionResponse:
        _check_named(request.collection.name, "collection.name")
        status = await self._collections.update(request.collection.name, _change(request))
        return collection_pb2.UpdateCollectionResponse(collection=_to_proto(status))

    async def DeleteCollection(  # noqa: N802
        self, request: collection_pb2.DeleteCollectionRequest, context: Context
    ) -> collection_pb2.DeleteCollectionResponse:
        _check_named(request.name)
        await self._collections.delete(request.name)
        return collection_pb2.DeleteCollectionResponse()


def _check_named(name: str, field: str = "name") -> None:
    if not name:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=field, remedy="name a collection")


def _change(
    request: collection_pb2.UpdateCollectionRequest,
) -> Callable[[RankingWish], RankingWish]:
    """What an update does to search defaults; raises InvalidInput."""
    wanted = wish_from_proto(request.collection.search_defaults, "collection.search_defaults.")
    paths = [path.split(".") for path in request.update_mask.paths or [_DEFAULTS]]

    def change(present: RankingWish) -> RankingWish:
        for first, *rest in paths:
            try:
                if first != _DEFAULTS:
                    raise KeyError(first)
                present = present.changed(rest, wanted)
            except KeyError as error:
                raise InvalidInput(
                    "MALFORMED",
                    f"{'.'.join([first, *rest])!r} cannot be changed",
                    field="update_mask",
                    remedy=f"name {_DEFAULTS}, or fields below it as in {_DEFAULTS}.fusion.k",
                ) from error
        return present

    change(OPEN)
    return change


def _sparse_encoder(record: CollectionRecord) -> collection_pb2.ModelVersion | None:
    if not record.sparse_model:
        return None
    return collection_pb2.ModelVersion(
        model=record.sparse_model,
        version=record.sparse_version,
        fingerprint=record.sparse_fingerprint,
    )


def _to_proto(status: CollectionStatus) -> collection_pb2.Collection:
    record = status.record
    return collection_pb2.Collection(
        name=record.name,
        uid=record.uid,
        shard_count=record.shard_count,
        encoder=collection_pb2.ModelVersion(
            model=record.encoder_model,
            version=record.encoder_version,
            fingerprint=record.encoder_fingerprint,
        ),
        passaging=collection_pb2.Passaging(
            max_tokens=record.max_tokens, overlap_tokens=record.overlap_tokens
        ),
        dimensions=record.dimension,
        sparse_encoder=_sparse_encoder(record),
        similarity=record.similarity,
        search_defaults=wish_to_proto(record.search_defaults),
        create_time=timestamp(moment(record.create_micros)),
        document_count=sum(progress.documents for progress, _ in status.shards),
        shards=[
            collection_pb2.ShardProgress(
                shard=progress.shard,
                head_sequence=progress.head,
                indexed_sequence=progress.covers,
                generation=progress.generation,
                quarantined_count=progress.quarantined,
                stalled_reason=stalled,
            )
            for progress, stalled in status.shards
        ],
    )
