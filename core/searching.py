"""Several segments searched as one: the best documents of each leg that passages answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.masks import Mask
from core.ranking import best_with_ties
from core.segment import Rows, Segment, Vectors
from core.similarity import decimals


def nearest_documents(
    segments: Sequence[Segment], vector: Vectors, limit: int, mask: Mask | None = None
) -> tuple[list[int], list[float]]:
    """The live documents whose best passages are most similar to `vector`, best first.

    Returns places and scores of the best `limit` documents and of all that tie with the last; a
    place is a document's row, counted on through the segments. Those that `mask` does not hold are
    left out.
    """
    if not segments:
        return [], []
    allowed = mask.parts if mask is not None else [None] * len(segments)
    digits = decimals(vector, segments[0].similarity)
    starts = [0, *itertools.accumulate(len(segment.ids) for segment in segments)]
    available = [s.passages_of(rows) for s, rows in zip(segments, allowed, strict=True)]
    wanted = [_first_guess(*each, limit) for each in zip(segments, available, strict=True)]
    asked = zip(segments, wanted, allowed, strict=True)
    parts = [s.nearest_passages(vector, count, rows) for s, count, rows in asked]
    while True:
        scores = np.round(np.concatenate([part[0] for part in parts]), digits)
        places = np.concatenate([p[1] + start for p, start in zip(parts, starts, strict=False)])
        order = np.argsort(-scores, kind="stable")
        best = _best_of_each(places[order], scores[order], limit)
        found = list(best.values())
        least = found[limit - 1] if len(found) >= limit else -np.inf
        ends = itertools.accumulate(wanted)
        cut_short = [
            number
            for number, end in enumerate(ends)
            if 0 < wanted[number] < available[number] and scores[end - 1] >= least
        ]
        if not cut_short:
            return list(best), found
        for number in cut_short:
            count = wanted[number] = min(available[number], wanted[number] * 4)
            parts[number] = segments[number].nearest_passages(vector, count, allowed[number])


def _best_of_each(places: Rows, scores: Vectors, limit: int) -> dict[int, float]:
    """The first `limit` places, each once with its first score, and all that tie with the last."""
    best: dict[int, float] = {}
    least = -np.inf
    # Most often the first part of them is enough.
    for start in range(0, len(places), 2 * limit):
        part = slice(start, start + 2 * limit)
        for place, score in zip(places[part].tolist(), scores[part].tolist(), strict=True):
            if len(best) >= limit and score < least:
                return best
            if place not in best:
                best[place] = score
                least = score
    return best


def heaviest_documents(
    segments: Sequence[Segment],
    terms: NDArray[np.int32],
    weights: NDArray[np.float32],
    limit: int,
    mask: Mask | None = None,
) -> tuple[list[int], list[float]]:
    """The live documents whose best passages have the greatest inner product with a sparse query.

    `terms` are distinct, `weights` above 0. Returns places and scores as `nearest_documents` does;
    documents without any of the terms, or that `mask` does not hold, are left out.
    """
    allowed = mask.parts if mask is not None else [None] * len(segments)
    places, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    start = 0
    for segment, findable in zip(segments, allowed, strict=True):
        rows, own = segment.weigh_documents(terms, weights, findable)
        places.append(rows + start)
        scores.append(own)
        start += len(segment.ids)
    all_scores = np.concatenate(scores)
    best = best_with_ties(all_scores, limit)
    return np.concatenate(places)[best].tolist(), all_scores[best].tolist()


def _first_guess(segment: Segment, available: int, limit: int) -> int:
    """How many passages to look at first, so that most often they hold `limit` documents."""
    live, documents = segment.live_passages, max(1, len(segment.live_rows))
    return min(available, limit + 8 + limit * max(0, live - documents) // documents // 2)
