"""A SPLADE-style encoder: the heaviest vocabulary terms of each text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploy.models.pretrained import load_transformer
from deploy.models.sparse_model import SparseModel


class SparseEncoder(nn.Module):
    """Token ids of texts to the weights of vocabulary terms."""

    def __init__(self, trunk: nn.Module, model: SparseModel) -> None:
        super().__init__()
        self.trunk = trunk
        self.strategy = model.strategy
        self.twice = model.activation == "log1p_relu"
        self.top_terms = model.top_terms

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both inputs INT64 [batch, tokens].

        Returns FP32 [batch, 2 * top_terms]: the ids of the heaviest terms (exact, being below
        2 ** 24), then their weights, descending; a term of weight 0 is none.
        """
        weights, terms = self.weights(input_ids, attention_mask).topk(self.top_terms, dim=1)
        return torch.cat([terms.to(weights.dtype), weights], dim=1)

    def weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """FP32 [batch, vocabulary]."""
        logits = self.trunk(input_ids=input_ids, attention_mask=attention_mask)[0]
        present = logits.masked_fill(attention_mask.unsqueeze(-1) == 0, 0.0)
        if self.strategy == "sum":
            return self._saturate(present.float()).sum(dim=1)
        # Saturation keeps the order, so that one row per text has to go through it, not all.
        return self._saturate(present.amax(dim=1).float())

    def _saturate(self, logits: Tensor) -> Tensor:
        once = logits.relu().log1p()
        return once.log1p() if self.twice else once


def dense_weights(output: Tensor, vocabulary: int) -> Tensor:
    """SparseEncoder's output spread out: FP32 [batch, 2 * k] to FP32 [batch, vocabulary]."""
    terms, weights = output.chunk(2, dim=1)
    return torch.zeros(len(output), vocabulary).scatter(1, terms.long(), weights)


def load_sparse_encoder(model: SparseModel) -> SparseEncoder:
    """The eager module in evaluation mode, FP32, from local files only."""
    return SparseEncoder(load_transformer(model.trunk, "fill-mask"), model).eval()
