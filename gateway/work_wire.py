"""What a request will cost, before it is looked at any closer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.lanes import Lane
from gateway.work import Work
from trireme.v1 import inference_pb2, search_pb2

# As much again as the legs of a search: so many documents reranked, or texts embedded.
RERANKED_PER_UNIT = 20
TEXTS_PER_UNIT = 16
# A request that asks for more is refused anyway; until then it shall not count for everything.
MOST_UNITS = 16


def search_work(request: search_pb2.SearchRequest, usual_depth: int, lane: Lane) -> Work:
    """What one search costs, where a collection reranks `usual_depth` documents."""
    if request.page_token:
        return _work(f"page {request.collection}", 1, lane)
    legs = sorted(request.legs) or request.mode
    units = 1 + _parts(_depth(request, usual_depth), RERANKED_PER_UNIT)
    return _work(f"search {request.collection} {legs}", units, lane)


def batch_work(requests: Sequence[search_pb2.SearchRequest], usual_depth: int, lane: Lane) -> Work:
    """What searches cost that are made one after the other: as much as the dearest."""
    units = max(search_work(each, usual_depth, lane).units for each in requests)
    return Work("", units, lane)


def inference_work(request: Any, lane: Lane) -> Work:
    """What one request of InferenceService costs."""
    if isinstance(request, inference_pb2.RerankRequest):
        return _work("rerank", _parts(len(request.passages), RERANKED_PER_UNIT), lane)
    return _work(type(request).__name__, _parts(len(request.texts), TEXTS_PER_UNIT), lane)


def _depth(request: search_pb2.SearchRequest, usual_depth: int) -> int:
    rerank = request.rerank
    if rerank.HasField("enabled") and not rerank.enabled:
        return 0
    return rerank.depth or usual_depth


def _parts(count: int, per_unit: int) -> int:
    return -(-count // per_unit)


def _work(kind: str, units: int, lane: Lane) -> Work:
    units = max(1, min(MOST_UNITS, units))
    return Work(f"{kind} {units}", units, lane)
