"""The models alone: texts to vectors or weighted terms, passages to scores.

Each method tells its path in order: open the model, read the texts, run it, bring into form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder, SparseEncoder, SparseVector, activate
from core.errors import BadModelOutput, InvalidInput, NotFound
from core.model_info import ModelInfo
from core.open_models import OpenModels
from core.similarity import COSINE, fit
from core.triton import TritonClient
from gateway.embedding_cache import EmbeddingCache, Key
from gateway.inference_scores import best_first, kind_of_score, ranking_label
from gateway.texts import Cut, Pairs, read_pairs, read_texts
from gateway.vector_formats import Packed, check_directions, heaviest, pack

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts to embed, as queries or as documents, and the model wanted; version "": the newest."""

    texts: Sequence[str]
    query: bool
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class RerankAsked:
    """A query and passages, the model wanted and what to return; `label` "" is the model's own."""

    query: str
    passages: Sequence[str]
    model: str
    version: str
    top_k: int
    score_kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of `dimensions` components, one per text."""

    vectors: Packed
    dimensions: int
    normalized: bool
    cuts: Sequence[Cut]
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class EmbeddedTerms:
    """Weighted terms, one set per text; `tokens` are their spellings, empty unless asked for."""

    terms: Sequence[SparseVector]
    tokens: Sequence[Sequence[str]]
    cuts: Sequence[Cut]
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores float32 [passages, labels] of one kind, and the best passages' numbers by `column`."""

    scores: Floats
    best: Sequence[int]
    column: int
    score_kind: str
    pairs: Pairs
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class Models:
    """The models that Triton serves, by kind."""

    dense: OpenModels[Encoder]
    sparse: OpenModels[SparseEncoder]
    cross: OpenModels[CrossEncoder]

    @classmethod
    def of(cls, triton: TritonClient, model_directory: Path) -> Models:
        """None opened yet; tokenizers are read from `model_directory`."""
        return cls(
            OpenModels(Encoder, triton, model_directory),
            OpenModels(SparseEncoder, triton, model_directory),
            OpenModels(CrossEncoder, triton, model_directory),
        )


class Inference:
    """Runs models over texts that callers bring.

    Every method raises InvalidInput for what a model cannot do or read, ModelMismatch, NotFound,
    BadModelOutput, TritonUnavailable or OutOfTime.
    """

    def __init__(self, models: Models, cache: EmbeddingCache) -> None:
        self._models = models
        self._cache = cache

    async def embed(
        self, asked: Texts, deadline: Deadline, *, priority: int, dimensions: int, form: str
    ) -> Embedded:
        """One vector per text, cut to `dimensions` (0: all) and in the format `form`."""
        encoder = await self._models.dense.get(asked.model, asked.version, deadline)
        info = encoder.info
        width = _within(dimensions, info.dimension, "dimensions", info)
        cuts = await read_texts(encoder, asked.texts, query=asked.query)
        with _asked_anew_if_wrong(self._models.dense, info):
            whole = await self._vectors(encoder, asked, cuts, deadline, priority)
        normalized = info.normalize or info.similarity == COSINE
        vectors = fit(whole, width, info.similarity, normalized=info.normalize)
        if normalized and width < info.dimension:
            check_directions(vectors)
        return Embedded(pack(vectors, form), width, normalized, cuts, info)

    async def embed_sparse(
        self, asked: Texts, deadline: Deadline, *, priority: int, top_terms: int, with_tokens: bool
    ) -> EmbeddedTerms:
        """The `top_terms` (0: the model's own limit) heaviest terms of each text."""
        encoder = await self._models.sparse.get(asked.model, asked.version, deadline)
        limit = _within(top_terms, encoder.info.top_terms, "top_terms", encoder.info)
        cuts = await read_texts(encoder, asked.texts, query=asked.query)
        with _asked_anew_if_wrong(self._models.sparse, encoder.info):
            found = await encoder.encode([cut.ids for cut in cuts], deadline, priority=priority)
        terms = [heaviest(vector, limit) for vector in found]
        spell = encoder.tokenizer.spell
        tokens = [spell(each.ids.tolist()) for each in terms] if with_tokens else []
        return EmbeddedTerms(terms, tokens, cuts, encoder.info)

    async def rerank(self, asked: RerankAsked, deadline: Deadline, *, priority: int) -> Judged:
        """The passages' scores, and the best of them."""
        model = await self._models.cross.get(asked.model, asked.version, deadline)
        column = ranking_label(model.info, asked.label)
        kind = kind_of_score(model.info, asked.score_kind)
        pairs = await read_pairs(model, asked.query, asked.passages)
        passages = [cut.ids for cut in pairs.passages]
        with _asked_anew_if_wrong(self._models.cross, model.info):
            logits = await model.logits(pairs.query.ids, passages, deadline, priority=priority)
        scores = activate(logits, kind)
        best = best_first(scores[:, column], logits[:, column])[: asked.top_k or None]
        return Judged(scores, best, column, kind, pairs, model.info)

    async def _vectors(
        self,
        encoder: Encoder,
        asked: Texts,
        cuts: Sequence[Cut],
        deadline: Deadline,
        priority: int,
    ) -> Floats:
        """The whole vectors, float32 [n, dimension]; a lone query's may come from the cache."""
        ids = [cut.ids for cut in cuts]
        prompt = encoder.prompt_tokens(query=asked.query)

        async def compute() -> Floats:
            return await encoder.encode(ids, deadline, priority=priority, prompt_tokens=prompt)

        async def compute_one() -> Floats:
            vector: Floats = (await compute())[0]
            return vector

        # A search refuses a query that is too long: such a one must not be found in the cache.
        if len(ids) > 1 or not asked.query or cuts[0].truncated:
            return await compute()
        key = Key.of(encoder.info, asked.texts[0], query=True)
        vector, _ = await self._cache.fetch(key, compute_one, deadline)
        return vector[None, :]


@contextmanager
def _asked_anew_if_wrong(models: OpenModels[Any], info: ModelInfo) -> Iterator[None]:
    """After a failure that another model of that name would explain, Triton is asked again."""
    try:
        yield
    except (NotFound, BadModelOutput):
        models.forget(info.name, info.version)
        raise


def _within(wanted: int, limit: int, path: str, info: ModelInfo) -> int:
    """`wanted`, or `limit` for 0; raises InvalidInput beyond it."""
    if not 0 <= wanted <= limit:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {wanted}, {info.name}:{info.version} gives {limit}",
            field=path,
            remedy=f"give 1 to {limit}, or 0 for {limit}",
        )
    return wanted or limit
