"""What the services add to the bare stages of a hybrid query.

    python -m tests.load.overhead [--corpus FILE.jsonl.gz] [--queries N] [--shards N] [--chain]
    python -m tests.load.overhead --data DIR --vectors FILE.npy --passages N [...]

Every query is measured twice in one run. End to end: a client's hybrid search without reranking,
through gateway, Triton and all shards. Bare: the compute time that Triton itself reports for that
very query, plus FAISS and Tantivy asked for the same candidates in this process, on the same
published files, one after the other. Without --corpus the docstrings of the standard library are
indexed. The second form takes N passages of DIR/scale/enwiki.jsonl.gz with their vectors out of
FILE.npy, as tests.load.scale does: queries are embedded by Triton all the same. With --chain the
messages of every query also go through processes that only pass them on (tests.load.chain).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from core.analysis import ENGLISH_ANALYZER
from core.index_store import IndexStore
from core.lexical import LexicalReader
from core.rpc import CHANNEL_OPTIONS
from core.tokens import Tokenizer
from deploy.cli.cluster import started_cluster
from deploy.cli.index import index_files
from deploy.cli.lines import read_documents
from deploy.local.cluster import MODEL_REPOSITORY, ClusterConfig
from deploy.local.demo import write_docstrings
from deploy.models.versions import parse_config
from tests.fakes.stored_vectors import StoredVectors, serving
from tests.load.bare import BareShard
from tests.load.chain import Ask, chained
from tests.load.passages import (
    DIMENSION,
    MODEL,
    known_vectors,
    passage_vectors,
    read_passages,
    write_passages,
)
from trireme.v1 import inference_pb2, inference_pb2_grpc, ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "overhead"
WINDOW = 100
WARM_UP = 20
SECONDS = 10.0
# Merges go on for a while after the last document is found.
MERGE_SECONDS = 20.0


@dataclass(frozen=True)
class Bare:
    """The engines of one shard, without any service around them."""

    passages: int
    dense: BareShard
    lexical: LexicalReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, help="JSON lines, plain or .gz")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIREME_DATA"))
    parser.add_argument("--vectors", type=Path, help=".npy, made if absent")
    parser.add_argument("--passages", type=int, default=0)
    parser.add_argument("--chain", action="store_true", help="measure what messages alone take")
    arguments = parser.parse_args()
    if arguments.passages and not (arguments.data and arguments.vectors):
        parser.error("--passages needs --data and --vectors")
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        config = ClusterConfig(
            state=Path(folder) / "state",
            shards=arguments.shards,
            port=0,
            settings={"gateway": {"embedding_cache_megabytes": 0}},
        )
        if arguments.passages:
            corpus = _fill(config, arguments.data, arguments.vectors, arguments.passages)
        else:
            corpus = arguments.corpus or write_docstrings(Path(folder) / "docstrings.jsonl")
        with started_cluster(config) as cluster, _connected(cluster.address) as channel:
            if not arguments.passages:
                index_files(channel, COLLECTION, (corpus,), wait=True)
            queries = list(_queries(corpus, arguments.queries + WARM_UP))
            with ExitStack() as stack:
                triton = stack.enter_context(_connected(cluster.triton_address))
                shards = _bare_shards(config.state / "index", Path(folder) / "bare")
                measures = [partial(_measure, channel, triton, shards)]
                if arguments.chain:
                    sizes = [shard.passages for shard in shards]
                    ask = stack.enter_context(
                        chained(cluster.triton_address, MODEL.name, DIMENSION, sizes)
                    )
                    tokenizer = Tokenizer.load(MODEL / "tokenizer.json", "")
                    measures.append(partial(_measure_chain, ask, triton, tokenizer))
                rows = [_together(measure(query) for measure in measures) for query in queries]
    _report(rows[WARM_UP:])


def _fill(config: ClusterConfig, data: Path, vectors: Path, count: int) -> Path:
    """Fills a collection whose passages are embedded already; returns them as JSON lines."""
    passages = read_passages(data / "scale" / "enwiki.jsonl.gz", count)
    corpus = write_passages(config.state.parent / "passages.jsonl", passages)
    known = known_vectors(passages, passage_vectors(vectors, passages))
    parameters = parse_config(MODEL / "config.pbtxt").parameters
    fingerprint = parameters["fingerprint"].string_value
    triton = StoredVectors(known.find, DIMENSION, MODEL_REPOSITORY, fingerprint)
    with serving(triton):
        filling = replace(
            config, triton_address=triton.address, model_directory=triton.model_directory
        )
        with started_cluster(filling) as cluster, _connected(cluster.address) as channel:
            index_files(channel, COLLECTION, (corpus,), wait=True)
            time.sleep(MERGE_SECONDS)
    return corpus


def _queries(corpus: Path, count: int) -> Iterator[str]:
    """The first words of documents from all over the corpus."""
    documents = [line.document for line in read_documents(corpus)]
    for number in range(count):
        document = documents[number * len(documents) // count]
        yield " ".join((document.text or document.title).split()[:10])


def _measure(
    channel: grpc.Channel, triton: grpc.Channel, shards: Sequence[Bare], query: str
) -> dict[str, float]:
    """Milliseconds of one query: `end_to_end`, the gateway's stages, and the bare stages."""
    request = search_pb2.SearchRequest(
        collection=COLLECTION, query=query, rerank=ranking_pb2.Rerank(enabled=False)
    )
    before = _compute_nanoseconds(triton)
    started = time.perf_counter()
    reply = search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=SECONDS)
    end_to_end = (time.perf_counter() - started) * 1000
    compute = (_compute_nanoseconds(triton) - before) / 1e6
    assert not reply.degraded
    vector, terms = _vector(channel, query), ENGLISH_ANALYZER.query_terms(query)
    return {
        "end_to_end": end_to_end,
        "gateway": reply.total_microseconds / 1000,
        **{_name(timing): timing.microseconds / 1000 for timing in reply.timings},
        "triton": compute,
        "faiss": sum(_timed(shard.dense.search, vector, WINDOW) for shard in shards),
        "tantivy": sum(_timed(shard.lexical.search, terms, WINDOW) for shard in shards),
    }


def _measure_chain(
    ask: Ask, triton: grpc.Channel, tokenizer: Tokenizer, query: str
) -> dict[str, float]:
    """Milliseconds of one query's messages, and what Triton computed meanwhile."""
    around, tokens = tokenizer.single, tokenizer.encode(query)
    ids = np.concatenate([around.before, tokens.ids, around.after]).astype(np.int64).tobytes()
    before = _compute_nanoseconds(triton)
    chain = _timed(ask, ids)
    return {"chain": chain, "chain_triton": (_compute_nanoseconds(triton) - before) / 1e6}


def _together(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.items()}


def _name(timing: search_pb2.StageTiming) -> str:
    return search_pb2.Stage.Name(timing.stage).lower()


def _timed(call: Any, *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return (time.perf_counter() - started) * 1000


def _compute_nanoseconds(triton: grpc.Channel) -> int:
    """What Triton has spent computing for the bi-encoder so far, queueing not counted."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(triton)
    reply = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="bi_encoder"))
    stats = reply.model_stats[0].inference_stats
    return int(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns)


def _vector(channel: grpc.Channel, query: str) -> NDArray[np.float32]:
    request = inference_pb2.EmbedRequest(texts=[query], kind=inference_pb2.EMBED_KIND_QUERY)
    reply = inference_pb2_grpc.InferenceServiceStub(channel).Embed(request, timeout=SECONDS)
    return np.array([reply.embeddings[0].values], dtype=np.float32)


def _bare_shards(index_directory: Path, work: Path) -> list[Bare]:
    """Opens what the cluster has published, with the indexes that its shards search."""
    store = IndexStore.open(index_directory)
    (collection,) = store.collections()
    shards = []
    for number in range(collection.shard_count):
        shard = store.shard(collection.uid, number)
        manifest = shard.read_current()
        assert manifest is not None
        dense = BareShard.open(shard, manifest)
        directory = work / str(number)
        directory.mkdir(parents=True)
        shard.materialise(manifest.lexical, directory)
        shards.append(Bare(manifest.passages, dense, LexicalReader.open(directory)))
    return shards


@contextmanager
def _connected(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS)) as channel:
        yield channel


def _report(rows: Sequence[dict[str, float]]) -> None:
    for row in rows:
        engines = row["faiss"] + row["tantivy"]
        row["bare_sum"] = row["triton"] + engines
        if "chain" in row:
            row["chain_bare_sum"] = row["chain_triton"] + engines
    p50 = {name: float(np.percentile([row[name] for row in rows], 50)) for name in rows[0]}
    ratios = {"ratio": round(p50["end_to_end"] / p50["bare_sum"], 3)}
    if "chain" in p50:
        ratios["chain_ratio"] = round(p50["chain"] / p50["chain_bare_sum"], 3)
    print(json.dumps({"queries": len(rows), "p50_ms": p50, **ratios}, indent=2))


if __name__ == "__main__":
    main()
