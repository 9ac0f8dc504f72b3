"""Re-orders the head of the list with the cross-encoder, as deep as the time left allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import CrossEncoder
from core.errors import TriremeError
from core.open_models import OpenModels
from core.tokens import Tokenizer
from core.wire import passage_text
from gateway.fusion import Blended, Fused, blend
from gateway.planning import REPLY_SECONDS, Speed, plan_depth
from gateway.query import Degradation, Fetched, ModelUsed, RerankSettings
from gateway.trace import RERANK

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Reranked:
    """A ranking, how many of its head were reranked by which model, and why not more."""

    ranking: Sequence[Blended]
    depth: int
    model: ModelUsed | None = None
    shortfall: Degradation | None = None
    triton_microseconds: int = 0


class Reranker:
    """The newest version of one cross-encoder."""

    def __init__(self, models: OpenModels[CrossEncoder], model: str) -> None:
        self._models = models
        self._model = model
        self._speed = Speed()

    async def reorder(
        self,
        text: str,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        settings: RerankSettings,
        deadline: Deadline,
        *,
        tokenizer_sha256: str,
    ) -> Reranked:
        """The ranking after reranking up to `settings.depth` documents; never fails.

        `tokenizer_sha256` names the tokenizer that made the passages' token ids; passages are
        tokenised anew if it is not the cross-encoder's. What could not be done in time, or because
        Triton does not answer, stands in `shortfall`.
        """
        try:
            cross_encoder = await self.open(deadline)
            wanted = [passages[fused.id] for fused in ranked[: settings.depth]]
            if tokenizer_sha256 == cross_encoder.tokenizer.sha256:
                head = [np.asarray(each.token_ids, dtype=np.int32) for each in wanted]
            else:
                head = await asyncio.to_thread(_tokenised, wanted, cross_encoder.tokenizer)
            return await self._reorder(cross_encoder, text, ranked, head, settings, deadline)
        except TriremeError as error:
            return Reranked(blend(ranked, [], 0), 0, None, Degradation.of(RERANK, error))

    async def _reorder(
        self,
        cross_encoder: CrossEncoder,
        text: str,
        ranked: Sequence[Fused],
        head: Sequence[Ids],
        settings: RerankSettings,
        deadline: Deadline,
    ) -> Reranked:
        query = cross_encoder.tokenizer.encode(text).ids
        around = len(query) + cross_encoder.tokenizer.pair.count
        longest = cross_encoder.info.recommended_length
        lengths = [min(longest, around + len(passage)) for passage in head]
        seconds_left = deadline.earlier_by(REPLY_SECONDS).remaining()
        depth = plan_depth(lengths, self._speed.tokens_per_second, seconds_left)
        started = time.perf_counter()
        logits = (
            await cross_encoder.score(query, head[:depth], deadline, max_length=longest)
            if depth
            else np.empty(0)
        )
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
        return await self._models.get(self._model, "", deadline)


def _tokenised(passages: Sequence[Fetched], tokenizer: Tokenizer) -> list[Ids]:
    """Each passage's token ids, title first."""
    texts = [passage_text(each.document, each.start_byte, each.end_byte) for each in passages]
    return [tokens.ids for tokens in tokenizer.encode_batch(texts)]


def _shortfall(depth: int, wanted: int) -> Degradation | None:
    if depth == wanted:
        return None
    message = f"there was time to rerank {depth} of {wanted} documents"
    return Degradation(RERANK, "OUT_OF_TIME", message)
