"""Quiet libraries and no network; the tests here need what exports models."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

for _module in ("torch", "transformers", "sentence_transformers"):
    pytest.importorskip(_module)

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    # Two threads that wait for each other cost more than models this small.
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _quiet(quiet_libraries: None) -> None:
    """All tests here load models."""
