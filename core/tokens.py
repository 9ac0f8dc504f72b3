"""Text to token ids and byte offsets, with the tokenizer that belongs to a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from core.errors import ModelMismatch


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of one text, without special tokens; all three arrays are int32 [n].

    `starts` and `ends` are byte offsets into the UTF-8 text.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The special tokens around one text (`before`, `after`) or two (`between` them as well).

    `types` are the token types of the first and the second text with the special tokens that follow
    each; whatever stands before the first text has the first type.
    """

    before: NDArray[np.int32]
    between: NDArray[np.int32]
    after: NDArray[np.int32]
    types: tuple[int, int] = (0, 0)

    @property
    def count(self) -> int:
        """Special tokens in all."""
        return len(self.before) + len(self.between) + len(self.after)


class Tokenizer:
    """A model's `tokenizer.json`. Never truncates, never pads, adds no special tokens.

    Special tokens written out in a text ("[SEP]") are text like any other.
    """

    def __init__(self, inner: tokenizers.Tokenizer, sha256: str) -> None:
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True
        self._inner = inner
        self.sha256 = sha256
        self.single = _template(inner, pair=False)
        self.pair = _template(inner, pair=True)
        self.pad_id = _pad_id(inner)

    @classmethod
    def load(cls, path: Path, sha256: str) -> Tokenizer:
        """Reads a `tokenizer.json` whose digest must be `sha256` ("" accepts any).

        Raises ModelMismatch if it is missing, is no tokenizer or has another digest.
        """
        remedy = "export the model again with `trireme models export`"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelMismatch(
                f"cannot be read: {error.strerror}", field=str(path), remedy=remedy
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if sha256 and digest != sha256:
            raise ModelMismatch(
                f"has sha256 {digest[:12]}, the served model was exported with {sha256[:12]}",
                field=str(path),
                remedy=remedy,
            )
        try:
            inner = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelMismatch(
                f"is not a tokenizer: {error}", field=str(path), remedy=remedy
            ) from error
        return cls(inner, digest)

    def encode(self, text: str) -> Tokens:
        """The tokens of one text."""
        return _tokens(text, self._inner.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, in order."""
        encodings = self._inner.encode_batch(list(texts), add_special_tokens=False)
        return [_tokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def spell(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it (`ship`, `##ped`); "" for an unknown id."""
        return [self._inner.id_to_token(token) or "" for token in ids]

    def __repr__(self) -> str:
        return f"<Tokenizer {self._inner.get_vocab_size()} tokens, sha256 {self.sha256[:12]}>"


def _tokens(text: str, encoding: Any) -> Tokens:
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    if not text.isascii():
        offsets = _byte_positions(text)[offsets]
    return Tokens(np.array(encoding.ids, dtype=np.int32), offsets[:, 0], offsets[:, 1])


def _byte_positions(text: str) -> NDArray[np.int32]:
    """Where each character starts in UTF-8, and where the last one ends: int32 [n + 1]."""
    characters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    positions = np.zeros(len(characters) + 1, dtype=np.int32)
    sizes = 1 + (characters >= 0x80) + (characters >= 0x800) + (characters >= 0x10000)
    np.cumsum(sizes, out=positions[1:])
    return positions


def _template(inner: tokenizers.Tokenizer, *, pair: bool) -> Template:
    """Reads the special tokens from what the post-processor puts around a one-token text."""
    joined = inner.encode("a", "a") if pair else inner.encode("a")
    ids = np.array(joined.ids, dtype=np.int32)
    sequence = [-1 if number is None else number for number in joined.sequence_ids]
    first = [place for place, number in enumerate(sequence) if number == 0]
    if not first:
        raise ModelMismatch("makes no token of the letter 'a'", field="tokenizer.json")
    second = [place for place, number in enumerate(sequence) if number == 1] or [first[-1]]
    return Template(
        before=ids[: first[0]],
        between=ids[first[-1] + 1 : second[0]],
        after=ids[second[-1] + 1 :],
        types=(joined.type_ids[first[0]], joined.type_ids[second[0]]),
    )


def _pad_id(inner: tokenizers.Tokenizer) -> int:
    """The id of the padding token; 0 where there is none, since padding is masked anyway."""
    for token in json.loads(inner.to_str())["added_tokens"]:
        if token["content"].strip("[]<>|").lower() in ("pad", "padding", "endoftext"):
            return int(token["id"])
    return 0
