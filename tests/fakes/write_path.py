"""A write path without processes: a real store and index in a folder, an encoder by arithmetic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from core import fsops
from core.deadline import Deadline
from core.documents import Document
from core.encoding import SparseVector
from core.errors import BadModelOutput, ModelMismatch, TritonUnavailable
from core.index_store import CollectionEntry, IndexStore, ShardStore
from core.manifest import Manifest
from core.ranking_wish import RankingWish
from core.tokens import Tokenizer
from core.triton import ModelInfo
from core.vectors.settings import DEFAULT, VectorSettings
from indexer import catalogue, feed, heads
from indexer.catalogue import CollectionRecord
from indexer.changes import Change, first_chain
from indexer.config import IndexerConfig
from indexer.database import Database
from indexer.encoders import TermEncoder, TextEncoder
from indexer.ingest import ShardIngest
from indexer.metrics import IndexerMetrics
from indexer.shared import Shared
from indexer.store import DocumentStore, Receipt
from tests.fakes import models

NAME = "papers"
SOON = 60.0
EVERYTHING = 1 << 40


class FakeEncoders:
    """Serves one encoder version, and fails on demand.

    While `down`, nothing is answered; while `broken`, every model output is bad; a request with a
    `poison` word fails as a whole. `texts` counts what was embedded. `embedding` is set when a
    request comes in, which waits for `may_answer`.
    """

    def __init__(self, fingerprint: str = "fake") -> None:
        inner = models.make_tokenizer()
        self.tokenizer = Tokenizer(inner, "")
        self.info = _info(fingerprint)
        self.sparse = FakeTermEncoder(self.tokenizer)
        self.down = False
        self.broken = False
        self.poison = ""
        self.asked = asyncio.Event()
        self.embedding = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.texts = 0

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        return await self.get(model, "1", deadline)

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        self.asked.set()
        if self.down:
            raise TritonUnavailable("Triton is down in this test")
        if fingerprint not in ("", self.info.fingerprint):
            raise ModelMismatch("the fingerprint is another in this test")
        return self

    def forget(self, model: str, version: str) -> None:
        pass

    async def get_sparse(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TermEncoder:
        if self.down:
            raise TritonUnavailable("Triton is down in this test")
        return self.sparse

    def prompt_tokens(self, *, query: bool) -> int:
        return 0

    async def encode(
        self,
        token_ids: Sequence[NDArray[np.int32]],
        deadline: Deadline,
        *,
        priority: int = 2,
        prompt_tokens: int = 0,
    ) -> NDArray[np.float32]:
        self.embedding.set()
        await self.may_answer.wait()
        if self.down:
            raise TritonUnavailable("Triton is down in this test")
        poison = set(models.words_of_text(self.poison))
        rows = [np.asarray(ids, np.int64) for ids in token_ids]
        if self.broken or any(poison & set(models.words_of(ids)) for ids in rows):
            raise BadModelOutput("the model failed in this test")
        self.texts += len(rows)
        parts = [models.embed(ids[None], np.ones_like(ids[None]), "1") for ids in rows]
        return np.concatenate(parts)


class FakeTermEncoder:
    """The sparse encoder; a request with a `poison` word fails as a whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.info = replace(
            _info("fake-sparse"),
            name="sparse_encoder",
            kind="sparse_encoder",
            dimension=len(models.VOCABULARY),
            similarity="dot",
            top_terms=models.TOP_TERMS,
        )
        self.poison = ""

    async def encode(
        self, token_ids: Sequence[NDArray[np.int32]], deadline: Deadline, *, priority: int = 2
    ) -> list[SparseVector]:
        poison = set(models.words_of_text(self.poison))
        if any(poison & set(models.words_of(np.asarray(ids, np.int64))) for ids in token_ids):
            raise BadModelOutput("the sparse model failed in this test")
        return [terms_of(ids) for ids in token_ids]


def terms_of(ids: NDArray[np.int32]) -> SparseVector:
    """The weighted terms of a text's token ids, as the fake sparse encoder gives them."""
    text = np.asarray(ids, np.int64)[None]
    (row,) = models.weigh(text, np.ones_like(text), "1")
    present = row[models.TOP_TERMS :] > 0
    numbers = row[: models.TOP_TERMS][present].astype(np.int32)
    return SparseVector(numbers, row[models.TOP_TERMS :][present])


def _info(fingerprint: str) -> ModelInfo:
    return ModelInfo(
        name="bi_encoder",
        version="1",
        kind="bi_encoder",
        dimension=models.DIMENSION,
        max_length=64,
        similarity="cosine",
        fingerprint=fingerprint,
        tokenizer_sha256="",
        query_prompt="",
        document_prompt="",
        max_batch_size=64,
    )


class WritePath:
    """One collection, its documents and the write paths of its shards."""

    def __init__(self, shared: Shared, store: DocumentStore, record: CollectionRecord) -> None:
        self.shared = shared
        self.store = store
        self.record = record
        self.encoders = shared.encoders
        self._directory = shared.config.index_directory / ".work"
        self._owners = 0

    @classmethod
    async def create(
        cls,
        root: Path,
        *,
        shard_count: int = 1,
        sparse: bool = False,
        database_url: str = "",
        vector_index: VectorSettings = DEFAULT,
        **settings: Any,
    ) -> WritePath:
        """Everything below `root`, which may hold the state of an earlier one.

        With `sparse` the collection has a learned-sparse leg. Documents are in `database_url`, or
        below `root` too if that is empty.
        """
        config = IndexerConfig(
            address="",
            database_url=database_url or f"sqlite:///{root}/store.db",
            index_directory=root / "index",
            shard_count=shard_count,
            triton_address="",
            model_directory=root,
            **settings,
        )
        shared = Shared(
            owner="test",
            config=config,
            database=await Database.create(config.database_url),
            index_store=IndexStore.create(config.index_directory),
            encoders=FakeEncoders(),
            executor=ThreadPoolExecutor(2),
            metrics=IndexerMetrics(CollectorRegistry()),
        )
        record = replace(_record(shard_count), vector_index=vector_index)
        if sparse:
            record = replace(
                record,
                sparse_model="sparse_encoder",
                sparse_version="1",
                sparse_fingerprint="fake-sparse",
                sparse_dimension=len(models.VOCABULARY),
            )
        known = await shared.database.read(catalogue.every)
        if known:
            (record,) = known
        else:
            await shared.database.write(lambda connection: catalogue.add(connection, record))
            shared.index_store.create_collection(CollectionEntry(NAME, record.uid, shard_count))
        return cls(shared, DocumentStore(shared.database, max_waiting=1_000), record)

    async def close(self) -> None:
        await self.shared.database.close()
        self.shared.executor.shutdown()
        self.shared.background.shutdown()

    async def upsert(self, *documents: Document) -> Receipt:
        return await self.store.upsert(NAME, documents, deadline=Deadline.after(SOON))

    async def delete(self, *ids: str) -> Receipt:
        return await self.store.delete(NAME, ids, deadline=Deadline.after(SOON))

    async def rank_by(self, wish: RankingWish) -> None:
        """Stores search defaults; write paths that run already are not told."""
        self.record = await self.shared.database.write(
            lambda connection: catalogue.alter(
                connection, NAME, lambda record: replace(record, search_defaults=wish)
            )
        )

    def ingest(self, shard: int = 0) -> ShardIngest:
        """A new owner of a shard, with its own working copy."""
        self._owners += 1
        return ShardIngest(
            self.record, shard, self.shared, self._directory / f"{shard}-{self._owners}"
        )

    async def index(self, shard: int = 0) -> None:
        """Runs a shard's write path until it has caught up and merged; raises what it raises."""
        ingest = self.ingest(shard)
        head = await self.head(shard)
        async with (
            self.running(ingest.run_once()) as task,
            self.running(ingest.until(head.head)) as caught_up,
        ):
            await asyncio.wait({task, caught_up}, return_when=asyncio.FIRST_COMPLETED)
            while ingest.sealing.is_busy and not task.done():
                await self.background_ran()
            if task.done():
                task.result()

    async def background_ran(self) -> None:
        """Returns when the merge beside publication has ended, if one runs."""
        await asyncio.wrap_future(self.shared.background.submit(int))

    @asynccontextmanager
    async def running(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
        """Runs some work beside the block, and ends it in an orderly way after it."""
        task = asyncio.create_task(work)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def caught_up(self, ingest: ShardIngest, shard: int = 0) -> None:
        """Waits for a write path that runs already."""
        await ingest.until((await self.head(shard)).head)

    async def head(self, shard: int = 0) -> heads.Head:
        found = await self.shared.database.read(
            lambda connection: heads.read(connection, self.record.uid, shard)
        )
        assert found is not None
        return found

    async def changes(self, shard: int = 0) -> list[Change]:
        """The whole feed of a shard."""
        uid = self.record.uid
        return await self.shared.database.read(
            lambda connection: feed.read(
                connection,
                uid,
                shard,
                after=0,
                chain=first_chain(uid, shard),
                limit=EVERYTHING,
                limit_bytes=EVERYTHING,
            )
        )

    def files(self, shard: int = 0) -> ShardStore:
        """The shard's published files, as a process that has just started sees them."""
        return IndexStore.open(self.shared.config.index_directory).shard(self.record.uid, shard)

    def current(self, shard: int = 0) -> Manifest:
        manifest = self.files(shard).read_current()
        assert manifest is not None
        return manifest


def contents_of(files: ShardStore, manifest: Manifest) -> dict[str, int]:
    """The live documents of a generation: id to version. Every file is verified."""
    found: dict[str, int] = {}
    for entry in manifest.segments:
        segment = files.open_segment(entry)
        for row in segment.live_rows.tolist():
            document = segment.read(row).document
            assert document.id not in found
            found[document.id] = document.version
    for file in manifest.lexical:
        files.verify(file)
    assert manifest.documents == len(found)
    return found


def weights_of(files: ShardStore, manifest: Manifest) -> dict[str, list[dict[int, float]]]:
    """The terms of each passage of the live documents of a generation, in order, by id."""
    found: dict[str, list[dict[int, float]]] = {}
    for entry in manifest.segments:
        segment = files.open_segment(entry)
        assert segment.sparse is not None
        passages: list[dict[int, float]] = [{} for _ in range(len(segment.passages))]
        postings = segment.sparse.read()
        for term, passage, weight in zip(
            postings.terms.tolist(),
            postings.passages.tolist(),
            postings.weights.tolist(),
            strict=True,
        ):
            assert term not in passages[passage]
            passages[passage][term] = weight
        owners = segment.passages["document"].to_pylist()
        for row in segment.live_rows.tolist():
            own = [terms for terms, owner in zip(passages, owners, strict=True) if owner == row]
            found[segment.ids[row]] = own
    return found


def _record(shard_count: int) -> CollectionRecord:
    return CollectionRecord(
        uid="0" * 31 + "1",
        name=NAME,
        shard_count=shard_count,
        encoder_model="bi_encoder",
        encoder_version="1",
        encoder_fingerprint="fake",
        dimension=models.DIMENSION,
        similarity="cosine",
        max_tokens=32,
        overlap_tokens=8,
        create_micros=0,
    )


class Crash(BaseException):
    """The process dies here; nothing that comes after may touch the disk."""


WRITES = (
    "make_directory",
    "write_file",
    "create_file",
    "replace_file",
    "link_file",
    "sync_file",
    "sync_directory",
    "remove_tree",
)


class Fuse:
    """Counts the calls into `fsops` and blows at call number `at`, and at every one after it."""

    def __init__(self, at: int, error: Callable[[], BaseException] = Crash) -> None:
        self.at = at
        self.calls = 0
        self._error = error

    @property
    def blown(self) -> bool:
        """Whether the process has died."""
        return self.calls >= self.at

    def burn(self) -> None:
        self.calls += 1
        if self.blown:
            raise self._error()


@contextmanager
def failing_at(fuse: Fuse) -> Iterator[Fuse]:
    """Every durable write of this process goes past `fuse` first."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(fsops, name, _fused(getattr(fsops, name), fuse))
        yield fuse


def _fused(function: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        fuse.burn()
        return function(*arguments, **options)

    return call
