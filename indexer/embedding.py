"""Documents to vectors, whatever happens: waits while Triton is away, sets poison aside.

A failure is the service's or a document's. The service's are waited out and never counted. If a
batch fails though a harmless text goes through, the batch is halved until the document at fault
stands alone; that one is tried MAX_ATTEMPTS times, counted in the document store before each, and
then goes into the index without a dense part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from core.deadline import Deadline
from core.errors import BadModelOutput, TriremeError
from indexer import suspects
from indexer.batch import Embedded, Prepared, Vectors
from indexer.catalogue import CollectionRecord
from indexer.changes import Change
from indexer.encoders import TextEncoder
from indexer.shared import Shared
from indexer.stall import Stall

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

    async def encoder(self) -> TextEncoder:
        """The collection's encoder, as soon as Triton serves it."""
        while True:
            try:
                encoder = await self._get()
            except TriremeError as error:
                await self._stall.wait(str(error))
            else:
                self._stall.clear()
                return encoder

    async def embed(self, documents: Sequence[Prepared]) -> list[Embedded]:
        """The documents with their vectors, in order; those that fail alone have no passages."""
        for document in documents:
            if document.failure:
                await self._set_aside(document.change, document.failure)
        whole = [document for document in documents if document.passages]
        vectors = await self._embed(whole)
        found = {d.change.sequence: v for d, v in zip(whole, vectors, strict=True)}
        return [self._embedded(each, found.get(each.change.sequence)) for each in documents]

    def _embedded(self, document: Prepared, vectors: Vectors | None) -> Embedded:
        if vectors is not None:
            return Embedded(document.change, document.passages, vectors)
        return Embedded(document.change, (), np.zeros((0, self._record.dimension), np.float32))

    async def _embed(self, documents: Sequence[Prepared]) -> list[Vectors | None]:
        if not documents:
            return []
        try:
            return [*await self._encode_if_well(documents)]
        except _Refused as error:
            if len(documents) == 1:
                return [await self._try_alone(documents[0], str(error))]
        middle = len(documents) // 2
        return await self._embed(documents[:middle]) + await self._embed(documents[middle:])

    async def _try_alone(self, document: Prepared, reason: str) -> Vectors | None:
        """Further attempts at a document that has just failed alone; None once it is set aside."""
        await self._count_attempt(document.change)
        while await self._count_attempt(document.change) <= MAX_ATTEMPTS:
            try:
                return (await self._encode_if_well([document]))[0]
            except _Refused as error:
                reason = str(error)
        await self._set_aside(document.change, reason)
        return None

    async def _encode_if_well(self, documents: Sequence[Prepared]) -> list[Vectors]:
        """Each document's vectors; raises _Refused if they fail while the service is well."""
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

    async def _encode(self, documents: Sequence[Prepared]) -> list[Vectors]:
        encoder = await self._get()
        ids = [passage.token_ids for document in documents for passage in document.passages]
        parts = []
        for first, end in _slices([len(each) for each in ids], self._shared.config.embed_tokens):
            deadline = Deadline.after(self._shared.config.embed_seconds)
            parts.append(await encoder.encode(ids[first:end], deadline))
        ends = itertools.accumulate(len(document.passages) for document in documents)
        return np.split(np.concatenate(parts), list(ends)[:-1])

    async def _until_well(self, reason: str) -> None:
        """Returns once a harmless text can be embedded."""
        self._shared.encoders.forget(self._record.encoder_model, self._record.encoder_version)
        while True:
            try:
                encoder = await self._get()
                harmless = encoder.tokenizer.encode("a").ids
                await encoder.encode([harmless], Deadline.after(self._shared.config.embed_seconds))
            except TriremeError as error:
                await self._stall.wait(str(error) or reason)
            else:
                self._stall.clear()
                return

    async def _get(self) -> TextEncoder:
        record = self._record
        return await self._shared.encoders.get(
            record.encoder_model,
            record.encoder_version,
            Deadline.after(self._shared.config.embed_seconds),
            fingerprint=record.encoder_fingerprint,
        )

    async def _count_attempt(self, change: Change) -> int:
        uid, shard = self._record.uid, self._shard
        return await self._shared.database.write(
            lambda connection: suspects.count_attempt(connection, uid, shard, change)
        )

    async def _set_aside(self, change: Change, reason: str) -> None:
        uid, shard = self._record.uid, self._shard
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
