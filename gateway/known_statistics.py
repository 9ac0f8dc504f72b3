"""How many documents have the words that were asked for before."""

from __future__ import annotations

from prometheus_client import Counter

from core.analysis import Analyzer
from core.metrics import Bound
from trireme.shard.v1.shard_pb2 import LexicalStatistics

MOST_WORDS = 10_000
"""Then all are forgotten, and those that are asked for most are soon known again."""


class KnownStatistics:
    """Statistics of words over all shards of a collection, while none publishes anything new.

    Without an `analyzer`, which tells what the words of a query are, nothing is ever known.
    """

    def __init__(
        self, analyzer: Analyzer | None = None, lookups: Bound[Counter] | None = None
    ) -> None:
        """`lookups` counts by `outcome` whether words were known: `hit` or `miss`."""
        self._analyzer = analyzer
        self._lookups = lookups
        self._documents = self._length = 0
        self._frequencies: dict[str, int] = {}

    def known(self, query: str) -> LexicalStatistics | None:
        """What `learn` was told for all words of a query; None unless all of them are known."""
        found = self._look_up(query)
        if self._lookups is not None:
            self._lookups("miss" if found is None else "hit").inc()
        return found

    def learn(self, total: LexicalStatistics) -> None:
        """Notes the sum of what all shards said of a query's words."""
        if self._analyzer is None:
            return
        if len(self._frequencies) + len(total.terms) > MOST_WORDS:
            self._frequencies.clear()
        self._documents, self._length = total.document_count, total.total_length
        self._frequencies.update(zip(total.terms, total.document_frequencies, strict=True))

    def _look_up(self, query: str) -> LexicalStatistics | None:
        if self._analyzer is None or not self._documents:
            return None
        terms = self._analyzer.query_terms(query)
        try:
            frequencies = [self._frequencies[term] for term in terms]
        except KeyError:
            return None
        return LexicalStatistics(
            document_count=self._documents,
            total_length=self._length,
            terms=terms,
            document_frequencies=frequencies,
        )

    def __repr__(self) -> str:
        return f"<KnownStatistics of {len(self._frequencies)} words>"
