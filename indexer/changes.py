"""One shard's change feed: gapless, chained, and the only source of an index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted

from core.errors import CorruptFile

UPSERT = "upsert"
DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One write of one document. `sequence` counts from 1 per shard without gaps.

    `previous` is the sequence of the document's change before this one, 0 if there was none.
    `attributes` are JSON text, `update_micros` is microseconds since 1970, `chain` is hex.
    """

    sequence: int
    id: str
    version: int
    op: str
    previous: int
    title: str
    text: str
    attributes: str
    update_micros: int
    chain: str

    @property
    def size(self) -> int:
        """Roughly its bytes of content."""
        return len(self.id) + len(self.title) + len(self.text) + len(self.attributes)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a run of changes comes to: the newest write of each id, and what the index must drop.

    `replaced` are sequences at or before the start of the run.
    """

    upserts: tuple[Change, ...]
    deleted_ids: tuple[str, ...]
    replaced: tuple[int, ...]


class Diverged(Exception):
    """The feed no longer holds what an index was built from: history was rewritten or lost."""


def first_chain(uid: str, shard: int) -> str:
    """The chain before the first change; differs for every collection and shard."""
    return hashlib.sha256(f"{uid}/{shard}".encode()).hexdigest()


def next_chain(
    chain: str, *, id: str, version: int, op: str, content: tuple[str, str, str, int]
) -> str:
    """The chain after a change: sha256 over the chain before it and everything it says.

    `content` is title, text, attributes and the moment in microseconds.
    """
    # What json.dumps gives for the list, at a fifth of the time.
    title, text, attributes, micros = content
    said = f"{_quoted(title)}, {_quoted(text)}, {_quoted(attributes)}, {micros}"
    row = f'["{chain}", {_quoted(id)}, {version}, {_quoted(op)}, {said}]'
    return hashlib.sha256(row.encode()).hexdigest()


def chain_after(chain: str, change: Change) -> str:
    """The chain that `change` must carry if it follows `chain`."""
    return next_chain(
        chain,
        id=change.id,
        version=change.version,
        op=change.op,
        content=(change.title, change.text, change.attributes, change.update_micros),
    )


def check_follows(sequence: int, chain: str, changes: Iterable[Change]) -> None:
    """Raises unless `changes` go on from (`sequence`, `chain`) without a gap.

    A gap is CorruptFile: the store breaks its promise. A chain that does not fit is Diverged.
    """
    for change in changes:
        if change.sequence != sequence + 1:
            raise CorruptFile(
                f"the change feed goes from {sequence} to {change.sequence}",
                remedy="restore the document store from a backup",
            )
        chain = chain_after(chain, change)
        if change.chain != chain:
            raise Diverged(f"change {change.sequence} does not follow from the one before it")
        sequence = change.sequence


def fold(changes: Sequence[Change]) -> Folded:
    """Reduces a run of changes, in order, to the newest per document."""
    newest: dict[str, Change] = {}
    replaced: list[int] = []
    for change in changes:
        if change.id not in newest and change.previous:
            replaced.append(change.previous)
        newest[change.id] = change
    ordered = sorted(newest.values(), key=lambda change: change.sequence)
    return Folded(
        upserts=tuple(change for change in ordered if change.op == UPSERT),
        deleted_ids=tuple(change.id for change in ordered if change.op == DELETE),
        replaced=tuple(sorted(replaced)),
    )


def contents(changes: Iterable[Change]) -> Mapping[str, int]:
    """The live documents after a feed from its start: id to version."""
    versions: dict[str, int] = {}
    for change in changes:
        if change.op == UPSERT:
            versions[change.id] = change.version
        else:
            versions.pop(change.id, None)
    return versions
