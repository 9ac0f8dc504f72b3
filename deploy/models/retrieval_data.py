"""Retrieval collections on disk: BEIR folders and files of (query, passage) pairs."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAIRS_DRAWN = 4000
PAIRS_SEED = 17


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries and documents in file order; `relevant` maps query row to {document row: grade}."""

    name: str
    queries: list[str]
    query_ids: list[str]
    documents: list[str]
    document_ids: list[str]
    relevant: Mapping[int, Mapping[int, float]]

    def __repr__(self) -> str:
        return f"<Collection {self.name} {len(self.relevant)} judged, {len(self.documents)} docs>"


def read_beir(data: Path, name: str, split: str) -> Collection:
    """Read `data/name` with the judgements of `qrels/split.tsv`."""
    queries = list(_rows(data / name / "queries.jsonl.gz"))
    documents = list(_rows(data / name / "corpus.jsonl.gz"))
    query_row = {str(row["_id"]): index for index, row in enumerate(queries)}
    document_row = {str(row["_id"]): index for index, row in enumerate(documents)}
    relevant: dict[int, dict[int, float]] = defaultdict(dict)
    lines = (data / name / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        query_id, document_id, grade = line.split("\t")
        if float(grade) > 0 and document_id in document_row:
            relevant[query_row[query_id]][document_row[document_id]] = float(grade)
    return Collection(
        name=name,
        queries=[row["text"] for row in queries],
        query_ids=[str(row["_id"]) for row in queries],
        documents=[_title_and_text(row.get("title", ""), row["text"]) for row in documents],
        document_ids=[str(row["_id"]) for row in documents],
        relevant=dict(relevant),
    )


def read_pairs(data: Path, name: str) -> Collection:
    """A fixed draw of `data/pairs/name.jsonl.gz`: query i is answered by document i alone."""
    rows = list(_rows(data / "pairs" / f"{name}.jsonl.gz"))
    order = np.random.default_rng(PAIRS_SEED).permutation(len(rows))
    drawn = sorted(order[:PAIRS_DRAWN].tolist())
    rows = [rows[index] for index in drawn]
    names = [str(index) for index in drawn]
    return Collection(
        name=name,
        queries=[row["query"] for row in rows],
        query_ids=names,
        documents=[_title_and_text(row.get("title", ""), row["passage"]) for row in rows],
        document_ids=names,
        relevant={index: {index: 1.0} for index in range(len(rows))},
    )


def in_training_half(key: str) -> bool:
    """The stated split of cosqa queries and squad_a articles: first byte of sha256(key) < 128."""
    return hashlib.sha256(key.encode()).digest()[0] < 128


def split_key(collection: Collection, query_row: int) -> str:
    """What `in_training_half` decides on: the article for squad_a, else the query's own id."""
    if collection.name != "squad_a":
        return collection.query_ids[query_row]
    first_relevant = next(iter(collection.relevant[query_row]))
    return collection.document_ids[first_relevant].rpartition("__")[0]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _title_and_text(title: str, text: str) -> str:
    return f"{title} {text}".strip()
