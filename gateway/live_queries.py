"""The latest queries of each collection, in memory, if the operator wants that."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable


class LiveQueries:
    """Remembers `kept` queries per collection, for the `most` collections asked last; 0: none.

    `collection_of` says which collection a name or alias stands for.
    """

    def __init__(self, kept: int, collection_of: Callable[[str], str], *, most: int = 100) -> None:
        self._kept = kept
        self._collection_of = collection_of
        self._most = most
        self._queries: OrderedDict[str, deque[str]] = OrderedDict()

    def note(self, collection: str, text: str) -> None:
        """Remembers a query, and forgets the oldest."""
        if not self._kept:
            return
        collection = self._collection_of(collection)
        self._queries.setdefault(collection, deque(maxlen=self._kept)).append(text)
        self._queries.move_to_end(collection)
        if len(self._queries) > self._most:
            self._queries.popitem(last=False)

    def latest(self, collection: str, count: int) -> list[str]:
        """Up to `count` distinct queries, the latest first."""
        return [*dict.fromkeys(reversed(self._queries.get(collection, ())))][:count]
