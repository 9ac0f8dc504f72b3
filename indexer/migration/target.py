"""What callers may ask of a new index for a collection, and the index that they get."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.deadline import Deadline
from core.errors import TriremeError
from core.languages import LexicalSettings
from indexer.catalogue import CollectionRecord
from indexer.config import IndexerConfig
from indexer.encoders import EncoderSource
from indexer.wishes import Wish, grant, passaging


@dataclass(frozen=True, slots=True)
class ModelWish:
    """A model, in its newest version if `version` is empty."""

    model: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class TargetWish:
    """What is to be different; None and 0 mean: as the collection's index is now.

    A `sparse` model of "" asks for no learned-sparse leg.
    """

    encoder: ModelWish | None = None
    sparse: ModelWish | None = None
    max_tokens: int = 0
    overlap_tokens: int = 0
    dimensions: int = 0
    lexical: LexicalSettings | None = None


async def target_of(
    record: CollectionRecord,
    wish: TargetWish,
    source: EncoderSource,
    config: IndexerConfig,
    deadline: Deadline,
) -> CollectionRecord:
    """The collection with its new index, whose number is still to be given.

    Raises what `wishes.grant` does.
    """
    encoder = wish.encoder or ModelWish(record.encoder_model, record.encoder_version)
    sparse = wish.sparse or ModelWish(record.sparse_model, record.sparse_version)
    stays = encoder.model == record.encoder_model
    wanted = Wish(
        name=record.name,
        encoder_model=encoder.model,
        encoder_version=encoder.version,
        max_tokens=wish.max_tokens,
        overlap_tokens=wish.overlap_tokens,
        dimensions=wish.dimensions or (record.dimension if stays else 0),
        sparse_model=sparse.model,
        sparse_version=sparse.version,
    )
    try:
        granted = await grant(wanted, source, config, deadline)
        return _merged(record, wish, granted)
    except TriremeError as error:
        error.field = error.field.removeprefix("collection.")
        raise


def _merged(
    record: CollectionRecord, wish: TargetWish, granted: CollectionRecord
) -> CollectionRecord:
    size = granted.max_tokens if wish.max_tokens else min(record.max_tokens, granted.max_tokens)
    overlap = wish.overlap_tokens or min(record.overlap_tokens, (size - 1) // 2)
    max_tokens, overlap_tokens = passaging(0, overlap, size)
    return replace(
        record,
        index_uid=granted.uid,
        encoder_model=granted.encoder_model,
        encoder_version=granted.encoder_version,
        encoder_fingerprint=granted.encoder_fingerprint,
        dimension=granted.dimension,
        similarity=granted.similarity,
        max_tokens=max_tokens,
        overlap_tokens=overlap_tokens,
        sparse_model=granted.sparse_model,
        sparse_version=granted.sparse_version,
        sparse_fingerprint=granted.sparse_fingerprint,
        sparse_dimension=granted.sparse_dimension,
        lexical=wish.lexical or record.lexical,
    )
