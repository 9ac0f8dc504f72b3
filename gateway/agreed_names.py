"""What names stand for, as shards agree: names move on once every shard has said so, or soon after.

Between the shards that hear of a change first and last, a name that already led to the new index
would find shards that do not have it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from core.names import Names

PATIENCE_SECONDS = 2.0
"""How long one shard alone can hold up a change."""


class AgreedNames:
    """`look` after every message of a shard; `current` never goes back. Calls `changed` itself."""

    def __init__(
        self, changed: Callable[[], None], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.current = Names()
        self._newest = Names()
        self._changed = changed
        self._patience_seconds = patience_seconds
        self._timer: asyncio.TimerHandle | None = None

    def look(self, sent: Sequence[Names]) -> None:
        """Takes notice of what each connected shard has `sent` last."""
        if not sent:
            return
        self._move_to(min(sent, key=_revision))
        self._newest = max(sent, key=_revision)
        if self._newest.revision > self.current.revision and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._patience_seconds, self._insist)

    def stop(self) -> None:
        """Waits for nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _insist(self) -> None:
        self._timer = None
        self._move_to(self._newest)
        self._changed()

    def _move_to(self, names: Names) -> None:
        if names.revision > self.current.revision:
            self.current = names


def _revision(names: Names) -> int:
    return names.revision
