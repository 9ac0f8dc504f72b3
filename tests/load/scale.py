"""How the dense leg, memory and latency of one shard grow with its passages.

    python -m tests.load.scale --data DIR --vectors FILE.npy [--sizes 20000,200000] [--json]

Passages of DIR/scale/enwiki.jsonl.gz go through the whole write path of a running cluster; only the
encoder is a stand-in, which answers over gRPC with the vectors in FILE.npy. If that file is not
there it is made, which takes long. Every size is measured in the same cluster: the shard's dense
leg against FAISS alone in this process on the very files that the shard has open, query by query in
turn (with FAISS's own refinement where candidates are scored again, and the candidates alone);
recall@10 against an exact search; searches through the gateway; memory before anything was stored,
as grown, once nothing is left of replaced generations, and after a restart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local.cluster import MODEL_REPOSITORY
from tests.fakes.stored_vectors import StoredVectors
from tests.load.bare import BareShard
from tests.load.corpus import SHARD, WINDOW, Corpus, Found, running_corpus
from tests.load.memory import Memory, memory_of, peak_of
from tests.load.passages import (
    DIMENSION,
    Passage,
    Vectors,
    embed,
    known_vectors,
    passage_vectors,
    queries_of,
    read_passages,
    write_passages,
)
from tests.load.report import by_file, rounded
from trireme.v1 import search_pb2

TOP = 10
WARM_UP = 20
MODES = {
    "hybrid": search_pb2.SEARCH_MODE_HYBRID,
    "dense": search_pb2.SEARCH_MODE_DENSE,
    "lexical": search_pb2.SEARCH_MODE_LEXICAL,
}
_PAGE_SECONDS = 90.0
_SPARE_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIREME_DATA"))
    parser.add_argument("--vectors", type=Path, required=True, help=".npy, made if absent")
    parser.add_argument("--sizes", default="20000,200000", help="passages, ascending")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print nothing but the report")
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data is missing: give the folder that holds scale/enwiki.jsonl.gz")
    sizes = [int(size) for size in asked.sizes.split(",")]
    passages = read_passages(Path(asked.data) / "scale" / "enwiki.jsonl.gz", sizes[-1])
    report = _run(passages, passage_vectors(asked.vectors, passages), sizes, asked.queries)
    print(json.dumps(rounded(report), indent=None if asked.json else 2))


def _run(
    passages: Sequence[Passage], vectors: Vectors, sizes: Sequence[int], count: int
) -> dict[str, Any]:
    queries = queries_of(passages, count + WARM_UP)
    query_vectors = embed(queries)
    stored = known_vectors(passages, np.concatenate([vectors, query_vectors]), queries)
    with tempfile.TemporaryDirectory(prefix="trireme-scale-") as folder:
        triton = StoredVectors(stored.find, DIMENSION, MODEL_REPOSITORY)
        shard = {"page_seconds": _PAGE_SECONDS}
        with running_corpus(Path(folder) / "state", triton, shard=shard) as corpus:
            empty = memory_of(corpus.cluster.pids[SHARD])
            measured, start = [], 0
            for size in sizes:
                part = write_passages(Path(folder) / f"{size}.jsonl", passages[start:size])
                added = corpus.add(part)
                truth = _exact(vectors[:size], query_vectors, passages)
                figures = _measure(corpus, queries, query_vectors, truth, empty)
                rate = (size - start) / added.searchable
                measured.append({"passages": size, "added_per_second": rate, **figures})
                start = size
    return {"sizes": measured, "growth": _growth(measured)}


def _exact(vectors: Vectors, queries: Vectors, passages: Sequence[Passage]) -> list[set[str]]:
    """Ids of the passages nearest to each query."""
    best = np.argpartition(-(queries @ vectors.T), TOP, axis=1)[:, :TOP]
    return [{passages[row].id for row in rows} for rows in best.tolist()]


def _measure(
    corpus: Corpus,
    queries: Sequence[str],
    vectors: Vectors,
    truth: Sequence[set[str]],
    empty: Memory,
) -> dict[str, Any]:
    store, manifest = corpus.published()
    grown = memory_of(corpus.cluster.pids[SHARD]) - empty
    # By then no page of an earlier answer needs a replaced generation.
    time.sleep(_PAGE_SECONDS + _SPARE_SECONDS)
    rested = memory_of(corpus.cluster.pids[SHARD]) - empty
    restart_seconds = corpus.restart_shard(queries[0])
    dense = _dense_leg(corpus, BareShard.open(store, manifest), vectors, truth)
    latencies = {name: _latency(corpus, queries, mode) for name, mode in MODES.items()}
    pid = corpus.cluster.pids[SHARD]
    size = sum(file.size for file in manifest.files())
    return {
        "segments": len(manifest.segments),
        "dense": dense,
        "p50_ms": latencies,
        "restart_seconds": restart_seconds,
        "memory": {
            "published_megabytes": size / 1e6,
            "by_file_megabytes": by_file(manifest),
            "empty": _megabytes(empty),
            "grown": {**_megabytes(grown), "ratio": grown.resident / size},
            "rested": {**_megabytes(rested), "ratio": rested.resident / size},
            "restarted": _restarted(memory_of(pid), empty, size),
            "peak_megabytes": peak_of(pid) / 1e6,
        },
    }


def _restarted(whole: Memory, empty: Memory, size: int) -> dict[str, float]:
    """What the shard's files cost after a restart: above an empty shard, and all of it."""
    above = whole - empty
    ratios = {"ratio": above.resident / size, "ratio_of_all": whole.resident / size}
    return {**_megabytes(above), **ratios}


def _dense_leg(
    corpus: Corpus, bare: BareShard, vectors: Vectors, truth: Sequence[set[str]]
) -> dict[str, float]:
    """The shard's dense leg and bare FAISS, one query after the other, each first in turn."""
    served: list[Found] = []
    alone: list[float] = []
    candidates: list[float] = []
    for number, vector in enumerate(vectors):
        if number % 2:
            served.append(corpus.nearest(vector))
        candidates.append(_milliseconds(bare.candidates, vector))
        alone.append(_milliseconds(bare.search, vector))
        if not number % 2:
            served.append(corpus.nearest(vector))
    search = float(np.median([found.server_ms for found in served[WARM_UP:]]))
    call = float(np.median([found.caller_ms for found in served[WARM_UP:]]))
    faiss = float(np.median(alone[WARM_UP:]))
    coarse = float(np.median(candidates[WARM_UP:]))
    hits = [len(set(f.ids[:TOP]) & near) for f, near in zip(served, truth, strict=True)]
    return {
        "recall_at_10": sum(hits) / (TOP * len(hits)),
        "faiss_candidates_ms": coarse,
        "faiss_ms": faiss,
        "search_ms": search,
        "call_ms": call,
        "search_ratio": search / faiss,
        "call_ratio": call / faiss,
        "search_to_candidates_ratio": search / coarse,
    }


def _milliseconds(search: Callable[[Vectors, int], Vectors], vector: Vectors) -> float:
    started = time.perf_counter()
    search(vector, WINDOW)
    return 1000 * (time.perf_counter() - started)


def _latency(
    corpus: Corpus, queries: Sequence[str], mode: search_pb2.SearchMode.ValueType
) -> dict[str, float]:
    found = [corpus.search(query, mode) for query in queries][WARM_UP:]
    return {
        "gateway": float(np.median([one.server_ms for one in found])),
        "caller": float(np.median([one.caller_ms for one in found])),
    }


def _growth(measured: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many times the p50 of the first size the last one's is."""
    first, last = measured[0]["p50_ms"], measured[-1]["p50_ms"]
    return {name: last[name]["caller"] / first[name]["caller"] for name in MODES}


def _megabytes(memory: Memory) -> dict[str, float]:
    return {
        "resident_megabytes": memory.resident / 1e6,
        "own_megabytes": memory.own / 1e6,
        "mapped_megabytes": memory.mapped / 1e6,
    }


if __name__ == "__main__":
    main()
