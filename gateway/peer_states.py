"""What shards say of a collection, as a query needs it: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from core.analysis import Analyzer, analyzer_of
from core.errors import InvalidInput
from core.filters.schema import Schema
from core.lexical_wire import settings_from_proto
from core.ranking_wire import wish_from_proto
from core.ranking_wish import OPEN, RankingWish
from gateway.peer import Peer
from gateway.query import ModelUsed
from gateway.replicas import Generation
from trireme.shard.v1.shard_pb2 import CollectionState

Counted = Mapping[int, tuple[str, Generation, bytes]]
"""Of each shard the uid and the generation of the index, and what counts as a word in it."""


def sparse_encoder(state: CollectionState) -> ModelUsed | None:
    """The model of the learned-sparse leg, None if there is no such leg."""
    if not state.sparse_encoder_model:
        return None
    return ModelUsed(
        state.sparse_encoder_model,
        state.sparse_encoder_version,
        state.sparse_encoder_fingerprint,
    )


def search_defaults(state: CollectionState) -> RankingWish:
    """How searches rank where they do not say otherwise."""
    if not state.HasField("search_defaults"):
        return OPEN
    return wish_from_proto(state.search_defaults, "search_defaults.")


def analyzer(states: Collection[CollectionState]) -> Analyzer | None:
    """What splits queries into words as all shards do; None unless they agree and it is known."""
    if len({(state.uid, state.lexical.SerializeToString()) for state in states}) != 1:
        return None
    state = next(iter(states))
    if not state.HasField("lexical"):
        return None
    try:
        return analyzer_of(settings_from_proto(state.lexical, "lexical."))
    except InvalidInput:
        return None  # a language of a later release


def counted(states: Mapping[int, CollectionState]) -> Counted:
    """What the statistics of words depend on."""
    return {
        shard: (state.uid, generation_of(state), state.lexical.SerializeToString())
        for shard, state in states.items()
    }


def schemas(
    collection: str, states: Mapping[int, CollectionState], holders: Mapping[int, Sequence[Peer]]
) -> list[Schema]:
    """What each shard knows of its documents' attributes, from the peer whose state is used."""
    chosen = [
        next(peer for peer in holders[shard] if peer.states[collection] is state)
        for shard, state in states.items()
    ]
    return [peer.schemas[collection] for peer in chosen]


def newest(collection: str, peers: Sequence[Peer]) -> CollectionState:
    """The newest state that a replica serves, or has served if none is connected."""
    connected = [peer for peer in peers if peer.connected] or peers
    return max((peer.states[collection] for peer in connected), key=generation_of)


def generation_of(state: CollectionState) -> Generation:
    """What orders the generations of a shard."""
    return state.epoch, state.generation
