"""The settings that tuning tries: a grid of fusions, and on each a grid of reranking."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from core.ranking_wish import DISTRIBUTION, MIN_MAX, RRF, Z_SCORE
from deploy.evaluation.systems import System
from gateway.fusion import FusionSettings


@dataclass(frozen=True, slots=True)
class Space:
    """What is tried. `blends` are the cross-encoder's shares, `few_weights` are for three legs."""

    windows: tuple[int, ...] = (50, 100, 200)
    ks: tuple[float, ...] = (10.0, 20.0, 60.0, 120.0)
    scores: tuple[str, ...] = (MIN_MAX, Z_SCORE, DISTRIBUTION)
    weights: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)
    few_weights: tuple[float, ...] = (0.25, 0.5, 1.0)
    depths: tuple[int, ...] = (5, 10, 20, 50)
    blends: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)

    @property
    def deepest(self) -> int:
        """Documents for which the cross-encoder must be asked, 0 for none."""
        return max(self.depths, default=0)

    def without_reranking(self) -> Space:
        """The fusions alone."""
        return replace(self, depths=(), blends=())

    @classmethod
    def coarse(cls) -> Space:
        """A grid of about a hundred settings."""
        return cls(
            windows=(100,),
            ks=(20.0, 60.0),
            weights=(0.25, 0.5, 1.0),
            few_weights=(0.5, 1.0),
            depths=(10, 20),
            blends=(0.3, 0.5),
        )

    def fusions(self, legs: Sequence[str]) -> Iterator[System]:
        """Every fusion of the legs, not reranked.

        Only the ratio of weights matters, so the greatest is always 1.
        """
        for window, weights in itertools.product(self.windows, self._weights(legs)):
            for k in self.ks:
                yield _named(System("", method=RRF, k=k, weights=weights, window=window))
            for method in self.scores:
                yield _named(System("", method=method, weights=weights, window=window))

    def rerankings(self, fusion: System) -> Iterator[System]:
        """A fusion with every depth and blend."""
        for depth, blend in itertools.product(self.depths, self.blends):
            yield _named(replace(fusion, rerank=True, depth=depth, blend=blend))

    def _weights(self, legs: Sequence[str]) -> list[tuple[tuple[str, float], ...]]:
        weights = self.weights if len(legs) < 3 else self.few_weights
        chosen = itertools.product(weights, repeat=len(legs))
        return [tuple(zip(legs, each, strict=True)) for each in chosen if max(each) == 1.0]


def fusion_settings(system: System) -> FusionSettings:
    """As the gateway's fusion takes them."""
    settings = FusionSettings(method=system.method)
    if system.k is not None:
        settings = replace(settings, k=system.k)
    for leg, weight in system.weights:
        settings = replace(settings, **{f"{leg}_weight": weight})  # type: ignore[arg-type]
    return settings


def _named(system: System) -> System:
    """With a name that `parse` reads back as the same settings."""
    parts = [system.method]
    if system.k is not None:
        parts.append(f"k={system.k:g}")
    parts += [f"{leg}={weight:g}" for leg, weight in system.weights]
    parts.append(f"window={system.window}")
    if system.rerank:
        parts += [f"depth={system.depth}", f"blend={system.blend:g}"]
    return replace(system, name=":".join(parts))
