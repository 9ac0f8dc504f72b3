"""Training groups: a query, relevant passages, hard negatives, and the first stage's opinion."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from deploy.models.first_stage import (
    Bm25,
    Floats,
    dense_top,
    embed,
    reciprocal_rank_fusion,
)
from deploy.models.retrieval_data import (
    Collection,
    in_training_half,
    read_beir,
    read_pairs,
    split_key,
)

MINED_DEPTH = 100
NEGATIVES_KEPT = 40
CODE_QUERIES = 1500
_MIN_WORDS = 3
_MAX_WORDS = 25


@dataclass(frozen=True)
class Group:
    """One query with its relevant passages and hard negatives, hardest first.

    `taught` holds a first-stage score per passage (positives, then negatives) or None.
    """

    query: str
    positives: list[str]
    negatives: list[str]
    taught: list[float] | None


def mine_all(
    data: Path, cache: Path, encoder: nn.Module, tokenizer: Tokenizer
) -> dict[str, list[Group]]:
    """Groups of every trainable source by its name; embeddings are kept under `cache`."""
    cosqa = read_beir(data, "cosqa", "dev")
    collections = [
        read_beir(data, "scifact", "train"),
        _training_half(cosqa),
        _training_half(read_beir(data, "squad_a", "test")),
        read_pairs(data, "win32"),
        read_pairs(data, "papers"),
    ]
    groups: dict[str, list[Group]] = {"code": code_groups(cosqa)}
    for collection in collections:
        queries = embed(encoder, tokenizer, collection.queries, cache / f"{collection.name}.q.npy")
        documents = embed(
            encoder, tokenizer, collection.documents, cache / f"{collection.name}.d.npy"
        )
        groups[collection.name] = mine(collection, queries, documents)
    return groups


def mine(collection: Collection, queries: Floats, documents: Floats) -> list[Group]:
    """Hard negatives from the fused first stage, taught by mean standardised scores."""
    lexical = Bm25(collection.documents)
    groups = []
    for query_row, grades in collection.relevant.items():
        bm25 = lexical.top(collection.queries[query_row], MINED_DEPTH)
        dense = dense_top(queries[query_row], documents, MINED_DEPTH)
        fused = [row for row, _ in reciprocal_rank_fusion([bm25, dense])]
        negatives = [row for row in fused if row not in grades][:NEGATIVES_KEPT]
        rows = [*grades, *negatives]
        cosines = documents[rows] @ queries[query_row]
        found = dict(bm25)
        floor = min(found.values(), default=0.0)
        lexical_scores = np.array([found.get(row, floor) for row in rows], dtype=np.float32)
        taught = (_standardised(cosines) + _standardised(lexical_scores)) / 2
        groups.append(
            Group(
                query=collection.queries[query_row],
                positives=[collection.documents[row] for row in grades],
                negatives=[collection.documents[row] for row in negatives],
                taught=[float(value) for value in taught],
            )
        )
    return groups


def code_groups(cosqa: Collection) -> list[Group]:
    """Queries made of text itself: the first docstring sentence asks for the rest of a function.

    Docstrings are taken out of negatives too, so that their absence gives nothing away.
    """
    split = [split_docstring(source) for source in cosqa.documents]
    usable = [row for row, parts in enumerate(split) if parts and _is_sentence(parts[0])]
    bodies = [
        parts[1] if parts else source for parts, source in zip(split, cosqa.documents, strict=True)
    ]
    lexical = Bm25(bodies)
    drawn = np.random.default_rng(17).permutation(len(usable))[:CODE_QUERIES]
    groups = []
    for row in (usable[index] for index in drawn):
        parts = split[row]
        assert parts is not None
        mined = [other for other, _ in lexical.top(parts[0], NEGATIVES_KEPT + 1) if other != row]
        negatives = [bodies[other] for other in mined if bodies[other] != bodies[row]]
        groups.append(Group(parts[0], [bodies[row]], negatives, taught=None))
    return groups


def split_docstring(source: str) -> tuple[str, str] | None:
    """(first docstring line, source without the docstring) of one function, if it has one."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        return None
    function = tree.body[0]
    docstring = ast.get_docstring(function)
    if not docstring or len(function.body) < 2:
        return None
    expression = function.body[0]
    lines = source.splitlines()
    kept = lines[: expression.lineno - 1] + lines[expression.end_lineno :]
    return docstring.strip().splitlines()[0].strip(" .\"'"), "\n".join(kept)


def _training_half(collection: Collection) -> Collection:
    kept = {
        row: grades
        for row, grades in collection.relevant.items()
        if in_training_half(split_key(collection, row))
    }
    return Collection(**{**vars(collection), "relevant": kept})


def _is_sentence(text: str) -> bool:
    return _MIN_WORDS <= len(text.split()) <= _MAX_WORDS


def _standardised(values: Floats) -> Floats:
    scaled: Floats = (values - values.mean()) / (values.std() + 1e-9)
    return scaled
