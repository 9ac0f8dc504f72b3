"""The indexer's services over real gRPC, with a Triton by arithmetic behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from core.errors import BadEnvironment
from core.rpc import open_channel, reason_of
from indexer.config import IndexerConfig
from indexer.server import Indexer
from tests.fakes.triton import FakeTriton
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    ranking_pb2,
)
from trireme.v1.vector_index_pb2 import (
    VECTOR_INDEX_KIND_AUTO,
    VECTOR_INDEX_KIND_HNSW,
    VectorIndex,
)

Upsert = document_pb2.UpsertDocumentsRequest
Batch = document_pb2.StreamDocumentsRequest
Document = document_pb2.Document
SHARDS = 2


class Client:
    """Both services of one indexer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
        self.collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)

    async def create(self, name: str, **fields: Any) -> collection_pb2.Collection:
        request = collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=name, **fields)
        )
        answer: collection_pb2.CreateCollectionResponse
        answer = await self.collections.CreateCollection(request)
        return answer.collection

    async def get(self, name: str) -> collection_pb2.Collection:
        request = collection_pb2.GetCollectionRequest(name=name)
        answer: collection_pb2.GetCollectionResponse
        answer = await self.collections.GetCollection(request)
        return answer.collection

    async def upsert(self, *documents: Document, **fields: Any) -> Any:
        request = Upsert(collection="papers", documents=documents, **fields)
        return await self.documents.UpsertDocuments(request)

    async def until_indexed(self, name: str) -> collection_pb2.Collection:
        while True:
            found = await self.get(name)
            if all(shard.indexed_sequence == shard.head_sequence for shard in found.shards):
                return found


def config_of(root: Path, triton: FakeTriton) -> IndexerConfig:
    return IndexerConfig(
        address="127.0.0.1:0",
        database_url=f"sqlite:///{root}/store.db",
        index_directory=root / "index",
        shard_count=SHARDS,
        triton_address=triton.address,
        model_directory=triton.model_directory,
    )


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as fake:
        yield fake


@pytest.fixture
async def client(tmp_path: Path, triton: FakeTriton) -> AsyncIterator[Client]:
    indexer = await Indexer.create(config_of(tmp_path, triton))
    await indexer.start()
    async with open_channel(indexer.address) as channel:
        yield Client(channel)
    await indexer.stop(0)


@pytest.fixture
async def papers(client: Client) -> Client:
    await client.create("papers")
    return client


def fault(error: grpc.RpcError) -> tuple[str, str, str]:
    """Code, reason and field of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code().name, reason_of(error), info.metadata.get("field", "")


async def refused(call: Any) -> tuple[str, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return fault(caught.value)


def documents(count: int, **fields: Any) -> list[Document]:
    return [Document(id=f"doc-{n:03}", text="heart and lung", **fields) for n in range(count)]


async def test_a_collection_is_created_with_its_defaults_and_ready(client: Client) -> None:
    created = await client.create("papers")

    assert created.shard_count == SHARDS
    assert (created.encoder.model, created.encoder.version) == ("bi_encoder", "1")
    assert created.encoder.fingerprint == "fake-bi_encoder-1"
    assert (created.passaging.max_tokens, created.passaging.overlap_tokens) == (256 - 2, 32)
    assert [(shard.shard, shard.generation) for shard in created.shards] == [(0, 1), (1, 1)]
    assert await client.get("papers") == created


async def test_what_is_written_is_acknowledged_indexed_and_read_back(papers: Client) -> None:
    document = Document(id="a", title="On hearts", text="heart and lung")
    document.attributes["year"].number_value = 2026
    document.attributes["tags"].strings_value.values.extend(["x", "y"])
    document.attributes["at"].timestamp_value.CopyFrom(Timestamp(seconds=1))
    answer = await papers.upsert(document, *documents(9))

    assert list(answer.versions) == [1] * 10
    assert sum(shard.sequence for shard in answer.position.shards) == 10
    found = await papers.until_indexed("papers")
    assert found.document_count == 10
    request = document_pb2.GetDocumentRequest(collection="papers", id="a")
    stored = (await papers.documents.GetDocument(request)).document
    assert (stored.title, stored.text, stored.version) == (document.title, document.text, 1)
    assert stored.attributes == document.attributes
    assert stored.update_time.seconds > 0


async def test_deletions_are_counted_and_indexed(papers: Client) -> None:
    await papers.upsert(*documents(4))

    request = document_pb2.DeleteDocumentsRequest(collection="papers", ids=["doc-001", "absent"])
    answer = await papers.documents.DeleteDocuments(request)

    assert answer.deleted_count == 1
    assert (await papers.until_indexed("papers")).document_count == 3
    get = document_pb2.GetDocumentRequest(collection="papers", id="doc-001")
    assert await refused(papers.documents.GetDocument(get)) == (
        "NOT_FOUND",
        "DOCUMENT_NOT_FOUND",
        "id",
    )


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (Upsert(documents=documents(1)), "FIELD_REQUIRED", "collection"),
        (Upsert(collection="papers"), "FIELD_REQUIRED", "documents"),
        (Upsert(collection="papers", documents=documents(257)), "OUT_OF_RANGE", "documents"),
        (
            Upsert(collection="papers", documents=[*documents(2), *documents(1)]),
            "DUPLICATE_ID",
            "documents[2].id",
        ),
        (
            Upsert(collection="papers", documents=[Document(text="x")]),
            "FIELD_REQUIRED",
            "documents[0].id",
        ),
        (
            Upsert(collection="papers", documents=[Document(id="a" * 513, text="x")]),
            "TOO_LONG",
            "documents[0].id",
        ),
        (
            Upsert(collection="papers", documents=[Document(id="a", text=" ")]),
            "FIELD_REQUIRED",
            "documents[0].text",
        ),
        (
            Upsert(collection="papers", documents=[Document(id="a", text="x" * (1 << 20) + "x")]),
            "TOO_LONG",
            "documents[0].text",
        ),
        (
            Upsert(collection="papers", documents=[Document(id="a", text="x", title="x" * 4097)]),
            "TOO_LONG",
            "documents[0].title",
        ),
        (
            Upsert(collection="papers", documents=[Document(id="a", text="a\x00b")]),
            "NOT_UTF8",
            "documents[0].text",
        ),
        (
            Upsert(collection="papers", documents=documents(1), request_id="r" * 129),
            "TOO_LONG",
            "request_id",
        ),
        (
            Upsert(
                collection="papers",
                documents=[Document(id=f"{n}", text="x" * 1_000_000) for n in range(5)],
            ),
            "TOO_LONG",
            "documents",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_not_acceptable_is_refused_with_its_field(
    papers: Client, request_: Upsert, reason: str, field: str
) -> None:
    call = papers.documents.UpsertDocuments(request_)

    assert await refused(call) == ("INVALID_ARGUMENT", reason, field)
    assert (await papers.get("papers")).document_count == 0


async def raw(client: Client, method: str, *bodies: bytes) -> list[Any]:
    """Sends bytes as they are; the answers of a stream, or of one call."""
    path = f"/trireme.v1.DocumentService/{method}"
    if method == "StreamDocuments":
        call: Any = client.channel.stream_stream(
            path, response_deserializer=document_pb2.StreamDocumentsResponse.FromString
        )
        return [answer async for answer in call(iter(bodies))]
    single: Any = client.channel.unary_unary(path)
    return [await single(bodies[0])]


async def test_a_text_that_is_not_utf8_is_refused_with_its_field(papers: Client) -> None:
    body = Upsert(collection="papers", documents=[*documents(1), Document(id="b", text="QQQQ")])
    data = body.SerializeToString().replace(b"QQQQ", b"\xff\xfe\xfd\xfc")

    assert await refused(raw(papers, "UpsertDocuments", data)) == (
        "INVALID_ARGUMENT",
        "NOT_UTF8",
        "documents[1].text",
    )


async def test_bytes_that_are_no_message_are_refused(papers: Client) -> None:
    code, reason, _ = await refused(raw(papers, "UpsertDocuments", b"\x0a\xff"))

    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED")


async def test_a_refused_batch_does_not_end_its_stream(papers: Client) -> None:
    good = Batch(collection="papers", documents=documents(2))
    unreadable = Batch(documents=[Document(id="x", text="QQQQ")]).SerializeToString()
    batches = [
        good.SerializeToString(),
        Batch(documents=[Document(text="no id")]).SerializeToString(),
        unreadable.replace(b"QQQQ", b"\xff\xfe\xfd\xfc"),
        Batch(documents=[Document(id="z", text="heart")]).SerializeToString(),
        Batch(collection="absent", documents=documents(1)).SerializeToString(),
    ]

    answers = await raw(papers, "StreamDocuments", *batches)

    assert [answer.batch for answer in answers] == [0, 1, 2, 3, 4]
    assert [(answer.error.reason, answer.error.field) for answer in answers] == [
        ("", ""),
        ("FIELD_REQUIRED", "documents[0].id"),
        ("NOT_UTF8", "documents[0].text"),
        ("", ""),
        ("COLLECTION_NOT_FOUND", "collection"),
    ]
    assert answers[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [bool(answer.position.shards) for answer in answers] == [True, False, False, True, False]
    assert (await papers.get("papers")).document_count == 2 + 1


async def test_a_batch_sent_again_is_answered_alike_and_stored_once(papers: Client) -> None:
    first = await papers.upsert(*documents(3), request_id="r1")

    assert await papers.upsert(*documents(3), request_id="r1") == first
    assert sum(shard.head_sequence for shard in (await papers.get("papers")).shards) == 3


async def test_documents_are_listed_page_by_page(papers: Client) -> None:
    await papers.upsert(*documents(7))
    request = document_pb2.ListDocumentsRequest(collection="papers", page_size=3)

    seen = []
    while True:
        page = await papers.documents.ListDocuments(request)
        seen.append([document.id for document in page.documents])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert [len(ids) for ids in seen] == [3, 3, 1]
    assert [id for ids in seen for id in ids] == [f"doc-{n:03}" for n in range(7)]
    other = document_pb2.ListDocumentsRequest(collection="papers", page_token="made up")
    assert (await refused(papers.documents.ListDocuments(other)))[1] == "BAD_PAGE_TOKEN"
    wide = document_pb2.ListDocumentsRequest(collection="papers", page_size=1_001)
    assert await refused(papers.documents.ListDocuments(wide)) == (
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        "page_size",
    )


async def test_a_collection_tells_which_models_it_was_made_with(client: Client) -> None:
    created = await client.create(
        "papers",
        encoder=collection_pb2.ModelVersion(model="bi_dot", version="1"),
        sparse_encoder=collection_pb2.ModelVersion(model="sparse_encoder"),
        dimensions=16,
    )

    assert (created.encoder.model, created.similarity, created.dimensions) == ("bi_dot", "dot", 16)
    assert created.sparse_encoder.version == "1"
    assert created.sparse_encoder.fingerprint
    assert await client.get("papers") == created


async def test_a_collection_has_a_plain_encoder_unless_told_otherwise(client: Client) -> None:
    created = await client.create("papers")

    assert (created.encoder.model, created.similarity) == ("bi_encoder", "cosine")
    assert created.dimensions == 64
    assert not created.HasField("sparse_encoder")


RANKING = ranking_pb2.SearchDefaults(
    fusion=ranking_pb2.Fusion(method=ranking_pb2.FUSION_METHOD_MIN_MAX, dense_weight=0.7, k=20),
    rerank=ranking_pb2.Rerank(enabled=True, depth=50, weight=0),
    window=200,
)


async def update(
    client: Client, name: str, *paths: str, ranking: ranking_pb2.SearchDefaults | None = None
) -> collection_pb2.Collection:
    request = collection_pb2.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=name, search_defaults=ranking),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    answer: collection_pb2.UpdateCollectionResponse
    answer = await client.collections.UpdateCollection(request)
    return answer.collection


async def test_search_defaults_are_kept_from_creation_on(client: Client) -> None:
    plain = await client.create("plain")
    created = await client.create("papers", search_defaults=RANKING)

    assert not plain.HasField("search_defaults")
    assert created.search_defaults == RANKING
    assert await client.get("papers") == created


async def test_search_defaults_are_changed_and_taken_back(papers: Client) -> None:
    changed = await update(papers, "papers", ranking=RANKING)
    assert changed.search_defaults == RANKING
    assert (await papers.get("papers")).search_defaults == RANKING

    taken_back = await update(papers, "papers")
    assert not taken_back.HasField("search_defaults")


async def test_a_mask_says_which_search_defaults_change(papers: Client) -> None:
    await update(papers, "papers", ranking=RANKING)
    wanted = ranking_pb2.SearchDefaults(
        fusion=ranking_pb2.Fusion(k=5, lexical_weight=2), rerank=ranking_pb2.Rerank(depth=9)
    )

    paths = ("search_defaults.fusion.k", "search_defaults.rerank", "search_defaults.window")
    changed = await update(papers, "papers", *paths, ranking=wanted)

    assert changed.search_defaults == ranking_pb2.SearchDefaults(
        fusion=ranking_pb2.Fusion(method=ranking_pb2.FUSION_METHOD_MIN_MAX, dense_weight=0.7, k=5),
        rerank=ranking_pb2.Rerank(depth=9),
    )


@pytest.mark.parametrize("path", ["name", "search_defaults.colour", "search_defaults.fusion.k.x"])
async def test_what_cannot_be_changed_is_refused(papers: Client, path: str) -> None:
    assert await refused(update(papers, "papers", path, ranking=RANKING)) == (
        "INVALID_ARGUMENT",
        "MALFORMED",
        "update_mask",
    )
    assert not (await papers.get("papers")).HasField("search_defaults")


async def test_bad_search_defaults_are_refused_by_field(papers: Client) -> None:
    bad = ranking_pb2.SearchDefaults(fusion=ranking_pb2.Fusion(k=0))
    field = "collection.search_defaults.fusion.k"

    assert await refused(update(papers, "papers", ranking=bad)) == (
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        field,
    )
    assert await refused(papers.create("other", search_defaults=bad)) == (
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        field,
    )


async def test_vector_indexes_are_told_with_their_defaults_and_changed_as_a_whole(
    client: Client,
) -> None:
    await client.create("plain", search_defaults=RANKING)
    wanted = VectorIndex(kind=VECTOR_INDEX_KIND_HNSW, seal_rows=5_000)
    request = collection_pb2.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name="plain", vector_index=wanted),
        update_mask=field_mask_pb2.FieldMask(paths=["vector_index"]),
    )

    before = await client.get("plain")
    changed = (await client.collections.UpdateCollection(request)).collection

    assert before.vector_index == VectorIndex(
        kind=VECTOR_INDEX_KIND_AUTO, target_recall=0.98, seal_rows=50_000
    )
    assert changed.vector_index == VectorIndex(
        kind=VECTOR_INDEX_KIND_HNSW, target_recall=0.98, seal_rows=5_000
    )
    assert changed.search_defaults == RANKING
    assert (await client.get("plain")).vector_index == changed.vector_index
    assert [shard.vector_recall for shard in changed.shards] == [1.0] * len(changed.shards)
    bad = VectorIndex(target_recall=2)
    assert await refused(client.create("other", vector_index=bad)) == (
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        "collection.vector_index.target_recall",
    )


async def test_only_a_collection_that_is_there_can_be_changed(client: Client) -> None:
    assert await refused(update(client, "absent", ranking=RANKING)) == (
        "NOT_FOUND",
        "COLLECTION_NOT_FOUND",
        "collection.name",
    )
    assert await refused(update(client, "", ranking=RANKING)) == (
        "INVALID_ARGUMENT",
        "FIELD_REQUIRED",
        "collection.name",
    )


def model(name: str, version: str = "") -> collection_pb2.ModelVersion:
    return collection_pb2.ModelVersion(model=name, version=version)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"encoder": model("absent")}, ("NOT_FOUND", "MODEL_NOT_FOUND", "encoder")),
        ({"encoder": model("bi_dot", "7")}, ("NOT_FOUND", "MODEL_NOT_FOUND", "encoder")),
        (
            {"encoder": model("cross_encoder")},
            ("FAILED_PRECONDITION", "MODEL_MISMATCH", "encoder"),
        ),
        (
            {"encoder": model("sparse_encoder")},
            ("FAILED_PRECONDITION", "MODEL_MISMATCH", "encoder"),
        ),
        (
            {"sparse_encoder": model("bi_encoder")},
            ("FAILED_PRECONDITION", "MODEL_MISMATCH", "sparse_encoder"),
        ),
        ({"sparse_encoder": model("absent")}, ("NOT_FOUND", "MODEL_NOT_FOUND", "sparse_encoder")),
        (
            {"sparse_encoder": model("", "1")},
            ("INVALID_ARGUMENT", "FIELD_REQUIRED", "sparse_encoder.model"),
        ),
        ({"dimensions": 65}, ("INVALID_ARGUMENT", "OUT_OF_RANGE", "dimensions")),
        ({"dimensions": -1}, ("INVALID_ARGUMENT", "OUT_OF_RANGE", "dimensions")),
    ],
)
async def test_a_collection_on_models_that_cannot_serve_it_is_refused(
    client: Client, fields: dict[str, Any], refusal: tuple[str, str, str]
) -> None:
    code, reason, field = refusal

    assert await refused(client.create("papers", **fields)) == (
        code,
        reason,
        f"collection.{field}",
    )
    listed = await client.collections.ListCollections(collection_pb2.ListCollectionsRequest())
    assert not listed.collections


@pytest.mark.parametrize("name", ["Papers", "1st", "a" * 64, "with space", "é", "-a", "a\n"])
async def test_names_of_another_form_are_refused(client: Client, name: str) -> None:
    assert await refused(client.create(name)) == (
        "INVALID_ARGUMENT",
        "MALFORMED",
        "collection.name",
    )


@pytest.mark.parametrize(
    ("passaging", "field"),
    [
        ({"max_tokens": 15}, "max_tokens"),
        ({"max_tokens": 255}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 32, "overlap_tokens": 16}, "overlap_tokens"),
        ({"overlap_tokens": -1}, "overlap_tokens"),
    ],
)
async def test_passaging_beyond_the_encoder_is_refused(
    client: Client, passaging: dict[str, int], field: str
) -> None:
    asked = collection_pb2.Passaging(**passaging)

    assert await refused(client.create("papers", passaging=asked)) == (
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        f"collection.passaging.{field}",
    )


async def test_a_name_is_taken_until_its_collection_is_deleted(papers: Client) -> None:
    first = await papers.get("papers")
    await papers.upsert(*documents(5))
    assert (await refused(papers.create("papers")))[:2] == ("ALREADY_EXISTS", "COLLECTION_EXISTS")

    delete = collection_pb2.DeleteCollectionRequest(name="papers")
    await papers.collections.DeleteCollection(delete)
    assert (await refused(papers.get("papers")))[:2] == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert (await refused(papers.upsert(*documents(1))))[1] == "COLLECTION_NOT_FOUND"

    second = await papers.create("papers")
    assert second.uid != first.uid
    assert second.document_count == 0
    assert list((await papers.upsert(*documents(1))).versions) == [1]


async def test_collections_are_listed_by_name(client: Client) -> None:
    for name in ("b", "a", "c"):
        await client.create(name)
    request = collection_pb2.ListCollectionsRequest(page_size=2)

    first = await client.collections.ListCollections(request)
    request.page_token = first.next_page_token
    second = await client.collections.ListCollections(request)

    names = [[each.name for each in page.collections] for page in (first, second)]
    assert names == [["a", "b"], ["c"]]
    assert second.next_page_token == ""


async def test_nothing_is_created_while_triton_is_down(client: Client, triton: FakeTriton) -> None:
    await triton.stop()

    assert (await refused(client.create("papers")))[:2] == ("UNAVAILABLE", "TRITON_UNAVAILABLE")
    assert (await refused(client.get("papers")))[1] == "COLLECTION_NOT_FOUND"


async def test_an_unknown_encoder_is_not_found(client: Client) -> None:
    for model, version in (("absent", ""), ("bi_encoder", "7")):
        encoder = collection_pb2.ModelVersion(model=model, version=version)
        assert (await refused(client.create("papers", encoder=encoder)))[1] == "MODEL_NOT_FOUND"


async def test_writes_go_on_while_triton_is_down(papers: Client, triton: FakeTriton) -> None:
    await triton.stop()
    await papers.upsert(*documents(20))

    while not any(shard.stalled_reason for shard in (await papers.get("papers")).shards):
        await asyncio.sleep(0)
    await triton.start()

    found = await papers.until_indexed("papers")
    assert found.document_count == 20
    assert sum(shard.quarantined_count for shard in found.shards) == 0


async def test_everything_is_there_after_a_restart(tmp_path: Path, triton: FakeTriton) -> None:
    for run in range(2):
        indexer = await Indexer.create(config_of(tmp_path, triton))
        await indexer.start()
        async with open_channel(indexer.address) as channel:
            client = Client(channel)
            if run == 0:
                await client.create("papers")
            await client.upsert(*documents(5))
            found = await client.until_indexed("papers")
        await indexer.stop(0)

        assert found.document_count == 5
        assert sum(shard.indexed_sequence for shard in found.shards) == 5 * (run + 1)


async def test_a_second_indexer_on_the_same_state_refuses_to_start(
    client: Client, tmp_path: Path, triton: FakeTriton
) -> None:
    with pytest.raises(BadEnvironment, match="another indexer uses"):
        await Indexer.create(config_of(tmp_path, triton))


async def test_health_is_serving_once_started(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)

    answer = await stub.Check(health_pb2.HealthCheckRequest(service="trireme.v1.DocumentService"))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
