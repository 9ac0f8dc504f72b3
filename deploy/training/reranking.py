"""Heads of hybrid rankings, and what a reranker makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
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
from deploy.training.measures import ndcg
from deploy.training.pair_encoder import Pair, PairEncoder
from deploy.training.retrieval_data import Collection

FIRST_STAGE_DEPTH = 100
_BATCH_TOKENS = 2048


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The rankings of one judged query, best first."""

    query: int
    bm25: Ranking
    dense: Ranking
    fused: Ranking

    def __repr__(self) -> str:
        return f"<FirstStage query {self.query}, {len(self.fused)} fused>"


def first_stage(
    collection: Collection, queries: Floats, documents: Floats, rows: Sequence[int]
) -> list[FirstStage]:
    """Rankings of the queries at `rows`; queries, documents are FP32 unit rows."""
    lexical = Bm25(collection.documents)
    found = []
    for row in rows:
        bm25 = lexical.top(collection.queries[row], FIRST_STAGE_DEPTH)
        dense = dense_top(queries[row], documents, FIRST_STAGE_DEPTH)
        found.append(FirstStage(row, bm25, dense, reciprocal_rank_fusion([bm25, dense])))
    return found


def blend(head: Ranking, logits: Sequence[float], weight: float) -> list[int]:
    """Rows of `head` by the weighted sum of both scores, each scaled to 0..1; ties keep order."""
    fused = min_max([score for _, score in head])
    scores = (1 - weight) * fused + weight * min_max(logits)
    return [head[place][0] for place in np.argsort(-scores, kind="stable")]


def blended_ndcg(
    collection: Collection, stages: Sequence[FirstStage], logits: Floats, weight: float
) -> list[float]:
    """nDCG@10 per query after blending; logits FP32 [queries, depth]."""
    depth = logits.shape[1]
    values = []
    for stage, row in zip(stages, logits, strict=True):
        head = stage.fused[:depth]
        ranked = blend(head, row[: len(head)].tolist(), weight)
        ranked += [document for document, _ in stage.fused[depth:]]
        values.append(ndcg(ranked, collection.relevant[stage.query]))
    return values


def score_heads(
    model: nn.Module,
    pairs: PairEncoder,
    collection: Collection,
    stages: Sequence[FirstStage],
    depth: int,
) -> Floats:
    """Logits FP32 [queries, depth] of the heads, in batches of alike length; NaN past the end."""
    places: list[tuple[int, int]] = []
    encoded: list[Pair] = []
    for number, stage in enumerate(stages):
        head = [collection.documents[row] for row, _ in stage.fused[:depth]]
        places += [(number, place) for place in range(len(head))]
        encoded += pairs.pairs(collection.queries[stage.query], head)
    logits = np.full((len(stages), depth), np.nan, np.float32)
    order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index].ids))
    while order:
        size = max(1, _BATCH_TOKENS // len(encoded[order[0]].ids))
        batch, order = order[:size], order[size:]
        with torch.inference_mode():
            scored = model(*pairs.stack([encoded[index] for index in batch]))[:, 0].numpy()
        for index, logit in zip(batch, scored, strict=True):
            logits[places[index]] = logit
    return logits


class Vectors:
    """Embeds texts with the default sentence encoder and keeps them as files under `cache`."""

    def __init__(self, encoder: nn.Module, tokenizer: Tokenizer, cache: Path) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._cache = cache

    def of(self, texts: Sequence[str], name: str) -> Floats:
        """FP32 unit rows of `texts`; the file `name` is trusted if it has as many rows."""
        return embed(self._encoder, self._tokenizer, texts, self._cache / f"{name}.npy")
