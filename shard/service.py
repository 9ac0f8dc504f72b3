"""ShardService: what the shard serves, and conversations about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from core.manifest import Manifest
from core.metrics import CallMetrics
from core.names import Names
from shard import wire
from shard.answers import Answers
from shard.conversation import Conversation
from shard.library import Library
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ShardServicer(shard_pb2_grpc.ShardServiceServicer):
    """Answers gateways from one library."""

    def __init__(self, library: Library, answers: Answers, calls: CallMetrics) -> None:
        self._library = library
        self._answers = answers
        self._calls = calls
        self._conversations: set[Conversation] = set()

    def end_conversations(self) -> None:
        """Answers what was asked until now and nothing more."""
        for conversation in self._conversations:
            conversation.end()

    async def Watch(  # noqa: N802
        self, request: shard_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[shard_pb2.WatchResponse]:
        sent: Mapping[str, Manifest] | None = None
        told: Names | None = None
        while not self._library.is_ending:
            # Taken first: what changes while a message is on its way is not missed.
            change = self._library.next_change()
            serving, names = self._library.serving(), self._library.names
            if serving != sent or names is not told:
                yield wire.news(sent, serving, names if names is not told else None)
                sent, told = serving, names
            await change.wait()

    # A coroutine that writes, which the generated types do not know.
    async def Converse(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[shard_pb2.ConverseRequest], context: Context
    ) -> None:
        conversation = Conversation(self._answers, self._calls, context.write)
        self._conversations.add(conversation)
        try:
            await conversation.hold(requests)
        finally:
            self._conversations.discard(conversation)
