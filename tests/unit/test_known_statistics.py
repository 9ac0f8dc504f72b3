"""Words that were counted once need not be counted again; others do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from core.analysis import analyzer_of
from core.languages import CJK, ENGLISH, LexicalSettings
from core.lexical_wire import settings_to_proto
from gateway import known_statistics, peer_states
from gateway.known_statistics import KnownStatistics
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


def test_shards_say_what_a_word_is() -> None:
    german = LexicalSettings("de")
    state = CollectionState(lexical=settings_to_proto(german))

    assert peer_states.analyzer(state) is analyzer_of(german)


@pytest.mark.parametrize("lexical", [None, lexical_pb2.LexicalSettings(language="tlh")])
def test_a_shard_of_another_release_may_say_nothing_of_use(
    lexical: lexical_pb2.LexicalSettings | None,
) -> None:
    assert peer_states.analyzer(CollectionState(lexical=lexical)) is None
