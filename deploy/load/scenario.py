"""The mix of a load: shapes of searches and how often each comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from core.errors import BadEnvironment
from deploy.cli.search_options import MODES
from trireme.v1 import ranking_pb2, search_pb2

_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "mode", "filter", "group_by", "priority"), (str,)),
    **dict.fromkeys(("top", "depth", "window"), (int,)),
    "weight": (int, float),
    "rerank": (bool,),
}
_REMEDY = "write a list `shapes`, each with a name and any of weight, mode, top, rerank, depth, ..."


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of search; `weight` is its share of the mix.

    What is None or 0 is as the collection or the gateway has it. `priority` is the lane to ask
    for, "" for none.
    """

    name: str
    weight: float = 1.0
    mode: str = "hybrid"
    top: int = 10
    rerank: bool | None = None
    depth: int = 0
    window: int = 0
    filter: str = ""
    group_by: str = ""
    priority: str = ""

    def request(self, collection: str, query: str) -> search_pb2.SearchRequest:
        """A search of this shape."""
        return search_pb2.SearchRequest(
            collection=collection,
            query=query,
            mode=MODES[self.mode],
            page_size=self.top,
            rerank=ranking_pb2.Rerank(enabled=self.rerank, depth=self.depth),
            window=self.window,
            filter=self.filter,
            group_by=self.group_by,
        )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("trireme-priority", self.priority),) if self.priority else ()


def read_shapes(path: Path) -> tuple[Shape, ...]:
    """The shapes of a scenario, YAML or JSON; raises BadEnvironment naming what is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadEnvironment(f"cannot be read: {error}", field=str(path)) from error
    listed = found.get("shapes") if isinstance(found, Mapping) and len(found) == 1 else None
    if not isinstance(listed, list) or not listed:
        raise BadEnvironment("is no scenario", field=str(path), remedy=_REMEDY)
    shapes = tuple(_shape(f"{path}: shapes[{at}]", each) for at, each in enumerate(listed))
    if len({shape.name for shape in shapes}) < len(shapes):
        raise BadEnvironment("gives two shapes one name", field=str(path))
    return shapes


def mix(base: Shape, modes: Sequence[tuple[str, float]]) -> tuple[Shape, ...]:
    """The shape in several modes with weights; `base` alone if none is given."""
    options = {each.name: getattr(base, each.name) for each in fields(Shape)}
    return tuple(
        Shape(**options | {"name": mode, "mode": mode, "weight": weight}) for mode, weight in modes
    ) or (base,)


def draw(shapes: Sequence[Shape], count: int, seed: int) -> NDArray[np.int64]:
    """The shape of each of `count` queries, as indexes into `shapes`, by their weights."""
    weights = np.array([shape.weight for shape in shapes])
    generator = np.random.default_rng([seed, 1])
    return generator.choice(len(shapes), size=count, p=weights / weights.sum())


def _shape(where: str, given: Any) -> Shape:
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise BadEnvironment("has no name", field=where, remedy=_REMEDY)
    for name, value in given.items():
        _check(f"{where}.{name}", str(name), value)
    shape = Shape(**given)
    if not 0 < shape.weight < float("inf"):
        raise BadEnvironment("must be above 0", field=f"{where}.weight")
    return shape


def _check(where: str, name: str, value: Any) -> None:
    """Raises BadEnvironment unless the value is of the kind of Shape's field."""
    if name not in _KINDS:
        raise BadEnvironment("is not known", field=where, remedy=f"use {', '.join(_KINDS)}")
    if not isinstance(value, _KINDS[name]) or (isinstance(value, bool) and name != "rerank"):
        wanted = " or ".join(kind.__name__ for kind in _KINDS[name])
        raise BadEnvironment(f"must be {wanted}, not {value!r}", field=where)
    if name == "mode" and value not in MODES:
        raise BadEnvironment(f"{value!r} is no mode; use {', '.join(MODES)}", field=where)
