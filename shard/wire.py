"""From the private protocol's messages to what a shard knows, and news of what it serves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from core.bm25 import Statistics
from core.constraint_wire import constraint_from_proto
from core.errors import InvalidInput, ModelMismatch, NoSuchLeg
from core.filters.parsing import parse
from core.filters.wire import schema_to_proto
from core.lexical_wire import settings_to_proto
from core.manifest import EncoderEntry, Manifest, SparseEncoderEntry
from core.names import Names
from core.ranking_wire import wish_to_proto
from shard.archive import Archived
from shard.fetched import Terms, Vector
from shard.limits import Limits
from shard.snapshot import Snapshot
from trireme.shard.v1 import shard_pb2

MAX_LIMIT = 10_000


def news(
    sent: Mapping[str, Manifest] | None, serving: Mapping[str, Manifest], names: Names | None
) -> shard_pb2.WatchResponse:
    """What to tell a watcher who was `sent` some states before (None: none yet).

    `names` are those that are new to the watcher.
    """
    before = sent or {}
    return shard_pb2.WatchResponse(
        collections=[
            _state(name, manifest)
            for name, manifest in sorted(serving.items())
            if before.get(name) is not manifest
        ],
        removed=sorted(before.keys() - serving.keys()),
        full=sent is None,
        names=_names(names) if names is not None else None,
    )


def _names(names: Names) -> shard_pb2.Names:
    return shard_pb2.Names(revision=names.revision, aliases=names.aliases, indexes=names.indexes)


def _state(name: str, manifest: Manifest) -> shard_pb2.CollectionState:
    sparse = manifest.sparse_encoder
    return shard_pb2.CollectionState(
        collection=name,
        uid=manifest.uid,
        shard=manifest.shard,
        shard_count=manifest.shard_count,
        epoch=manifest.epoch,
        generation=manifest.generation,
        sequence=manifest.sequence,
        encoder_model=manifest.encoder.model,
        encoder_version=manifest.encoder.version,
        encoder_fingerprint=manifest.encoder.fingerprint,
        document_count=manifest.documents,
        passage_count=manifest.passages,
        dimension=manifest.encoder.dimension,
        sparse_encoder_model=sparse.model if sparse is not None else "",
        sparse_encoder_version=sparse.version if sparse is not None else "",
        sparse_encoder_fingerprint=sparse.fingerprint if sparse is not None else "",
        search_defaults=wish_to_proto(manifest.search_defaults),
        schema=schema_to_proto(manifest.schema),
        lexical=settings_to_proto(manifest.lexical_settings),
    )


def limit_of(limit: int) -> int:
    """A number of documents wanted; raises InvalidInput."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput("OUT_OF_RANGE", f"{limit} is not 1 to {MAX_LIMIT:,}", field="limit")
    return limit


def limits_of(
    request: shard_pb2.SearchLexicalRequest
    | shard_pb2.SearchDenseRequest
    | shard_pb2.SearchSparseRequest
    | shard_pb2.FetchRequest,
) -> Limits:
    """Which documents a query may find; raises InvalidInput."""
    return Limits(parse(request.filter), constraint_from_proto(request.constraint))


def vector_of(data: bytes, snapshot: Snapshot | Archived) -> Vector:
    """A query's vector, float32 [dimension]; raises InvalidInput."""
    dimension = snapshot.manifest.encoder.dimension
    if len(data) != 4 * dimension:
        raise InvalidInput(
            "MALFORMED", f"{len(data)} bytes are not {dimension} float32 numbers", field="vector"
        )
    vector = np.frombuffer(data, "<f4")
    if not math.isfinite(float(vector.sum())):
        raise InvalidInput("MALFORMED", "holds numbers that are not finite", field="vector")
    return vector


def statistics_of(message: shard_pb2.LexicalStatistics) -> Statistics:
    """The statistics of a collection; raises InvalidInput."""
    counts, total = message.document_frequencies, message.document_count
    if len(message.terms) != len(counts) or len(set(message.terms)) != len(message.terms):
        raise InvalidInput(
            "MALFORMED", "needs one frequency for each distinct term", field="statistics"
        )
    if any(not 0 <= count <= total for count in counts) or message.total_length < sum(counts):
        raise InvalidInput("OUT_OF_RANGE", "counts more than there is", field="statistics")
    return Statistics(total, message.total_length, dict(zip(message.terms, counts, strict=True)))


def terms_of(ids: Sequence[int], weights: Sequence[float]) -> Terms:
    """A query's weighted terms; raises InvalidInput."""
    terms = Terms(np.array(ids, np.int32), np.array(weights, np.float32))
    if len(terms.ids) != len(terms.weights) or len(np.unique(terms.ids)) != len(terms.ids):
        raise InvalidInput("MALFORMED", "must be distinct, with one weight each", field="terms")
    if not (np.isfinite(terms.weights) & (terms.weights > 0)).all():
        raise InvalidInput("MALFORMED", "holds numbers that are not above 0", field="weights")
    return terms


def check_encoder(fingerprint: str, snapshot: Snapshot) -> None:
    """Raises ModelMismatch unless the generation was built with that encoder."""
    encoder = snapshot.manifest.encoder
    if fingerprint != encoder.fingerprint:
        raise _mismatch(fingerprint, encoder, snapshot)


def check_sparse_encoder(fingerprint: str, snapshot: Snapshot) -> None:
    """Raises NoSuchLeg or ModelMismatch likewise."""
    encoder = snapshot.manifest.sparse_encoder
    if encoder is None:
        raise NoSuchLeg("has no learned-sparse leg", field=snapshot.manifest.collection)
    if fingerprint != encoder.fingerprint:
        raise _mismatch(fingerprint, encoder, snapshot)


def _mismatch(
    fingerprint: str, encoder: EncoderEntry | SparseEncoderEntry, snapshot: Snapshot
) -> ModelMismatch:
    return ModelMismatch(
        f"generation {snapshot.manifest.generation} was built with {encoder.model} version "
        f"{encoder.version}, fingerprint {encoder.fingerprint}, not {fingerprint}",
        field="encoder_fingerprint",
        remedy="embed the query with that version",
    )


def check_head(head: shard_pb2.LikelyHead) -> None:
    """Raises InvalidInput unless a likely head makes sense, or is absent."""
    if head.limit > 0 and (len(head.ids) != len(head.scores) or not head.k > 0):
        raise InvalidInput("MALFORMED", "needs one score per id and k above 0", field="likely_head")
