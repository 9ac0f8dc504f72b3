"""LanceDB's half of the comparison, run by the Python of an environment of its own.

    python -m tests.load.lancedb_table ORDER.json

It does as LanceDB's guide to hybrid search says: an embedding function of its registry, a table
searched without a vector index and so exactly, a full text index with its defaults, RRF, and its
reranker for cross-encoders. Once ready it measures what each line of its input asks for, and
prints JSON lines.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lancedb
import torch
import transformers
from lancedb.embeddings import get_registry
from lancedb.index import FTS
from lancedb.pydantic import LanceModel, Vector
from lancedb.rerankers import CrossEncoderReranker, RRFReranker

from tests.load.closed_loop import Ask, Measured, closed_loop

TABLE = "documents"
BATCH = 256
# Queries by which the number of documents that are reranked is set.
SAMPLE = 50


def main() -> None:
    """Reads the order, builds the table unless it is there, measures what it is asked for."""
    order = json.loads(Path(sys.argv[1]).read_text())
    table = _table(order)
    _make_cross_encoder(Path(order["model"]), Path(order["cross_encoder"]))
    rerankers = {
        "hybrid": RRFReranker(),
        "reranked": CrossEncoderReranker(
            order["cross_encoder"], device="cpu", max_length=order["rerank_tokens"]
        ),
    }
    limits = {"hybrid": order["top"], "reranked": _limit(table, order)}
    asks = {name: _asking(table, rerankers[name], limits[name]) for name in rerankers}
    for name, ask in asks.items():
        for _ in range(order["warm_up"][name]):
            ask(order["queries"][0])
    _say(ranked={id: asks["hybrid"](text) for id, text in order["judged"].items()})
    _say(ready=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        if wanted:
            ask = asks[wanted.pop("search")]
            _say(measured=asdict(_measure(ask, order["queries"], **wanted)))
        else:
            # Linux counts in KiB.
            _say(memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def _measure(
    ask: Ask, queries: Sequence[str], *, clients: int, threads: int, seconds: float, fewest: int
) -> Measured:
    torch.set_num_threads(threads)
    closed_loop(ask, queries, clients=clients, seconds=1.0, fewest=2 * clients)
    return closed_loop(ask, queries, clients=clients, seconds=seconds, fewest=fewest)


def _asking(table: Any, reranker: Any, top: int) -> Ask:
    def ask(query: str) -> Sequence[str]:
        found = table.search(query, query_type="hybrid").limit(top).rerank(reranker)
        return [row["id"] for row in found.to_list()]

    return ask


def _limit(table: Any, order: dict[str, Any]) -> int:
    """So many hits of either leg that merged they are `depth` at most, on average."""
    queries, depth = order["queries"][:SAMPLE], order["depth"]
    found = []
    for query in queries:
        legs = (table.search(query, query_type=leg).limit(depth) for leg in ("vector", "fts"))
        found.append([[row["id"] for row in leg.to_list()] for leg in legs])
    read = {
        limit: sum(len({*dense[:limit], *words[:limit]}) for dense, words in found) / len(found)
        for limit in range(depth // 2, depth + 1)
    }
    limit = max(limit for limit, documents in read.items() if documents <= depth)
    _say(reranked_limit=limit, reranked_documents=read[limit])
    return limit


def _table(order: dict[str, Any]) -> Any:
    connection = lancedb.connect(order["folder"])
    model = get_registry().get("sentence-transformers").create(name=order["model"], device="cpu")
    if TABLE in connection.list_tables().tables:
        return connection.open_table(TABLE)

    class Documents(LanceModel):  # type: ignore[misc]
        id: str
        text: str = model.SourceField()
        vector: Vector(model.ndims()) = model.VectorField()  # type: ignore[valid-type]

    started = time.perf_counter()
    table = connection.create_table(TABLE, schema=Documents)
    rows = list(_rows(Path(order["corpus"])))
    for first in range(0, len(rows), BATCH):
        table.add(rows[first : first + BATCH])
    table.create_index("text", config=FTS())
    table.optimize()
    _say(build_seconds=time.perf_counter() - started)
    return table


def _make_cross_encoder(model: Path, folder: Path) -> None:
    """Six layers of MiniLM with an untrained head: it ranks badly as fast as a trained one well."""
    if not folder.exists():
        transformers.AutoTokenizer.from_pretrained(model).save_pretrained(folder)
        loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
            model, num_labels=1
        )
        loaded.save_pretrained(folder)


def _rows(corpus: Path) -> Iterator[dict[str, str]]:
    opener = gzip.open if corpus.suffix == ".gz" else open
    with opener(corpus, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield {"id": row["_id"], "text": f"{row.get('title', '')} {row['text']}".strip()}


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
