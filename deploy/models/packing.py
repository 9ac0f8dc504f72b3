"""Transformers that compute nothing for padding.

The tokens of all texts go through the layers one after another, as if they were one long text;
only for attention they are laid out in rows again. So a batch costs what its tokens cost, whatever
its shape is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

_ATTENTION = "packed"


class PackedTrunk(nn.Module):
    """A transformer whose layers see tokens only; see `Trunk.packs` for which there are."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        trunk.set_attn_implementation(_ATTENTION)
        self.trunk = trunk
        # RoBERTa's positions stand behind that of padding.
        is_bert = trunk.config.model_type == "bert"
        self.first_position = 0 if is_bert else trunk.config.pad_token_id + 1

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Both INT64 [batch, tokens]; the mask is 0 for padding, wherever it stands.

        Returns states [batch, tokens, hidden], which are 0 for padding.
        """
        rows, tokens = input_ids.shape
        present = attention_mask != 0
        places = present.reshape(-1).nonzero().squeeze(1)
        positions = torch.arange(tokens, device=input_ids.device) + self.first_position
        states = self.trunk(
            input_ids=input_ids.reshape(-1).index_select(0, places).unsqueeze(0),
            position_ids=positions.repeat(rows).index_select(0, places).unsqueeze(0),
            attention_mask=None,
            present=present,
            places=places,
        )[0]
        return (_spread(states[0], present, places),)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    present: Tensor,
    places: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each text to itself, as the library's interface wants it.

    query, key, value [1, heads, all texts' tokens, width]. Returns [1, tokens, heads, width].
    """
    heads, width = query.shape[1], query.shape[3]
    rows, tokens = present.shape

    def in_rows(values: Tensor) -> Tensor:
        flat = values[0].transpose(0, 1).reshape(-1, heads * width)
        spread = _spread(flat, present, places).view(rows, tokens, heads, width)
        return spread.transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        in_rows(query),
        in_rows(key),
        in_rows(value),
        attn_mask=present[:, None, None, :],
        scale=scaling,
    )
    flat = attended.transpose(1, 2).flatten(0, 1)
    return flat.index_select(0, places).unsqueeze(0), None


def _spread(values: Tensor, present: Tensor, places: Tensor) -> Tensor:
    """Rows [tokens of all texts, width] at their places: [batch, tokens, width], 0 elsewhere."""
    rows, tokens = present.shape
    spread = values.new_zeros((rows * tokens, values.shape[1])).index_copy(0, places, values)
    return spread.view(rows, tokens, values.shape[1])


AttentionInterface.register(_ATTENTION, _attend)
