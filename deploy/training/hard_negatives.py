"""Hard negatives for a user's pairs: what our own hybrid search wrongly puts on top."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from core.errors import InvalidInput
from deploy.training.examples import Example
from deploy.training.held_out import Legs

# Of a deeper ranking more texts are plainly wrong, which teaches little.
_DEEPEST = 50


def mine_negatives(
    examples: Sequence[Example], legs: Legs, texts: Sequence[str], count: int
) -> list[Example]:
    """`examples`, those without negatives with `count` from the top of the fused legs over `texts`.

    No text that answers the same query in any example is taken. Raises InvalidInput if `texts`
    holds too few others.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for one in examples:
        answers[one.query].add(one.positive)
    bare = list(dict.fromkeys(one.query for one in examples if not one.negatives))
    ranked = zip(bare, legs.of(bare) if bare else [], strict=True)
    mined = {
        query: [texts[row] for row, _ in fused[:_DEEPEST] if texts[row] not in answers[query]]
        for query, (_, fused) in ranked
    }
    return [
        _with(one, mined[one.query][:count], count) if not one.negatives else one
        for one in examples
    ]


def _with(example: Example, negatives: Sequence[str], count: int) -> Example:
    if len(negatives) < count:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"only {len(negatives)} of {count} hard negatives were found",
            field=example.place,
            remedy="give more pairs, or ask for fewer with --mine",
        )
    return replace(example, negatives=tuple(negatives))
