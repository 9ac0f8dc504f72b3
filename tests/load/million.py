"""Whether one shard builds, merges, serves and restarts with a million vectors.

    python -m tests.load.million [--vectors N] [--queries N] [--json]

Short texts go through the whole write path of a running cluster; the encoder is a stand-in that
answers over gRPC with clustered vectors of 384 dimensions, made in blocks as they are asked for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local.cluster import MODEL_REPOSITORY
from tests.fakes.stored_vectors import StoredVectors
from tests.load.clusters import (
    BLOCK,
    DIMENSION,
    Vectors,
    VectorsByNumber,
    nearest,
    text_of,
    vectors_of,
)
from tests.load.corpus import SHARD, Corpus, Found, running_corpus
from tests.load.memory import memory_of, peak_of
from tests.load.passages import MODEL
from tests.load.report import by_file, rounded

TOP = 10
# A bulk load: fewer, larger generations.
BULK = {"batch_documents": 2048, "batch_bytes": 2**22}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print the report on one line")
    asked = parser.parse_args()
    triton = StoredVectors(
        VectorsByNumber(MODEL / "tokenizer.json").find, DIMENSION, MODEL_REPOSITORY
    )
    with tempfile.TemporaryDirectory(prefix="trireme-million-") as folder:
        path = _write(Path(folder) / "texts.jsonl", asked.vectors)
        with running_corpus(Path(folder) / "state", triton, indexer=BULK) as corpus:
            report = _run(corpus, path, asked.vectors, asked.queries)
    print(json.dumps(rounded(report), indent=None if asked.json else 2))


def _write(path: Path, count: int) -> Path:
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"_id": f"{number:09d}", "text": text_of(number)}) + "\n")
    return path


def _run(corpus: Corpus, path: Path, count: int, queries: int) -> dict[str, Any]:
    # Numbers that no document has, from the blocks behind the last one.
    first = (count // BLOCK + 1) * BLOCK
    numbers = range(first, first + queries)
    vectors = vectors_of(numbers)
    added = corpus.add(path)
    peaks = {role: peak_of(corpus.cluster.pids[role]) / 1e6 for role in (SHARD, "indexer")}
    before = _searches(corpus, vectors)
    restart = corpus.restart_shard(text_of(first))
    _, manifest = corpus.published()
    size = sum(file.size for file in manifest.files())
    memory = memory_of(corpus.cluster.pids[SHARD])
    state = corpus.cluster.config.state
    return {
        "vectors": count,
        "segments": [entry.passages for entry in manifest.segments],
        "built": {"seconds": added.searchable, "per_second": count / added.searchable},
        "merged_seconds_later": added.settled - added.searchable,
        "recall_at_10": _recall(before, nearest(vectors, count, TOP)),
        "dense_p50_ms": float(np.median([found.server_ms for found in before])),
        "restart_seconds": restart,
        "megabytes": {
            "published": size / 1e6,
            "by_file": by_file(manifest),
            "document_store": sum(f.stat().st_size for f in state.glob("documents.db*")) / 1e6,
            "shard_after_restart": memory.resident / 1e6,
            "peaks": peaks,
        },
    }


def _searches(corpus: Corpus, vectors: Vectors) -> list[Found]:
    return [corpus.nearest(vector) for vector in vectors]


def _recall(found: Sequence[Found], truth: Sequence[set[int]]) -> float:
    hits = [
        len({int(id) for id in f.ids[:TOP]} & near) for f, near in zip(found, truth, strict=True)
    ]
    return sum(hits) / (TOP * len(hits))


if __name__ == "__main__":
    main()
