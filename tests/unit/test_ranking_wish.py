"""What callers and collections say about ranking, and what they leave open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.ranking_wire import METHOD_TO_PROTO, wish_from_proto, wish_to_proto
from core.ranking_wish import DISTRIBUTION, MIN_MAX, OPEN, FusionWish, RankingWish, RerankWish
from trireme.v1 import ranking_pb2
from trireme.v1.ranking_pb2 import Fusion, Rerank, SearchDefaults

WEIGHT = st.none() | st.floats(0, 100)
WISHES = st.builds(
    RankingWish,
    fusion=st.builds(
        FusionWish,
        method=st.none() | st.sampled_from(sorted(METHOD_TO_PROTO)),
        k=st.none() | st.floats(1, 10_000),
        dense_weight=WEIGHT,
        lexical_weight=WEIGHT,
        sparse_weight=WEIGHT,
    ),
    rerank=st.builds(
        RerankWish,
        enabled=st.none() | st.booleans(),
        depth=st.none() | st.integers(1, 200),
        weight=st.none() | st.floats(0, 1),
    ),
    window=st.none() | st.integers(1, 1000),
)


@given(WISHES)
def test_a_wish_comes_back_from_json_and_from_its_message(wish: RankingWish) -> None:
    message = wish_to_proto(wish)

    assert RankingWish.from_json(wish.to_json()) == wish
    assert wish_from_proto(message or SearchDefaults()) == wish
    assert (message is None) == (wish == OPEN)


@given(WISHES, WISHES)
def test_what_is_said_wins_and_the_rest_is_as_the_other_says(
    first: RankingWish, other: RankingWish
) -> None:
    merged = _flat(first.over(other))

    for name, value in _flat(first).items():
        assert merged[name] == (_flat(other)[name] if value is None else value)
    assert first.over(OPEN) == OPEN.over(first) == first


def _flat(wish: RankingWish) -> dict[str, Any]:
    fusion = {name: getattr(wish.fusion, name) for name in FusionWish.__slots__}
    rerank = {f"rerank.{name}": getattr(wish.rerank, name) for name in RerankWish.__slots__}
    return {**fusion, **rerank, "window": wish.window}


def test_zero_and_false_are_said() -> None:
    wish = wish_from_proto(
        SearchDefaults(
            fusion=Fusion(dense_weight=0), rerank=Rerank(enabled=False, weight=0), window=0
        )
    )

    assert wish == RankingWish(
        FusionWish(dense_weight=0), RerankWish(enabled=False, weight=0), window=None
    )


PRESENT = RankingWish(FusionWish(MIN_MAX, k=20), RerankWish(depth=7), window=50)
WANTED = RankingWish(FusionWish(DISTRIBUTION, dense_weight=2))


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ((), WANTED),
        (("fusion",), RankingWish(WANTED.fusion, PRESENT.rerank, 50)),
        (("fusion", "method"), RankingWish(FusionWish(DISTRIBUTION, k=20), PRESENT.rerank, 50)),
        (("fusion", "k"), RankingWish(FusionWish(MIN_MAX), PRESENT.rerank, 50)),
        (("rerank", "depth"), RankingWish(PRESENT.fusion, RerankWish(), 50)),
        (("window",), RankingWish(PRESENT.fusion, PRESENT.rerank)),
    ],
)
def test_a_change_concerns_what_its_path_names(path: tuple[str, ...], changed: RankingWish) -> None:
    assert PRESENT.changed(path, WANTED) == changed


@pytest.mark.parametrize("path", [("colour",), ("fusion", "depth"), ("window", "k"), ("over",)])
def test_a_path_that_names_nothing_is_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(KeyError):
        PRESENT.changed(path, WANTED)


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (SearchDefaults(fusion=Fusion(method=99)), "UNKNOWN_FUSION", "fusion.method"),  # type: ignore[arg-type]
        (SearchDefaults(fusion=Fusion(k=0.5)), "OUT_OF_RANGE", "fusion.k"),
        (SearchDefaults(fusion=Fusion(k=float("nan"))), "OUT_OF_RANGE", "fusion.k"),
        (
            SearchDefaults(fusion=Fusion(sparse_weight=100.5)),
            "OUT_OF_RANGE",
            "fusion.sparse_weight",
        ),
        (SearchDefaults(rerank=Rerank(depth=-1)), "OUT_OF_RANGE", "rerank.depth"),
        (SearchDefaults(rerank=Rerank(depth=201)), "OUT_OF_RANGE", "rerank.depth"),
        (SearchDefaults(rerank=Rerank(weight=1.01)), "OUT_OF_RANGE", "rerank.weight"),
        (SearchDefaults(window=1001), "OUT_OF_RANGE", "window"),
    ],
)
def test_what_is_out_of_range_is_refused_by_field(
    message: SearchDefaults, reason: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        wish_from_proto(message, "collection.search_defaults.")

    assert refusal.value.reason == reason
    assert refusal.value.field == f"collection.search_defaults.{field}"


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    message = SearchDefaults(fusion=Fusion(method=99))  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="FUSION_METHOD_Z_SCORE"):
        wish_from_proto(message)


def test_every_method_of_the_contract_has_a_name() -> None:
    known = set(ranking_pb2.FusionMethod.values()) - {ranking_pb2.FUSION_METHOD_UNSPECIFIED}

    assert set(METHOD_TO_PROTO.values()) == known
