"""ExplainHit's request to a query and a document, and an explanation back."""

from __future__ import annotations

from dataclasses import replace

from core.documents import check_id
from core.errors import InvalidInput
from gateway.answer_wire import answer_to_proto
from gateway.config import GatewayConfig
from gateway.explain import Explanation
from gateway.query import Query
from gateway.request_wire import query_from_proto
from gateway.verdict import LegOutcome
from trireme.v1 import search_pb2


def explain_from_proto(
    request: search_pb2.ExplainHitRequest, config: GatewayConfig
) -> tuple[Query, str]:
    """The validated query and the document's id; raises InvalidInput."""
    check_id(request.document_id, "document_id")
    if request.search.page_token:
        raise InvalidInput(
            "MALFORMED",
            "is given",
            field="search.page_token",
            remedy="leave it empty: what is explained is the first page",
        )
    try:
        return query_from_proto(request.search, config), request.document_id
    except InvalidInput as error:
        error.field = f"search.{error.field}"
        raise


def explanation_to_proto(explanation: Explanation) -> search_pb2.ExplainHitResponse:
    """An explanation as callers see it."""
    verdict, hit = explanation.verdict, explanation.hit
    answer = answer_to_proto(replace(explanation.answer, hits=[hit] if hit else [], groups=[]))
    response = search_pb2.ExplainHitResponse(
        outcome=search_pb2.HitOutcome.Value(f"HIT_OUTCOME_{verdict.outcome}"),
        stage=search_pb2.Stage.Value(f"STAGE_{verdict.stage.upper() or 'UNSPECIFIED'}"),
        message=verdict.message,
        rank=explanation.rank,
        hit=answer.hits[0] if hit else None,
        legs=[_leg(leg) for leg in explanation.legs],
    )
    del answer.hits[:]
    response.answer.CopyFrom(answer)
    return response


def _leg(leg: LegOutcome) -> search_pb2.LegOutcome:
    return search_pb2.LegOutcome(
        leg=search_pb2.SearchLeg.Value(f"SEARCH_LEG_{leg.leg.upper()}"),
        rank=leg.rank,
        score=leg.score,
        window=leg.window,
        last_score=leg.last_score,
        within_window=leg.within_window,
        answered=leg.answered,
    )
