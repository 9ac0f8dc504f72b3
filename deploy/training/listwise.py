"""The listwise objective: what one group asks of the model, and how fast it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deploy.training.groups import HEAD, Group

_TAUGHT_SHARPNESS = 1.5
_LAST_SHARE = 0.02


@dataclass(frozen=True)
class Sample:
    """One relevant passage first, then negatives; tensors FP32 [passages]."""

    passages: list[str]
    fused: Tensor
    taught: Tensor | None


def sample_group(group: Group, negatives: int, rng: np.random.Generator) -> Sample:
    """Three in four negatives from the head that a reranker would see, the rest from below it."""
    positive = int(rng.integers(len(group.positives)))
    count = len(group.negatives)
    inside = min(HEAD, count, math.ceil(0.75 * negatives))
    picked = rng.permutation(min(HEAD, count))[:inside].tolist()
    others = [row for row in rng.permutation(count).tolist() if row not in picked]
    picked += others[: negatives - inside]
    rows = [positive, *(len(group.positives) + row for row in picked)]
    taught = None
    if group.taught is not None:
        taught = torch.tensor([group.taught[row] for row in rows], dtype=torch.float32)
    return Sample(
        passages=[group.positives[positive], *(group.negatives[row] for row in picked)],
        fused=torch.tensor([group.fused[row] for row in rows], dtype=torch.float32),
        taught=taught,
    )


def group_loss(logits: Tensor, sample: Sample, *, residual: float, taught_weight: float) -> Tensor:
    """Softmax cross-entropy of the first passage, after `residual` times the fused scores.

    Plus `taught_weight` times the divergence of the logits alone from what the legs teach.
    """
    loss = -functional.log_softmax(logits + residual * sample.fused, dim=0)[0]
    if sample.taught is None:
        return loss
    shares = torch.softmax(_TAUGHT_SHARPNESS * sample.taught, dim=0)
    divergence = functional.kl_div(functional.log_softmax(logits, dim=0), shares, reduction="sum")
    return loss + taught_weight * divergence


def learning_rate_share(progress: float, warmup: float) -> float:
    """Share of the peak rate at `progress` (0 to 1): linear up, cosine down to 2 %."""
    if progress < warmup:
        return max(progress, 0.01 * warmup) / warmup
    past = (progress - warmup) / (1 - warmup)
    return _LAST_SHARE + (1 - _LAST_SHARE) * (1 + math.cos(math.pi * min(past, 1.0))) / 2
