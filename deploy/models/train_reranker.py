"""Train the shipped cross-encoder on CPU.

    python -m deploy.models.train_reranker --data DIR --out DIR [--steps 3000] [--minutes 60]

Each step takes a few groups of one positive passage and several hard negatives and minimises
the listwise softmax cross-entropy, plus a small divergence from the first stage's own scores,
which keeps what fusion already knows. The learning rate warms up, then falls along a cosine that
ends with the steps or the minutes, whichever come first.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from deploy.models.bi_encoder import load_bi_encoder
from deploy.models.cross_encoder import (
    CrossEncoder,
    from_sentence_encoder,
    own_weights,
    save_weights,
)
from deploy.models.pair_encoder import PairEncoder
from deploy.models.sentence_model import (
    packaged_minilm,
    read_sentence_model,
)
from deploy.models.training_groups import Group, mine_all

logger = logging.getLogger(__name__)

MIXTURE = {
    "scifact": 0.2,
    "cosqa": 0.12,
    "code": 0.13,
    "squad_a": 0.2,
    "win32": 0.2,
    "papers": 0.15,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; it is stored beside them."""

    layers: tuple[int, ...] = (0, 2, 4)
    steps: int = 3000
    minutes: float = 60.0
    queries: int = 6
    negatives: int = 5
    max_tokens: int = 128
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    warmup: float = 0.06
    taught_weight: float = 0.2
    average_decay: float = 0.99
    seed: int = 17


def sample_passages(
    group: Group, negatives: int, rng: np.random.Generator
) -> tuple[list[str], Tensor | None]:
    """One positive first, then negatives: half from the hardest ten, the rest from all kept."""
    positive = int(rng.integers(len(group.positives)))
    count = len(group.negatives)
    hard = min(10, count, (negatives + 1) // 2)
    picked = rng.permutation(min(10, count))[:hard].tolist()
    others = [row for row in rng.permutation(count).tolist() if row not in picked]
    picked += others[: negatives - hard]
    passages = [group.positives[positive], *(group.negatives[row] for row in picked)]
    if group.taught is None:
        return passages, None
    offset = len(group.positives)
    rows = [positive, *(offset + row for row in picked)]
    return passages, torch.tensor([group.taught[row] for row in rows], dtype=torch.float32)


def group_loss(logits: Tensor, taught: Tensor | None, taught_weight: float) -> Tensor:
    """Softmax cross-entropy of the first passage plus KL from the taught distribution."""
    log_shares = functional.log_softmax(logits, dim=0)
    loss = -log_shares[0]
    if taught is None:
        return loss
    shares = torch.softmax(2.0 * taught, dim=0)
    return loss + taught_weight * functional.kl_div(log_shares, shares, reduction="sum")


class Trainer:
    """Draws groups, steps the optimiser, keeps a moving average of the weights and saves it."""

    def __init__(self, recipe: Recipe, groups: dict[str, list[Group]], out: Path) -> None:
        torch.manual_seed(recipe.seed)
        source = read_sentence_model(packaged_minilm())
        self.recipe = recipe
        self.out = out
        self.groups = groups
        self.names = [name for name in MIXTURE if groups.get(name)]
        shares = np.array([MIXTURE[name] for name in self.names])
        self.shares = shares / shares.sum()
        self.rng = np.random.default_rng(recipe.seed)
        self.model = from_sentence_encoder(source.transformer, recipe.layers).eval()
        self.pairs = PairEncoder(Tokenizer.from_file(str(source.tokenizer)), recipe.max_tokens)
        self.average = {name: value.clone() for name, value in own_weights(self.model).items()}
        self.optimizer = _optimizer(self.model, recipe)
        self.done = 0
        self.tokens = 0

    def run(self) -> None:
        """Train until the recipe's steps or minutes are used up; saves every 50 steps."""
        started = time.monotonic()
        recent: list[float] = []
        progress = 0.0
        while progress < 1.0:
            recent.append(self.step(progress))
            elapsed = time.monotonic() - started
            progress = max(self.done / self.recipe.steps, elapsed / 60 / self.recipe.minutes)
            if self.done % 10 == 0:
                rate = self.tokens / elapsed
                mean = float(np.mean(recent[-50:]))
                logger.info("step %d loss %.4f tokens/s %.0f", self.done, mean, rate)
            if self.done % 50 == 0 or progress >= 1.0:
                self.save(mean_loss=float(np.mean(recent[-50:])))

    def step(self, progress: float) -> float:
        """One optimiser step over `recipe.queries` groups; returns their mean loss."""
        share = learning_rate_share(progress, self.recipe.warmup)
        for part in self.optimizer.param_groups:
            part["lr"] = part["peak"] * share
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(self.recipe.queries):
            name = self.names[int(self.rng.choice(len(self.names), p=self.shares))]
            group = self.groups[name][int(self.rng.integers(len(self.groups[name])))]
            passages, taught = sample_passages(group, self.recipe.negatives, self.rng)
            ids, mask, segments = self.pairs.encode(group.query, passages)
            logits = self.model(ids, mask, segments).squeeze(1)
            loss = group_loss(logits, taught, self.recipe.taught_weight)
            (loss / self.recipe.queries).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            self.tokens += ids.numel()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        self._follow()
        return total / self.recipe.queries

    def save(self, mean_loss: float) -> None:
        """Write the averaged weights to `out/weights.safetensors`."""
        about = {**asdict(self.recipe), "done": self.done, "loss": round(mean_loss, 4)}
        path = self.out / "weights.safetensors"
        save_weights(self.average, path, layers=self.recipe.layers, about=about)

    def _follow(self) -> None:
        decay = min(self.recipe.average_decay, self.done / (self.done + 10))
        for name, value in own_weights(self.model).items():
            self.average[name].lerp_(value.detach(), 1 - decay)


def learning_rate_share(progress: float, warmup: float) -> float:
    """Share of the peak rate at `progress` (0 to 1): linear up, cosine down to 2 %."""
    if progress < warmup:
        return max(progress, 0.01 * warmup) / warmup
    past = (progress - warmup) / (1 - warmup)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(past, 1.0))) / 2


def _optimizer(model: CrossEncoder, recipe: Recipe) -> torch.optim.AdamW:
    layers = list(model.trunk.encoder.parameters())
    head = list(model.head.parameters())
    return torch.optim.AdamW(
        [
            {"params": layers, "peak": recipe.learning_rate},
            {"params": head, "peak": recipe.head_learning_rate},
        ],
        weight_decay=0.01,
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--layers", default="0,2,4", show_default=True, help="Layers kept of the encoder.")
@click.option("--steps", default=3000, show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="Wall-clock budget.")
@click.option("--learning-rate", default=1e-4, show_default=True)
@click.option("--seed", default=17, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    data: Path,
    out: Path,
    layers: str,
    steps: int,
    minutes: float,
    learning_rate: float,
    seed: int,
    threads: int,
) -> None:
    """Train the cross-encoder on the trainable collections under DATA."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    recipe = Recipe(
        layers=tuple(int(part) for part in layers.split(",")),
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        seed=seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    source = read_sentence_model(packaged_minilm())
    tokenizer = Tokenizer.from_file(str(source.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(source.max_length)
    groups = mine_all(data, out, load_bi_encoder(source), tokenizer)
    for name, found in groups.items():
        logger.info("mined %s: %d groups", name, len(found))
    Trainer(recipe, groups, out).run()


if __name__ == "__main__":
    main()
