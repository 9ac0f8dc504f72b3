"""A whole family that speaks TLS only, whose gateway asks for API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.credentials import Certificates, Keys, Metadata, bearer
from tests.fakes.triton import FakeTriton
from trireme.v1 import collection_pb2, collection_pb2_grpc, document_pb2, document_pb2_grpc

SECONDS = 20.0


@dataclass
class Secured:
    """The running family, and what opens it: `admin` is the key of somebody who may do all."""

    cluster: Cluster
    certificates: Certificates
    keys: Keys
    admin: str

    @property
    def address(self) -> str:
        """The gateway's."""
        return self.cluster.address

    @property
    def metadata(self) -> Metadata:
        """Of the calls of that somebody."""
        return bearer(self.admin)

    def connect(self, address: str = "") -> grpc.aio.Channel:
        """A channel by TLS, without a certificate, to the gateway or another role."""
        return grpc.aio.secure_channel(address or self.address, self.certificates.anonymous)

    async def fill(self, channel: grpc.aio.Channel, collection: str, **texts: str) -> Any:
        """A new collection with documents given as id=text; returns the position."""
        collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
        documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
        wanted = collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=collection)
        )
        await collections.CreateCollection(wanted, metadata=self.metadata, timeout=SECONDS)
        batch = document_pb2.UpsertDocumentsRequest(
            collection=collection,
            documents=[document_pb2.Document(id=i, text=t) for i, t in texts.items()],
        )
        reply = await documents.UpsertDocuments(batch, metadata=self.metadata, timeout=SECONDS)
        return reply.position


@asynccontextmanager
async def secured(
    folder: Path, prepare: Callable[[Keys], None] = lambda keys: None
) -> AsyncIterator[Secured]:
    """One shard, on a fake Triton, for the time of a block; every role logs all that it can.

    `prepare` adds keys that are known from the start: later ones only after some time.
    """
    certificates = Certificates(folder / "tls")
    keys = Keys(folder / "keys.yaml")
    admin = keys.add("admin", "admin:*")
    prepare(keys)
    usual = {"log_level": "debug"}
    async with FakeTriton() as triton:
        config = ClusterConfig(
            state=folder / "state",
            shards=1,
            triton_address=triton.address,
            model_directory=triton.model_directory,
            settings={
                "gateway": {
                    **certificates.settings,
                    "api_keys_file": str(keys.path),
                    "embedding_cache_megabytes": 0,
                    **usual,
                },
                "indexer": {**certificates.mutual, **usual},
                "shard": {**certificates.mutual, **usual},
            },
        )
        cluster = await Cluster.create(config)
        try:
            await cluster.start()
            yield Secured(cluster, certificates, keys, admin)
        finally:
            await cluster.stop(5.0)
