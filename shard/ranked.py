"""What one leg found in one shard, best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Candidate(NamedTuple):
    """A document in one leg, with the leg's own score and its place in the snapshot."""

    id: str
    score: float
    place: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """The candidates of one leg, best first, column by column."""

    ids: Sequence[str] = ()
    scores: Sequence[float] = ()
    places: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Candidate:
        return Candidate(self.ids[number], self.scores[number], self.places[number])

    def __iter__(self) -> Iterator[Candidate]:
        return map(Candidate, self.ids, self.scores, self.places)
