"""Reads one shard's change feed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from indexer.bulk import in_parts
from indexer.changes import Change, Diverged, check_follows, first_chain
from indexer.tables import change

_CHOSEN = tuple(
    change.c[name]
    for name in (
        "sequence",
        "id",
        "version",
        "op",
        "previous",
        "title",
        "text",
        "attributes",
        "update_micros",
        "chain",
    )
)


def read(
    connection: Connection,
    uid: str,
    shard: int,
    *,
    after: int,
    chain: str,
    limit: int,
    limit_bytes: int,
) -> list[Change]:
    """The changes that follow (`after`, `chain`): at most `limit`, about `limit_bytes` of content.

    Raises Diverged if the feed does not hold that chain at `after`, or a change does not follow
    from the one before it; CorruptFile if a sequence number is missing.
    """
    chosen = select(*_CHOSEN).where(
        change.c.uid == uid, change.c.shard == shard, change.c.sequence >= after
    )
    found: list[Change] = []
    size = 0
    with connection.execute(in_parts(chosen.order_by(change.c.sequence).limit(limit + 1))) as rows:
        before = chain_at(rows.fetchone(), after) if after else first_chain(uid, shard)
        if before != chain:
            raise Diverged(f"change {after} is not the one that the index covers")
        for row in rows:
            found.append(Change(*row))
            size += found[-1].size
            if len(found) == limit or size >= limit_bytes:
                break
    check_follows(after, chain, found)
    return found


def chain_at(row: Any, sequence: int) -> str:
    """The chain of a row if it is the one numbered `sequence`, else ""."""
    return str(row.chain) if row is not None and row.sequence == sequence else ""
