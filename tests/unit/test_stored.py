"""What the indexer says about a document becomes one of our errors."""

from __future__ import annotations

import pytest

from core.deadline import Deadline
from core.errors import IndexerUnavailable
from core.rpc import open_channel
from deploy.local.ports import free_ports
from gateway.stored import StoredDocuments


async def test_without_an_indexer_nobody_knows_what_is_stored() -> None:
    (port,) = free_ports(1, "127.0.0.1")
    async with open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(IndexerUnavailable, match="does not answer"):
            await StoredDocuments(channel).version("ships", "raft", Deadline.after(10))
