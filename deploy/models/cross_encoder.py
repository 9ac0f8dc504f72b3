"""The shipped cross-encoder: a few layers of the sentence encoder under an interaction head.

The embedding tables stay those of the sentence encoder, frozen, so the weights file holds the
layers and the head alone. The head starts as a late-interaction scorer (ColBERT, arXiv:2004.12832)
over jointly encoded tokens, which ranks sensibly before the first training step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from deploy.models.pretrained import load_bert

EMBEDDINGS = "trunk.embeddings."
_FLOOR = 1e-6


class InteractionHead(nn.Module):
    """Scores jointly encoded tokens: weighted MaxSim, cosine of segment means, a linear rest."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.term_weight = nn.Linear(hidden, 1)
        self.rest = nn.Linear(3 * hidden, 1)
        self.scales = nn.Parameter(torch.tensor([10.0, 10.0]))
        for linear in (self.term_weight, self.rest):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, states: Tensor, query: Tensor, passage: Tensor) -> Tensor:
        """states FP32 [batch, tokens, hidden]; query, passage FP32 [batch, tokens] of 0 and 1."""
        unit = functional.normalize(states, dim=-1)
        closeness = unit @ unit.transpose(1, 2) - 2.0 * (1.0 - passage).unsqueeze(1)
        best = closeness.amax(dim=2).clamp(min=-1.0)
        raw_weight = self.term_weight(states).squeeze(-1) - 1e4 * (1.0 - query)
        max_sim = (torch.softmax(raw_weight, dim=1) * best).sum(dim=1)

        query_mean = functional.normalize(_mean(states, query), dim=-1)
        passage_mean = functional.normalize(_mean(states, passage), dim=-1)
        product = query_mean * passage_mean
        cosine = product.sum(dim=1)
        features = torch.cat([states[:, 0], product, (query_mean - passage_mean).abs()], dim=1)
        logit = self.scales[0] * max_sim + self.scales[1] * cosine + self.rest(features).squeeze(-1)
        column: Tensor = logit.unsqueeze(1)
        return column


def _mean(states: Tensor, members: Tensor) -> Tensor:
    total = (states * members.unsqueeze(-1)).sum(dim=1)
    mean: Tensor = total / members.sum(dim=1, keepdim=True).clamp(min=_FLOOR)
    return mean


class CrossEncoder(nn.Module):
    """Relevance logit of (query, passage) pairs joined as ``[CLS] query [SEP] passage [SEP]``."""

    def __init__(self, trunk: BertModel) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = InteractionHead(int(trunk.config.hidden_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """All inputs INT64 [batch, tokens]; segment 0 is the query. Returns FP32 [batch, 1]."""
        states = self.trunk(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )[0]
        present = attention_mask.to(states.dtype)
        passage = present * token_type_ids.to(states.dtype)
        logit: Tensor = self.head(states, present - passage, passage)
        return logit


def from_sentence_encoder(directory: Path, layers: tuple[int, ...]) -> CrossEncoder:
    """A fresh cross-encoder that keeps `layers` of the BERT encoder in `directory`."""
    trunk = load_bert(directory)
    trunk.encoder.layer = nn.ModuleList([trunk.encoder.layer[index] for index in layers])
    trunk.config.num_hidden_layers = len(layers)
    trunk.embeddings.requires_grad_(False)
    return CrossEncoder(trunk)


def own_weights(model: CrossEncoder) -> dict[str, Tensor]:
    """The parameters a weights file holds: everything but the borrowed embedding tables."""
    return {
        name: value for name, value in model.state_dict().items() if not name.startswith(EMBEDDINGS)
    }


def save_weights(
    weights: Mapping[str, Tensor],
    path: Path,
    *,
    layers: tuple[int, ...],
    about: Mapping[str, object],
) -> None:
    """Write FP16 safetensors with the layer numbers and `about` in its metadata."""
    half = {name: value.to(torch.float16).contiguous() for name, value in weights.items()}
    metadata = {"layers": json.dumps(list(layers)), "about": json.dumps(about, sort_keys=True)}
    partial = path.with_suffix(".partial")
    save_file(half, partial, metadata=metadata)
    partial.replace(path)


def load_cross_encoder(weights: Path, encoder_directory: Path) -> CrossEncoder:
    """The cross-encoder in evaluation mode; raises when `weights` lacks or adds a parameter."""
    with safe_open(weights, framework="pt") as stored:
        layers = tuple(json.loads(stored.metadata()["layers"]))
        values = {name: stored.get_tensor(name).to(torch.float32) for name in stored.keys()}  # noqa: SIM118
    model = from_sentence_encoder(encoder_directory, layers)
    unknown = set(values) ^ set(own_weights(model))
    if unknown:
        raise ValueError(f"{weights} does not fit the cross-encoder: {sorted(unknown)}")
    model.load_state_dict(values, strict=False)
    return model.eval()
