"""Which documents a caller will most likely want in full: a pure guess before legs are fused."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence


def likely_head(
    dense: Sequence[str], others: Mapping[str, float], limit: int, *, weight: float, k: float
) -> list[str]:
    """The `limit` best ids by reciprocal rank fusion of this shard's dense leg with other legs.

    `others` holds what the other legs gave, by id. Ranks among all shards are not known here: they
    are at least those in `dense`, so that documents both legs found are favoured a little.
    """
    scores = dict(others)
    for rank, document_id in enumerate(dense, start=1):
        # Below so many in `dense` are none of the best, unless another leg found them too.
        if rank <= limit or document_id in others:
            scores[document_id] = scores.get(document_id, 0.0) + weight / (k + rank)
    return heapq.nlargest(limit, scores, key=scores.__getitem__)
