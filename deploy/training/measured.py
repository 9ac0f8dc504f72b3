"""What is measured on, and what settings are chosen on."""

from __future__ import annotations

from pathlib import Path

from deploy.training.groups import is_held_back, training_half
from deploy.training.retrieval_data import (
    Collection,
    is_measured,
    read_beir,
    read_enwiki,
    read_pairs,
    with_pool,
    with_queries,
)

MEASURED = {
    "scifact": "test",
    "cosqa": "dev",
    "squad_a": "test",
    "cranfield": "test",
    "cisi": "test",
    "medline": "test",
    "cacm": "test",
}
NEVER_TRAINED = ("cranfield", "cisi", "medline", "cacm")
TRAINABLE = ("scifact", "cosqa", "squad_a", "win32", "papers")
POOL_PASSAGES = 20_000
_HALVED = frozenset({"cosqa", "squad_a"})
_PAIRED = frozenset({"win32", "papers"})


def read_measured(data: Path, name: str) -> Collection:
    """A collection with the queries to measure on; squad_a hides among encyclopedia passages."""
    collection = read_beir(data, name, MEASURED[name])
    if name in _HALVED:
        rows = [row for row in collection.relevant if is_measured(collection, row)]
        collection = with_queries(collection, rows)
    if name == "squad_a":
        collection = with_pool(collection, read_enwiki(data, 0, POOL_PASSAGES))
    return collection


def read_held_back(data: Path, name: str) -> Collection:
    """A trainable collection with the queries that may train but are held back."""
    if name in _PAIRED:
        collection = read_pairs(data, name)
    elif name in _HALVED:
        collection = training_half(read_beir(data, name, MEASURED[name]))
    else:
        collection = read_beir(data, name, "train")
    rows = [row for row in collection.relevant if is_held_back(collection.queries[row])]
    return with_queries(collection, rows)
