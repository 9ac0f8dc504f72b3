"""Trains the shipped cross-encoder step by step, with checkpoints that resume exactly."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.models.cross_encoder import CrossEncoder, own_weights, save_weights
from deploy.training.groups import Group
from deploy.training.listwise import group_loss, learning_rate_share, sample_group
from deploy.training.pair_encoder import PairEncoder
from deploy.training.recipe import Recipe

logger = logging.getLogger(__name__)

SAVE_EVERY = 100
_LOG_EVERY = 10


class Trainer:
    """Draws groups, steps the optimiser, keeps a moving average of the weights.

    `out/checkpoint.pt` holds everything the next step depends on; `out/weights.safetensors` the
    averaged weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: CrossEncoder,
        *,
        pairs: PairEncoder,
        groups: Mapping[str, Sequence[Group]],
        out: Path,
    ) -> None:
        self.recipe = recipe
        self.model = model.eval()
        self.out = out
        self.done = 0
        self.average = {name: value.clone() for name, value in own_weights(model).items()}
        self._pairs = pairs
        self._groups = groups
        self._names = [name for name in recipe.mixture if groups.get(name)]
        shares = np.array([recipe.mixture[name] for name in self._names])
        self._shares = shares / shares.sum()
        self._rng = np.random.default_rng(recipe.seed)
        self._optimizer = _optimizer(model, recipe)
        self._tokens = 0

    def run(self) -> None:
        """Train to the recipe's last step, from the checkpoint if one is there."""
        self.resume()
        started, recent = time.monotonic(), [0.0]
        while self.done < self.recipe.steps:
            recent = [*recent[-49:], self.step()]
            if self.done % _LOG_EVERY == 0:
                rate = self._tokens / (time.monotonic() - started)
                logger.info(
                    "step %d loss %.4f tokens/s %.0f", self.done, float(np.mean(recent)), rate
                )
            if self.done % SAVE_EVERY == 0 or self.done == self.recipe.steps:
                self.save(loss=float(np.mean(recent)))

    def step(self) -> float:
        """One optimiser step over `recipe.queries` groups; returns their mean loss."""
        recipe = self.recipe
        share = learning_rate_share(self.done / recipe.steps, recipe.warmup)
        for part in self._optimizer.param_groups:
            part["lr"] = part["peak"] * share
        self._optimizer.zero_grad()
        total = 0.0
        for _ in range(recipe.queries):
            loss = self._draw_loss() / recipe.queries
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self.done += 1
        self._follow()
        return total

    def save(self, *, loss: float) -> None:
        """Write the checkpoint, then the averaged weights."""
        state = {
            "recipe": asdict(self.recipe),
            "done": self.done,
            "model": own_weights(self.model),
            "average": self.average,
            "optimizer": self._optimizer.state_dict(),
            "draws": self._rng.bit_generator.state,
        }
        partial = self.out / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")
        about = {**asdict(self.recipe), "done": self.done, "loss": round(loss, 4)}
        weights = self.out / "weights.safetensors"
        save_weights(self.average, weights, layers=self.recipe.layers, about=about)

    def resume(self) -> None:
        """Take up `out/checkpoint.pt`; raises ValueError if another recipe wrote it."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{path} is of another recipe: give another --out or delete it")
        self.model.load_state_dict(state["model"], strict=False)
        self.average = state["average"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["draws"]
        self.done = state["done"]
        logger.info("resumed at step %d", self.done)

    def _draw_loss(self) -> Tensor:
        name = self._names[int(self._rng.choice(len(self._names), p=self._shares))]
        group = self._groups[name][int(self._rng.integers(len(self._groups[name])))]
        sample = sample_group(group, self.recipe.negatives, self._rng)
        residual = float(self._rng.uniform(0.0, self.recipe.most_residual))
        ids, mask, segments = self._pairs.encode(group.query, sample.passages)
        self._tokens += ids.numel()
        logits = self.model(ids, mask, segments).squeeze(1)
        return group_loss(
            logits, sample, residual=residual, taught_weight=self.recipe.taught_weight
        )

    def _follow(self) -> None:
        decay = min(self.recipe.average_decay, self.done / (self.done + 10))
        for name, value in own_weights(self.model).items():
            self.average[name].lerp_(value.detach(), 1 - decay)


def _optimizer(model: CrossEncoder, recipe: Recipe) -> torch.optim.AdamW:
    head = model.head
    scales = [head.scales, head.rarity_scale]
    linear = [*head.term_weight.parameters(), *head.rest.parameters()]
    return torch.optim.AdamW(
        [
            {"params": list(model.trunk.encoder.parameters()), "peak": recipe.learning_rate},
            {"params": linear, "peak": recipe.head_learning_rate},
            {"params": scales, "peak": recipe.scale_learning_rate, "weight_decay": 0.0},
        ],
        weight_decay=0.01,
    )
