"""Pages cut from frozen candidates make up one list, wherever they are cut."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.documents import Position
from core.ranking_wire import METHOD_TO_PROTO
from gateway.candidates import Candidates
from gateway.fusion import Blended, FusionSettings, Ranking, fuse
from gateway.pages import page_of
from gateway.query import Query, RerankSettings

RERANK = RerankSettings(True, 20, 0.3)


def leg(chance: random.Random, ids: Sequence[str]) -> Ranking:
    found = chance.sample(ids, len(ids) * 2 // 3)
    scores = sorted((round(chance.random(), 2) for _ in found), reverse=True)
    return Ranking(found, scores, [0] * len(found))


def candidates(seed: int = 1, *, reranked: int = 0, method: str = "rrf") -> Candidates:
    chance = random.Random(seed)
    ids = [f"d{number:02}" for number in range(40)]
    rankings = {"dense": leg(chance, ids), "lexical": leg(chance, ids)}
    fusion = FusionSettings(method=method)
    return Candidates(
        uid="uid",
        rankings=rankings,
        order=fuse(rankings, fusion),
        fusion=fusion,
        rerank=RERANK,
        window=100,
        shards=(),
        degraded=(),
        coverage=1.0,
        logits=[round(chance.gauss(0, 3), 3) for _ in range(reranked)],
    )


def query(page_size: int, *, group_by: str = "", group_size: int = 1) -> Query:
    return Query(
        collection="c",
        text="q",
        page_size=page_size,
        window=100,
        legs=frozenset(),
        fusion=FusionSettings(),
        rerank=RERANK,
        min_position=Position(),
        group_by=group_by,
        group_size=group_size,
    )


@pytest.mark.parametrize("method", METHOD_TO_PROTO)
@pytest.mark.parametrize("reranked", [0, 1, 7, 20])
@pytest.mark.parametrize("page_size", [1, 6, 7, 39, 1000])
def test_pages_of_any_size_make_up_the_whole_list(
    method: str, reranked: int, page_size: int
) -> None:
    frozen = candidates(reranked=reranked, method=method)
    whole = frozen.ranking()

    walked: list[Blended] = []
    offset: int | None = 0
    while offset is not None:
        page = page_of(frozen, query(page_size), offset)
        walked += page.hits
        offset = page.next_offset

    assert walked == whole
    assert len(whole) == len(frozen)
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)


def test_the_head_is_what_was_reranked() -> None:
    frozen = candidates(reranked=7)

    ranking = frozen.ranking()

    assert {hit.fused.id for hit in ranking[:7]} == set(frozen.order.ids[:7])
    assert {hit.fused.id: hit.logit for hit in ranking[:7]} == dict(
        zip(frozen.order.ids[:7], frozen.logits, strict=True)
    )
    assert [hit.fused.id for hit in ranking[7:]] == list(frozen.order.ids[7:])
    assert {hit.logit for hit in ranking[7:]} == {None}


def test_what_is_left_out_is_on_no_page_and_takes_no_logit() -> None:
    whole = candidates(reranked=5)
    ids = whole.order.ids
    frozen = replace(whole, left_out=frozenset({ids[0], ids[3], ids[9], ids[-1]}))

    ranking = frozen.ranking()

    shown = [id for id in ids if id not in frozen.left_out]
    assert len(frozen) == len(shown) == len(ids) - 4
    assert {hit.fused.id for hit in ranking} == set(shown)
    assert {hit.fused.id: hit.logit for hit in ranking[:5]} == dict(
        zip(shown[:5], frozen.logits, strict=True)
    )
    assert [frozen.ranking(limit) for limit in (1, 5, 20)] == [
        ranking[:1],
        ranking[:5],
        ranking[:20],
    ]


def test_pages_of_groups_show_each_group_once_with_its_exact_size() -> None:
    frozen = candidates(reranked=7)
    memberships = {id: [str(int(id[1:]) % 9)] for id in frozen.order.ids}
    frozen = replace(frozen, memberships=memberships)

    first = page_of(frozen, query(5, group_by="x", group_size=2), 0)
    second = page_of(frozen, query(5, group_by="x", group_size=2), 5)

    groups = [*(first.groups or ()), *(second.groups or ())]
    assert (first.next_offset, second.next_offset) == (5, None)
    assert len({group.value for group in groups}) == len(groups) == 9
    assert sum(len(group.members) for group in groups) == len(frozen)
    best = [frozen.ranking().index(group.members[0]) for group in groups]
    assert best == sorted(best)
    assert len(first.shown) == sum(min(2, len(group.members)) for group in groups[:5])


def test_a_document_in_several_groups_is_fetched_once() -> None:
    frozen = candidates()
    memberships = {id: ["x", "y"] for id in frozen.order.ids}
    frozen = replace(frozen, memberships=memberships)

    page = page_of(frozen, query(5, group_by="x", group_size=3), 0)

    assert [fused.id for fused in page.shown] == list(frozen.order.ids[:3])


def test_nothing_found_is_one_empty_page() -> None:
    frozen = replace(candidates(), rankings={}, order=fuse({}, FusionSettings()))

    page = page_of(frozen, query(10), 0)

    assert (list(page.hits), page.next_offset, len(frozen)) == ([], None, 0)
