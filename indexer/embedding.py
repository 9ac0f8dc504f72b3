"""Documents to vectors and terms, whatever happens: waits while Triton is away, sets poison aside.

A failure is the service's or a document's. The service's are waited out and never counted. If a
batch fails though a harmless text goes through, the batch is halved until the document at fault
stands alone; that one is tried MAX_ATTEMPTS times, counted in the document store before each, and
then goes into the index without passages: it is found by its words alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from core.deadline import Deadline
from core.encoding import SparseVector
from core.errors import BadModelOutput, TriremeError
from indexer import encoder_set, suspects
from indexer.batch import Embedded, Prepared, Vectors
from indexer.catalogue import CollectionRecord
from indexer.changes import Change
from indexer.encoder_set import Encoded, EncoderSet
from indexer.shared import Shared
from indexer.stall import Stall

Result = TypeVar("Result")

MAX_ATTEMPTS = 3
STRIKES = 2
"""Failures of the service, each followed by a sign of health, after which a batch is suspected."""


class _Refused(Exception):
    """These documents fail though the service is well."""


class Embedder:
    """Embeds one shard's documents."""

    def __init__(self, record: CollectionRecord, shard: int, shared: Shared, stall: Stall) -> None:
        self._record = record
        self._shard = shard
        self._shared = shared
        self._stall = stall

    async def encoders(self) -> EncoderSet:
        """The collection's encoders, as soon as Triton serves them."""
        return await self._once_it_works(self._get)

    async def embed(self, documents: Sequence[Prepared]) -> list[Embedded]:
        """The documents with their vectors, in order; those that fail alone have no passages."""
        for document in documents:
            if document.failure:
                await self._set_aside(document.change, document.failure)
        whole = [document for document in documents if document.passages]
        encoded = await self._embed(whole)
        found = {d.change.sequence: e for d, e in zip(whole, encoded, strict=True)}
        return [self._embedded(each, found.get(each.change.sequence)) for each in documents]

    def _embedded(self, document: Prepared, encoded: Encoded | None) -> Embedded:
        if encoded is not None:
            return Embedded(document.change, document.passages, encoded.vectors, encoded.terms)
        return Embedded(document.change, (), np.zeros((0, self._record.dimension), np.float32))

    async def _embed(self, documents: Sequence[Prepared]) -> list[Encoded | None]:
        if not documents:
            return []
        try:
            return [*await self._encode_if_well(documents)]
        except _Refused as error:
            if len(documents) == 1:
                return [await self._try_alone(documents[0], str(error))]
        middle = len(documents) // 2
        return await self._embed(documents[:middle]) + await self._embed(documents[middle:])

    async def _try_alone(self, document: Prepared, reason: str) -> Encoded | None:
        """Further attempts at a document that has just failed alone; None once it is set aside."""
        await self._count_attempt(document.change)
        while await self._count_attempt(document.change) <= MAX_ATTEMPTS:
            try:
                return (await self._encode_if_well([document]))[0]
            except _Refused as error:
                reason = str(error)
        await self._set_aside(document.change, reason)
        return None

    async def _encode_if_well(self, documents: Sequence[Prepared]) -> list[Encoded]:
        """Each document encoded; raises _Refused if they fail while the service is well."""
        reason = ""
        for _ in range(STRIKES):
            try:
                return await self._encode(documents)
            except BadModelOutput as error:
                await self._until_well(str(error))
                raise _Refused(str(error)) from error
            except TriremeError as error:
                reason = str(error)
                await self._until_well(reason)
        raise _Refused(reason)

    async def _encode(self, documents: Sequence[Prepared]) -> list[Encoded]:
        encoders = await self._get()
        passages = [passage for document in documents for passage in document.passages]
        lengths = [len(passage.token_ids) for passage in passages]
        vectors: list[Vectors] = []
        terms: list[SparseVector] = []
        for first, end in _slices(lengths, self._shared.config.embed_tokens):
            part = await encoders.encode(passages[first:end], self._patience())
            vectors.append(part.vectors)
            terms += part.terms
        together = np.concatenate(vectors)
        ends = [*itertools.accumulate(len(document.passages) for document in documents)]
        return [
            Encoded(together[first:end], terms[first:end])
            for first, end in itertools.pairwise([0, *ends])
        ]

    async def _until_well(self, reason: str) -> None:
        """Returns once a harmless text can be embedded."""
        encoder_set.forget(self._record, self._shared.encoders)
        await self._once_it_works(self._try_out, reason)

    async def _try_out(self) -> None:
        await (await self._get()).try_out(self._patience())

    async def _once_it_works(
        self, work: Callable[[], Awaitable[Result]], reason: str = ""
    ) -> Result:
        """What `work` returns; failures are waited out, and only a stall of theirs is ended."""
        waited = False
        while True:
            try:
                result = await work()
            except TriremeError as error:
                waited = True
                await self._stall.wait(str(error) or reason)
            else:
                if waited:
                    self._stall.clear()
                return result

    async def _get(self) -> EncoderSet:
        return await EncoderSet.open(self._record, self._shared.encoders, self._patience())

    def _patience(self) -> Deadline:
        return Deadline.after(self._shared.config.embed_seconds)

    async def _count_attempt(self, change: Change) -> int:
        uid, shard = self._record.index, self._shard
        return await self._shared.database.write(
            lambda connection: suspects.count_attempt(connection, uid, shard, change)
        )

    async def _set_aside(self, change: Change, reason: str) -> None:
        uid, shard = self._record.index, self._shard
        newly = await self._shared.database.write(
            lambda connection: suspects.set_aside(connection, uid, shard, change, reason)
        )
        if newly:
            self._shared.metrics.quarantined.inc()


def _slices(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbours with at most `most` in sum, or one alone."""
    first = total = 0
    for index, length in enumerate(lengths):
        if index > first and total + length > most:
            yield first, index
            first, total = index, 0
        total += length
    yield first, len(lengths)
