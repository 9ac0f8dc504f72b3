"""SnapshotService: translates between protobuf and `snapshots`."""

from __future__ import annotations

from typing import Any

from core.errors import InvalidInput
from core.wire import timestamp
from indexer import pages
from indexer.clock import moment
from indexer.collection_service import collection_to_proto
from indexer.snapshots.manifest import SnapshotManifest
from indexer.snapshots.snapshots import Snapshots
from trireme.v1 import snapshot_pb2, snapshot_pb2_grpc

Context = Any

_LISTING = "snapshots"


class SnapshotServicer(snapshot_pb2_grpc.SnapshotServiceServicer):
    """Makes, lists, restores and removes snapshots."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def CreateSnapshot(  # noqa: N802
        self, request: snapshot_pb2.CreateSnapshotRequest, context: Context
    ) -> snapshot_pb2.CreateSnapshotResponse:
        asked = request.snapshot
        if not asked.collection:
            raise InvalidInput(
                "FIELD_REQUIRED",
                "is empty",
                field="snapshot.collection",
                remedy="name a collection",
            )
        made = await self._snapshots.create(asked.name, asked.collection)
        return snapshot_pb2.CreateSnapshotResponse(snapshot=_to_proto(made))

    async def ListSnapshots(  # noqa: N802
        self, request: snapshot_pb2.ListSnapshotsRequest, context: Context
    ) -> snapshot_pb2.ListSnapshotsResponse:
        limit = pages.page_size(request.page_size)
        after = pages.last_of(_LISTING, request.page_token)
        found = [each for each in await self._snapshots.every() if each.name > after]
        more = len(found) > limit
        return snapshot_pb2.ListSnapshotsResponse(
            snapshots=[_to_proto(each) for each in found[:limit]],
            next_page_token=pages.token_after(_LISTING, found[limit - 1].name) if more else "",
        )

    async def RestoreSnapshot(  # noqa: N802
        self, request: snapshot_pb2.RestoreSnapshotRequest, context: Context
    ) -> snapshot_pb2.RestoreSnapshotResponse:
        status = await self._snapshots.restore(request.name, request.collection)
        return snapshot_pb2.RestoreSnapshotResponse(collection=collection_to_proto(status))

    async def DeleteSnapshot(  # noqa: N802
        self, request: snapshot_pb2.DeleteSnapshotRequest, context: Context
    ) -> snapshot_pb2.DeleteSnapshotResponse:
        await self._snapshots.delete(request.name)
        return snapshot_pb2.DeleteSnapshotResponse()


def _to_proto(manifest: SnapshotManifest) -> snapshot_pb2.Snapshot:
    return snapshot_pb2.Snapshot(
        name=manifest.name,
        collection=manifest.collection,
        collection_uid=manifest.uid,
        document_count=manifest.documents,
        size_bytes=manifest.size,
        create_time=timestamp(moment(manifest.create_micros)),
    )
