"""Train the shipped reranker again, on CPU.

    python -m deploy.training.reranker --data DIR --out DIR

DIR holds the trainable collections (BEIR folders, `pairs/`, `scale/`); the card beside the weights
lists them. Mining comes first and keeps its embeddings under OUT, then training, which resumes from
OUT after an interruption. The steps and the seed decide the weights, not the clock.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer

from deploy.models.bi_encoder import load_bi_encoder
from deploy.models.cross_encoder import from_sentence_encoder
from deploy.models.sentence_model import SentenceModel, packaged_minilm, read_sentence_model
from deploy.training.groups import Group, mine_hybrid, split_held_back
from deploy.training.pair_encoder import PairEncoder
from deploy.training.pseudo_queries import code_groups, sentence_groups
from deploy.training.rarity import token_rarity
from deploy.training.recipe import Recipe
from deploy.training.retrieval_data import read_beir, read_enwiki, read_passages
from deploy.training.trainer import Trainer

logger = logging.getLogger(__name__)

PSEUDO_QUERIES = 2000
ENWIKI_TEXTS = 20_000

# The first places of the shuffled encyclopedia stay unseen: evaluation hides answers among them.
ENWIKI_START = 20_000


def mine_sources(
    data: Path, cache: Path, source: SentenceModel, seed: int
) -> dict[str, list[Group]]:
    """Groups of every trainable source under `data`, without those held back."""
    tokenizer = Tokenizer.from_file(str(source.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(source.max_length)
    groups = mine_hybrid(data, cache, load_bi_encoder(source), tokenizer)
    enwiki = read_enwiki(data, ENWIKI_START, ENWIKI_TEXTS)
    groups["code"] = code_groups(read_beir(data, "cosqa", "dev"), PSEUDO_QUERIES, seed)
    groups["abstracts"] = sentence_groups(read_passages(data, "papers"), PSEUDO_QUERIES, seed)
    groups["enwiki"] = sentence_groups(enwiki, PSEUDO_QUERIES, seed)
    training = {name: split_held_back(found)[0] for name, found in groups.items()}
    for name, found in training.items():
        logger.info("mined %s: %d groups", name, len(found))
    return training


def general_texts(data: Path) -> list[str]:
    """What word rarity is counted over: an encyclopedia, abstracts, documentation."""
    enwiki = read_enwiki(data, ENWIKI_START, ENWIKI_TEXTS)
    return enwiki + read_passages(data, "papers")[::2] + read_passages(data, "win32")[::5]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=Recipe.steps, show_default=True)
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(data: Path, out: Path, steps: int, seed: int, threads: int) -> None:
    """Train the cross-encoder on the trainable collections under DATA."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    recipe = replace(Recipe(), steps=steps, seed=seed)
    source = read_sentence_model(packaged_minilm())
    model = from_sentence_encoder(source.transformer, recipe.layers)
    counting = Tokenizer.from_file(str(source.tokenizer))
    vocabulary = model.head.rarity.numel()
    rarity = token_rarity(counting, general_texts(data), vocabulary)
    model.head.rarity.copy_(torch.from_numpy(rarity.astype(np.float16)))
    groups = mine_sources(data, out, source, recipe.seed)
    pairs = PairEncoder(Tokenizer.from_file(str(source.tokenizer)), recipe.max_tokens)
    Trainer(recipe, model, pairs=pairs, groups=groups, out=out).run()


if __name__ == "__main__":
    main()
