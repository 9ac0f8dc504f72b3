"""CollectionService: translates between protobuf and `collections`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from core.errors import InvalidInput
from core.filters.wire import declared_from_proto, schema_to_proto
from core.lexical_wire import settings_from_proto, settings_to_proto
from core.ranking_wire import wish_from_proto, wish_to_proto
from core.ranking_wish import OPEN, RankingWish
from core.rpc import deadline_of
from core.vector_wire import segments_to_proto
from core.vector_wire import settings_from_proto as vector_index_from_proto
from core.vector_wire import settings_to_proto as vector_index_to_proto
from core.wire import timestamp
from indexer import pages
from indexer.catalogue import Change, CollectionRecord
from indexer.clock import moment
from indexer.collections import Collections, CollectionStatus
from indexer.migration.wire import index_to_proto
from indexer.wishes import Wish
from trireme.v1 import collection_pb2, collection_pb2_grpc

Context = Any

_LISTING = "collections"
_DEFAULTS = "search_defaults"
_VECTORS = "vector_index"

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
            lexical=settings_from_proto(asked.lexical, "collection.lexical."),
            schema=declared_from_proto(asked.schema, "collection.schema"),
            vector_index=vector_index_from_proto(asked.vector_index, "collection.vector_index."),
        )
        deadline = deadline_of(
            context, default_seconds=CREATE_SECONDS, longest_seconds=CREATE_SECONDS
        )
        status = await self._collections.create(wish, deadline)
        return collection_pb2.CreateCollectionResponse(collection=collection_to_proto(status))

    async def GetCollection(  # noqa: N802
        self, request: collection_pb2.GetCollectionRequest, context: Context
    ) -> collection_pb2.GetCollectionResponse:
        _check_named(request.name)
        status = await self._collections.get(request.name)
        return collection_pb2.GetCollectionResponse(collection=collection_to_proto(status))

    async def ListCollections(  # noqa: N802
        self, request: collection_pb2.ListCollectionsRequest, context: Context
    ) -> collection_pb2.ListCollectionsResponse:
        limit = pages.page_size(request.page_size)
        after = pages.last_of(_LISTING, request.page_token)
        statuses, more = await self._collections.page(after, limit)
        return collection_pb2.ListCollectionsResponse(
            collections=[collection_to_proto(status) for status in statuses],
            next_page_token=pages.token_after(_LISTING, statuses[-1].record.name) if more else "",
        )

    async def UpdateCollection(  # noqa: N802
        self, request: collection_pb2.UpdateCollectionRequest, context: Context
    ) -> collection_pb2.UpdateCollectionResponse:
        _check_named(request.collection.name, "collection.name")
        status = await self._collections.update(request.collection.name, _change(request))
        return collection_pb2.UpdateCollectionResponse(collection=collection_to_proto(status))

    async def DeleteCollection(  # noqa: N802
        self, request: collection_pb2.DeleteCollectionRequest, context: Context
    ) -> collection_pb2.DeleteCollectionResponse:
        _check_named(request.name)
        await self._collections.delete(request.name)
        return collection_pb2.DeleteCollectionResponse()


def _check_named(name: str, field: str = "name") -> None:
    if not name:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=field, remedy="name a collection")


def _change(request: collection_pb2.UpdateCollectionRequest) -> Change:
    """What an update does to a collection; raises InvalidInput."""
    paths = [*request.update_mask.paths] or [_DEFAULTS]
    rank = _ranking_change(request, [path for path in paths if path != _VECTORS])
    if _VECTORS not in paths:
        return lambda record: replace(record, search_defaults=rank(record.search_defaults))
    settings = vector_index_from_proto(request.collection.vector_index, "collection.vector_index.")
    return lambda record: replace(
        record, search_defaults=rank(record.search_defaults), vector_index=settings
    )


def _ranking_change(
    request: collection_pb2.UpdateCollectionRequest, mask: Sequence[str]
) -> Callable[[RankingWish], RankingWish]:
    """What an update does to search defaults; raises InvalidInput."""
    wanted = wish_from_proto(request.collection.search_defaults, "collection.search_defaults.")
    paths = [path.split(".") for path in mask]
    if any(path[0] == "lexical" for path in paths):
        raise InvalidInput(
            "MALFORMED",
            "what counts as a word is fixed: every document was split by it",
            field="update_mask",
            remedy="migrate the collection to an index with other words",
        )

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
                    remedy=f"name {_VECTORS}, {_DEFAULTS}, or fields below it as in "
                    f"{_DEFAULTS}.fusion.k",
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


def collection_to_proto(status: CollectionStatus) -> collection_pb2.Collection:
    """A collection as callers see it."""
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
        lexical=settings_to_proto(record.lexical),
        schema=schema_to_proto(status.schema),
        vector_index=vector_index_to_proto(record.vector_index),
        create_time=timestamp(moment(record.create_micros)),
        aliases=status.aliases,
        other_index=index_to_proto(status.other) if status.other is not None else None,
        document_count=sum(progress.documents for progress, _ in status.shards),
        shards=[
            collection_pb2.ShardProgress(
                shard=progress.shard,
                head_sequence=progress.head,
                indexed_sequence=progress.covers,
                generation=progress.generation,
                quarantined_count=progress.quarantined,
                stalled_reason=stalled,
                lag_changes=progress.head - max(0, progress.covers),
                lag_seconds=progress.lag_seconds,
                documents_per_second=progress.documents_per_second,
                vector_segments=segments_to_proto(vectors.kinds),
                vector_recall=vectors.recall,
            )
            for (progress, stalled), vectors in zip(status.shards, status.vectors, strict=True)
        ],
    )
