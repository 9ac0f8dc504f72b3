"""Snapshots told in order: read one state, write files, store them, publish; and the way back.

A restored collection is written under a uid that is marked for removal from the first row on. The
last transaction takes the mark away and gives it its name: whatever ends a restore before that
leaves rows that the next start clears away, and it can be repeated.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection

from core import fsops
from core.deadline import Deadline
from core.errors import CollectionExists, CorruptFile, NotFound
from indexer import catalogue
from indexer.catalogue import CollectionRecord
from indexer.changes import Change
from indexer.clock import now_micros
from indexer.collections import Collections, CollectionStatus
from indexer.shared import Shared
from indexer.snapshots import rows
from indexer.snapshots.archive import Archive
from indexer.snapshots.lines import Line, read_part, write_parts
from indexer.snapshots.manifest import SnapshotManifest
from indexer.wishes import check_name
from indexer.writers import Result

log = logging.getLogger(__name__)

MODEL_SECONDS = 30.0


class Snapshots:
    """Snapshots in `archive`; `directory` is for files that are being written."""

    def __init__(
        self, shared: Shared, collections: Collections, archive: Archive, directory: Path
    ) -> None:
        self._shared = shared
        self._collections = collections
        self._archive = archive
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()

    async def create(self, name: str, collection: str) -> SnapshotManifest:
        """Makes a snapshot of a collection as it is now.

        Raises InvalidInput, NotFound (COLLECTION_NOT_FOUND), SnapshotExists, StorageFull.
        """
        check_name(name, "snapshot.name")
        async with self._one_at_a_time:
            await self._work(partial(self._archive.check_free, name))
            await self._work(partial(fsops.make_directory, self._directory))
            directory = Path(tempfile.mkdtemp(prefix="snapshot-", dir=self._directory))
            try:
                record, paths, documents = await self._shared.database.read(
                    lambda connection: _write(connection, collection, directory)
                )
                manifest = SnapshotManifest(
                    name=name,
                    collection=record.name,
                    uid=record.uid,
                    documents=documents,
                    create_micros=now_micros(),
                    settings=json.dumps(catalogue.values_of(record), sort_keys=True),
                    files=await self._work(partial(self._archive.store, name, paths)),
                )
                await self._work(partial(self._archive.publish, manifest))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        log.info("snapshot created", extra={"snapshot": name, "collection": record.name})
        return manifest

    async def every(self) -> list[SnapshotManifest]:
        """All snapshots, by name."""
        return await self._work(self._archive.every)

    async def delete(self, name: str) -> None:
        """Removes a snapshot; raises NotFound (SNAPSHOT_NOT_FOUND)."""
        check_name(name, "name")
        await self._work(partial(self._archive.delete, name))

    async def restore(self, name: str, collection: str) -> CollectionStatus:
        """Makes a collection of a snapshot, under its old name if `collection` is empty.

        Returns once its documents are stored; they are indexed by and by. Raises NotFound
        (SNAPSHOT_NOT_FOUND, MODEL_NOT_FOUND), CollectionExists, AliasExists, CorruptFile,
        ModelMismatch, TritonUnavailable, StorageFull: nothing is left of it then.
        """
        check_name(name, "name")
        manifest = await self._work(partial(self._archive.read, name))
        record = _restored(manifest, collection)
        await self._check_free(record.name)
        await self._check_models(record)
        paths = await self._work(partial(self._archive.fetch, manifest))
        feeds = rows.Feeds(record.uid, record.shard_count)
        write = self._shared.database.write
        await write(lambda connection: rows.begin(connection, record.uid))
        try:
            await self._put_all(feeds, paths)
            if sum(head for head, _ in feeds.heads.values()) != manifest.documents:
                raise CorruptFile(f"snapshot {name!r} does not hold {manifest.documents} documents")
            await write(lambda connection: rows.finish(connection, record, feeds))
        except BaseException:
            self._collections.purge_later(record.uid)
            raise
        log.info("snapshot restored", extra={"snapshot": name, "collection": record.name})
        return await self._collections.adopt(record)

    async def _put_all(self, feeds: rows.Feeds, paths: list[Path]) -> None:
        for path in paths:
            lines = read_part(path)
            while batch := await self._work(partial(_take, lines)):
                changes = feeds.extend(batch)

                await self._shared.database.write(partial(_put, feeds.uid, changes))

    async def _check_free(self, name: str) -> None:
        try:
            await self._shared.database.read(lambda connection: catalogue.find(connection, name))
        except NotFound:
            return
        raise CollectionExists(
            f"{name!r} is there already",
            field="collection",
            remedy="restore it under another name, or delete that collection first",
        )

    async def _check_models(self, record: CollectionRecord) -> None:
        """The very models must be there that made the collection's vectors."""
        source, deadline = self._shared.encoders, Deadline.after(MODEL_SECONDS)
        await source.get(
            record.encoder_model,
            record.encoder_version,
            deadline,
            fingerprint=record.encoder_fingerprint,
        )
        if record.sparse_model:
            await source.get_sparse(
                record.sparse_model,
                record.sparse_version,
                deadline,
                fingerprint=record.sparse_fingerprint,
            )

    async def _work(self, job: Callable[[], Result]) -> Result:
        return await self._shared.work("snapshot", job)


def _write(
    connection: Connection, collection: str, directory: Path
) -> tuple[CollectionRecord, list[Path], int]:
    """A collection and its documents, as files, as of one moment."""
    record = catalogue.find(connection, collection)
    with fsops.storage_errors(directory):
        return record, *write_parts(rows.newest(connection, record.uid), directory)


def _restored(manifest: SnapshotManifest, name: str) -> CollectionRecord:
    """The collection that a snapshot becomes: a new one, with one index of its own."""
    check_name(name or manifest.collection, "collection")
    return replace(
        catalogue.record_of(json.loads(manifest.settings)),
        uid=uuid.uuid4().hex,
        name=name or manifest.collection,
        create_micros=now_micros(),
        index_uid="",
        index_number=0,
    )


def _put(uid: str, changes: Sequence[tuple[int, Change]], connection: Connection) -> None:
    rows.put(connection, uid, changes)


def _take(lines: Iterator[Line]) -> list[Line]:
    return list(islice(lines, rows.ROWS))
