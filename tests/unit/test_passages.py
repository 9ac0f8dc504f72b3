"""How documents become passages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.tokens import Tokenizer
from indexer.passages import Passaging, Split, head_of, split, windows
from tests.fakes import models

TOKENIZER = Tokenizer(models.make_tokenizer(), "")
PASSAGING = Passaging(room=20, window=20, overlap=4, head=6)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def passages_of(
    title: str, text: str, passaging: Passaging = PASSAGING, prompt: str = ""
) -> list[Split]:
    head = head_of(prompt, title, text)
    return split(TOKENIZER.encode(head + text), len(head.encode()), passaging)


def words(count: int) -> str:
    """Distinct words of one token each."""
    pairs = itertools.product(LETTERS, LETTERS)
    return " ".join("".join(pair) for pair in itertools.islice(pairs, count))


def test_a_short_document_is_embedded_as_title_and_text() -> None:
    (passage,) = passages_of("aa bb", "cc dd")

    assert passage.token_ids.tolist() == TOKENIZER.encode("aa bb cc dd").ids.tolist()
    assert (passage.start_byte, passage.end_byte) == (0, len("cc dd"))


def test_every_passage_begins_with_the_title() -> None:
    title = TOKENIZER.encode("aa bb").ids.tolist()

    passages = passages_of("aa bb", words(60))

    assert len(passages) > 1
    assert all(passage.token_ids[:2].tolist() == title for passage in passages)


def test_neighbours_share_the_overlap_and_nothing_is_left_out() -> None:
    text = words(60)
    tokens = TOKENIZER.encode(text).ids.tolist()

    first, second, *_ = passages_of("", text)

    assert first.token_ids.tolist() == tokens[:20]
    assert second.token_ids.tolist() == tokens[20 - 4 : 2 * 20 - 4]
    assert passages_of("", text)[-1].token_ids[-1] == tokens[-1]


def test_a_long_title_takes_only_its_share_of_each_passage() -> None:
    passages = passages_of(words(30), words(40))

    assert {len(p.token_ids) for p in passages[:-1]} == {PASSAGING.room}
    assert all(p.token_ids[:6].tolist() == passages[0].token_ids[:6].tolist() for p in passages)


def test_a_title_without_text_is_one_passage_without_bytes() -> None:
    (passage,) = passages_of("aa bb", "")

    assert passage.token_ids.tolist() == TOKENIZER.encode("aa bb").ids.tolist()
    assert (passage.start_byte, passage.end_byte) == (0, 0)


def test_a_text_without_tokens_has_no_passage() -> None:
    assert passages_of("", "\u200b \u200b") == []


def test_the_models_prompt_stands_before_the_title() -> None:
    (passage,) = passages_of("bb", "cc", prompt="aa: ")

    assert passage.token_ids.tolist() == TOKENIZER.encode("aa: bb cc").ids.tolist()


@given(
    text=st.text(alphabet="aé漢😀 .", max_size=200),
    title=st.text(alphabet="aé漢 ", max_size=20),
)
def test_bytes_are_those_of_the_text_whatever_its_script(title: str, text: str) -> None:
    data = text.encode()

    for passage in passages_of(title, text):
        part = data[passage.start_byte : passage.end_byte].decode()
        room = PASSAGING.room
        assert len(passage.token_ids) <= room
        in_text = TOKENIZER.encode(part).ids
        if part:
            assert passage.token_ids[-len(in_text) :].tolist() == in_text.tolist()


@given(count=st.integers(1, 500), size=st.integers(2, 60), data=st.data())
def test_windows_cover_everything_once_but_for_the_overlap(
    count: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, (size - 1) // 2))

    ranges = list(windows(count, size, overlap))

    seen = np.zeros(count, int)
    for first, end in ranges:
        assert 0 < end - first <= size
        seen[first:end] += 1
    assert seen.min() == 1
    assert sum(end - first for first, end in ranges) == count + overlap * (len(ranges) - 1)


@pytest.mark.parametrize(
    ("title", "text", "head"), [("a", "b", "a "), ("a", "", "a"), ("", "b", "")]
)
def test_a_space_stands_between_title_and_text_only(title: str, text: str, head: str) -> None:
    assert head_of("", title, text) == head
