"""Measure a reranker behind the hybrid first stage.

    python -m deploy.models.evaluate_reranker --data DIR --cache DIR --weights FILE

Hybrid is reciprocal rank fusion (k = 60) of the 100 best of BM25 and of the sentence encoder. The
head of that list is scored by the cross-encoder and ordered by
`(1 - w) * fused + w * logit`, both scaled to 0..1 over the head; w = 1 is the cross-encoder alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer

from deploy.models.bi_encoder import load_bi_encoder
from deploy.models.cross_encoder import CrossEncoder, load_cross_encoder
from deploy.models.first_stage import (
    Bm25,
    Floats,
    Ranking,
    dense_top,
    embed,
    reciprocal_rank_fusion,
)
from deploy.models.pair_encoder import PairEncoder
from deploy.models.retrieval_data import Collection, in_training_half, read_beir, split_key
from deploy.models.sentence_model import packaged_minilm, read_sentence_model

SPLITS = {
    "scifact": "test",
    "cosqa": "dev",
    "squad_a": "test",
    "cranfield": "test",
    "cisi": "test",
    "medline": "test",
    "cacm": "test",
}
HALVED = frozenset({"cosqa", "squad_a"})
WEIGHTS = (0.3, 0.5, 0.7, 1.0)
FIRST_STAGE_DEPTH = 100
CUTOFF = 10
_BATCH = 10


def ndcg(ranked: Sequence[int], grades: Mapping[int, float], cutoff: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain with linear gains, as trec_eval computes it."""
    gains = [grades.get(row, 0.0) for row in ranked[:cutoff]]
    ideal = sorted(grades.values(), reverse=True)[:cutoff]
    return _discounted(gains) / _discounted(ideal)


def blend(head: Ranking, logits: Sequence[float], weight: float) -> list[int]:
    """Rows of `head` by the weighted sum of both scores, each scaled to 0..1; ties keep order."""
    fused = _scaled([score for _, score in head])
    scores = (1 - weight) * fused + weight * _scaled(logits)
    return [head[place][0] for place in np.argsort(-scores, kind="stable")]


def score_head(
    model: CrossEncoder, pairs: PairEncoder, query: str, passages: Sequence[str]
) -> list[float]:
    """Logits of the passages, in batches of similar length."""
    order = sorted(range(len(passages)), key=lambda place: len(passages[place]))
    logits = [0.0] * len(passages)
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        with torch.inference_mode():
            batch = model(*pairs.encode(query, [passages[place] for place in places]))
        for place, logit in zip(places, batch[:, 0].tolist(), strict=True):
            logits[place] = logit
    return logits


class Evaluation:
    """One reranker over one first stage; figures are means over a collection's queries."""

    def __init__(self, model: CrossEncoder, pairs: PairEncoder, depth: int, cache: Path) -> None:
        source = read_sentence_model(packaged_minilm())
        self._tokenizer = Tokenizer.from_file(str(source.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(source.max_length)
        self._encoder = load_bi_encoder(source)
        self._model = model
        self._pairs = pairs
        self._depth = depth
        self._cache = cache

    def measure(self, collection: Collection, sample: int) -> dict[str, float]:
        """nDCG@10 per way of ranking; at most `sample` judged queries, drawn by a fixed seed."""
        lexical = Bm25(collection.documents)
        queries = self._vectors(collection.queries, f"{collection.name}.q")
        documents = self._vectors(collection.documents, f"{collection.name}.d")
        rows = np.random.default_rng(17).permutation(sorted(collection.relevant))[:sample].tolist()
        found: dict[str, list[float]] = {}
        for row in rows:
            query, grades = collection.queries[row], collection.relevant[row]
            bm25 = lexical.top(query, FIRST_STAGE_DEPTH)
            dense = dense_top(queries[row], documents, FIRST_STAGE_DEPTH)
            fused = reciprocal_rank_fusion([bm25, dense])
            rankings = {"bm25": bm25, "dense": dense, "hybrid": fused}
            for name, ranking in rankings.items():
                found.setdefault(name, []).append(ndcg([doc for doc, _ in ranking], grades))
            head = fused[: self._depth]
            texts = [collection.documents[doc] for doc, _ in head]
            logits = score_head(self._model, self._pairs, query, texts)
            for weight in WEIGHTS:
                value = ndcg(blend(head, logits, weight), grades)
                found.setdefault(f"w={weight}", []).append(value)
        return {"queries": len(rows)} | {name: _mean(values) for name, values in found.items()}

    def _vectors(self, texts: list[str], name: str) -> Floats:
        return embed(self._encoder, self._tokenizer, texts, self._cache / f"{name}.npy")


def read_measured(data: Path, name: str) -> Collection:
    """A collection to measure on; of cosqa and squad_a the half that is not trained on."""
    collection = read_beir(data, name, SPLITS[name])
    if name not in HALVED:
        return collection
    held_out = {
        row: grades
        for row, grades in collection.relevant.items()
        if not in_training_half(split_key(collection, row))
    }
    return Collection(**{**vars(collection), "relevant": held_out})


def _scaled(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float32)
    span = array.max() - array.min()
    return (array - array.min()) / span if span > 0 else np.zeros_like(array)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cache", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--depth", default=20, show_default=True, help="Passages reranked.")
@click.option("--max-tokens", default=256, show_default=True, help="Tokens of a pair.")
@click.option("--sample", default=1000, show_default=True, help="Queries per collection.")
@click.option("--threads", default=2, show_default=True)
@click.argument("names", nargs=-1)
def main(
    data: Path,
    cache: Path,
    weights: Path,
    depth: int,
    max_tokens: int,
    sample: int,
    threads: int,
    names: tuple[str, ...],
) -> None:
    """Print a Markdown row of nDCG@10 for each of NAMES (default: all collections)."""
    torch.set_num_threads(threads)
    source = read_sentence_model(packaged_minilm())
    pairs = PairEncoder(Tokenizer.from_file(str(source.tokenizer)), max_tokens)
    model = load_cross_encoder(weights, source.transformer)
    evaluation = Evaluation(model, pairs, depth, cache)
    for name in names or SPLITS:
        started = time.monotonic()
        figures = evaluation.measure(read_measured(data, name), sample)
        cells = [f"{key} {value:.3f}" for key, value in figures.items() if key != "queries"]
        seconds = time.monotonic() - started
        click.echo(f"| {name} ({figures['queries']}) | {' | '.join(cells)} | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
