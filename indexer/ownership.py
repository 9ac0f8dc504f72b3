"""The right to publish one shard, and the count of tries that ended with our death."""

from __future__ import annotations

import logging

from core.errors import TriremeError
from core.manifest import Manifest
from indexer import heads
from indexer.catalogue import CollectionRecord
from indexer.database import Database
from indexer.heads import Claim, Head

log = logging.getLogger(__name__)

CRASHES_ALONE = 6
"""Tries of one document alone that ended with our death, after which it is set aside."""

_SHRINK_BITS = 3


class Ownership:
    """One shard under one epoch; every write is conditional on still being its owner."""

    def __init__(self, database: Database, head: Head) -> None:
        self._database = database
        self._claim = Claim(head.uid, head.shard, head.epoch, head.generation)
        self._crashes = head.attempts
        self._crashed_up_to = head.trying
        self.head = head

    @classmethod
    async def take(
        cls,
        database: Database,
        record: CollectionRecord,
        shard: int,
        *,
        owner: str,
        above_epoch: int,
    ) -> Ownership:
        """Takes the shard over from whoever had it; raises Fenced if the collection is gone."""
        head = await database.write(
            lambda connection: heads.take_over(
                connection, record.index, shard, owner=owner, above_epoch=above_epoch
            )
        )
        return cls(database, head)

    @property
    def epoch(self) -> int:
        """Ours; higher than that of any owner before."""
        return self._claim.epoch

    @property
    def generation(self) -> int:
        """The published one; 0 before the first."""
        return self._claim.generation

    async def publish(self, manifest: Manifest) -> None:
        """Commits a manifest as the next generation: all or nothing. Raises Fenced."""
        claim = self._claim
        self._claim = await self._database.write(
            lambda connection: heads.publish(
                connection,
                claim,
                manifest=manifest.name,
                sequence=manifest.sequence,
                chain=manifest.chain,
            )
        )

    def batch_limit(self, after: int, most: int) -> int:
        """Changes to try at once: fewer and fewer where earlier tries ended with our death."""
        if after >= self._crashed_up_to:
            self._crashes = 0
        return max(1, most >> _SHRINK_BITS * self._crashes)

    def crashed_alone(self, after: int) -> bool:
        """Whether the change after `after`, alone, has ended us too often."""
        return self._crashes >= CRASHES_ALONE and self._crashed_up_to == after + 1

    async def begin_attempt(self, sequence: int) -> None:
        """Notes that the changes up to `sequence` are tried now. Raises Fenced."""
        claim, attempts = self._claim, self._crashes + 1
        await self._database.write(
            lambda connection: heads.begin_attempt(
                connection, claim, sequence=sequence, attempts=attempts
            )
        )

    async def end_attempt(self) -> None:
        """Notes that whatever was tried ended in an orderly way."""
        claim = self._claim
        try:
            await self._database.write(lambda connection: heads.end_attempt(connection, claim))
        except TriremeError as error:
            log.info("attempt not closed", extra={"uid": claim.uid, "why": str(error)})
