"""The shard's contract, over real gRPC, real files and a real process."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.errors import NewerFormat, Overloaded, PageTokenExpired
from core.index_store import CollectionEntry, IndexStore
from core.rpc import open_channel, reason_of
from shard.adoption import Adoption
from shard.config import ShardConfig
from shard.library import Library
from shard.metrics import ShardMetrics
from shard.scratch import Scratch
from shard.searcher import Searcher
from shard.server import Shard
from shard.snapshot import Snapshot
from tests.fakes.asking import ask
from tests.fakes.publisher import ENCODER, Publisher, embed
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc
from trireme.v1 import document_pb2

SECONDS = 20.0


@dataclass
class Served:
    """A running shard with its client and the writer of its index."""

    shard: Shard
    stub: shard_pb2_grpc.ShardServiceAsyncStub
    publisher: Publisher

    async def lexical(self, query: str, **fields: Any) -> shard_pb2.SearchLexicalResponse:
        request: dict[str, Any] = {"collection": "ships", "limit": 10, "query": query} | fields
        found: shard_pb2.SearchLexicalResponse = await ask(
            self.stub, "search_lexical", shard_pb2.SearchLexicalRequest(**request)
        )
        return found

    async def dense(self, query: str, **fields: Any) -> shard_pb2.SearchDenseResponse:
        request: dict[str, Any] = {
            "collection": "ships",
            "limit": 10,
            "vector": embed(query).tobytes(),
            "encoder_fingerprint": ENCODER.fingerprint,
        } | fields
        found: shard_pb2.SearchDenseResponse = await ask(
            self.stub, "search_dense", shard_pb2.SearchDenseRequest(**request)
        )
        return found

    async def fetch(self, *ids: str, **fields: Any) -> shard_pb2.FetchResponse:
        request = shard_pb2.FetchRequest(collection="ships", ids=ids, **fields)
        found: shard_pb2.FetchResponse = await ask(self.stub, "fetch", request)
        return found

    async def serving(self, generation: int) -> None:
        """Waits until a generation is served."""
        async with asyncio.timeout(SECONDS):
            async for news in self.stub.Watch(shard_pb2.WatchRequest()):
                if any(state.generation >= generation for state in news.collections):
                    return


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path / "index")
    publisher.put("galley", "rowed by oarsmen\nslow and heavy", title="Galley")
    publisher.put("raft", "made of logs", attributes={"crew": 2.0})
    publisher.publish()
    return publisher


@pytest_asyncio.fixture(params=[0, 8192], ids=["in threads", "in place"])
async def served(
    request: pytest.FixtureRequest, tmp_path: Path, publisher: Publisher
) -> AsyncIterator[Served]:
    config = ShardConfig(
        shard=0,
        index_directory=tmp_path / "index",
        poll_seconds=0.01,
        inline_rows=request.param - 1,
    )
    shard = await Shard.create(config)
    await shard.start()
    async with open_channel(shard.address) as channel:
        yield Served(shard, shard_pb2_grpc.ShardServiceStub(channel), publisher)
    await shard.stop(0)


def ids(response: Any) -> list[str]:
    return list(response.ranking.ids)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)


async def test_both_legs_answer_best_first_with_their_generation(served: Served) -> None:
    lexical, dense = await served.lexical("logs"), await served.dense("made of logs")

    assert ids(lexical) == ["raft"]
    assert ids(dense)[0] == "raft"
    assert dense.ranking.scores[0] == pytest.approx(1.0)
    for answer in (lexical, dense):
        assert (answer.generation.epoch, answer.generation.generation) == (1, 1)
        assert answer.generation.sequence == 2
        assert answer.search_microseconds > 0


async def test_a_leg_gives_no_more_than_it_is_asked_for(served: Served) -> None:
    assert len((await served.dense("logs", limit=1)).ranking.ids) == 1


async def test_the_likely_head_comes_with_the_dense_leg(served: Served) -> None:
    likely = shard_pb2.LikelyHead(limit=1, weight=1, k=60, with_tokens=True)

    answer = await served.dense("made of logs", likely_head=likely)

    vector = embed("made of logs").tobytes()
    assert list(answer.head) == list(
        (await served.fetch("raft", vector=vector, tokens_for=1)).documents
    )


async def test_what_other_legs_found_moves_the_likely_head(served: Served) -> None:
    likely = shard_pb2.LikelyHead(limit=1, ids=["galley"], scores=[1 / 61], weight=1, k=60)

    answer = await served.dense("made of logs", likely_head=likely)

    assert ids(answer) == ["raft", "galley"]
    assert [document.id for document in answer.head] == ["galley"]
    assert not answer.head[0].token_ids


async def test_documents_come_serialised_with_span_and_tokens(served: Served) -> None:
    vector = embed("Galley slow and heavy").tobytes()

    fetched = await served.fetch("raft", "absent", "galley", vector=vector, tokens_for=1)

    raft, galley = fetched.documents
    assert (raft.id, galley.id) == ("raft", "galley")
    document = document_pb2.Document.FromString(raft.document)
    assert (document.id, document.text, document.version) == ("raft", "made of logs", 1)
    assert document.attributes["crew"].number_value == 2.0
    assert (galley.start_byte, galley.end_byte) == (17, 31)
    assert (len(raft.token_ids), len(galley.token_ids)) == (3, 0)


async def test_without_a_vector_the_first_passage_is_returned(served: Served) -> None:
    (galley,) = (await served.fetch("galley", tokens_for=1)).documents

    assert (galley.start_byte, galley.end_byte) == (0, 16)


async def test_an_unknown_collection_is_not_found(served: Served) -> None:
    wanted = (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")

    assert await refused(served.lexical("x", collection="planes")) == wanted
    assert await refused(served.dense("x", collection="planes")) == wanted


async def test_a_query_of_another_encoder_is_refused(served: Served) -> None:
    refusal = await refused(served.dense("x", encoder_fingerprint="e" * 64))

    assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"vector": b"1234"}, "MALFORMED"),
        ({"vector": b""}, "MALFORMED"),
        ({"vector": b"\xff" * 4 * ENCODER.dimension}, "MALFORMED"),
        ({"limit": 0}, "OUT_OF_RANGE"),
        ({"likely_head": shard_pb2.LikelyHead(limit=1, weight=1)}, "MALFORMED"),
        ({"likely_head": shard_pb2.LikelyHead(limit=1, k=60, ids=["raft"])}, "MALFORMED"),
        ({"limit": 10_001}, "OUT_OF_RANGE"),
    ],
)
async def test_what_cannot_be_searched_is_refused(
    served: Served, fields: dict[str, Any], reason: str
) -> None:
    assert await refused(served.dense("x", **fields)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
    )


async def test_a_generation_asked_for_is_kept_after_it_is_replaced(served: Served) -> None:
    served.publisher.put("raft", "sunk")
    served.publisher.publish()
    await served.serving(2)

    old, new = await served.lexical("logs", generation=1), await served.lexical("logs")

    assert (ids(old), old.generation.generation) == (["raft"], 1)
    assert (ids(new), new.generation.generation) == ([], 2)


async def test_a_pinned_fetch_is_of_its_generation_or_refused(served: Served) -> None:
    served.publisher.put("raft", "sunk")
    served.publisher.delete("galley")
    served.publisher.publish()
    await served.serving(2)

    old = await served.fetch("raft", "galley", generation=1, pinned=True, highlight="logs")
    new = await served.fetch("raft", "galley", generation=2, pinned=True)

    raft = document_pb2.Document.FromString(old.documents[0].document)
    assert [document.id for document in old.documents] == ["raft", "galley"]
    assert old.generation.generation == 1
    assert "logs" in raft.text
    start, end = old.documents[0].highlights
    assert raft.text[start:end] == "logs"
    assert [document.id for document in new.documents] == ["raft"]
    assert (await served.fetch("raft", generation=77)).generation.generation == 2
    code, reason = await refused(served.fetch("raft", generation=77, pinned=True))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_TOKEN_EXPIRED")


async def test_a_generation_that_is_not_held_falls_to_the_newest(served: Served) -> None:
    assert (await served.lexical("logs", generation=77)).generation.generation == 1


async def test_a_watch_tells_everything_first_and_then_what_changed(
    served: Served, tmp_path: Path
) -> None:
    async with asyncio.timeout(SECONDS):
        watch: Any = served.stub.Watch(shard_pb2.WatchRequest())
        first = await watch.read()
        planes = Publisher(tmp_path / "index", "planes", uid="uid-2")
        planes.publish()
        second = await watch.read()
        served.publisher.delete("raft")
        served.publisher.publish()
        third = await watch.read()
        planes.index.delete_collection("uid-2")
        fourth = await watch.read()
        watch.cancel()

    (ships,) = first.collections
    assert first.full
    assert (ships.collection, ships.uid, ships.shard, ships.shard_count) == ("ships", "uid-1", 0, 1)
    assert (ships.epoch, ships.generation, ships.sequence) == (1, 1, 2)
    assert (ships.encoder_model, ships.encoder_fingerprint) == ("bi_encoder", "f" * 64)
    assert (ships.document_count, ships.passage_count) == (2, 3)
    assert [state.collection for state in second.collections] == ["planes"]
    assert not second.full
    assert [(s.collection, s.document_count) for s in third.collections] == [("ships", 1)]
    assert (list(fourth.removed), list(fourth.collections)) == (["planes"], [])
    assert await refused(served.lexical("x", collection="planes")) == (
        grpc.StatusCode.NOT_FOUND,
        "COLLECTION_NOT_FOUND",
    )


async def test_a_watch_ends_when_the_shard_stops(served: Served) -> None:
    watch: Any = served.stub.Watch(shard_pb2.WatchRequest())
    await watch.read()

    async with asyncio.timeout(SECONDS):
        await served.shard.stop(2 * SECONDS)


async def test_only_collections_with_a_part_here_are_served(served: Served, tmp_path: Path) -> None:
    Publisher(tmp_path / "index", "elsewhere", uid="uid-3", shard=1, shards=2).publish()
    Publisher(tmp_path / "index", "here", uid="uid-4", shard=0, shards=2).publish()
    async with asyncio.timeout(SECONDS):
        watch: Any = served.stub.Watch(shard_pb2.WatchRequest())
        names: set[str] = set()
        while "here" not in names:
            names |= {state.collection for state in (await watch.read()).collections}
        watch.cancel()

    assert names == {"ships", "here"}


async def test_calls_are_counted(served: Served) -> None:
    await served.lexical("logs")
    await refused(served.lexical("x", collection="planes"))
    method = "/trireme.shard.v1.ShardService/Converse/search_lexical"

    def calls(code: str) -> float | None:
        labels = {"method": method, "code": code}
        return served.shard.registry.get_sample_value("trireme_shard_calls_total", labels)

    assert (calls("OK"), calls("NOT_FOUND")) == (1.0, 1.0)


async def test_searches_beyond_those_that_may_wait_are_refused_at_once() -> None:
    searcher, release = Searcher(threads=1, queued=1, inline_rows=0), threading.Event()
    running = [asyncio.ensure_future(searcher.run(1, release.wait)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded) as caught:
        await searcher.run(1, release.wait)
    release.set()

    assert caught.value.retry_after_seconds > 0
    assert await asyncio.gather(*running) == [True, True]
    assert await searcher.run(1, lambda: "free again") == "free again"
    searcher.stop()


async def test_an_unexpected_failure_of_one_collection_leaves_the_others_alone(
    stacks: Callable[[], Stacks],
    publisher: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Publisher(tmp_path / "index", "planes", uid="uid-0").publish()
    adopt = Adoption.adopt

    def fail_for_planes(
        self: Adoption, entry: CollectionEntry, newest: Snapshot | None
    ) -> Snapshot | None:
        if entry.name == "planes":
            raise RuntimeError("no such thing")
        return adopt(self, entry, newest)

    monkeypatch.setattr(Adoption, "adopt", fail_for_planes)
    stack = stacks()

    await stack.library.look()

    assert stack.generation() == 1
    assert stack.metric("adopt_failures_total", reason="INTERNAL") == 1


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stacks:
    """A library that looks only when it is told to."""

    library: Library
    metrics: ShardMetrics
    clock: Clock

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"trireme_shard_{name}", labels)

    def generation(self) -> int:
        return self.library.find("ships").manifest.generation


@pytest_asyncio.fixture
async def stacks(tmp_path: Path, publisher: Publisher) -> AsyncIterator[Callable[[], Stacks]]:
    """Makes libraries as new processes would, nothing verified or open yet."""
    made: list[tuple[Stacks, Scratch]] = []

    def make() -> Stacks:
        scratch = Scratch.create(tmp_path / "scratch")
        adoption = Adoption(IndexStore.open(tmp_path / "index"), scratch, 0)
        metrics, clock = ShardMetrics(), Clock()
        library = Library(
            adoption,
            metrics,
            poll_seconds=60,
            keep_seconds=30,
            keep_generations=2,
            page_seconds=90,
            page_generations=3,
            clock=clock,
        )
        made.append((Stacks(library, metrics, clock), scratch))
        return made[-1][0]

    yield make
    for stack, scratch in made:
        await stack.library.stop()
        scratch.close()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()
    path.write_bytes(bytes(data))


KINDS = [
    "vectors.faiss",
    "documents.arrow",
    "passages.arrow",
    "dead.bits",
    "meta.json",
    ".idx",
    ".term",
    ".store",
    ".fast",
    ".fieldnorm",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_damaged_file_of_any_kind_keeps_the_old_generation(
    stacks: Callable[[], Stacks], publisher: Publisher, kind: str
) -> None:
    stack = stacks()
    await stack.library.look()
    publisher.put("kayak", "paddled")
    publisher.delete("raft")
    held = {entry.sha256 for entry in publisher.files()}
    publisher.publish()
    entry = next(e for e in publisher.files() if e.name.endswith(kind) and e.sha256 not in held)
    flip(publisher.store.path(entry))

    await stack.library.look()

    assert stack.generation() == 1
    assert stack.metric("generation_refused", collection="ships") == 1
    assert stack.metric("adopt_failures_total", reason="CORRUPT_FILE") == 1
    assert [c.id for c in stack.library.find("ships").search_lexical("logs", 1)] == ["raft"]


async def test_a_repaired_generation_is_adopted_when_its_time_has_come(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    stack = stacks()
    await stack.library.look()
    publisher.put("kayak", "paddled")
    held = {entry.sha256 for entry in publisher.files()}
    publisher.publish()
    entry = next(entry for entry in publisher.files() if entry.sha256 not in held)
    good = publisher.store.path(entry).read_bytes()
    flip(publisher.store.path(entry))
    await stack.library.look()
    publisher.store.path(entry).write_bytes(good)

    await stack.library.look()
    before = stack.generation()
    stack.clock.now = 1.0
    await stack.library.look()

    assert (before, stack.generation()) == (1, 2)
    assert stack.metric("generation_refused", collection="ships") == 0


async def test_a_damaged_manifest_keeps_the_old_generation(
    stacks: Callable[[], Stacks], publisher: Publisher, tmp_path: Path
) -> None:
    stack = stacks()
    await stack.library.look()
    second = publisher.publish()
    flip(tmp_path / "index" / "uid-1" / "0" / "manifests" / second.name)

    await stack.library.look()

    assert stack.generation() == 1
    assert stack.metric("adopt_failures_total", reason="CORRUPT_FILE") == 1


async def test_a_new_process_falls_back_to_the_last_good_generation(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    held = {entry.sha256 for entry in publisher.files()}
    publisher.put("kayak", "paddled")
    publisher.publish()
    entry = next(entry for entry in publisher.files() if entry.sha256 not in held)
    flip(publisher.store.path(entry))
    stack = stacks()

    await stack.library.look()

    assert stack.generation() == 1
    assert stack.metric("generation_refused", collection="ships") == 1


async def test_a_lower_generation_or_epoch_is_never_adopted(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    first = publisher.manifest
    assert first is not None
    publisher.epoch = 2
    publisher.publish()
    stack = stacks()
    await stack.library.look()

    publisher.store.set_current(first)
    await stack.library.look()

    assert stack.generation() == 2
    assert stack.metric("generation_refused", collection="ships") == 0


async def test_a_replaced_generation_is_dropped_after_its_time(
    stacks: Callable[[], Stacks], publisher: Publisher, tmp_path: Path
) -> None:
    stack = stacks()
    await stack.library.look()
    publisher.publish()
    await stack.library.look()
    kept = stack.library.find("ships", 1).manifest.generation

    stack.clock.now = 30.0
    await stack.library.look()

    assert (kept, stack.library.find("ships", 1).manifest.generation) == (1, 2)
    assert stack.metric("open_generations") == 1
    (own,) = (tmp_path / "scratch").iterdir()
    assert len(list(own.iterdir())) == 1


async def test_documents_of_a_generation_stay_longer_than_it_is_searched(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    stack = stacks()
    await stack.library.look()
    publisher.put("raft", "sunk")
    publisher.publish()
    await stack.library.look()

    stack.clock.now = 89.0
    await stack.library.look()
    (raft,) = stack.library.find_documents("ships", 1, pinned=True).fetch(["raft"], None)
    searched = stack.library.find("ships", 1).manifest.generation
    stack.clock.now = 90.0
    await stack.library.look()

    assert "logs" in raft.document.text
    assert searched == 2
    assert stack.metric("archived_generations") == 0
    with pytest.raises(PageTokenExpired):
        stack.library.find_documents("ships", 1, pinned=True)


async def test_documents_of_no_more_generations_are_kept_than_allowed(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    stack = stacks()
    await stack.library.look()
    for _ in range(5):
        publisher.publish()
        await stack.library.look()

    assert stack.metric("archived_generations") == 3
    assert stack.library.find_documents("ships", 3, pinned=True).manifest.generation == 3
    with pytest.raises(PageTokenExpired):
        stack.library.find_documents("ships", 2, pinned=True)


async def test_no_more_replaced_generations_are_kept_than_allowed(
    stacks: Callable[[], Stacks], publisher: Publisher
) -> None:
    stack = stacks()
    await stack.library.look()
    for _ in range(3):
        publisher.publish()
        await stack.library.look()

    held = [stack.library.find("ships", wanted).manifest.generation for wanted in (1, 2, 3, 4)]

    assert held == [4, 2, 3, 4]
    assert stack.metric("open_generations") == 3


async def test_a_collection_made_anew_under_the_same_name_replaces_the_old(
    stacks: Callable[[], Stacks], publisher: Publisher, tmp_path: Path
) -> None:
    stack = stacks()
    await stack.library.look()
    publisher.index.delete_collection("uid-1")
    Publisher(tmp_path / "index", "ships", uid="uid-9").publish()

    await stack.library.look()

    assert stack.library.find("ships").manifest.uid == "uid-9"


async def test_what_a_killed_process_left_is_removed(
    stacks: Callable[[], Stacks], tmp_path: Path
) -> None:
    left = tmp_path / "scratch" / "open-left" / "0"
    left.mkdir(parents=True)
    first = stacks()
    await first.library.look()

    second = stacks()
    await second.library.look()

    assert not left.exists()
    assert first.library.find("ships").search_lexical("logs", 1)
    assert len(list((tmp_path / "scratch").iterdir())) == 2


async def test_a_newer_index_store_stops_a_shard_from_starting(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "format.json").write_text('{"format": 2}')

    with pytest.raises(NewerFormat):
        await Shard.create(ShardConfig(shard=0, index_directory=tmp_path / "index"))


async def run_shard(tmp_path: Path, **settings: object) -> asyncio.subprocess.Process:
    config = {"shard": 0, "index_directory": str(tmp_path / "index")} | settings
    path = tmp_path / "shard.yaml"
    path.write_text(yaml.safe_dump({"shard": config}))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shard", "--config", str(path)), stderr=asyncio.subprocess.PIPE
    )


async def test_a_process_serves_until_it_is_told_to_stop(
    tmp_path: Path, publisher: Publisher
) -> None:
    address_file = tmp_path / "address"
    process = await run_shard(
        tmp_path, address_file=str(address_file), metrics_address="127.0.0.1:0"
    )
    assert process.stderr is not None
    async with asyncio.timeout(2 * SECONDS):
        while b"role is ready" not in await process.stderr.readline():
            assert process.returncode is None
        async with open_channel(address_file.read_text()) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="trireme.shard.v1.ShardService")
            )
            request = shard_pb2.SearchLexicalRequest(collection="ships", query="logs", limit=1)
            stub = shard_pb2_grpc.ShardServiceStub(channel)
            found = await ask(stub, "search_lexical", request)
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert ids(found) == ["raft"]
    assert process.returncode == 0
    assert list((tmp_path / "index" / "scratch").iterdir()) == []


async def test_a_process_with_a_wrong_setting_says_which_and_fails(tmp_path: Path) -> None:
    process = await run_shard(tmp_path, sharp=1)

    async with asyncio.timeout(2 * SECONDS):
        _, errors = await process.communicate()

    assert process.returncode == 1
    assert b"shard.sharp" in errors
