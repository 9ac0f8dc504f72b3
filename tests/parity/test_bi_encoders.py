"""Every trunk with every pooling, and every chain of modules, against SentenceTransformer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from deploy.models.export import export_directory
from tests.parity.served import Served, cosines
from tests.parity.tiny import ARCHITECTURES, HIDDEN, LONGEST, write_transformer

COSINE_FLOOR = 0.99999
COMPANY_TOLERANCE = 1e-4
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
TEXTS = [
    "gzip",
    "How do I compress bytes?",
    "the quick brown fox jumps over the lazy dog",
    "a",
    "Return a new array, sorted by key, in ascending order; ties keep their order. " * 3,
    "",
    "naïve café, 42 + 1",
]

Modules = Callable[[], list[Any]]


def pair(directory: Path, modules: list[Any], **about: Any) -> tuple[SentenceTransformer, Served]:
    """The library's model of `modules`, and what was exported from its directory."""
    original = SentenceTransformer(modules=modules, device="cpu", **about)
    original.save(str(directory / "saved"), create_model_card=False)
    export_directory(directory / "repository", directory / "saved", name="tiny")
    return original, Served(directory / "repository" / "tiny")


@pytest.fixture(scope="session")
def trunks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("trunks")
    return {name: write_transformer(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def pooled(
    request: pytest.FixtureRequest, trunks: dict[str, Path], tmp_path_factory: Any
) -> tuple[SentenceTransformer, Served]:
    """A trunk whose output is all its poolings, one behind the other."""
    trunk = Transformer(str(trunks[request.param]))
    return pair(tmp_path_factory.mktemp("pooled"), [trunk, Pooling(HIDDEN, MODES)])


def sliced(vectors: Any, mode: str) -> Any:
    start = MODES.index(mode) * HIDDEN
    return np.asarray(vectors)[:, start : start + HIDDEN]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_every_trunk_and_pooling_embeds_like_the_library(
    batch_size: int, pooled: tuple[SentenceTransformer, Served]
) -> None:
    original, served = pooled
    expected = original.encode(TEXTS, batch_size=batch_size)

    vectors = served.encode(TEXTS, batch_size=batch_size)

    for mode in MODES:
        ours, theirs = sliced(vectors, mode), sliced(expected, mode)
        assert cosines(ours, theirs).min() >= COSINE_FLOOR, mode
        assert np.abs(ours - theirs).max() <= 1e-4 * max(1.0, np.abs(theirs).max()), mode
        # A model that cannot tell texts apart would pass everything above.
        assert cosines(theirs[:1], theirs[1:2]).max() < 0.999, mode


def test_a_text_keeps_its_vector_in_other_company(
    pooled: tuple[SentenceTransformer, Served],
) -> None:
    _, served = pooled

    alone = served.encode(TEXTS[:1])
    in_company = served.encode(TEXTS)[:1]

    scale = max(1.0, float(np.abs(alone).max()))
    assert np.abs(alone - in_company).max() <= COMPANY_TOLERANCE * scale


CHAINS: dict[str, Modules] = {
    "dense, layer norm, normalize": lambda: [
        Pooling(HIDDEN, "mean"),
        Dense(HIDDEN, 12),
        LayerNorm(12),
        Normalize(),
    ],
    "normalize, then dense without bias": lambda: [
        Pooling(HIDDEN, ("cls", "max")),
        Normalize(),
        Dense(2 * HIDDEN, 20, bias=False, activation_function=torch.nn.Identity()),
    ],
    "two dense layers, one of them residual": lambda: [
        Pooling(HIDDEN, "mean"),
        Dense(HIDDEN, 16, activation_function=torch.nn.GELU(), use_residual=True),
        Dropout(0.5),
        Dense(16, 16, use_residual=True),
        Normalize(),
    ],
    "dense on tokens": lambda: [
        Dense(HIDDEN, 24, module_input_name="token_embeddings"),
        Normalize(module_input_name="token_embeddings"),
        Pooling(24, "max"),
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_every_chain_of_modules_embeds_like_the_library(
    chain: str, trunks: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    modules = [Transformer(str(trunks["bert"]), max_seq_length=20), *CHAINS[chain]()]

    original, served = pair(tmp_path, modules)

    expected = np.asarray(original.encode(TEXTS))
    vectors = served.encode(TEXTS, batch_size=3)
    assert cosines(vectors, expected).min() >= COSINE_FLOOR
    assert np.abs(vectors - expected).max() <= 1e-4
    assert served.info.max_length == 20
    assert served.info.dimension == expected.shape[1]
    lengths = np.linalg.norm(vectors, axis=1)
    assert served.info.normalize == bool(np.allclose(lengths, 1.0, atol=1e-5))


def test_a_prompt_that_is_not_pooled_is_left_out_as_the_library_does(
    trunks: dict[str, Path], tmp_path: Path
) -> None:
    modules = [Transformer(str(trunks["roberta"])), Pooling(HIDDEN, MODES, include_prompt=False)]
    prompts = {"query": "ask: ", "document": "read this: "}

    original, served = pair(tmp_path, modules, prompts=prompts)

    assert served.info.inputs == ("ids", "mask", "pooling_mask")
    assert (served.info.query_prompt, served.info.document_prompt) == ("ask: ", "read this: ")
    for prompt, encode in (
        (served.info.query_prompt, original.encode_query),
        (served.info.document_prompt, original.encode_document),
    ):
        vectors, expected = served.encode(TEXTS, prompt=prompt), encode(TEXTS)
        for mode in MODES:
            assert cosines(sliced(vectors, mode), sliced(expected, mode)).min() >= COSINE_FLOOR


def test_what_callers_must_know_goes_along(trunks: dict[str, Path], tmp_path: Path) -> None:
    modules = [Transformer(str(trunks["distilbert"])), Pooling(HIDDEN, "mean")]

    _, served = pair(
        tmp_path,
        modules,
        prompts={"web": "search: "},
        default_prompt_name="web",
        similarity_fn_name="manhattan",
    )

    assert served.info.similarity == "manhattan"
    assert served.info.max_length == LONGEST
    assert (served.info.query_prompt, served.info.document_prompt) == ("search: ", "search: ")
    assert served.info.inputs == ("ids", "mask")
    assert not served.info.normalize


def test_lower_precisions_stay_near(trunks: dict[str, Path], tmp_path: Path) -> None:
    modules = [Transformer(str(trunks["bert"])), Pooling(HIDDEN, "mean"), Normalize()]
    original, _ = pair(tmp_path, modules)
    expected = np.asarray(original.encode(TEXTS))

    for precision, floor in (("fp16", 0.999), ("bf16", 0.99), ("int8", 0.98)):
        repository = tmp_path / precision
        export_directory(repository, tmp_path / "saved", name="tiny", precision=precision)
        served = Served(repository / "tiny")
        vectors = served.encode(TEXTS, batch_size=2)
        assert served.info.precision == precision
        assert cosines(vectors, expected).min() >= floor
        assert np.abs(vectors - expected).max() > 0
