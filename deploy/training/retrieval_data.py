"""Retrieval collections on disk: BEIR folders and files of (query, passage) pairs."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadEnvironment

PAIRS_DRAWN = 4000
PAIRS_SEED = 17

# The rest of squad_a's articles neither train nor are measured: six with 1,755 queries are enough.
_TRAINS_BELOW = 128
_MEASURED_FROM = {"cosqa": 128, "squad_a": 192}


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries and documents in file order; `relevant` maps query row to {document row: grade}.

    Passages of `pool` stand behind the collection's own and answer nothing.
    """

    name: str
    queries: list[str]
    query_ids: list[str]
    own_documents: list[str]
    document_ids: list[str]
    relevant: Mapping[int, Mapping[int, float]]
    pool: tuple[str, ...] = ()

    @cached_property
    def documents(self) -> list[str]:
        """Its own documents, then the pool's."""
        return [*self.own_documents, *self.pool]

    def __repr__(self) -> str:
        return f"<Collection {self.name} {len(self.relevant)} judged, {len(self.documents)} docs>"


def read_beir(data: Path, name: str, split: str) -> Collection:
    """Read `data/name` with the judgements of `qrels/split.tsv`; files may be gzip or plain."""
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
        own_documents=[_title_and_text(row.get("title", ""), row["text"]) for row in documents],
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
        own_documents=[_title_and_text(row.get("title", ""), row["passage"]) for row in rows],
        document_ids=names,
        relevant={index: {index: 1.0} for index in range(len(rows))},
    )


def read_enwiki(data: Path, start: int, count: int) -> list[str]:
    """`count` passages of `data/scale/enwiki.jsonl.gz` from place `start` of a fixed shuffle."""
    rows = list(_rows(data / "scale" / "enwiki.jsonl.gz"))
    drawn = np.random.default_rng(PAIRS_SEED).permutation(len(rows))[start : start + count]
    return [
        _title_and_text(row.get("title", ""), row["text"])
        for row in (rows[index] for index in sorted(drawn.tolist()))
    ]


def read_passages(data: Path, name: str) -> list[str]:
    """Every passage of `data/pairs/name.jsonl.gz`, in file order."""
    rows = _rows(data / "pairs" / f"{name}.jsonl.gz")
    return [_title_and_text(row.get("title", ""), row["passage"]) for row in rows]


def in_training_half(key: str) -> bool:
    """The stated split of cosqa queries and squad_a articles: first byte of sha256(key) < 128."""
    return _first_byte(key) < _TRAINS_BELOW


def is_measured(collection: Collection, query_row: int) -> bool:
    """Whether a query of cosqa or squad_a is measured on: none that trains, some that do not."""
    return _first_byte(split_key(collection, query_row)) >= _MEASURED_FROM[collection.name]


def split_key(collection: Collection, query_row: int) -> str:
    """What `in_training_half` decides on: the article for squad_a, else the query's own id."""
    if collection.name != "squad_a":
        return collection.query_ids[query_row]
    first_relevant = next(iter(collection.relevant[query_row]))
    return collection.document_ids[first_relevant].rpartition("__")[0]


def with_queries(collection: Collection, rows: Iterable[int]) -> Collection:
    """`collection` with the judgements of the queries at `rows` alone."""
    kept = {row: collection.relevant[row] for row in rows}
    return replace(collection, relevant=kept)


def with_pool(collection: Collection, texts: Sequence[str]) -> Collection:
    """`collection` hidden among `texts` that answer none of its queries."""
    return replace(collection, pool=tuple(texts))


def _first_byte(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    plain = path.with_suffix("")
    opener = open if plain.exists() else gzip.open
    try:
        with opener(plain if plain.exists() else path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise BadEnvironment(
            f"cannot be read: {error}", field=str(path), remedy="give a folder in BEIR layout"
        ) from error


def _title_and_text(title: str, text: str) -> str:
    return f"{title} {text}".strip()
