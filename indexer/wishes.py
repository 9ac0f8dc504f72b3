"""What callers may ask of a new collection, and the collection that they get."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from core.deadline import Deadline
from core.errors import InvalidInput, ModelMismatch, NotFound, TriremeError
from core.filters.schema import NOTHING_DECLARED, Schema
from core.languages import ENGLISH, LexicalSettings
from core.ranking_wish import OPEN, RankingWish
from core.similarity import check_similarity
from core.vectors.settings import DEFAULT, VectorSettings
from indexer.catalogue import CollectionRecord
from indexer.clock import now_micros
from indexer.config import IndexerConfig
from indexer.encoders import EncoderSource, TermEncoder, TextEncoder

LEAST_TOKENS = 16
DEFAULT_OVERLAP = 32

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a new collection; empty and 0 mean the default.

    Without a `sparse_model` it has no learned-sparse leg.
    """

    name: str
    encoder_model: str = ""
    encoder_version: str = ""
    max_tokens: int = 0
    overlap_tokens: int = 0
    dimensions: int = 0
    sparse_model: str = ""
    sparse_version: str = ""
    search_defaults: RankingWish = OPEN
    lexical: LexicalSettings = ENGLISH
    schema: Schema = NOTHING_DECLARED
    vector_index: VectorSettings = DEFAULT


async def grant(
    wish: Wish, source: EncoderSource, config: IndexerConfig, deadline: Deadline
) -> CollectionRecord:
    """The new collection, every default filled in.

    Raises InvalidInput, NotFound (MODEL_NOT_FOUND), ModelMismatch, TritonUnavailable, OutOfTime.
    """
    check_name(wish.name)
    encoder = await _encoder(wish, source, config, deadline)
    sparse = await _sparse_encoder(wish, source, deadline)
    room = min(_room(encoder), _room(sparse or encoder))
    max_tokens, overlap_tokens = passaging(wish.max_tokens, wish.overlap_tokens, room)
    info = encoder.info
    return CollectionRecord(
        uid=uuid.uuid4().hex,
        name=wish.name,
        shard_count=config.shard_count,
        encoder_model=info.name,
        encoder_version=info.version,
        encoder_fingerprint=info.fingerprint,
        dimension=dimensions(wish.dimensions, info.dimension),
        similarity=check_similarity(info.similarity, info.name),
        max_tokens=max_tokens,
        overlap_tokens=overlap_tokens,
        create_micros=now_micros(),
        sparse_model=sparse.info.name if sparse is not None else "",
        sparse_version=sparse.info.version if sparse is not None else "",
        sparse_fingerprint=sparse.info.fingerprint if sparse is not None else "",
        sparse_dimension=sparse.info.dimension if sparse is not None else 0,
        search_defaults=wish.search_defaults,
        lexical=wish.lexical,
        schema_=wish.schema,
        vector_index=wish.vector_index,
    )


async def _encoder(
    wish: Wish, source: EncoderSource, config: IndexerConfig, deadline: Deadline
) -> TextEncoder:
    model = wish.encoder_model or config.encoder_model
    try:
        if not wish.encoder_version:
            return await source.newest(model, deadline)
        return await source.get(model, wish.encoder_version, deadline)
    except (NotFound, ModelMismatch) as error:
        raise _about("collection.encoder", error) from error


async def _sparse_encoder(
    wish: Wish, source: EncoderSource, deadline: Deadline
) -> TermEncoder | None:
    if not wish.sparse_model and wish.sparse_version:
        raise InvalidInput(
            "FIELD_REQUIRED",
            "is empty though a version is given",
            field="collection.sparse_encoder.model",
            remedy="name the model, or leave both empty",
        )
    if not wish.sparse_model:
        return None
    try:
        return await source.get_sparse(wish.sparse_model, wish.sparse_version, deadline)
    except (NotFound, ModelMismatch) as error:
        raise _about("collection.sparse_encoder", error) from error


def _about(field: str, error: NotFound | ModelMismatch) -> TriremeError:
    """The same failure, about a field of the request."""
    message = f"{error.field} {error.message}".strip()
    if isinstance(error, NotFound):
        return NotFound(error.reason, message, field=field, remedy=error.remedy)
    return ModelMismatch(message, field=field, remedy=error.remedy)


def _room(encoder: TextEncoder | TermEncoder) -> int:
    """Tokens of text that an encoder takes; raises ModelMismatch if its prompt leaves none."""
    info, tokenizer = encoder.info, encoder.tokenizer
    room = info.max_length - tokenizer.single.count - len(tokenizer.encode(info.document_prompt))
    if room < 1:
        raise ModelMismatch(
            f"reads {info.max_length} tokens, all taken by its document prompt",
            field=info.name,
            remedy="export it again with a longer maximum length or a shorter prompt",
        )
    return room


def dimensions(wanted: int, available: int) -> int:
    """Components per vector, the default filled in; raises InvalidInput."""
    if wanted and not 1 <= wanted <= available:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {wanted}",
            field="collection.dimensions",
            remedy=f"give 1 to {available}, or 0 for {available}",
        )
    return wanted or available


def check_name(name: str, field: str = "collection.name") -> None:
    """Raises InvalidInput unless this can be the name of a collection or an alias."""
    if not name:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=field, remedy="give it a name")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "MALFORMED",
            f"{name[:80]!r} is not a name for this",
            field=field,
            remedy="use 1 to 63 of a-z, 0-9, - and _, with a letter first",
        )


def passaging(max_tokens: int, overlap_tokens: int, room: int) -> tuple[int, int]:
    """Tokens per passage and overlap, defaults filled in; `room` is what the encoders take.

    Raises InvalidInput.
    """
    if max_tokens and not LEAST_TOKENS <= max_tokens <= room:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {max_tokens}",
            field="collection.passaging.max_tokens",
            remedy=f"give {LEAST_TOKENS} to {room}, or 0 for {room}",
        )
    size = max_tokens or room
    most = (size - 1) // 2
    if not 0 <= overlap_tokens <= most:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {overlap_tokens}",
            field="collection.passaging.overlap_tokens",
            remedy=f"give less than half of {size}, or 0 for the default",
        )
    return size, overlap_tokens or min(DEFAULT_OVERLAP, most)
