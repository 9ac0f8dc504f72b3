"""What the exporter wrote, run as the services run it: tokenizer.json, padding, model.pt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from deploy.models import tracing
from deploy.models.repository import read_versions

Floats = NDArray[np.float32]


class Served:
    """The newest version of an exported model."""

    def __init__(self, directory: Path) -> None:
        self.info = read_versions(directory)[-1].info
        self._module: Any = tracing.load((directory / self.info.version / "model.pt").read_bytes())
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.info.max_length)
        ids = [self._tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>")]
        self._pad = next(number for number in ids if number is not None)

    def encode(self, texts: Sequence[str], *, prompt: str = "", batch_size: int = 32) -> Floats:
        """Vectors [n, dimension] of texts in batches, in order."""
        encodings = self._tokenizer.encode_batch([prompt + text for text in texts])
        prompt_tokens = len(self._tokenizer.encode(prompt).ids) - 1 if prompt else 0
        return self._run(encodings, prompt_tokens, batch_size)

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> Floats:
        """Logits [n, labels] of pairs in batches, in order."""
        return self._run(self._tokenizer.encode_batch(list(pairs)), 0, batch_size)

    def _run(self, encodings: list[Encoding], prompt_tokens: int, batch_size: int) -> Floats:
        parts = [
            self._batch(encodings[start : start + batch_size], prompt_tokens)
            for start in range(0, len(encodings), batch_size)
        ]
        return np.concatenate(parts)

    def _batch(self, encodings: list[Encoding], prompt_tokens: int) -> Floats:
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        tensors = {
            "ids": torch.full(shape, self._pad),
            "mask": torch.zeros(shape, dtype=torch.long),
            "types": torch.zeros(shape, dtype=torch.long),
        }
        for row, encoding in enumerate(encodings):
            end = len(encoding.ids)
            tensors["ids"][row, :end] = torch.tensor(encoding.ids)
            tensors["types"][row, :end] = torch.tensor(encoding.type_ids)
            tensors["mask"][row, :end] = 1
        tensors["pooling_mask"] = tensors["mask"].clone()
        tensors["pooling_mask"][:, :prompt_tokens] = 0
        with torch.inference_mode():
            output = self._module(*(tensors[name] for name in self.info.inputs))
        assert output.shape == (len(encodings), self.info.width)
        assert output.dtype == torch.float32
        result: Floats = output.numpy()
        return result


def cosines(ours: Floats, theirs: Floats) -> Floats:
    """Row by row, float32 [n]."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    result: Floats = (ours * theirs).sum(axis=1) / lengths
    return result
