"""A system is a way of searching, written `NAME` or `NAME:KEY=VALUE:KEY=VALUE`.

Names:
    dense, lexical, sparse          one leg
    dense+lexical                   some legs, fused as the collection says
    hybrid                          every leg, fused as the collection says, not reranked
    rerank                          likewise, reranked as the collection says
    rerank@20                       likewise, the best 20 documents reranked
    default                         a search that says nothing: what users of the collection get
    rrf, min-max, z-score,          every leg, fused by this method, not reranked
    distribution
With settings:
    rrf:k=20:lexical=.5:window=50:depth=10:blend=.3
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import InvalidInput
from core.ranking_wire import METHOD_TO_PROTO
from core.ranking_wish import RRF
from trireme.v1 import ranking_pb2, search_pb2

LEGS = {
    "dense": search_pb2.SEARCH_LEG_DENSE,
    "lexical": search_pb2.SEARCH_LEG_LEXICAL,
    "sparse": search_pb2.SEARCH_LEG_SPARSE,
}
DEPTHS = (5, 10, 20, 50)
DEFAULT_SYSTEMS = "dense,lexical,hybrid,rerank"
ALL = "all"
_PLAIN = ("hybrid", "rerank", "default")
_MODES = {
    "dense": search_pb2.SEARCH_MODE_DENSE,
    "lexical": search_pb2.SEARCH_MODE_LEXICAL,
    "sparse": search_pb2.SEARCH_MODE_SPARSE,
}


@dataclass(frozen=True, slots=True)
class System:
    """One way of searching; what is None or empty is left to the collection.

    `depth` and `blend` are those of reranking, `weights` are by leg.
    """

    name: str
    legs: tuple[str, ...] = ()
    method: str = ""
    k: float | None = None
    weights: tuple[tuple[str, float], ...] = ()
    window: int = 0
    rerank: bool | None = False
    depth: int = 0
    blend: float | None = None

    @property
    def is_leg(self) -> bool:
        """Whether it asks one leg alone."""
        return len(self.legs) == 1

    def defaults(self) -> ranking_pb2.SearchDefaults:
        """As the settings of a collection or a request."""
        fusion = ranking_pb2.Fusion()
        for leg, weight in self.weights:
            setattr(fusion, f"{leg}_weight", weight)
        if self.method:
            fusion.method = METHOD_TO_PROTO[self.method]
        if self.k is not None:
            fusion.k = self.k
        rerank = ranking_pb2.Rerank(depth=self.depth)
        if self.rerank is not None:
            rerank.enabled = self.rerank
        if self.blend is not None:
            rerank.weight = self.blend
        return ranking_pb2.SearchDefaults(fusion=fusion, rerank=rerank, window=self.window)

    def request(self, collection: str, text: str, page_size: int) -> search_pb2.SearchRequest:
        """One search of this kind."""
        settings = self.defaults()
        return search_pb2.SearchRequest(
            collection=collection,
            query=text,
            # A window below the page is refused.
            page_size=min(page_size, self.window or page_size),
            fusion=settings.fusion,
            rerank=settings.rerank,
            window=self.window,
            **self._legs(),
        )

    def _legs(self) -> dict[str, Any]:
        if self.is_leg:
            return {"mode": _MODES[self.legs[0]]}
        return {"legs": [LEGS[leg] for leg in self.legs]}


@dataclass(frozen=True, slots=True)
class _Option:
    """The numbers that a key of a system takes."""

    low: float
    high: float
    whole: bool = False

    def parse(self, text: str, where: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if self.low <= value <= self.high and not (self.whole and value % 1):
            return value
        kind = "a whole number" if self.whole else "a number"
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {text!r}",
            field=where,
            remedy=f"give {kind} from {self.low:g} to {self.high:g}",
        )


_OPTIONS = {
    "k": _Option(1, 10_000),
    **{leg: _Option(0, 100) for leg in LEGS},
    "window": _Option(1, 1000, whole=True),
    "depth": _Option(1, 200, whole=True),
    "blend": _Option(0, 1),
}


def parse_systems(text: str, *, legs: Sequence[str]) -> list[System]:
    """The systems in a list with commas, each once; `all` stands for every ablation of `legs`.

    Raises InvalidInput naming the system and the key that is not known.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field="--systems", remedy=_KNOWN)
    chosen = [each for name in names for each in (ablation(legs) if name == ALL else [name])]
    return [parse(name) for name in dict.fromkeys(chosen)]


def ablation(legs: Sequence[str]) -> list[str]:
    """Each leg, each set of legs, each fusion, and each depth of reranking."""
    pairs = [
        "+".join(some)
        for size in range(2, len(legs))
        for some in itertools.combinations(legs, size)
    ]
    return [*legs, *pairs, "hybrid", *METHOD_TO_PROTO, *(f"rerank@{depth}" for depth in DEPTHS)]


def parse(name: str) -> System:
    """The system of that name; raises InvalidInput."""
    base, *options = name.split(":")
    kind, _, depth = base.partition("@")
    system = _base(kind, name)
    if depth:
        if kind != "rerank":
            raise InvalidInput("MALFORMED", "only rerank takes @DEPTH", field=name, remedy=_KNOWN)
        system = replace(system, depth=int(_OPTIONS["depth"].parse(depth, f"{name}: depth")))
    for option in options:
        system = _with(system, option)
    return system


def one_leg(leg: str) -> System:
    """One leg in its own order, which a collection that gives it no weight would lose."""
    return System(leg, legs=(leg,), method=RRF, weights=((leg, 1.0),))


def _base(kind: str, name: str) -> System:
    if kind in METHOD_TO_PROTO:
        return System(name, method=kind)
    if kind in _PLAIN:
        return System(name, rerank={"hybrid": False, "rerank": True, "default": None}[kind])
    legs = tuple(kind.split("+"))
    if len(legs) == 1 and kind in LEGS:
        return one_leg(kind)
    if set(legs) <= set(LEGS) and len(set(legs)) == len(legs):
        return System(name, legs=legs)
    raise InvalidInput("MALFORMED", "is not a system", field=name, remedy=_KNOWN)


def _with(system: System, option: str) -> System:
    """The system with one KEY=VALUE; a depth or a blend means that it is reranked."""
    key, _, text = option.partition("=")
    if key not in _OPTIONS:
        raise InvalidInput(
            "MALFORMED",
            f"{key!r} is not a setting",
            field=system.name,
            remedy=f"use {', '.join(_OPTIONS)} as KEY=VALUE",
        )
    value = _OPTIONS[key].parse(text, f"{system.name}: {key}")
    if key == "k":
        return replace(system, k=value)
    if key == "window":
        return replace(system, window=int(value))
    if key == "depth":
        return replace(system, rerank=True, depth=int(value))
    if key == "blend":
        return replace(system, rerank=True, blend=value)
    return replace(system, weights=(*system.weights, (key, value)))


_KNOWN = (
    f"use {', '.join((*LEGS, *_PLAIN, *METHOD_TO_PROTO))}, rerank@DEPTH, legs joined by +, or all; "
    "settings follow as :KEY=VALUE"
)
