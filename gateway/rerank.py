"""Judges the head of the list with the cross-encoder, as deep as the time left allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.batching import REQUESTS_AT_ONCE, send_all
from core.deadline import Deadline
from core.encoding import CrossEncoder
from core.errors import OutOfTime, TriremeError
from core.open_models import OpenModels
from core.tokens import Tokenizer
from core.wire import passage_text
from gateway.fusion import Fused
from gateway.planning import Pace, is_worth_a_round, plan_chunks, plan_depth
from gateway.query import Degradation, Fetched, ModelUsed, RerankSettings
from gateway.trace import RERANK

Ids = NDArray[np.int32]

# A logit differs in its last bits with what else is in its batch: rounded, equal requests get equal
# answers, unless a rounding bound lies just there.
LOGIT_DECIMALS = 3
# English has 4 to 5 bytes per token; better to tokenise some in vain than to lack some.
_BYTES_PER_TOKEN = 6


@dataclass(frozen=True, slots=True)
class Reranked:
    """The logits of the first documents of a ranking, whose they are, and why these are all."""

    logits: Sequence[float] = ()
    model: ModelUsed | None = None
    shortfall: Degradation | None = None
    triton_microseconds: int = 0


class Reranker:
    """The newest version of one cross-encoder."""

    def __init__(self, models: OpenModels[CrossEncoder], model: str) -> None:
        self._models = models
        self._model = model
        self._paces: dict[str, Pace] = {}

    async def judge(
        self,
        text: str,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        settings: RerankSettings,
        deadline: Deadline,
        *,
        tokenizer_sha256: str,
    ) -> Reranked:
        """The logits of up to `settings.depth` documents from the head of `ranked`; never fails.

        `tokenizer_sha256` names the tokenizer that made the passages' token ids; passages are
        tokenised anew if it is not the cross-encoder's. What could not be done in time, or because
        Triton does not answer, stands in `shortfall`.
        """
        wanted = [passages[fused.id] for fused in ranked[: settings.depth]]
        try:
            cross_encoder = await self.open(deadline)
            info = cross_encoder.info
            # A pace is that of one model in one precision: both change the fingerprint.
            pace = self._paces.setdefault(info.fingerprint, Pace())
            query = cross_encoder.tokenizer.encode(text).ids
            head = await _head(cross_encoder.tokenizer, wanted, tokenizer_sha256, pace, deadline)
            run = _Run(cross_encoder, pace, query, deadline)
            started = time.perf_counter()
            await run.score(head)
        except TriremeError as error:
            return Reranked(shortfall=Degradation.of(RERANK, error))
        return Reranked(
            logits=[round(logit, LOGIT_DECIMALS) for logit in run.logits],
            model=ModelUsed(info.name, info.version, info.fingerprint) if run.logits else None,
            shortfall=_shortfall(len(run.logits), len(wanted), run.failure),
            triton_microseconds=int((time.perf_counter() - started) * 1e6) if run.scored else 0,
        )

    async def open(self, deadline: Deadline) -> CrossEncoder:
        """The cross-encoder; raises TritonUnavailable, NotFound or ModelMismatch."""
        return await self._models.get(self._model, "", deadline)


class _Run:
    """One query's rerank. `logits` are those of the longest head that was scored in time."""

    def __init__(
        self, cross_encoder: CrossEncoder, pace: Pace, query: Ids, deadline: Deadline
    ) -> None:
        self._cross_encoder = cross_encoder
        self._pace = pace
        self._query = query
        self._deadline = deadline
        self._longest = cross_encoder.info.recommended_length
        self.scored: dict[int, Sequence[float]] = {}
        self.failure: TriremeError | None = None

    async def score(self, head: Sequence[Ids]) -> None:
        """Scores as much of the head as there is time for; what fails is kept in `failure`.

        In rounds: what was faster than planned leaves time for more.
        """
        lengths = self._lengths(head)
        scored = 0
        while scored < len(head) and self.failure is None:
            left = self._deadline.remaining()
            tokens = self._pace.tokens_within(left)
            depth = plan_depth(lengths[scored:], tokens)
            if not depth and not scored:
                self._pace.found_too_slow(lengths[0], left)
            if not is_worth_a_round(depth, len(head) - scored, tokens, first=not scored):
                return
            await self._round(head, lengths, range(scored, scored + depth))
            scored += depth

    async def _round(self, head: Sequence[Ids], lengths: Sequence[int], rows: range) -> None:
        chunks = plan_chunks(lengths, rows)
        tokens = {chunk.start: sum(lengths[chunk]) for chunk in chunks}
        whole, done = sum(tokens.values()), 0
        queued_before, started = self._pace.queued_tokens, time.perf_counter()
        self._pace.queued_tokens += whole

        async def send(chunk: slice) -> None:
            nonlocal done
            logits = await self._cross_encoder.score(
                self._query, head[chunk], self._deadline, max_length=self._longest
            )
            self.scored[chunk.start] = [float(logit) for logit in logits]
            self._pace.queued_tokens -= tokens[chunk.start]
            done += tokens[chunk.start]

        try:
            await send_all(chunks, send, at_once=REQUESTS_AT_ONCE)
        except TriremeError as error:
            self.failure = error
        finally:
            self._pace.queued_tokens -= whole - done
        if self.failure is None or isinstance(self.failure, OutOfTime):
            self._pace.observe(done, queued_before, time.perf_counter() - started)

    @property
    def logits(self) -> list[float]:
        """One per document, without a gap from the first on."""
        found: list[float] = []
        while len(found) in self.scored:
            found += self.scored[len(found)]
        return found

    def _lengths(self, head: Sequence[Ids]) -> list[int]:
        around = len(self._query) + self._cross_encoder.tokenizer.pair.count
        return [min(self._longest, around + len(passage)) for passage in head]


async def _head(
    tokenizer: Tokenizer,
    wanted: Sequence[Fetched],
    tokenizer_sha256: str,
    pace: Pace,
    deadline: Deadline,
) -> list[Ids]:
    """Each passage's token ids; of passages that must be tokenised, those there may be time for."""
    if tokenizer_sha256 == tokenizer.sha256:
        return [np.asarray(each.token_ids, dtype=np.int32) for each in wanted]
    guesses = [(each.end_byte - each.start_byte) // _BYTES_PER_TOKEN for each in wanted]
    most = plan_depth(guesses, pace.tokens_within(deadline.remaining()))
    return await asyncio.to_thread(_tokenised, wanted[:most], tokenizer)


def _tokenised(passages: Sequence[Fetched], tokenizer: Tokenizer) -> list[Ids]:
    """Each passage's token ids, title first."""
    texts = [passage_text(each.document, each.start_byte, each.end_byte) for each in passages]
    return [tokens.ids for tokens in tokenizer.encode_batch(texts)]


def _shortfall(depth: int, wanted: int, failure: TriremeError | None) -> Degradation | None:
    if failure is not None and not isinstance(failure, OutOfTime):
        return Degradation.of(RERANK, failure)
    if depth == wanted:
        return None
    message = f"there was time to rerank {depth} of {wanted} documents"
    return Degradation(RERANK, "OUT_OF_TIME", message)
