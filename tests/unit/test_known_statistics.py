"""Words that were counted once need not be counted again; others do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from core.analysis import analyzer_of
from core.languages import CJK, ENGLISH, LexicalSettings
from core.lexical_wire import settings_to_proto
from gateway import known_statistics, peer_states
from gateway.known_statistics import KnownStatistics
from gateway.metrics import GatewayMetrics
from trireme.shard.v1.shard_pb2 import CollectionState, LexicalStatistics
from trireme.v1 import lexical_pb2


def statistics(frequencies: Mapping[str, int]) -> LexicalStatistics:
    return LexicalStatistics(
        document_count=9,
        total_length=70,
        terms=sorted(frequencies),
        document_frequencies=[frequencies[term] for term in sorted(frequencies)],
    )


def counts(settings: LexicalSettings = ENGLISH) -> KnownStatistics:
    return KnownStatistics(analyzer_of(settings))


def test_words_of_several_queries_make_up_another_one() -> None:
    words = counts()
    words.learn(statistics({"raft": 3, "log": 4}))
    words.learn(statistics({"oar": 0}))

    assert words.known("the rafts' oars") == statistics({"oar": 0, "raft": 3})


def test_a_single_word_that_is_not_known_is_reason_to_ask() -> None:
    words = counts()
    words.learn(statistics({"raft": 3}))

    assert words.known("raft galley") is None


def test_nothing_is_known_before_anything_was_counted() -> None:
    assert counts().known("") is None
    assert counts().known("raft") is None


def test_a_query_without_words_needs_the_collections_size_alone() -> None:
    words = counts()
    words.learn(statistics({"raft": 3}))

    assert words.known("?!") == statistics({})


def test_a_query_of_stop_words_alone_looks_for_these() -> None:
    words = counts()
    words.learn(statistics({"raft": 3}))

    assert words.known("the") is None
    assert words.known("the raft") == statistics({"raft": 3})


def test_words_are_those_of_the_collections_language() -> None:
    words = counts(LexicalSettings(CJK))
    words.learn(statistics({"木船": 1, "船木": 2}))

    assert words.known("木船木") == statistics({"木船": 1, "船木": 2})
    assert words.known("船") is None


def test_where_words_are_not_known_nothing_is() -> None:
    words = KnownStatistics()
    words.learn(statistics({"raft": 3}))

    assert words.known("raft") is None


def test_no_more_words_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_statistics, "MOST_WORDS", 3)
    words = counts()
    words.learn(statistics({"raft": 3, "log": 4}))
    words.learn(statistics({"oar": 1}))
    assert words.known("raft oar") is not None

    words.learn(statistics({"galley": 2}))

    assert words.known("galley") == statistics({"galley": 2})
    assert words.known("raft") is None


GERMAN = settings_to_proto(LexicalSettings("de"))
ENGLISH_WORDS = settings_to_proto(ENGLISH)


def test_shards_say_what_a_word_is() -> None:
    states = [CollectionState(uid="u", shard=shard, lexical=GERMAN) for shard in range(2)]

    assert peer_states.analyzer(states) is analyzer_of(LexicalSettings("de"))


@pytest.mark.parametrize(
    "states",
    [
        [],
        [CollectionState(), CollectionState()],
        [CollectionState(lexical=lexical_pb2.LexicalSettings(language="tlh"))],
        [CollectionState(lexical=GERMAN), CollectionState()],
        [CollectionState(lexical=GERMAN), CollectionState(lexical=ENGLISH_WORDS)],
        [CollectionState(uid="u", lexical=GERMAN), CollectionState(uid="v", lexical=GERMAN)],
    ],
    ids=["no shard", "earlier release", "later release", "one earlier", "disagreement", "two uids"],
)
def test_shards_that_do_not_agree_on_words_are_asked(states: Sequence[CollectionState]) -> None:
    assert peer_states.analyzer(states) is None


def test_counts_depend_on_all_that_shards_say_of_an_index() -> None:
    fields: dict[str, Any] = {"uid": "u", "epoch": 1, "generation": 2, "lexical": GERMAN}
    state = CollectionState(**fields)
    changes = ({"uid": "v"}, {"epoch": 2}, {"generation": 3}, {"lexical": ENGLISH_WORDS})
    others = [CollectionState(**(fields | change)) for change in changes]

    assert peer_states.counted({0: state}) == peer_states.counted({0: CollectionState(**fields)})
    for other in others:
        assert peer_states.counted({0: state}) != peer_states.counted({0: other})
    assert peer_states.counted({0: state}) != peer_states.counted({0: state, 1: state})


def test_lookups_are_counted_by_whether_the_words_were_known() -> None:
    metrics = GatewayMetrics()
    words = KnownStatistics(analyzer_of(ENGLISH), metrics.word_statistics_lookups)
    words.learn(statistics({"raft": 3}))
    for query in ("raft", "rafts", "raft galley"):
        words.known(query)

    name = "trireme_gateway_word_statistics_lookups_total"
    found = [metrics.registry.get_sample_value(name, {"outcome": o}) for o in ("hit", "miss")]
    assert found == [2, 1]
