"""Vectors of tokens to one vector per text, as sentence-transformers' Pooling does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_EMPTY = 1e-9


def pool(states: Tensor, mask: Tensor, pooled: Tensor, modes: tuple[str, ...]) -> Tensor:
    """Concatenates the poolings named in `modes`.

    states FP32 [batch, tokens, hidden]; mask, pooled INT64 [batch, tokens]: 1 for tokens, and for
    those of them that are pooled (all but a prompt's). Returns FP32 [batch, hidden * len(modes)].
    """
    return torch.cat([_MODES[mode](states, mask, pooled) for mode in modes], dim=1)


def _first(states: Tensor, _: Tensor, pooled: Tensor) -> Tensor:
    return _at(states, pooled.argmax(dim=1))


def _last(states: Tensor, _: Tensor, pooled: Tensor) -> Tensor:
    return _at(states, (pooled * _places(pooled)).argmax(dim=1))


def _max(states: Tensor, _: Tensor, pooled: Tensor) -> Tensor:
    # Not minus infinity, so that a row without tokens stays finite.
    lowest = torch.finfo(states.dtype).min
    return states.masked_fill(pooled.unsqueeze(-1) == 0, lowest).amax(dim=1)


def _mean(states: Tensor, _: Tensor, pooled: Tensor) -> Tensor:
    weights = pooled.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_EMPTY)


def _mean_by_root(states: Tensor, _: Tensor, pooled: Tensor) -> Tensor:
    weights = pooled.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_EMPTY).sqrt()


def _weighted_mean(states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
    # Places count the prompt too, even where it is not pooled.
    weights = (pooled * _places(mask)).unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_EMPTY)


def _at(states: Tensor, places: Tensor) -> Tensor:
    rows = places.view(-1, 1, 1).expand(-1, 1, states.shape[2])
    return states.gather(1, rows).squeeze(1)


def _places(mask: Tensor) -> Tensor:
    """1, 2, 3, ... along the tokens."""
    return torch.ones_like(mask).cumsum(dim=1)


_MODES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _weighted_mean,
}
