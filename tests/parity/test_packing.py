"""A packed trunk gives the states of the trunk itself, and runs its layers on tokens only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deploy.models.model_files import read_trunk
from deploy.models.packing import PackedTrunk
from deploy.models.pretrained import load_transformer
from tests.parity.tiny import write_transformer

# 11 of 32 places hold a token: a whole row, a short one, one with a gap, and one that has none.
MASK = torch.tensor(
    [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
)
TOLERANCE = 1e-5


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_a_packed_trunk_gives_the_same_states(architecture: str, tmp_path: Path) -> None:
    trunk = read_trunk(write_transformer(tmp_path, architecture))
    ids = torch.randint(5, trunk.vocabulary, MASK.shape, generator=torch.Generator().manual_seed(3))
    ids[MASK == 0] = trunk.pad_id
    plain, packed = load_transformer(trunk), PackedTrunk(load_transformer(trunk))
    seen: list[int] = []
    for layer in packed.trunk.encoder.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda _, values: seen.append(values[0].shape[1]))
    positions = {} if architecture == "bert" else {"position_ids": shifted(MASK, trunk.pad_id)}

    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=MASK, **positions)[0]
        (states,) = packed(ids, MASK)

    present = MASK == 1
    assert (states - expected)[present].abs().max() < TOLERANCE
    assert not states[~present].any()
    assert set(seen) == {int(MASK.sum())}


def shifted(mask: Tensor, pad_id: int) -> Tensor:
    """RoBERTa's positions for a row whose padding may stand between tokens."""
    return (torch.arange(mask.shape[1]) + pad_id + 1).expand(mask.shape)
