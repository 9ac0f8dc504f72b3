"""How long a write takes until a search finds it, on an idle cluster.

    python -m tests.load.freshness [--writes N]

One document at a time: the clock starts before the upsert is sent and stops when a search that
asks for the write's position has found the document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np

from core.documents import Document
from core.rpc import CHANNEL_OPTIONS
from core.wire import document_to_proto
from deploy.cli.cluster import started_cluster
from deploy.cli.upload import ensure_collection
from deploy.local.cluster import ClusterConfig
from deploy.local.docstrings import standard_library
from trireme.v1 import document_pb2, document_pb2_grpc, ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "freshness"
SECONDS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--writes", type=int, default=200)
    writes = parser.parse_args().writes
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        config = ClusterConfig(state=Path(folder) / "state", shards=2, port=0)
        with started_cluster(config) as cluster:
            options = list(CHANNEL_OPTIONS)
            with grpc.insecure_channel(cluster.address, options=options) as channel:
                ensure_collection(channel, COLLECTION)
                rows = [_write(channel, document) for document in standard_library()[:writes]]
    _report(rows)


def _write(channel: grpc.Channel, document: Document) -> tuple[float, float]:
    """Milliseconds until one document is acknowledged, and until it is found."""
    started = time.perf_counter()
    written = document_pb2_grpc.DocumentServiceStub(channel).UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(
            collection=COLLECTION, documents=[document_to_proto(document)]
        ),
        timeout=SECONDS,
    )
    acknowledged = time.perf_counter()
    reply = search_pb2_grpc.SearchServiceStub(channel).Search(
        search_pb2.SearchRequest(
            collection=COLLECTION,
            query=document.id,
            page_size=100,
            min_position=written.position,
            rerank=ranking_pb2.Rerank(enabled=False),
        ),
        timeout=SECONDS,
    )
    found = time.perf_counter()
    assert not reply.degraded
    assert document.id in [hit.document.id for hit in reply.hits]
    return (acknowledged - started) * 1000, (found - started) * 1000


def _report(rows: Sequence[tuple[float, float]]) -> None:
    percentiles = (50, 95, 99, 100)
    columns = dict(zip(("acknowledged_ms", "found_ms"), zip(*rows, strict=True), strict=True))
    report = {
        name: {f"p{p}": round(float(np.percentile(values, p)), 1) for p in percentiles}
        for name, values in columns.items()
    }
    print(json.dumps({"writes": len(rows), **report}, indent=2))


if __name__ == "__main__":
    main()
