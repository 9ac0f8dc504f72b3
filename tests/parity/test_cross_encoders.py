"""Cross-encoders with one label and with several, against the library's CrossEncoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from core.encoding import activate
from deploy.models.export import export_directory
from tests.parity.served import Served
from tests.parity.tiny import write_transformer

LOGIT_TOLERANCE = 1e-4
PAIRS = [
    ("gzip", "compress bytes"),
    ("How do I sort?", "Return a new array, sorted by key, in ascending order. " * 3),
    ("a fox", "the quick brown fox jumps over the lazy dog"),
    ("fox", ""),
    ("café 東京", "naïve"),
]
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
CASES: dict[str, dict[str, Any]] = {
    "bert": {"num_labels": 1},
    "electra": {"id2label": NLI},
    "roberta": {"id2label": NLI},
    "xlm-roberta": {"num_labels": 1},
    "distilbert": {"num_labels": 1},
    "mpnet": {"num_labels": 1},
    "modernbert": {"num_labels": 2},
    "deberta-v2": {"id2label": NLI},
}


@pytest.mark.parametrize("architecture", CASES)
def test_pairs_get_the_logits_and_scores_of_the_library(architecture: str, tmp_path: Path) -> None:
    saved = write_transformer(
        tmp_path / "saved",
        architecture,
        head="ForSequenceClassification",
        **CASES[architecture],
    )
    original = CrossEncoder(str(saved), device="cpu")
    labels = original.num_labels

    export_directory(tmp_path, saved, name="judge")

    served = Served(tmp_path / "judge")
    raw = original.predict(PAIRS, activation_fn=torch.nn.Identity()).reshape(-1, labels)
    scores = original.predict(PAIRS, apply_softmax=labels > 1).reshape(-1, labels)
    assert np.ptp(raw) > 100 * LOGIT_TOLERANCE
    for batch_size in (1, 2, 5):
        logits = served.score(PAIRS, batch_size=batch_size)
        assert np.abs(logits - raw).max() <= LOGIT_TOLERANCE
        assert np.abs(activate(logits, served.info.activation) - scores).max() <= LOGIT_TOLERANCE


def test_labels_and_the_one_that_ranks_go_along(tmp_path: Path) -> None:
    saved = write_transformer(
        tmp_path / "plain", "bert", head="ForSequenceClassification", id2label=NLI
    )

    export_directory(tmp_path, saved, name="judge")

    info = Served(tmp_path / "judge").info
    assert info.labels == ("contradiction", "entailment", "neutral")
    assert info.relevance_label == "entailment"
    assert info.activation == "softmax"
    assert info.inputs == ("ids", "mask", "types")


@pytest.mark.parametrize(
    ("chosen", "expected"), [(torch.nn.Identity(), "identity"), (torch.nn.Sigmoid(), "sigmoid")]
)
def test_the_activation_that_the_library_saved_is_kept(
    chosen: torch.nn.Module, expected: str, tmp_path: Path
) -> None:
    plain = write_transformer(
        tmp_path / "plain", "distilbert", head="ForSequenceClassification", num_labels=1
    )
    CrossEncoder(str(plain), max_length=24, activation_fn=chosen, device="cpu").save_pretrained(
        str(tmp_path / "saved")
    )

    export_directory(tmp_path, tmp_path / "saved", name="judge")

    info = Served(tmp_path / "judge").info
    assert (info.activation, info.max_length, info.inputs) == (expected, 24, ("ids", "mask"))
