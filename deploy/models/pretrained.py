"""Transformers from local directories, without the library's progress bars and reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
)
from transformers.utils import logging

from deploy.models.model_files import Trunk, UnsupportedModel

# Their fused attention cannot be traced for every length.
_EAGER = frozenset({"mpnet", "deberta", "deberta-v2"})
_TASKS: dict[str, Any] = {
    "feature-extraction": AutoModel,
    "fill-mask": AutoModelForMaskedLM,
    "sequence-classification": AutoModelForSequenceClassification,
}
_UNUSED = "pooler."


def load_transformer(trunk: Trunk, task: str = "feature-extraction") -> nn.Module:
    """Whatever architecture `trunk` is, with the head of `task`, FP32, in evaluation mode.

    Raises UnsupportedModel if the library cannot load it or would make up weights.
    """
    options = {"attn_implementation": "eager"} if trunk.config["model_type"] in _EAGER else {}
    module, report = _library(
        lambda: _TASKS[task].from_pretrained(
            trunk.directory,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        ),
        trunk.directory,
    )
    unneeded = _UNUSED if task != "sequence-classification" else None
    missing = [key for key in report["missing_keys"] if not (unneeded and unneeded in key)]
    if missing:
        raise UnsupportedModel(
            f"has no weights for {', '.join(sorted(missing)[:4])}", field=str(trunk.directory)
        )
    loaded: nn.Module = module.eval()
    return loaded


def load_bert(directory: Path) -> BertModel:
    """A BERT without its pooler, FP32."""
    bert: BertModel = _library(
        lambda: BertModel.from_pretrained(
            directory, add_pooling_layer=False, local_files_only=True, dtype=torch.float32
        ),
        directory,
    )
    return bert


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer as the library makes it."""
    return _library(
        lambda: AutoTokenizer.from_pretrained(directory, local_files_only=True), directory
    )


def _library(load: Callable[[], Any], directory: Path) -> Any:
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return load()
    except Exception as error:  # a broken directory shows as one of a dozen kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedModel(
            f"transformers cannot load it: {reason}", field=str(directory)
        ) from error
