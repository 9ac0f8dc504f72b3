"""SearchRequest to a validated query."""

from __future__ import annotations

from dataclasses import replace

from core.documents import check_text
from core.errors import InvalidInput
from core.filters.parsing import parse
from core.query_syntax import Understood, read
from core.ranges import count_within, within
from core.ranking_wire import wish_from_proto
from core.ranking_wish import MAX_WINDOW, RankingWish, given
from core.wire import position_from_proto
from gateway.config import GatewayConfig
from gateway.fusion import FusionSettings
from gateway.page_wire import request_digest
from gateway.query import DENSE, LEXICAL, SPARSE, Query, RerankSettings
from trireme.v1 import lexical_pb2, search_pb2

MAX_QUERY_BYTES = 4096
MAX_PAGE_SIZE = 1000
MAX_GROUP_SIZE = 100
MAX_ATTRIBUTE_BYTES = 128
DEFAULT_PAGE_SIZE = 10
DEFAULT_WINDOW = 100

_LEGS = {
    # Empty: all that the collection has.
    search_pb2.SEARCH_MODE_UNSPECIFIED: frozenset[str](),
    search_pb2.SEARCH_MODE_HYBRID: frozenset[str](),
    search_pb2.SEARCH_MODE_DENSE: frozenset({DENSE}),
    search_pb2.SEARCH_MODE_LEXICAL: frozenset({LEXICAL}),
    search_pb2.SEARCH_MODE_SPARSE: frozenset({SPARSE}),
}
_SYNTAXES = frozenset(lexical_pb2.QuerySyntax.values())
_LEG = {
    search_pb2.SEARCH_LEG_DENSE: DENSE,
    search_pb2.SEARCH_LEG_LEXICAL: LEXICAL,
    search_pb2.SEARCH_LEG_SPARSE: SPARSE,
}


def query_from_proto(request: search_pb2.SearchRequest, config: GatewayConfig) -> Query:
    """The validated query; raises InvalidInput naming the field."""
    if not request.collection:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field="collection", remedy="name one")
    check_text(request.query, MAX_QUERY_BYTES, "query")
    if not request.query.strip():
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="query", remedy="say what is looked for"
        )
    understood = _understood(request)
    page_size = count_within(request.page_size, MAX_PAGE_SIZE, "page_size") or DEFAULT_PAGE_SIZE
    asked = wish_from_proto(request)
    return Query(
        collection=request.collection,
        text=request.query if understood is None else understood.text,
        page_size=page_size,
        window=_window(request, asked, page_size),
        legs=_legs(request),
        fusion=FusionSettings(**given(asked.fusion)),
        rerank=_rerank(asked, config),
        min_position=position_from_proto(request.min_position, "min_position"),
        min_coverage=within(request.min_coverage, 0, 1, "min_coverage"),
        page_token=request.page_token,
        digest=request_digest(request),
        group_by=_group_by(request),
        group_size=count_within(request.group_size, MAX_GROUP_SIZE, "group_size") or 1,
        highlight=request.highlight,
        asked=asked,
        filter=parse(request.filter),
        filter_text=request.filter,
        understood=understood,
    )


def _understood(request: search_pb2.SearchRequest) -> Understood | None:
    """What a query with operators means; None if it is to be read as words."""
    if request.query_syntax not in _SYNTAXES:
        raise InvalidInput(
            "OUT_OF_RANGE", f"{request.query_syntax} is not a QuerySyntax", field="query_syntax"
        )
    has_operators = request.query_syntax == lexical_pb2.QUERY_SYNTAX_OPERATORS
    return read(request.query) if has_operators else None


def _rerank(asked: RankingWish, config: GatewayConfig) -> RerankSettings:
    rerank = RerankSettings(True, config.rerank_depth, config.rerank_weight)
    said = given(asked.rerank)
    return replace(rerank, **said) if said else rerank


def _window(request: search_pb2.SearchRequest, asked: RankingWish, page_size: int) -> int:
    """Candidates per leg; those of a page after the first are there already."""
    if asked.window is None or request.page_token:
        return max(asked.window or DEFAULT_WINDOW, page_size)
    return within(asked.window, page_size, MAX_WINDOW, "window")


def _group_by(request: search_pb2.SearchRequest) -> str:
    if request.group_by:
        check_text(request.group_by, MAX_ATTRIBUTE_BYTES, "group_by")
    elif request.group_size:
        raise InvalidInput(
            "MALFORMED",
            "is given without group_by",
            field="group_size",
            remedy="name the attribute to group by",
        )
    return request.group_by


def _legs(request: search_pb2.SearchRequest) -> frozenset[str]:
    if request.mode not in _LEGS:
        raise InvalidInput("OUT_OF_RANGE", f"{request.mode} is not a SearchMode", field="mode")
    if not request.legs:
        return _LEGS[request.mode]
    if request.mode != search_pb2.SEARCH_MODE_UNSPECIFIED:
        raise InvalidInput(
            "MALFORMED", "is given beside legs", field="mode", remedy="give one of both"
        )
    if unknown := [leg for leg in request.legs if leg not in _LEG]:
        raise InvalidInput("OUT_OF_RANGE", f"{unknown[0]} is not a SearchLeg", field="legs")
    if len(set(request.legs)) < len(request.legs):
        raise InvalidInput(
            "MALFORMED", "names a leg twice", field="legs", remedy="name each leg once"
        )
    return frozenset(_LEG[leg] for leg in request.legs)
