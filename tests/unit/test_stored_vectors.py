"""The stand-in encoder of the large benchmarks gives every text the vector that belongs to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.tokens import Tokenizer
from indexer.passages import head_of, split
from tests.fakes.models import write_fake_models
from tests.fakes.stored_vectors import PASSAGING, VectorsByTokens
from tests.load.clusters import BLOCK, VectorsByNumber, nearest, text_of, vectors_of


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_models(tmp_path_factory.mktemp("models"))
    return folder / "bi_encoder" / "tokenizer.json"


def test_every_passage_of_a_document_has_its_vector(tokenizer: Path) -> None:
    documents = [("Ships", "short"), ("", "no title"), ("Long", "many words " * 400)]
    vectors = np.eye(3, 4, dtype=np.float32)
    stored = VectorsByTokens(tokenizer, vectors)
    stored.add(documents, 0)

    for row, (title, text) in enumerate(documents):
        head = head_of("", title, text)
        tokens = Tokenizer.load(tokenizer, "").encode(head + text)
        passages = split(tokens, len(head.encode()), PASSAGING)
        found = stored.find([passage.token_ids.astype(np.int64) for passage in passages])
        assert found.tolist() == [vectors[row].tolist()] * len(passages)
    assert len(passages) > 1


def test_a_text_that_nobody_knows_is_an_error(tokenizer: Path) -> None:
    stored = VectorsByTokens(tokenizer, np.eye(1, dtype=np.float32))

    with pytest.raises(KeyError):
        stored.find([np.array([7, 8])])


@pytest.mark.parametrize("number", [0, 7, 123_456, BLOCK * 122 + 5])
def test_a_number_in_a_text_finds_its_vector(tokenizer: Path, number: int) -> None:
    ids = Tokenizer.load(tokenizer, "").encode(text_of(number)).ids.astype(np.int64)

    found = VectorsByNumber(tokenizer).find([ids])

    assert found.tolist() == vectors_of([number]).tolist()
    assert np.linalg.norm(found) == pytest.approx(1)


def test_the_truth_is_what_comparing_everything_gives() -> None:
    count = BLOCK + 100
    queries = vectors_of(range(3 * BLOCK, 3 * BLOCK + 5))
    order = np.argsort(-(queries @ vectors_of(range(count)).T), axis=1)[:, :10]

    assert nearest(queries, count, 10) == [set(row) for row in order.tolist()]
