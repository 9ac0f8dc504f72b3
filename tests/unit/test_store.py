"""The feed's arithmetic, and page tokens."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CorruptFile, InvalidInput
from indexer import pages
from indexer.changes import (
    DELETE,
    UPSERT,
    Change,
    Diverged,
    chain_after,
    check_follows,
    contents,
    first_chain,
    fold,
    next_chain,
)

START = first_chain("uid", 0)
OPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([UPSERT, DELETE])), max_size=30)


def feed_of(ops: list[tuple[str, str]]) -> list[Change]:
    """A feed with these writes, as the store would number and chain it."""
    chain = START
    newest: dict[str, Change] = {}
    feed = []
    for sequence, (id, op) in enumerate(ops, start=1):
        before = newest.get(id)
        version = before.version + 1 if before else 1
        previous = before.sequence if before else 0
        bare = Change(sequence, id, version, op, previous, "", f"text {sequence}", "{}", 0, "")
        chain = chain_after(chain, bare)
        newest[id] = Change(
            sequence, id, version, op, previous, "", f"text {sequence}", "{}", 0, chain
        )
        feed.append(newest[id])
    return feed


@given(ops=OPS, data=st.data())
def test_a_fold_in_two_runs_is_the_fold_in_one(
    ops: list[tuple[str, str]], data: st.DataObject
) -> None:
    feed = feed_of(ops)
    cut = data.draw(st.integers(0, len(feed)))
    live: dict[int, tuple[str, int]] = {}

    for run in (feed[:cut], feed[cut:]):
        folded = fold(run)
        for sequence in folded.replaced:
            live.pop(sequence, None)
        live |= {change.sequence: (change.id, change.version) for change in folded.upserts}

    assert dict(live.values()) == contents(feed)


def test_a_feed_follows_itself() -> None:
    check_follows(0, START, feed_of([("a", UPSERT), ("a", DELETE), ("b", UPSERT)]))


@given(
    id=st.text(),
    content=st.tuples(st.text(), st.text(), st.text(), st.integers(0)),
    version=st.integers(1),
)
def test_a_chain_is_the_digest_of_a_list_in_json(
    id: str, content: tuple[str, str, str, int], version: int
) -> None:
    chain = next_chain(START, id=id, version=version, op=UPSERT, content=content)

    text = json.dumps([START, id, version, UPSERT, *content], ensure_ascii=False)
    assert chain == hashlib.sha256(text.encode()).hexdigest()


def test_a_gap_is_not_passed_over() -> None:
    feed = feed_of([("a", UPSERT), ("b", UPSERT), ("c", UPSERT)])

    with pytest.raises(CorruptFile):
        check_follows(0, START, [feed[0], feed[2]])


@pytest.mark.parametrize(
    ("field", "value"),
    [("text", "other"), ("version", 9), ("id", "z"), ("op", DELETE), ("attributes", '{"a": 1}')],
)
def test_a_rewritten_change_breaks_the_chain(field: str, value: object) -> None:
    feed = feed_of([("a", UPSERT), ("b", UPSERT)])
    values = {name: getattr(feed[0], name) for name in Change.__slots__}
    rewritten = Change(**(values | {field: value}))

    with pytest.raises(Diverged):
        check_follows(0, START, [rewritten, feed[1]])


def test_chains_of_different_shards_never_meet() -> None:
    assert len({first_chain(uid, shard) for uid in ("a", "b") for shard in (0, 1)}) == 4


@given(st.text(max_size=20))
def test_a_page_token_leads_back_to_where_it_came_from(last: str) -> None:
    assert pages.last_of("papers", pages.token_after("papers", last)) == last


@pytest.mark.parametrize(
    "token",
    ["x", "é", "AAAA", pages.token_after("other", "a"), pages.token_after("papers", "a")[:-4]],
)
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pages.last_of("papers", token)

    assert caught.value.reason == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize(("asked", "used"), [(0, 100), (1, 1), (1_000, 1_000)])
def test_page_sizes_within_the_limit_are_used(asked: int, used: int) -> None:
    assert pages.page_size(asked) == used


@pytest.mark.parametrize("asked", [-1, 1_001])
def test_page_sizes_beyond_the_limit_are_refused(asked: int) -> None:
    with pytest.raises(InvalidInput):
        pages.page_size(asked)
