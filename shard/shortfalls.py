"""Why documents are outside a query's limits, for explanations."""

from __future__ import annotations

from collections.abc import Sequence

from core.analysis import Analyzer
from core.query_syntax import Constraint
from core.violations import violated_by
from shard.fetched import Fetched
from shard.limits import Limits

Shortfall = tuple[Sequence[str], Constraint | None]
"""The parts of the filter that a document does not match, and of the constraint; None if none."""


def shortfalls(fetched: Sequence[Fetched], limits: Limits, analyzer: Analyzer) -> list[Shortfall]:
    """What each document falls short of."""
    return [(_unmet(each, limits), _violated(each, limits, analyzer)) for each in fetched]


def _unmet(fetched: Fetched, limits: Limits) -> Sequence[str]:
    return () if limits.filter is None else fetched.unmet(limits.filter)


def _violated(fetched: Fetched, limits: Limits, analyzer: Analyzer) -> Constraint | None:
    if limits.constraint is None:
        return None
    found = violated_by(fetched.document, limits.constraint, analyzer)
    return None if found == Constraint() else found
