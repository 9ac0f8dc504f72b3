"""Transformers from local directories, without the library's progress bars and reports."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, BertModel
from transformers.utils import logging


def load_transformer(directory: Path) -> nn.Module:
    """Whatever architecture `directory` names, FP32."""
    _be_quiet()
    module: nn.Module = AutoModel.from_pretrained(
        directory, local_files_only=True, dtype=torch.float32
    )
    return module


def load_bert(directory: Path) -> BertModel:
    """A BERT without its pooler, FP32."""
    _be_quiet()
    return BertModel.from_pretrained(
        directory, add_pooling_layer=False, local_files_only=True, dtype=torch.float32
    )


def _be_quiet() -> None:
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
