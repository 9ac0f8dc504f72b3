"""Measure a reranker behind the hybrid first stage.

    python -m deploy.training.evaluate --data DIR --cache DIR [--out DIR] [NAMES]

Hybrid is reciprocal rank fusion (k = 60) of the 100 best of BM25 and of the default sentence
encoder. Its head is ordered by `(1 - w) * fused + w * logit`, both scaled to 0..1 over the head, as
the gateway does; w = 1 is the reranker alone. The report says by how much the blend differs from
hybrid alone, with a paired bootstrap over queries. `--held-back` measures queries that may be
trained on but were not: that is where settings are chosen.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from deploy.models.bi_encoder import load_bi_encoder
from deploy.models.cross_encoder import load_cross_encoder
from deploy.models.sentence_model import packaged_minilm, read_sentence_model
from deploy.training.first_stage import Floats
from deploy.training.measured import MEASURED, TRAINABLE, read_held_back, read_measured
from deploy.training.measures import ndcg
from deploy.training.pair_encoder import PairEncoder
from deploy.training.report import Figures, as_json, as_markdown
from deploy.training.reranking import (
    FirstStage,
    Vectors,
    blended_ndcg,
    first_stage,
    score_heads,
)
from deploy.training.retrieval_data import Collection

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "models" / "reranker" / "weights.safetensors"
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One reranker over one first stage; `digest` names the reranker's logits in `cache`."""

    model: nn.Module
    pairs: PairEncoder
    vectors: Vectors
    depth: int
    cache: Path
    digest: str

    def measure(self, collection: Collection, rows: Sequence[int], label: str) -> Figures:
        """nDCG@10 per query of each way of ranking the judged queries at `rows`."""
        stages = self._first_stage(collection, rows)
        logits = self._logits(collection, stages, label)
        grades = [collection.relevant[stage.query] for stage in stages]
        legs = {
            "bm25": [stage.bm25 for stage in stages],
            "dense": [stage.dense for stage in stages],
            "hybrid": [stage.fused for stage in stages],
        }
        values = {
            name: [
                ndcg([row for row, _ in ranking], grade)
                for ranking, grade in zip(rankings, grades, strict=True)
            ]
            for name, rankings in legs.items()
        }
        blends = {weight: blended_ndcg(collection, stages, logits, weight) for weight in WEIGHTS}
        return Figures(collection.name, values, blends)

    def _first_stage(self, collection: Collection, rows: Sequence[int]) -> list[FirstStage]:
        queries = self.vectors.of(collection.queries, f"{collection.name}.q")
        own = self.vectors.of(collection.own_documents, f"{collection.name}.d")
        if collection.pool:
            own = np.concatenate([own, self.vectors.of(collection.pool, "enwiki_pool.d")])
        return first_stage(collection, queries, own, rows)

    def _logits(self, collection: Collection, stages: Sequence[FirstStage], label: str) -> Floats:
        kept = self.cache / f"{collection.name}.{label}.{len(stages)}.{self.digest}.logits.npy"
        if kept.exists():
            cached: Floats = np.load(kept)
            return cached
        logits = score_heads(self.model, self.pairs, collection, stages, self.depth)
        np.save(kept, logits)
        return logits


def open_evaluation(weights: Path, cache: Path, *, depth: int, max_tokens: int) -> Evaluation:
    """The reranker in `weights`: its weights file, or a model.pt that was exported."""
    source = read_sentence_model(packaged_minilm())
    tokenizer = Tokenizer.from_file(str(source.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(source.max_length)
    settings = f"{depth}:{max_tokens}:".encode()
    return Evaluation(
        model=_load(weights, source.transformer),
        pairs=PairEncoder(Tokenizer.from_file(str(source.tokenizer)), max_tokens),
        vectors=Vectors(load_bi_encoder(source), tokenizer, cache),
        depth=depth,
        cache=cache,
        digest=hashlib.sha256(settings + weights.read_bytes()).hexdigest()[:12],
    )


def _load(weights: Path, encoder_directory: Path) -> nn.Module:
    if weights.suffix != ".pt":
        return load_cross_encoder(weights, encoder_directory)
    traced: nn.Module = torch.jit.load(weights)  # type: ignore[no-untyped-call]
    return traced.eval()


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Vectors, logits.")
@click.option("--out", type=click.Path(path_type=Path), help="For report.json and report.md.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    default=SHIPPED,
    help="A weights file, or the model.pt of an export. Default: the shipped weights.",
)
@click.option("--blend", default=0.3, show_default=True, help="Share of the reranker's score.")
@click.option("--depth", default=20, show_default=True, help="Passages reranked.")
@click.option("--max-tokens", default=256, show_default=True, help="Tokens of a pair.")
@click.option("--sample", default=0, help="Queries per collection, by a fixed draw. 0: all.")
@click.option("--held-back", is_flag=True, help="Trainable queries that did not train.")
@click.option("--threads", default=2, show_default=True)
@click.argument("names", nargs=-1)
def main(
    data: Path,
    cache: Path,
    out: Path | None,
    weights: Path,
    blend: float,
    depth: int,
    max_tokens: int,
    sample: int,
    held_back: bool,
    threads: int,
    names: tuple[str, ...],
) -> None:
    """Print a Markdown table of nDCG@10 for each of NAMES (default: all collections)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    cache.mkdir(parents=True, exist_ok=True)
    evaluation = open_evaluation(weights, cache, depth=depth, max_tokens=max_tokens)
    read, label = (read_held_back, "held_back") if held_back else (read_measured, "test")
    figures = []
    for name in names or (TRAINABLE if held_back else MEASURED):
        collection = read(data, name)
        rows = np.random.default_rng(17).permutation(sorted(collection.relevant)).tolist()
        figures.append(evaluation.measure(collection, rows[: sample or None], label))
        logger.info("measured %s: %d queries", name, len(rows[: sample or None]))
    click.echo(as_markdown(figures, blend))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(as_markdown(figures, blend), encoding="utf-8")
        report = {"weights": weights.name, "depth": depth} | as_json(figures, blend)
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
