"""SPLADE-style encoders against the library's SparseEncoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling

from deploy.models.export import export_directory
from tests.parity.served import Served
from tests.parity.tiny import write_transformer

WEIGHT_TOLERANCE = 1e-4
TEXTS = [
    "gzip",
    "How do I compress bytes?",
    "Return a new array, sorted by key, in ascending order; ties keep their order. " * 2,
    "",
]
CASES: dict[str, tuple[Any, Any]] = {
    "bert": ("max", "relu"),
    "distilbert": ("sum", "relu"),
    "roberta": ("max", "log1p_relu"),
    "modernbert": ("sum", "log1p_relu"),
}


@pytest.mark.parametrize("architecture", CASES)
def test_texts_get_the_terms_and_weights_of_the_library(architecture: str, tmp_path: Path) -> None:
    strategy, activation = CASES[architecture]
    plain = write_transformer(tmp_path / "plain", architecture, head="ForMaskedLM")
    modules = [
        Transformer(str(plain), transformer_task="fill-mask"),
        SpladePooling(pooling_strategy=strategy, activation_function=activation),
    ]
    original = SparseEncoder(modules=modules, device="cpu")
    original.save(str(tmp_path / "saved"), create_model_card=False)

    export_directory(tmp_path, tmp_path / "saved", name="sparse")

    served = Served(tmp_path / "sparse")
    expected = original.encode(TEXTS, convert_to_sparse_tensor=False)
    info = served.info
    assert (info.kind, info.dimension) == ("sparse_encoder", expected.shape[1])
    assert (info.similarity, info.top_terms) == ("dot", min(256, expected.shape[1]))
    best = expected.sort(dim=1, descending=True).values[:, : info.top_terms].numpy()
    for batch_size in (1, 2, 4):
        terms, weights = np.split(served.encode(TEXTS, batch_size=batch_size), 2, axis=1)
        assert np.abs(weights - best).max() <= WEIGHT_TOLERANCE
        named = torch.gather(expected, 1, torch.from_numpy(terms).long()).numpy()
        assert np.abs(weights - named).max() <= WEIGHT_TOLERANCE
        assert all(len(set(row)) == info.top_terms for row in terms.tolist())
