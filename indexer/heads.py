"""Who owns a shard and what it has published: one row per shard, one lock, no clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Update, and_, case, func, select, update

from core.errors import Fenced
from indexer.tables import document, shard_head, suspect


@dataclass(frozen=True, slots=True)
class Head:
    """A shard's row. `manifest` is the file name of the published one, empty before the first.

    `head`, `chain` and `documents` are those of the feed, which is the collection `feed` unless
    that is empty: then it is the index's own.
    `attempts` counts tries of the changes up to `trying` that neither succeeded nor failed: whoever
    made them died.
    """

    uid: str
    shard: int
    head: int
    chain: str
    documents: int
    epoch: int
    owner: str
    generation: int
    manifest: str
    covers_sequence: int
    covers_chain: str
    trying: int
    attempts: int
    feed: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an owner believes about its shard; every write of the owner is conditional on it."""

    uid: str
    shard: int
    epoch: int
    generation: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one shard is. `lag_seconds` is the age of the oldest change that is in hand and not
    published; documents per second are those of the last minute."""

    uid: str
    shard: int
    head: int
    covers: int
    generation: int
    documents: int
    quarantined: int
    lag_seconds: float = 0.0
    documents_per_second: float = 0.0


def read(connection: Connection, uid: str, shard: int) -> Head | None:
    """A shard's row, None if its collection is gone."""
    chosen = select(shard_head).where(shard_head.c.uid == uid, shard_head.c.shard == shard)
    row = connection.execute(chosen).first()
    return _with_feed(connection, Head(**row._mapping)) if row is not None else None


def take_over(
    connection: Connection, uid: str, shard: int, *, owner: str, above_epoch: int
) -> Head:
    """Becomes the shard's owner under a new epoch, higher than any before and than `above_epoch`.

    From here on an earlier owner cannot publish. Raises Fenced if the collection is gone.
    """
    newest = case((shard_head.c.epoch > above_epoch, shard_head.c.epoch), else_=above_epoch)
    row = connection.execute(
        update(shard_head)
        .where(shard_head.c.uid == uid, shard_head.c.shard == shard)
        .values(epoch=newest + 1, owner=owner)
        .returning(shard_head)
    ).first()
    if row is None:
        raise Fenced(f"shard {shard} of collection {uid} is gone")
    return _with_feed(connection, Head(**row._mapping))


def _with_feed(connection: Connection, head: Head) -> Head:
    if not head.feed:
        return head
    feed = read(connection, head.feed, head.shard)
    if feed is None:
        raise Fenced(f"shard {head.shard} of collection {head.feed} is gone")
    return replace(head, head=feed.head, chain=feed.chain, documents=feed.documents)


def publish(
    connection: Connection, claim: Claim, *, manifest: str, sequence: int, chain: str
) -> Claim:
    """The commit point of a generation: succeeds only for the owner of the one before.

    Raises Fenced if another indexer has taken over or published.
    """
    statement = _owned(claim).where(shard_head.c.generation == claim.generation)
    result = connection.execute(
        statement.values(
            generation=claim.generation + 1,
            manifest=manifest,
            covers_sequence=sequence,
            covers_chain=chain,
            attempts=case((shard_head.c.trying > sequence, shard_head.c.attempts), else_=0),
        )
    )
    _check_owned(result.rowcount, claim)
    return Claim(claim.uid, claim.shard, claim.epoch, claim.generation + 1)


def begin_attempt(connection: Connection, claim: Claim, *, sequence: int, attempts: int) -> None:
    """Notes the try number `attempts` of the changes up to `sequence`, before it is made.

    Raises Fenced.
    """
    values = {"trying": sequence, "attempts": attempts}
    _check_owned(connection.execute(_owned(claim).values(values)).rowcount, claim)


def end_attempt(connection: Connection, claim: Claim) -> None:
    """Forgets tries that ended in an orderly way. Raises Fenced."""
    _check_owned(connection.execute(_owned(claim).values(attempts=0)).rowcount, claim)


def progress(connection: Connection, uids: Sequence[str]) -> list[Progress]:
    """How far every shard of these indexes is, by shard."""
    feed_uid = case((shard_head.c.feed == "", shard_head.c.uid), else_=shard_head.c.feed)
    own = and_(shard_head.c.uid == suspect.c.uid, shard_head.c.shard == suspect.c.shard)
    newest = and_(
        document.c.uid == feed_uid,
        document.c.id == suspect.c.id,
        document.c.sequence == suspect.c.sequence,
    )
    counts = (
        select(suspect.c.uid, suspect.c.shard, func.count().label("quarantined"))
        .join(shard_head, own)
        .join(document, newest)
        .where(suspect.c.quarantined, suspect.c.uid.in_(uids))
        .group_by(suspect.c.uid, suspect.c.shard)
    ).subquery()
    feed = shard_head.alias("feed")
    its_feed = and_(feed.c.uid == feed_uid, feed.c.shard == shard_head.c.shard)
    same = and_(counts.c.uid == shard_head.c.uid, counts.c.shard == shard_head.c.shard)
    chosen = (
        select(
            shard_head.c.uid,
            shard_head.c.shard,
            feed.c.head,
            shard_head.c.covers_sequence,
            shard_head.c.generation,
            feed.c.documents,
            func.coalesce(counts.c.quarantined, 0),
        )
        .select_from(shard_head.join(feed, its_feed).outerjoin(counts, same))
        .where(shard_head.c.uid.in_(uids))
        .order_by(shard_head.c.shard)
    )
    return [Progress(*row) for row in connection.execute(chosen)]


def _owned(claim: Claim) -> Update:
    return update(shard_head).where(
        shard_head.c.uid == claim.uid,
        shard_head.c.shard == claim.shard,
        shard_head.c.epoch == claim.epoch,
    )


def _check_owned(rowcount: int, claim: Claim) -> None:
    if rowcount != 1:
        raise Fenced(
            f"shard {claim.shard} of collection {claim.uid} is no longer ours"
            f" (epoch {claim.epoch}, generation {claim.generation})",
            remedy="stop this indexer; another one has taken over",
        )
