"""The recipe of the shipped reranker: every number that decides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIXTURE: Mapping[str, float] = {
    "scifact": 0.20,
    "papers": 0.17,
    "squad_a": 0.15,
    "win32": 0.12,
    "cosqa": 0.12,
    "abstracts": 0.10,
    "code": 0.08,
    "enwiki": 0.06,
}


@dataclass(frozen=True)
class Recipe:
    """Stored beside the weights. Sources that were not mined drop out of the mixture.

    `most_residual` bounds how much of the first stage's opinion is added to the logits in the
    loss, so that the model learns what fusion lacks.
    """

    layers: tuple[int, ...] = (0, 3)
    steps: int = 800
    queries: int = 6
    negatives: int = 5
    max_tokens: int = 128
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    scale_learning_rate: float = 2e-2
    warmup: float = 0.06
    taught_weight: float = 0.3
    most_residual: float = 6.0
    average_decay: float = 0.99
    seed: int = 17
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
