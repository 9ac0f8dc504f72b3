"""What a new collection gets, by what was wished and what its encoders can do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.deadline import Deadline
from core.errors import InvalidInput, ModelMismatch
from indexer.catalogue import CollectionRecord
from indexer.config import IndexerConfig
from indexer.wishes import Wish, dimensions, grant, passaging
from tests.fakes.write_path import FakeEncoders

CONFIG = IndexerConfig(
    address="",
    database_url="",
    index_directory=Path("index"),
    shard_count=2,
    triton_address="",
    model_directory=Path("models"),
)


async def granted(source: FakeEncoders, **wish: object) -> CollectionRecord:
    asked = Wish("papers", **wish)  # type: ignore[arg-type]
    return await grant(asked, source, CONFIG, Deadline.after(5))


async def test_a_passage_fits_the_encoder_that_reads_less() -> None:
    source = FakeEncoders()
    source.sparse.info = replace(source.sparse.info, max_length=40)

    alone = await granted(source)
    both = await granted(source, sparse_model="sparse_encoder")

    # Two special tokens each.
    assert alone.max_tokens == 64 - 2
    assert both.max_tokens == 40 - 2
    assert (alone.sparse_model, both.sparse_model) == ("", "sparse_encoder")


async def test_a_prompt_takes_its_room_from_the_text() -> None:
    source = FakeEncoders()
    source.info = replace(source.info, document_prompt="a b c: ")

    assert (await granted(source)).max_tokens == 64 - 2 - 4


async def test_an_encoder_whose_prompt_leaves_no_room_is_refused() -> None:
    source = FakeEncoders()
    source.info = replace(source.info, max_length=6, document_prompt="a b c: ")

    with pytest.raises(ModelMismatch, match="prompt"):
        await granted(source)


async def test_a_similarity_that_is_not_known_is_refused() -> None:
    source = FakeEncoders()
    source.info = replace(source.info, similarity="hamming")

    with pytest.raises(ModelMismatch, match="hamming"):
        await granted(source)


def test_dimensions_are_the_encoders_own_or_fewer() -> None:
    assert [dimensions(wanted, 64) for wanted in (0, 1, 64)] == [64, 1, 64]
    for wanted in (-1, 65):
        with pytest.raises(InvalidInput, match="give 1 to 64"):
            dimensions(wanted, 64)


def test_neighbours_share_less_than_half_a_passage() -> None:
    assert passaging(0, 0, 254) == (254, 32)
    assert passaging(16, 0, 254) == (16, 7)
    assert passaging(100, 49, 254) == (100, 49)
    for max_tokens, overlap in ((15, 0), (255, 0), (100, 50), (100, -1)):
        with pytest.raises(InvalidInput):
            passaging(max_tokens, overlap, 254)
