"""Tokens and their byte offsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelMismatch
from core.tokens import Tokenizer
from tests.fakes.models import VOCABULARY, make_tokenizer, write_fake_models

TOKENIZER = Tokenizer(make_tokenizer(), "")


def pieces(text: str) -> list[str]:
    """What each token covers."""
    tokens = TOKENIZER.encode(text)
    content = text.encode()
    return [content[a:b].decode() for a, b in zip(tokens.starts, tokens.ends, strict=True)]


def test_offsets_are_bytes_of_the_original_text() -> None:
    assert pieces("Ab é 日本 🦉 x") == ["Ab", "é", "日", "本", "🦉", "x"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_offsets_never_cut_a_character_and_never_go_back(text: str) -> None:
    tokens = TOKENIZER.encode(text)
    boundaries = {len(text[:place].encode()) for place in range(len(text) + 1)}

    assert boundaries.issuperset(tokens.starts.tolist())
    assert boundaries.issuperset(tokens.ends.tolist())
    assert (np.diff(tokens.starts) >= 0).all()
    assert (tokens.ends >= tokens.starts).all()


@given(st.lists(st.text(max_size=20), max_size=5))
def test_a_batch_gives_what_each_text_gives_alone(texts: list[str]) -> None:
    for text, together in zip(texts, TOKENIZER.encode_batch(texts), strict=True):
        alone = TOKENIZER.encode(text)
        assert together.ids.tolist() == alone.ids.tolist()
        assert together.starts.tolist() == alone.starts.tolist()
        assert together.ends.tolist() == alone.ends.tolist()


def test_an_empty_text_has_no_tokens() -> None:
    assert len(TOKENIZER.encode("")) == 0


def test_special_tokens_written_in_a_text_are_plain_text() -> None:
    ids = TOKENIZER.encode("[SEP] [PAD]").ids

    assert not {VOCABULARY["[SEP]"], VOCABULARY["[PAD]"]}.intersection(ids.tolist())


def test_nothing_is_truncated_or_padded_whatever_the_file_says() -> None:
    inner = make_tokenizer()
    inner.enable_truncation(4)
    inner.enable_padding(length=8)

    assert len(Tokenizer(inner, "").encode("a b c d e f").ids) == 6


def test_templates_come_from_the_post_processor() -> None:
    start, end = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]

    assert TOKENIZER.single.before.tolist() == [start]
    assert TOKENIZER.single.after.tolist() == [end]
    assert TOKENIZER.single.count == 2
    assert TOKENIZER.pair.between.tolist() == [end]
    assert TOKENIZER.pair.types == (0, 1)
    assert TOKENIZER.pair.count == 3
    assert TOKENIZER.pad_id == VOCABULARY["[PAD]"]


def test_a_tokenizer_is_loaded_only_with_its_digest(tmp_path: Path) -> None:
    path = write_fake_models(tmp_path) / "bi_encoder" / "tokenizer.json"
    digest = Tokenizer.load(path, "").sha256

    assert Tokenizer.load(path, digest).sha256 == digest
    with pytest.raises(ModelMismatch):
        Tokenizer.load(path, "0" * 64)


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_file_that_is_no_tokenizer_is_a_mismatch(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModelMismatch):
        Tokenizer.load(path, "")
