"""A manifest is read back exactly, or refused."""

import json
from dataclasses import replace

import pytest

from core.errors import CorruptFile, NewerFormat
from core.languages import LexicalSettings
from core.manifest import (
    FORMAT,
    EncoderEntry,
    FileEntry,
    Manifest,
    SegmentEntry,
    SparseEncoderEntry,
    sha256_of,
)
from core.ranking_wish import FusionWish, RankingWish, RerankWish

FILE = FileEntry("vectors.faiss", 4096, "a" * 64)
DEAD = FileEntry("dead.bits", 1, "b" * 64)
META = FileEntry("meta.json", 300, "c" * 64)
MANIFEST = Manifest(
    uid="0123",
    collection="ships",
    shard=1,
    shard_count=2,
    epoch=3,
    generation=42,
    sequence=99,
    chain="d" * 64,
    previous="e" * 64,
    encoder=EncoderEntry("bi_encoder", "1", "f" * 64, 384, "cosine", 254, 32),
    segments=(
        SegmentEntry("s1", 10, 20, (FILE,), DEAD, 1, 2),
        SegmentEntry("s2", 5, 5, (FILE,)),
    ),
    lexical=(META,),
    documents=14,
    passages=23,
    created_at=1_767_323_045.25,
)


SPARSE = replace(
    MANIFEST,
    segments=(replace(MANIFEST.segments[0], postings=400), MANIFEST.segments[1]),
    sparse_encoder=SparseEncoderEntry("sparse_encoder", "2", "9" * 64, 30_522),
)
DISTANT = replace(MANIFEST, encoder=replace(MANIFEST.encoder, similarity="euclidean"))


RANKED = replace(
    MANIFEST,
    search_defaults=RankingWish(
        FusionWish(method="min-max", dense_weight=0.5), RerankWish(enabled=False), window=200
    ),
)


@pytest.mark.parametrize(
    "manifest", [MANIFEST, SPARSE, DISTANT, RANKED, replace(MANIFEST, format=1)]
)
def test_a_manifest_is_read_back_as_it_was_written(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_what_was_written_in_an_earlier_format_stays_in_it() -> None:
    def said(manifest: Manifest) -> tuple[int, bool, bool]:
        values = json.loads(manifest.to_bytes())
        return values["format"], "sparse_encoder" in values, "postings" in values["segments"][0]

    first = Manifest.from_bytes(replace(MANIFEST, format=1).to_bytes())
    second = Manifest.from_bytes(replace(SPARSE, format=2).to_bytes())

    assert said(first) == (1, False, False)
    assert said(second) == (2, True, True)
    assert said(MANIFEST) == (FORMAT, True, True)


def test_search_defaults_are_written_only_where_something_is_said() -> None:
    assert "search_defaults" not in json.loads(MANIFEST.to_bytes())
    assert json.loads(RANKED.to_bytes())["search_defaults"]["fusion"]["method"] == "min-max"


def test_settings_of_words_are_written_only_where_they_are_not_english() -> None:
    german = replace(MANIFEST, lexical_settings=LexicalSettings("de", 2))

    assert "lexical_settings" not in json.loads(MANIFEST.to_bytes())
    assert Manifest.from_bytes(german.to_bytes()) == german


def test_equal_manifests_have_equal_bytes() -> None:
    assert replace(MANIFEST).to_bytes() == MANIFEST.to_bytes()
    assert replace(MANIFEST, sequence=100).to_bytes() != MANIFEST.to_bytes()


def test_the_name_sorts_by_generation_and_tells_the_epoch() -> None:
    assert MANIFEST.name == "000000000042-000003.json"


def test_the_epoch_outranks_the_generation() -> None:
    assert replace(MANIFEST, epoch=4, generation=1).order > MANIFEST.order


def test_every_file_is_listed() -> None:
    assert list(MANIFEST.files()) == [FILE, DEAD, FILE, META]


def test_no_flipped_bit_goes_unnoticed() -> None:
    data = MANIFEST.to_bytes()

    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptFile):
            Manifest.from_bytes(bytes(damaged))


@pytest.mark.parametrize("size", [0, 1, 100, len(MANIFEST.to_bytes()) - 1])
def test_a_manifest_cut_short_is_corrupt(size: int) -> None:
    with pytest.raises(CorruptFile):
        Manifest.from_bytes(MANIFEST.to_bytes()[:size])


def signed(values: dict[str, object]) -> bytes:
    """A manifest with a right checksum, whatever it says."""

    def canonical(content: dict[str, object]) -> bytes:
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    return canonical({**values, "self_sha256": sha256_of(canonical(values))})


def test_a_newer_format_is_told_from_damage() -> None:
    newer = signed({"format": FORMAT + 1, "something": "new"})

    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        Manifest.from_bytes(newer)


@pytest.mark.parametrize("values", [{"format": 1}, {"format": 1, "uid": 7}, {"format": None}])
def test_what_is_signed_but_no_manifest_is_refused(values: dict[str, object]) -> None:
    with pytest.raises((CorruptFile, NewerFormat)):
        Manifest.from_bytes(signed(values))
