"""Re-orders the head of the list with the cross-encoder, as deep as the time left allows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.deadline import Deadline
from core.encoding import CrossEncoder
from core.errors import TriremeError
from core.triton import TritonClient
from gateway.fusion import Blended, Fused, blend
from gateway.planning import REPLY_SECONDS, Speed, plan_depth
from gateway.query import Degradation, Fetched, ModelUsed, RerankSettings
from gateway.trace import RERANK


@dataclass(frozen=True, slots=True)
class Reranked:
    """A ranking, how many of its head were reranked by which model, and why not more."""

    ranking: Sequence[Blended]
    depth: int
    model: ModelUsed | None = None
    shortfall: Degradation | None = None
    triton_microseconds: int = 0


class Reranker:
    """The cross-encoder of one model name, opened at its first use and kept."""

    def __init__(self, triton: TritonClient, model: str, model_directory: Path) -> None:
        self._triton = triton
        self._model = model
        self._model_directory = model_directory
        self._cross_encoder: CrossEncoder | None = None
        self._speed = Speed()

    async def reorder(
        self,
        text: str,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        settings: RerankSettings,
        deadline: Deadline,
    ) -> Reranked:
        """The ranking after reranking up to `settings.depth` documents; never fails.

        What could not be done in time, or because Triton does not answer, stands in `shortfall`.
        """
        try:
            return await self._reorder(text, ranked, passages, settings, deadline)
        except TriremeError as error:
            return Reranked(blend(ranked, [], 0), 0, None, Degradation.of(RERANK, error))

    async def _reorder(
        self,
        text: str,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        settings: RerankSettings,
        deadline: Deadline,
    ) -> Reranked:
        cross_encoder = await self.open(deadline)
        query = cross_encoder.tokenizer.encode(text).ids
        head = [
            np.asarray(passages[fused.id].token_ids, dtype=np.int32)
            for fused in ranked[: settings.depth]
        ]
        around = len(query) + cross_encoder.tokenizer.pair.count
        lengths = [around + len(passage) for passage in head]
        seconds_left = deadline.earlier_by(REPLY_SECONDS).remaining()
        depth = plan_depth(lengths, self._speed.tokens_per_second, seconds_left)
        started = time.perf_counter()
        logits = await cross_encoder.score(query, head[:depth], deadline) if depth else np.empty(0)
        seconds = time.perf_counter() - started
        self._speed.observe(sum(lengths[:depth]), seconds)
        info = cross_encoder.info
        return Reranked(
            ranking=blend(ranked, [float(logit) for logit in logits], settings.weight),
            depth=depth,
            model=ModelUsed(info.name, info.version, info.fingerprint) if depth else None,
            shortfall=_shortfall(depth, len(head)),
            triton_microseconds=int(seconds * 1e6) if depth else 0,
        )

    async def open(self, deadline: Deadline) -> CrossEncoder:
        """The cross-encoder; raises TritonUnavailable, NotFound or ModelMismatch."""
        if self._cross_encoder is None:
            self._cross_encoder = await CrossEncoder.create(
                self._triton, self._model, "", self._model_directory, deadline
            )
        return self._cross_encoder


def _shortfall(depth: int, wanted: int) -> Degradation | None:
    if depth == wanted:
        return None
    message = f"there was time to rerank {depth} of {wanted} documents"
    return Degradation(RERANK, "OUT_OF_TIME", message)
