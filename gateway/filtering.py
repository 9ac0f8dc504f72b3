"""Whether a query's filter makes sense for a collection, and how its legs kept to it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from core.filters.schema import Schema, merged
from core.filters.tree import Node
from core.filters.typing import check
from gateway.query import DENSE, LEXICAL, SPARSE, LegPlan
from gateway.view import View

_FINDABLE = {
    DENSE: "have a passage",
    LEXICAL: "hold any of the query's words",
    SPARSE: "hold any of the query's weighted terms",
}


def check_filter(node: Node | None, view: View, *, covered: bool) -> None:
    """Raises InvalidInput (INVALID_FILTER) for an attribute or a value that makes no sense.

    An attribute that no shard knows is let through while a shard has said nothing yet, or has not
    `covered` the writes that the query waits for: one of them may bring it.
    """
    if node is not None:
        is_current = covered and len(view.schemas) == len(view.targets)
        check(node, _of_all(tuple(view.schemas)), is_current=is_current)


def summed(leg: str, plans: Sequence[LegPlan], *, found: int, limit: int) -> LegPlan | None:
    """The plans of a leg's shards as one; the leg `found` so many documents of `limit` wanted.

    None if no shard had anything to keep to.
    """
    if not plans:
        return None
    matching = sum(plan.matching for plan in plans)
    return LegPlan(
        strategies=sorted({each for plan in plans for each in plan.strategies}),
        matching=matching,
        documents=sum(plan.documents for plan in plans),
        shortfall=f"only {found} of them {_FINDABLE[leg]}" if found < min(limit, matching) else "",
    )


@lru_cache(maxsize=256)
def _of_all(schemas: tuple[Schema, ...]) -> Schema:
    return merged(schemas)
