"""What a model is worth on queries that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer

from deploy.training.examples import Example
from deploy.training.first_stage import Bm25, Ranking, reciprocal_rank_fusion, top_scores
from deploy.training.measures import ndcg
from deploy.training.reranking import FIRST_STAGE_DEPTH, blend
from deploy.training.retrieval_data import Collection, read_beir

RERANKED = 20
BLEND = 0.3


def texts_of(examples: Iterable[Example]) -> list[str]:
    """Every positive and negative once, in order."""
    texts = (text for one in examples for text in (one.positive, *one.negatives))
    return list(dict.fromkeys(texts))


def collection_of(held_out: Sequence[Example], texts: Sequence[str]) -> Collection:
    """The held-out queries over `texts`, which hold their positives."""
    row_of = {text: row for row, text in enumerate(texts)}
    queries = list(dict.fromkeys(one.query for one in held_out))
    relevant: dict[int, dict[int, float]] = {row: {} for row in range(len(queries))}
    place = {query: row for row, query in enumerate(queries)}
    for one in held_out:
        relevant[place[one.query]][row_of[one.positive]] = 1.0
    return Collection(
        name="held-out pairs",
        queries=queries,
        query_ids=[str(row) for row in range(len(queries))],
        own_documents=list(texts),
        document_ids=[str(row) for row in range(len(texts))],
        relevant=relevant,
    )


def read_folder(folder: Path, split: str) -> Collection:
    """The BEIR collection in `folder`."""
    return read_beir(folder.parent, folder.name, split)


class Legs:
    """Both legs over a collection's documents: BM25 and a sentence encoder."""

    def __init__(self, encoder: SentenceTransformer, documents: Sequence[str]) -> None:
        self._encoder = encoder
        self._lexical = Bm25(documents)
        self._vectors = encoder.encode_document(list(documents), show_progress_bar=False)

    def of(self, queries: Sequence[str]) -> list[tuple[Ranking, Ranking]]:
        """(dense, fused) per query, best first."""
        vectors = self._encoder.encode_query(list(queries), show_progress_bar=False)
        scores = self._encoder.similarity(vectors, self._vectors).numpy()
        found = []
        for query, row in zip(queries, scores, strict=True):
            dense = top_scores(row, FIRST_STAGE_DEPTH)
            lexical = self._lexical.top(query, FIRST_STAGE_DEPTH)
            found.append((dense, reciprocal_rank_fusion([lexical, dense])))
        return found


def measure_bi_encoder(model: SentenceTransformer, collection: Collection) -> dict[str, float]:
    """nDCG@10 of the model alone and fused with BM25."""
    rows = list(collection.relevant)
    legs = Legs(model, collection.documents).of([collection.queries[row] for row in rows])
    grades = [collection.relevant[row] for row in rows]
    return {
        "dense": _mean_ndcg([[row for row, _ in dense] for dense, _ in legs], grades),
        "hybrid": _mean_ndcg([[row for row, _ in fused] for _, fused in legs], grades),
    }


def measure_cross_encoder(
    model: CrossEncoder, collection: Collection, heads: Sequence[Ranking]
) -> dict[str, float]:
    """nDCG@10 of the hybrid heads, of the model's order of them, and of both blended."""
    rows = list(collection.relevant)
    alone, blended = [], []
    for row, head in zip(rows, heads, strict=True):
        pairs = [(collection.queries[row], collection.documents[text]) for text, _ in head]
        scores = model.predict(pairs, show_progress_bar=False).tolist()
        alone.append(blend(head, scores, 1.0))
        blended.append(blend(head, scores, BLEND))
    grades = [collection.relevant[row] for row in rows]
    return {
        "hybrid": _mean_ndcg([[row for row, _ in head] for head in heads], grades),
        "reranked": _mean_ndcg(alone, grades),
        "blended": _mean_ndcg(blended, grades),
    }


def hybrid_heads(encoder: SentenceTransformer, collection: Collection) -> list[Ranking]:
    """What a reranker would be handed for each judged query."""
    queries = [collection.queries[row] for row in collection.relevant]
    legs = Legs(encoder, collection.documents).of(queries)
    return [fused[:RERANKED] for _, fused in legs]


def _mean_ndcg(rankings: Sequence[Sequence[int]], grades: Sequence[Mapping[int, float]]) -> float:
    values = [ndcg(ranked, grade) for ranked, grade in zip(rankings, grades, strict=True)]
    return round(float(np.mean(values)), 4)
