"""The encoders of one collection, asked together: each passage's vector, and its weighted terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.deadline import Deadline
from core.encoding import SparseVector
from core.similarity import fit
from indexer.batch import Vectors
from indexer.catalogue import CollectionRecord
from indexer.encoders import EncoderSource, TermEncoder, TextEncoder
from indexer.passages import Split


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Passages as they go into the index: float32 [passages, dimension], and terms of each.

    Without a sparse encoder `terms` is empty.
    """

    vectors: Vectors
    terms: Sequence[SparseVector] = ()


@dataclass(frozen=True, slots=True)
class EncoderSet:
    """The dense encoder, whose vectors are cut to `dimension`, and the sparse one if any."""

    dense: TextEncoder
    sparse: TermEncoder | None
    dimension: int

    @classmethod
    async def open(
        cls, record: CollectionRecord, source: EncoderSource, deadline: Deadline
    ) -> EncoderSet:
        """The very versions that the collection was made with; raises what EncoderSource does."""
        dense = await source.get(
            record.encoder_model,
            record.encoder_version,
            deadline,
            fingerprint=record.encoder_fingerprint,
        )
        if not record.sparse_model:
            return cls(dense, None, record.dimension)
        sparse = await source.get_sparse(
            record.sparse_model,
            record.sparse_version,
            deadline,
            fingerprint=record.sparse_fingerprint,
        )
        return cls(dense, sparse, record.dimension)

    async def encode(self, passages: Sequence[Split], deadline: Deadline) -> Encoded:
        """Embeds passages; raises what the encoders do, for all of them together."""
        info = self.dense.info
        vectors = await self.dense.encode(
            [passage.token_ids for passage in passages],
            deadline,
            prompt_tokens=self.dense.prompt_tokens(query=False),
        )
        vectors = fit(vectors, self.dimension, info.similarity, normalized=info.normalize)
        if self.sparse is None:
            return Encoded(vectors)
        terms = await self.sparse.encode([passage.sparse_ids for passage in passages], deadline)
        return Encoded(vectors, terms)

    async def try_out(self, deadline: Deadline) -> None:
        """Embeds a harmless text; raises what `encode` does."""
        harmless = self.dense.tokenizer.encode("a").ids
        sparse_ids = self.sparse.tokenizer.encode("a").ids if self.sparse is not None else harmless
        await self.encode([Split(0, 1, harmless, sparse_ids)], deadline)


def forget(record: CollectionRecord, source: EncoderSource) -> None:
    """Asks the service for a collection's encoders anew next time."""
    source.forget(record.encoder_model, record.encoder_version)
    if record.sparse_model:
        source.forget(record.sparse_model, record.sparse_version)
