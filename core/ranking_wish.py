"""What somebody says about how searches rank: a caller for one search, a collection for all.

Both leave open what they do not care about. A search is ranked as its caller says, else as the
collection says, else as the gateway does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from core import config

RRF = "rrf"
MIN_MAX = "min-max"
Z_SCORE = "z-score"
DISTRIBUTION = "distribution"

MAX_K = 10_000
MAX_WEIGHT = 100
MAX_RERANK_DEPTH = 200
MAX_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class FusionWish:
    """How legs are fused; None is left open."""

    method: str | None = None
    k: float | None = None
    dense_weight: float | None = None
    lexical_weight: float | None = None
    sparse_weight: float | None = None


@dataclass(frozen=True, slots=True)
class RerankWish:
    """Whether and how the head is reranked; None is left open."""

    enabled: bool | None = None
    depth: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class RankingWish:
    """How a search ranks; what is None is left open. `window` is in candidates per leg."""

    fusion: FusionWish = FusionWish()
    rerank: RerankWish = RerankWish()
    window: int | None = None

    def over(self, other: RankingWish) -> RankingWish:
        """This, and where it says nothing, what the other says."""
        if self == OPEN:
            return other
        merged: RankingWish = _over(self, other)
        return merged

    def changed(self, path: Sequence[str], to: RankingWish) -> RankingWish:
        """This with what `path` names (`fusion`, `k`; empty: all) as in `to`.

        Raises KeyError if it names nothing.
        """
        changed: RankingWish = _changed(self, path, to)
        return changed

    def to_json(self) -> str:
        """What is said, as JSON; equal wishes give equal texts."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RankingWish:
        """Reads what `to_json` wrote."""
        return config.build(cls, json.loads(text), "search_defaults")


OPEN = RankingWish()
"""Says nothing."""


def given(wish: FusionWish | RerankWish) -> dict[str, Any]:
    """What is not left open, by name."""
    said = [(name, getattr(wish, name)) for name in wish.__slots__]
    return {name: value for name, value in said if value is not None}


def _over(first: Any, other: Any) -> Any:
    """The first with what it leaves open as in the other."""
    if not is_dataclass(first) or isinstance(first, type):
        return other if first is None else first
    names = [field.name for field in fields(first)]
    return replace(first, **{n: _over(getattr(first, n), getattr(other, n)) for n in names})


def _changed(wish: Any, path: Sequence[str], to: Any) -> Any:
    if not path:
        return to
    name, *rest = path
    if not is_dataclass(wish) or isinstance(wish, type):
        raise KeyError(name)
    if name not in {field.name for field in fields(wish)}:
        raise KeyError(name)
    return replace(wish, **{name: _changed(getattr(wish, name), rest, getattr(to, name))})
