"""BM25's arithmetic, by hand and against Tantivy's own."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import tantivy

from core import bm25
from core.bm25 import Statistics
from core.lexical import LexicalReader, LexicalWriter


def test_a_score_is_the_sum_of_what_its_terms_add() -> None:
    statistics = Statistics(documents=4, length=20, holding={"a": 1, "b": 3})
    weights = bm25.weights({"a": 1.0, "b": 2.0}, statistics)

    (score, none) = bm25.scores(
        [*weights.values()], np.array([[2.0, 0], [1, 0]]), np.array([10, 3]), 20 / 4
    )

    saturation = 1.2 * (1 - 0.75 + 0.75 * 10 / 5)
    a = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5)) * 2.2 * 2 / (2 + saturation)
    b = 2 * math.log(1 + (4 - 3 + 0.5) / (3 + 0.5)) * 2.2 * 1 / (1 + saturation)
    assert score == pytest.approx(a + b, rel=1e-12)
    assert none == 0


def test_equal_documents_have_equal_scores_to_the_last_bit_in_any_company() -> None:
    rng = np.random.default_rng(1)
    weights = rng.random(30).tolist()
    frequencies, lengths = rng.integers(0, 9, (30, 100)).astype(float), rng.integers(1, 300, 100)

    together = bm25.scores(weights, frequencies, lengths, 77.7)
    apart = [
        bm25.scores(weights, frequencies[:, n : n + 1], lengths[n : n + 1], 77.7)[0]
        for n in range(100)
    ]

    assert together.tolist() == apart


def test_scores_are_tantivys_where_it_knows_lengths_exactly_and_below_elsewhere(
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    writer = LexicalWriter.open(tmp_path)
    sizes = [*range(1, 41), *(rng.randrange(41, 3000) for _ in range(50))]
    for number, size in enumerate(sizes, start=1):
        writer.put(number, f"d{number}", "", "ship " + "wind " * (size - 1))
        writer.put(1000 + number, f"other{number}", "", "wind " * size)
    writer.commit()
    reader = LexicalReader.open(tmp_path)
    query = tantivy.Query.term_query(reader._schema, "body", "ship", "freq")
    hits = reader._searcher.search(query, 100).hits
    statistics = Statistics(2 * len(sizes), 2 * sum(sizes), {"ship": len(sizes)})
    weights = [*bm25.weights({"ship": 1.0}, statistics).values()]

    assert len(hits) == len(sizes)
    for theirs, address in hits:
        number = int(str(reader._searcher.fast_field_values("sequence", [address])[0]))
        size = sizes[number - 1]
        (ours,) = bm25.scores(weights, np.ones((1, 1)), np.array([size]), statistics.mean_length)
        if size <= 40:
            assert ours == pytest.approx(theirs, rel=1e-6)
        else:
            assert 0.87 * theirs < ours < theirs * (1 + 1e-6)


def test_tantivys_idf_is_computed_as_it_does() -> None:
    found = bm25.tantivy_idf(20_000, [106, 20_000, 1])

    assert found[0] == pytest.approx(5.2353926, abs=1e-6)
    assert found.tolist() == pytest.approx(
        [bm25.idf(20_000, n) for n in (106, 20_000, 1)], rel=1e-2
    )
    assert bm25.tantivy_idf(1 << 30, [1 << 30]).tolist() == [0]


def test_no_score_exceeds_what_another_mean_length_lets_expect() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        mean, other = rng.uniform(1, 500, 2)
        weights = rng.random(5).tolist()
        frequencies = rng.integers(0, 20, (5, 50)).astype(float)
        lengths = rng.integers(0, 5000, 50)

        true = bm25.scores(weights, frequencies, lengths, mean)
        known = bm25.scores(weights, frequencies, lengths, other)

        assert (true <= known * bm25.overestimate(mean, other, 5)).all()
