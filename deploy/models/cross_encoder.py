"""The shipped cross-encoder: a few layers of the sentence encoder under a matching head.

The embedding tables stay those of the sentence encoder, frozen, so the weights file holds the
layers and the head alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertModel

from deploy.models.matching_head import MatchingHead
from deploy.models.pretrained import load_bert

EMBEDDINGS = "trunk.embeddings."


class CrossEncoder(nn.Module):
    """Relevance logit of (query, passage) pairs joined as ``[CLS] query [SEP] passage [SEP]``."""

    def __init__(self, trunk: BertModel) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = MatchingHead(int(trunk.config.hidden_size), int(trunk.config.vocab_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """All inputs INT64 [batch, tokens]; segment 0 is the query. Returns FP32 [batch, 1]."""
        states = self.trunk(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )[0]
        words = self.trunk.embeddings.word_embeddings(input_ids)
        present = attention_mask.to(states.dtype)
        passage = present * token_type_ids.to(states.dtype)
        logit: Tensor = self.head(states, words, input_ids, present - passage, passage)
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
