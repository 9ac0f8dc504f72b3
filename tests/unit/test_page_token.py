"""A page token gives back what it was made of, and nothing that was changed or made by others."""

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadEnvironment, InvalidInput, PageTokenExpired
from gateway.candidates import Candidates, Place
from gateway.fusion import Candidate, FusionSettings, Ranking, fuse
from gateway.page_token import PageTokens
from gateway.page_wire import request_digest
from gateway.query import Degradation, ModelUsed, RerankSettings, ShardAnswer
from trireme.v1 import ranking_pb2, search_pb2

KEY = b"0123456789abcdef"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = b"of the request"
LIFETIME_SECONDS = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> PageTokens:
    return PageTokens(KEY, LIFETIME_SECONDS, clock=clock)


def ranking(*ids: str, shard: int = 0) -> Ranking:
    return Ranking.of(Candidate(id, 1 / (rank + 2), shard) for rank, id in enumerate(ids))


def candidates(**changes: Any) -> Candidates:
    """Four candidates of two legs; the first two of the fused order were reranked."""
    rankings = {"dense": ranking("a", "b", "c"), "lexical": ranking("c", "d", shard=1)}
    fusion = FusionSettings(k=20.0, lexical_weight=0.5)
    values: dict[str, Any] = {
        "uid": "uid-1",
        "rankings": rankings,
        "order": fuse(rankings, fusion),
        "fusion": fusion,
        "rerank": RerankSettings(True, 20, 0.3),
        "window": 100,
        "shards": [ShardAnswer(0, True, 1, 7, 70), ShardAnswer(1, False, 1, 9, 90)],
        "degraded": [Degradation("dense", "OUT_OF_TIME", "shard 1 did not answer", (1,))],
        "coverage": 0.75,
        "encoder": ModelUsed("bi_encoder", "1", "f" * 64),
        "reranker": ModelUsed("cross_encoder", "2", "e" * 64),
        "logits": [1.25, -0.5],
    }
    return Candidates(**{**values, **changes})


def token_of(tokens: PageTokens, frozen: Candidates, offset: int = 10) -> str:
    return tokens.write(Place(frozen, offset, tokens.expiry()), DIGEST)


def same(first: Candidates, second: Candidates) -> bool:
    names = [name for name in Candidates.__slots__ if name != "order"]
    equal = all(getattr(first, name) == getattr(second, name) for name in names)
    return equal and first.ranking() == second.ranking()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"left_out": frozenset({"b", "d"})},
        {"encoder": None, "sparse_encoder": ModelUsed("sparse", "1", "a" * 64)},
        {"reranker": None, "logits": [], "rerank": RerankSettings(False, 20, 0.3)},
        {"degraded": [], "coverage": 1.0},
        {
            "memberships": {
                "a": ["x", "y"],
                "b": [None],
                "c": [1.0],
                "d": [True],
            }
        },
        {"memberships": {id: [NOW] for id in "abcd"}},
    ],
)
def test_a_token_gives_back_what_it_was_made_of(
    tokens: PageTokens, changes: dict[str, Any]
) -> None:
    frozen = candidates(**changes)

    place = tokens.read(token_of(tokens, frozen), DIGEST)

    assert same(place.candidates, frozen)
    assert place.offset == 10
    assert place.expires == NOW + timedelta(seconds=LIFETIME_SECONDS)


def test_no_byte_of_a_token_can_be_changed(tokens: PageTokens) -> None:
    token = token_of(tokens, candidates())

    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidInput) as refused:
            tokens.read(changed, DIGEST)
        assert (refused.value.reason, refused.value.field) == ("BAD_PAGE_TOKEN", "page_token")


@pytest.mark.parametrize("foreign", ["", "x", "not base64!", "é", "AAAA", "A" * 400])
def test_what_is_no_token_is_refused(tokens: PageTokens, foreign: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        tokens.read(foreign, DIGEST)

    assert refused.value.reason == "BAD_PAGE_TOKEN"


def test_the_same_bytes_spelt_otherwise_are_refused(tokens: PageTokens) -> None:
    data = base64.urlsafe_b64decode(token_of(tokens, candidates()))
    spelt = base64.b64encode(data).decode()
    while spelt == base64.urlsafe_b64encode(data).decode():
        spelt += "="

    with pytest.raises(InvalidInput):
        tokens.read(spelt, DIGEST)


def test_any_part_of_a_token_alone_is_refused(tokens: PageTokens) -> None:
    token = token_of(tokens, candidates())

    for length in range(len(token)):
        with pytest.raises(InvalidInput):
            tokens.read(token[:length], DIGEST)


def test_a_token_of_another_key_is_refused(tokens: PageTokens, clock: Clock) -> None:
    other = PageTokens(b"another key of 16", LIFETIME_SECONDS, clock=clock)

    with pytest.raises(InvalidInput) as refused:
        other.read(token_of(tokens, candidates()), DIGEST)

    assert refused.value.reason == "BAD_PAGE_TOKEN"


def test_a_token_of_another_request_is_refused(tokens: PageTokens) -> None:
    with pytest.raises(InvalidInput) as refused:
        tokens.read(token_of(tokens, candidates()), b"of another request")

    assert refused.value.reason == "BAD_PAGE_TOKEN"
    assert "another request" in str(refused.value)


def test_a_token_is_good_until_it_expires_and_not_longer(tokens: PageTokens, clock: Clock) -> None:
    token = token_of(tokens, candidates())

    clock.now += LIFETIME_SECONDS - 0.001
    last = tokens.read(token, DIGEST)
    clock.now += 0.001

    with pytest.raises(PageTokenExpired) as refused:
        tokens.read(token, DIGEST)
    assert refused.value.reason == "PAGE_TOKEN_EXPIRED"
    assert last.offset == 10


def test_later_pages_do_not_make_a_token_live_longer(tokens: PageTokens, clock: Clock) -> None:
    first = tokens.read(token_of(tokens, candidates()), DIGEST)
    clock.now += 30

    second = tokens.read(tokens.write(first, DIGEST), DIGEST)

    assert second.expires == first.expires


def test_gateways_with_one_key_file_understand_each_other(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    one, other = (PageTokens.create(tmp_path / "key", LIFETIME_SECONDS) for _ in range(2))

    assert same(other.read(token_of(one, candidates()), DIGEST).candidates, candidates())


def test_without_a_key_file_every_process_has_its_own_key() -> None:
    one, other = (PageTokens.create(None, LIFETIME_SECONDS) for _ in range(2))

    with pytest.raises(InvalidInput):
        other.read(token_of(one, candidates()), DIGEST)


def test_a_key_that_is_short_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 15)

    for name in ("short", "missing"):
        with pytest.raises(BadEnvironment) as refused:
            PageTokens.create(tmp_path / name, LIFETIME_SECONDS)
        assert refused.value.field == "page_token_key_file"


REQUEST = search_pb2.SearchRequest(collection="c", query="q", window=50, group_by="author")


@pytest.mark.parametrize(
    "change",
    [{"page_token": "t"}, {"page_size": 3}, {"highlight": True}],
    ids=lambda c: next(iter(c)),
)
def test_page_token_size_and_highlights_may_change(change: dict[str, Any]) -> None:
    changed = search_pb2.SearchRequest(**change)
    changed.MergeFrom(REQUEST)

    assert request_digest(changed) == request_digest(REQUEST)


@pytest.mark.parametrize(
    "change",
    [
        {"collection": "d"},
        {"query": "other"},
        {"window": 51},
        {"group_by": "year"},
        {"group_size": 2},
        {"mode": search_pb2.SEARCH_MODE_DENSE},
        {"legs": [search_pb2.SEARCH_LEG_DENSE]},
        {"min_coverage": 1.0},
        {"rerank": ranking_pb2.Rerank(enabled=False)},
        {"fusion": ranking_pb2.Fusion(k=61)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_else_may_change(change: dict[str, Any]) -> None:
    changed = search_pb2.SearchRequest()
    changed.CopyFrom(REQUEST)
    changed.MergeFrom(search_pb2.SearchRequest(**change))

    assert request_digest(changed) != request_digest(REQUEST)


def test_the_clock_of_a_service_is_the_wall_clock() -> None:
    before = time.time()

    expiry = PageTokens(KEY, LIFETIME_SECONDS).expiry().timestamp()

    assert before + LIFETIME_SECONDS <= expiry <= time.time() + LIFETIME_SECONDS
