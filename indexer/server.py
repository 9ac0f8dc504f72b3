"""One indexer process: document store, write paths and the services in front of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry
from sqlalchemy import make_url

from core.call_tracing import Tracing
from core.decoding import Decoding
from core.errors import BadEnvironment
from core.index_store import IndexStore, Location
from core.interceptors import Boundary
from core.role_server import RoleServer, Serving
from core.security.tls import TlsSettings
from core.triton import TritonClient
from indexer.alias_service import AliasServicer
from indexer.collection_service import CollectionServicer
from indexer.collections import Collections
from indexer.config import IndexerConfig
from indexer.database import Database
from indexer.encoders import Encoders
from indexer.fleet import Fleet
from indexer.lock import StateLock
from indexer.metrics import IndexerMetrics
from indexer.migration.indexes import Indexes
from indexer.migration.migrations import Migrations
from indexer.migration.service import MigrationServicer
from indexer.names import NameBook
from indexer.operations_service import OperationsServicer
from indexer.service import DocumentServicer
from indexer.shared import Shared, background_threads
from indexer.snapshots.archive import Archive
from indexer.snapshots.service import SnapshotServicer
from indexer.snapshots.snapshots import Snapshots
from indexer.store import DocumentStore
from indexer.upkeep import Upkeep
from trireme.v1 import (
    alias_pb2,
    alias_pb2_grpc,
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    snapshot_pb2,
    snapshot_pb2_grpc,
)

WORK_DIRECTORY = ".work"
"""Working copies, beside what is published so that files can be linked."""


class Indexer:
    """`await create(config)`, `start()`, `stop(grace_seconds)`."""

    def __init__(
        self,
        server: RoleServer,
        address: str,
        collections: Collections,
        migrations: Migrations,
        upkeep: Upkeep,
        shared: Shared,
        triton: TritonClient,
        locks: Sequence[StateLock],
    ) -> None:
        self._server = server
        self._collections = collections
        self._migrations = migrations
        self._upkeep = upkeep
        self._shared = shared
        self._triton = triton
        self._locks = locks
        self.address = address
        self.registry: CollectorRegistry = shared.metrics.registry

    @classmethod
    async def create(cls, config: IndexerConfig) -> Indexer:
        """Locks the state, opens it and binds the address.

        Raises BadEnvironment if another indexer uses the state or the address is taken,
        NewerFormat.
        """
        if config.shard_count < 1:
            raise BadEnvironment(f"{config.shard_count} shards hold nothing", field="shard_count")
        locks = [StateLock.take(path) for path in _lock_files(config)]
        metrics = IndexerMetrics(CollectorRegistry())
        triton = TritonClient.create(
            config.triton_address,
            bulk_requests=config.triton_bulk_requests,
            metrics=metrics.triton,
            tls=TlsSettings.for_triton(config),
        )
        shared = Shared(
            owner=f"{socket.gethostname()}:{os.getpid()}",
            config=config,
            database=await Database.create(config.database_url),
            index_store=IndexStore.create(Location.of(config)),
            encoders=Encoders(triton, config.model_directory),
            executor=ThreadPoolExecutor(config.build_threads, thread_name_prefix="build"),
            metrics=metrics,
            background=background_threads(config.seal_threads),
        )
        fleet = Fleet(shared, config.index_directory / WORK_DIRECTORY)
        names = NameBook(shared)
        collections = Collections(shared, fleet, names)
        migrations = Migrations(shared, Indexes(shared, fleet, collections), names)
        upkeep = Upkeep(shared.database, fleet)
        snapshots = Snapshots(
            shared, collections, _archive(shared), config.index_directory / WORK_DIRECTORY
        )
        store = DocumentStore(shared.database, max_waiting=config.max_waiting_batches)
        shared.metrics.waiting.set_function(lambda: store.waiting)

        def add_services(server: grpc.aio.Server) -> Sequence[str]:
            document_pb2_grpc.add_DocumentServiceServicer_to_server(
                DocumentServicer(store, fleet, shared.metrics, most_behind=config.max_lag_changes),
                server,
            )
            collection_pb2_grpc.add_CollectionServiceServicer_to_server(
                CollectionServicer(collections), server
            )
            migration_pb2_grpc.add_MigrationServiceServicer_to_server(
                MigrationServicer(migrations), server
            )
            alias_pb2_grpc.add_AliasServiceServicer_to_server(
                AliasServicer(shared.database, names), server
            )
            operations_pb2_grpc.add_OperationsServiceServicer_to_server(
                OperationsServicer(shared.database, fleet, upkeep), server
            )
            snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(
                SnapshotServicer(snapshots), server
            )
            return [
                document_pb2.DESCRIPTOR.services_by_name["DocumentService"].full_name,
                collection_pb2.DESCRIPTOR.services_by_name["CollectionService"].full_name,
                migration_pb2.DESCRIPTOR.services_by_name["MigrationService"].full_name,
                alias_pb2.DESCRIPTOR.services_by_name["AliasService"].full_name,
                operations_pb2.DESCRIPTOR.services_by_name["OperationsService"].full_name,
                snapshot_pb2.DESCRIPTOR.services_by_name["SnapshotService"].full_name,
            ]

        interceptors = [Boundary(shared.metrics.calls), Tracing(), Decoding()]
        server = RoleServer.create(config.address, add_services, interceptors, Serving.of(config))
        address = f"{config.address.rpartition(':')[0]}:{server.port}"
        return cls(server, address, collections, migrations, upkeep, shared, triton, locks)

    async def start(self) -> None:
        """Takes every shard over and says that it is ready; does not wait for Triton."""
        await self._triton.start()
        await self._server.start()
        await self._collections.start()
        await self._migrations.start()
        await self._upkeep.start()
        await self._server.ready()

    async def retire(self) -> None:
        """Tells health checks to look elsewhere, and goes on answering."""
        await self._server.retire()

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight end for up to `grace_seconds`, then frees everything."""
        await self._server.stop(grace_seconds)
        await self._upkeep.stop()
        await self._migrations.stop()
        await self._collections.stop()
        await self._shared.database.close()
        self._shared.executor.shutdown()
        self._shared.background.shutdown()
        await self._triton.stop(grace_seconds)
        for lock in self._locks:
            lock.release()

    def __repr__(self) -> str:
        return f"<Indexer at {self.address}, {self._collections!r}>"


def _archive(shared: Shared) -> Archive:
    """Where snapshots are kept."""
    config = shared.config
    if not config.snapshot_location:
        return Archive(shared.index_store.engine)
    if "://" not in config.snapshot_location:
        return Archive(Location(Path(config.snapshot_location)).engine())
    place = replace(
        Location.of(config),
        url=config.snapshot_location,
        cache_directory=config.index_directory / "snapshot-cache",
        cache_bytes=0,
    )
    return Archive(place.engine())


def _lock_files(config: IndexerConfig) -> list[Path]:
    """What two indexers must not share: a database file, and an index directory."""
    paths = [config.index_directory / "indexer.lock"]
    url = make_url(config.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        database = Path(url.database).absolute()
        paths.append(database.with_name(f"{database.name}.lock"))
    return paths
