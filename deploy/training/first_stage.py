"""The first stage a reranker follows: BM25, the sentence encoder, and their fusion by rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tantivy
import torch
from tokenizers import Tokenizer
from torch import nn

Floats = npt.NDArray[np.float32]
Ranking = list[tuple[int, float]]

_BATCH_TOKENS = 4096
_WORD = re.compile(r"\w+")


class Bm25:
    """An in-memory Tantivy index (`en_stem`) over a list of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        schema = (
            tantivy.SchemaBuilder()
            .add_unsigned_field("row", stored=True)
            .add_text_field("text", tokenizer_name="en_stem")
            .build()
        )
        self._index = tantivy.Index(schema)
        writer = self._index.writer(heap_size=64_000_000, num_threads=1)
        for row, text in enumerate(texts):
            writer.add_document(tantivy.Document(row=row, text=text))
        writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()

    def top(self, query: str, depth: int) -> Ranking:
        """(row, BM25 score) of the best `depth` texts, best first."""
        words = " ".join(_WORD.findall(query.lower()))
        if not words:
            return []
        parsed = self._index.parse_query(words, ["text"])
        hits = self._searcher.search(parsed, depth).hits
        return [
            (int(self._searcher.doc(address)["row"][0]), float(score)) for score, address in hits
        ]


def dense_top(query: Floats, documents: Floats, depth: int) -> Ranking:
    """(row, cosine) of the best `depth` unit rows of `documents` [n, d] for a unit query [d]."""
    return top_scores(documents @ query, depth)


def top_scores(scores: Floats, depth: int) -> Ranking:
    """(row, score) of the best `depth` of `scores` [n], best first."""
    depth = min(depth, len(scores))
    best = np.argpartition(-scores, depth - 1)[:depth]
    best = best[np.argsort(-scores[best], kind="stable")]
    return [(int(row), float(scores[row])) for row in best]


def reciprocal_rank_fusion(rankings: Sequence[Ranking], k: int = 60) -> Ranking:
    """Sum of 1 / (k + rank), ranks from 1 (Cormack et al., 2009); ties by row."""
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, start=1):
            fused[row] = fused.get(row, 0.0) + 1.0 / (k + rank)
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))


def min_max(values: Sequence[float]) -> Floats:
    """Values brought to 0..1, all 0 if they are equal; FP32 [len(values)]."""
    array = np.asarray(values, dtype=np.float32)
    if not len(array) or array.max() == array.min():
        return np.zeros_like(array)
    scaled: Floats = (array - array.min()) / (array.max() - array.min())
    return scaled


def embed(
    encoder: nn.Module, tokenizer: Tokenizer, texts: Sequence[str], cache: Path | None = None
) -> Floats:
    """Unit vectors FP32 [len(texts), dimension]; read from or written to `cache` when given."""
    if cache is not None and cache.exists():
        cached: Floats = np.load(cache)
        if len(cached) == len(texts):
            return cached
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]), reverse=True)
    vectors: Floats | None = None
    while order:
        size = max(1, _BATCH_TOKENS // len(rows[order[0]]))
        batch, order = order[:size], order[size:]
        ids, mask = pad([rows[row] for row in batch])
        with torch.inference_mode():
            encoded = encoder(ids, mask).numpy()
        if vectors is None:
            vectors = np.zeros((len(rows), encoded.shape[1]), np.float32)
        vectors[batch] = encoded
    if vectors is None:
        raise ValueError("nothing to embed")
    if cache is not None:
        np.save(cache, vectors)
    return vectors


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both INT64 [len(rows), longest], padded with 0 on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids, mask
