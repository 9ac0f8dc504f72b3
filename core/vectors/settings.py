"""What a collection says about its vector indexes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from core import config

AUTO = "auto"
TARGET_RECALL = 0.98
SEAL_ROWS = 50_000
"""Below this an exact search takes a few milliseconds."""
LEAST_SEAL_ROWS = 1_000
MOST_SEAL_ROWS = 100_000_000


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """`kind` is one of `kinds.KINDS` or AUTO.

    `target_recall` is the share of the 10 nearest vectors that a sealed segment must find.
    `memory_budget_bytes` is what the indexes of all shards may take, 0 is no limit. Segments with
    at least `seal_rows` vectors are sealed.
    """

    kind: str = AUTO
    target_recall: float = TARGET_RECALL
    memory_budget_bytes: int = 0
    seal_rows: int = SEAL_ROWS

    def to_json(self) -> str:
        """All settings, as JSON; equal settings give equal texts."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> VectorSettings:
        """Reads what `to_json` wrote; an empty text says nothing."""
        return config.build(cls, json.loads(text), "vector_index") if text else cls()


DEFAULT = VectorSettings()
