"""Passages of a JSON-lines file with their vectors, embedded once and kept in a file."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokens import Tokenizer
from deploy.local.cluster import MODEL_REPOSITORY
from tests.fakes.stored_vectors import VectorsByTokens

Vectors = NDArray[np.float32]

MODEL = MODEL_REPOSITORY / "bi_encoder"
DIMENSION = 384
# Passages are cut there: what a benchmark needs is vectors that lie as real ones do.
TOKENS = 64
_TEXTS_AT_ONCE = 64
_ADDED_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Passage:
    """One line of the file."""

    id: str
    title: str
    text: str


def read_passages(path: Path, limit: int) -> list[Passage]:
    """The first `limit` passages of a JSON-lines file, plain or .gz."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as lines:
        rows = (json.loads(line) for line in itertools.islice(lines, limit))
        return [Passage(row["_id"], row["title"], row["text"]) for row in rows]


def write_passages(path: Path, passages: Sequence[Passage]) -> Path:
    """Writes passages as JSON lines and returns the path."""
    with path.open("w") as file:
        for passage in passages:
            values = {"_id": passage.id, "title": passage.title, "text": passage.text}
            file.write(json.dumps(values) + "\n")
    return path


def passage_vectors(path: Path, passages: Sequence[Passage]) -> Vectors:
    """Vectors of length 1, float32 [n, DIMENSION], from a .npy file that is made if absent.

    The file may hold more than is asked for. Raises ValueError if it holds less, or other things.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, embed([f"{p.title}\n{p.text}" for p in passages]))
        os.replace(unfinished, path)
    vectors = np.load(path, mmap_mode="r")[: len(passages)]
    if vectors.shape != (len(passages), DIMENSION) or vectors.dtype != np.float32:
        raise ValueError(f"{path} holds {vectors.dtype} {vectors.shape}; remove it to have it made")
    vectors = np.array(vectors)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise ValueError(f"{path} holds vectors that are not of length 1, or not all yet")
    return vectors


def known_vectors(
    passages: Sequence[Passage], vectors: Vectors, queries: Sequence[str] = ()
) -> VectorsByTokens:
    """The vectors of passages, then those of queries, found by their texts."""
    stored = VectorsByTokens(MODEL / "tokenizer.json", vectors)
    for start in range(0, len(passages), _ADDED_AT_ONCE):
        some = passages[start : start + _ADDED_AT_ONCE]
        stored.add([(passage.title, passage.text) for passage in some], start)
    stored.add([("", query) for query in queries], len(passages))
    return stored


def embed(texts: Sequence[str]) -> Vectors:
    """Embeds texts with the exported bi-encoder in this process: float32 [n, DIMENSION]."""
    return np.concatenate([np.zeros((0, DIMENSION), np.float32), *_embedded(texts)])


def _embedded(texts: Sequence[str]) -> Iterator[Vectors]:
    # Only whoever has no vectors yet waits for torch.
    import torch

    version = max((path for path in MODEL.iterdir() if path.is_dir()), key=lambda p: int(p.name))
    model = torch.jit.load(str(version / "model.pt")).eval()  # type: ignore[no-untyped-call]
    tokenizer = Tokenizer.load(MODEL / "tokenizer.json", "")
    before, after = tokenizer.single.before.tolist(), tokenizer.single.after.tolist()
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        tokenised = tokenizer.encode_batch(texts[start : start + _TEXTS_AT_ONCE])
        rows = [[*before, *tokens.ids.tolist()[:TOKENS], *after] for tokens in tokenised]
        ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        with torch.inference_mode():
            yield model(ids, mask).numpy()


def queries_of(passages: Sequence[Passage], count: int) -> list[str]:
    """Eight words out of the middle of passages from all over the file."""
    long = [passage.text.split() for passage in passages if passage.text.count(" ") > 24]
    chosen = [long[number * len(long) // count] for number in range(count)]
    return [" ".join(words[8:16]) for words in chosen]
