"""A sentence encoder as one module: transformer, pooling and normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.models.pretrained import load_transformer
from deploy.models.sentence_model import SentenceModel

_EMPTY = 1e-9


class BiEncoder(nn.Module):
    """Token ids of texts to one vector each."""

    def __init__(self, trunk: nn.Module, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask INT64 [batch, tokens]. Returns FP32 [batch, dimension]."""
        states = self.trunk(input_ids=input_ids, attention_mask=attention_mask)[0]
        vectors = _pool(states, attention_mask.unsqueeze(-1).to(states.dtype), self.pooling)
        return functional.normalize(vectors, p=2.0, dim=1) if self.normalize else vectors


def load_bi_encoder(model: SentenceModel) -> BiEncoder:
    """The eager module in evaluation mode, FP32, from local files only."""
    return BiEncoder(load_transformer(model.transformer), model.pooling, model.normalize).eval()


def _pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).amax(dim=1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=_EMPTY)
