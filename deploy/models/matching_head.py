"""The head of the shipped cross-encoder: how well a passage's tokens answer a query's.

Fusion by rank forgets by how much one passage beat the next. The head puts that back: BM25-like
weights of the words both texts share, and similarities of contextual token states (MaxSim of
ColBERT, arXiv:2004.12832), joined by learnt scales. It ranks sensibly before any training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_FLOOR = 1e-6
_ABSENT = -1e4

# BM25's usual saturation; a weaker length correction, as long passages arrive cut.
_SATURATION = 1.2
_LENGTH_SHARE = 0.4
_USUAL_LENGTH = 100.0

# Starting scales: MaxSim, cosine of means, shared words, similar words, shared pairs of words.
_SCALES = (8.0, 8.0, 6.0, 4.0, 2.0)
_RARITY = 0.2


class MatchingHead(nn.Module):
    """Scores jointly encoded tokens by MaxSim, cosine, shared words, and a linear rest."""

    rarity: Tensor

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.term_weight = nn.Linear(hidden, 1)
        self.rest = nn.Linear(3 * hidden, 1)
        self.scales = nn.Parameter(torch.tensor(_SCALES))
        self.rarity_scale = nn.Parameter(torch.tensor(_RARITY))
        self.register_buffer("rarity", torch.ones(vocabulary))
        for linear in (self.term_weight, self.rest):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, states: Tensor, words: Tensor, ids: Tensor, query: Tensor, passage: Tensor
    ) -> Tensor:
        """Logits FP32 [batch, 1].

        states, words FP32 [batch, tokens, hidden]: contextual and plain embeddings; ids INT64
        [batch, tokens]; query, passage FP32 [batch, tokens] of 0 and 1.
        """
        rarity = self.rarity[ids]
        query_mean = functional.normalize(_mean(states, query), dim=-1)
        passage_mean = functional.normalize(_mean(states, passage), dim=-1)
        product = query_mean * passage_mean

        # Only queries' tokens look for their like, and queries come first: few of all tokens.
        asking = query.amax(dim=0).nonzero().squeeze(1)
        asked, rarity = query.index_select(1, asking), rarity.index_select(1, asking)
        weight = self.term_weight(states.index_select(1, asking)).squeeze(-1)
        weight = weight + self.rarity_scale * rarity + _ABSENT * (1.0 - asked)
        weight = torch.softmax(weight, dim=1)
        share = asked * rarity
        share = share / share.sum(dim=1, keepdim=True).clamp(min=_FLOOR)
        same = ids.index_select(1, asking).unsqueeze(2) == ids.unsqueeze(1)
        same = same.to(states.dtype) * passage.unsqueeze(1)
        matches = torch.stack(
            [
                (weight * _closest(states, asking, passage)).sum(dim=1),
                product.sum(dim=1),
                (share * _saturated(same.sum(dim=2), passage)).sum(dim=1),
                (share * _closest(words, asking, passage)).sum(dim=1),
                _shared_pairs(same, asked * rarity),
            ],
            dim=1,
        )
        features = torch.cat([states[:, 0], product, (query_mean - passage_mean).abs()], dim=1)
        logit: Tensor = (matches * self.scales).sum(dim=1, keepdim=True) + self.rest(features)
        return logit


def _closest(states: Tensor, asking: Tensor, passage: Tensor) -> Tensor:
    """Largest cosine of each token at `asking` to a token of the passage, [batch, asking]."""
    unit = functional.normalize(states, dim=-1)
    asked = unit.index_select(1, asking)
    closeness = asked @ unit.transpose(1, 2) - 2.0 * (1.0 - passage).unsqueeze(1)
    return closeness.amax(dim=2).clamp(min=-1.0)


def _saturated(counts: Tensor, passage: Tensor) -> Tensor:
    """BM25's share of a term by its count in the passage, 0 to 1 + saturation."""
    length = passage.sum(dim=1, keepdim=True) / _USUAL_LENGTH
    floor = _SATURATION * (1.0 - _LENGTH_SHARE + _LENGTH_SHARE * length)
    return counts * (1.0 + _SATURATION) / (counts + floor)


def _shared_pairs(same: Tensor, rarity: Tensor) -> Tensor:
    """Share of the query's neighbouring tokens that stand side by side in the passage too.

    same [batch, asking, tokens]; rarity [batch, asking], 0 for what is not of the query.
    """
    next_same = functional.pad(same[:, 1:, 1:], (0, 1, 0, 1))
    together = (same * next_same).amax(dim=2)
    rarer = torch.minimum(rarity, functional.pad(rarity[:, 1:], (0, 1)))
    return (rarer * together).sum(dim=1) / rarer.sum(dim=1).clamp(min=_FLOOR)


def _mean(states: Tensor, members: Tensor) -> Tensor:
    total = (states * members.unsqueeze(-1)).sum(dim=1)
    mean: Tensor = total / members.sum(dim=1, keepdim=True).clamp(min=_FLOOR)
    return mean
