"""Embeddings of texts that were asked for lately, and one computation for equal texts at once.

Triton's own response cache keys on 64 bits and may return another text's answer; here a key holds
the whole SHA-256 of the text.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.errors import BadModelOutput, OutOfTime
from core.triton import ModelInfo
from gateway.metrics import GatewayMetrics

# Key, digest and dictionary entry around a vector's numbers, as measured with tracemalloc.
ENTRY_BYTES = 640

Vector = NDArray[np.float32]
Compute = Callable[[], Awaitable[Vector]]
Origin = Literal["hit", "shared", "miss"]
"""Found, computed for somebody else who asked at the same time, or computed."""


@dataclass(frozen=True, slots=True)
class Key:
    """What an embedding depends on."""

    model: str
    version: str
    fingerprint: str
    prompt: str
    digest: bytes

    @classmethod
    def of(cls, info: ModelInfo, text: str, *, query: bool) -> Key:
        """The key of a text as a query or a document, without its prompt."""
        digest = hashlib.sha256(text.encode()).digest()
        return cls(info.name, info.version, info.fingerprint, info.prompt(query=query), digest)


class EmbeddingCache:
    """At most `max_bytes` of vectors, the least recently used leave first; 0 bytes keep nothing.

    Vectors that it returns are read-only. Only for one event loop.
    """

    def __init__(self, max_bytes: int, metrics: GatewayMetrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._vectors: OrderedDict[Key, Vector] = OrderedDict()
        self._flights: dict[Key, asyncio.Future[Vector | None]] = {}
        self._bytes = 0

    async def fetch(self, key: Key, compute: Compute, deadline: Deadline) -> tuple[Vector, Origin]:
        """The vector of `key`, computed if it is not here, and where it came from.

        Raises what `compute` raises, for everybody who waits for it; if it ran out of its own
        caller's time or that caller went away, the next one computes. Raises OutOfTime.
        """
        while True:
            if (vector := self.get(key)) is not None:
                return self._counted("hit", vector)
            flight = self._flights.get(key)
            if flight is None:
                return self._counted("miss", await self._lead(key, compute))
            if (vector := await _follow(flight, deadline)) is not None:
                return self._counted("shared", vector)

    def get(self, key: Key) -> Vector | None:
        """The vector of `key` if it is here; not counted in the metrics."""
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def put(self, key: Key, vector: Vector) -> Vector:
        """Keeps a read-only copy and returns it; raises BadModelOutput if it is not finite."""
        if not np.isfinite(vector).all():
            raise BadModelOutput(f"model {key.model}:{key.version} returned non-finite numbers")
        kept = vector.copy()  # a row would keep its whole batch
        kept.setflags(write=False)
        if _size(kept) > self._max_bytes:
            return kept
        if (old := self._vectors.pop(key, None)) is not None:
            self._bytes -= _size(old)
        self._vectors[key] = kept
        self._bytes += _size(kept)
        while self._bytes > self._max_bytes:
            _, oldest = self._vectors.popitem(last=False)
            self._bytes -= _size(oldest)
            self._metrics.embedding_cache_evictions.inc()
        self._metrics.embedding_cache_bytes.set(self._bytes)
        return kept

    async def _lead(self, key: Key, compute: Compute) -> Vector:
        flight = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            vector = self.put(key, await compute())
        except OutOfTime:
            flight.set_result(None)
            raise
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # nobody else may be waiting for it
            raise
        except BaseException:
            flight.set_result(None)
            raise
        else:
            flight.set_result(vector)
            return vector
        finally:
            del self._flights[key]

    def _counted(self, origin: Origin, vector: Vector) -> tuple[Vector, Origin]:
        self._metrics.embedding_cache_lookups(origin).inc()
        return vector, origin

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        return f"<EmbeddingCache {len(self)} vectors, {self._bytes} of {self._max_bytes} bytes>"


async def _follow(flight: asyncio.Future[Vector | None], deadline: Deadline) -> Vector | None:
    """What another caller computes; None if it stopped without a result."""
    try:
        async with asyncio.timeout(deadline.remaining()):
            return await asyncio.shield(flight)
    except TimeoutError as error:
        raise OutOfTime(
            "the deadline passed while the same text was embedded for another caller",
            remedy="allow more time",
        ) from error


def _size(vector: Vector) -> int:
    return vector.nbytes + ENTRY_BYTES
