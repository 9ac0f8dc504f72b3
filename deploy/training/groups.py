"""Training groups: a query, relevant passages, hard negatives, and the first stage's opinion."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from deploy.training.first_stage import (
    Bm25,
    Floats,
    Ranking,
    dense_top,
    embed,
    min_max,
    reciprocal_rank_fusion,
)
from deploy.training.retrieval_data import (
    Collection,
    in_training_half,
    read_beir,
    read_pairs,
    split_key,
    with_queries,
)

MINED_DEPTH = 100
HEAD = 20
NEGATIVES_KEPT = 40


@dataclass(frozen=True)
class Group:
    """One query, its relevant passages and hard negatives, hardest first.

    `fused` is the first stage's score of each passage (positives, then negatives), 0 to 1 over the
    head it would hand to a reranker. `taught` is a mean standardised score of its legs, or None.
    """

    query: str
    positives: list[str]
    negatives: list[str]
    fused: list[float]
    taught: list[float] | None


def mine_hybrid(
    data: Path, cache: Path, encoder: nn.Module, tokenizer: Tokenizer
) -> dict[str, list[Group]]:
    """Groups of every judged or paired trainable source; embeddings are kept under `cache`."""
    collections = [
        read_beir(data, "scifact", "train"),
        training_half(read_beir(data, "cosqa", "dev")),
        training_half(read_beir(data, "squad_a", "test")),
        read_pairs(data, "win32"),
        read_pairs(data, "papers"),
    ]
    groups = {}
    for collection in collections:
        name = collection.name
        queries = embed(encoder, tokenizer, collection.queries, cache / f"{name}.q.npy")
        documents = embed(encoder, tokenizer, collection.documents, cache / f"{name}.d.npy")
        groups[name] = mine(collection, queries, documents)
    return groups


def mine(collection: Collection, queries: Floats, documents: Floats) -> list[Group]:
    """Groups of the judged queries, negatives from the fused legs.

    queries, documents: FP32 unit rows in the collection's order.
    """
    lexical = Bm25(collection.documents)
    groups = []
    for query_row, grades in collection.relevant.items():
        bm25 = lexical.top(collection.queries[query_row], MINED_DEPTH)
        dense = dense_top(queries[query_row], documents, MINED_DEPTH)
        ranked = reciprocal_rank_fusion([bm25, dense])
        rows = [*grades, *(row for row, _ in ranked if row not in grades)][
            : len(grades) + NEGATIVES_KEPT
        ]
        cosines = documents[rows] @ queries[query_row]
        found = dict(bm25)
        floor = min(found.values(), default=0.0)
        scores = np.array([found.get(row, floor) for row in rows], dtype=np.float32)
        groups.append(
            Group(
                query=collection.queries[query_row],
                positives=[collection.documents[row] for row in grades],
                negatives=[collection.documents[row] for row in rows[len(grades) :]],
                fused=head_scores(ranked, rows),
                taught=((_standardised(cosines) + _standardised(scores)) / 2).tolist(),
            )
        )
    return groups


def head_scores(ranked: Ranking, rows: Sequence[int]) -> list[float]:
    """Scores of `rows`, 0 to 1 over the head of `ranked`; 0 below it."""
    head = ranked[:HEAD]
    scaled = min_max([score for _, score in head])
    known = {row: float(score) for (row, _), score in zip(head, scaled, strict=True)}
    return [known.get(row, 0.0) for row in rows]


def split_held_back(groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """(for training, held back to choose settings): a tenth by the query's SHA-256."""
    back = [is_held_back(group.query) for group in groups]
    return (
        [group for group, held in zip(groups, back, strict=True) if not held],
        [group for group, held in zip(groups, back, strict=True) if held],
    )


def is_held_back(query: str) -> bool:
    """Whether a trainable query never trains, so that settings can be chosen on it."""
    return hashlib.sha256(query.encode()).digest()[1] < 26


def training_half(collection: Collection) -> Collection:
    """`collection` with the judged queries of its training half alone."""
    rows = [row for row in collection.relevant if in_training_half(split_key(collection, row))]
    return with_queries(collection, rows)


def _standardised(values: Floats) -> Floats:
    scaled: Floats = (values - values.mean()) / (values.std() + 1e-9)
    return scaled
