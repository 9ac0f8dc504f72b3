"""What cannot be done is refused with code, reason, field and remedy; nothing is half applied."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2, inference_pb2, ranking_pb2, search_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def info_of(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(info)
    return info


def search(**fields: Any) -> tuple[str, str, Any]:
    request = search_pb2.SearchRequest(**{"query": "words", **fields})
    return "searches", "Search", request


def upsert(*documents: document_pb2.Document) -> tuple[str, str, Any]:
    request = document_pb2.UpsertDocumentsRequest(documents=documents)
    return "documents", "UpsertDocuments", request


@pytest.mark.parametrize(
    ("call", "code", "reason", "field"),
    [
        (search(query=" "), INVALID, "FIELD_REQUIRED", "query"),
        (search(query="long " * 400), INVALID, "TOO_LONG", "query"),
        (search(page_size=1001), INVALID, "OUT_OF_RANGE", "page_size"),
        (
            search(fusion=ranking_pb2.Fusion(method=7)),  # type: ignore[arg-type]
            INVALID,
            "UNKNOWN_FUSION",
            "fusion.method",
        ),
        (search(filter="x ="), INVALID, "INVALID_FILTER", "filter"),
        (search(filter="x = 1"), INVALID, "INVALID_FILTER", "filter"),
        (upsert(), INVALID, "FIELD_REQUIRED", "documents"),
        (
            upsert(document_pb2.Document(text="x")),
            INVALID,
            "FIELD_REQUIRED",
            "documents[0].id",
        ),
        (
            upsert(document_pb2.Document(id="a")),
            INVALID,
            "FIELD_REQUIRED",
            "documents[0].text",
        ),
        (
            upsert(
                document_pb2.Document(id="a", text="x"), document_pb2.Document(id="a", text="y")
            ),
            INVALID,
            "DUPLICATE_ID",
            "documents[1].id",
        ),
        (
            upsert(document_pb2.Document(id="a", text="x" * (1024 * 1024 + 1))),
            INVALID,
            "TOO_LONG",
            "documents[0].text",
        ),
        (
            ("documents", "DeleteDocuments", document_pb2.DeleteDocumentsRequest()),
            INVALID,
            "FIELD_REQUIRED",
            "ids",
        ),
        (
            ("documents", "GetDocument", document_pb2.GetDocumentRequest(id="nobody")),
            grpc.StatusCode.NOT_FOUND,
            "DOCUMENT_NOT_FOUND",
            "id",
        ),
        (
            ("documents", "ListDocuments", document_pb2.ListDocumentsRequest(page_token="?")),
            INVALID,
            "BAD_PAGE_TOKEN",
            "page_token",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
async def test_a_bad_request_is_refused(
    family: Family,
    collection: str,
    call: tuple[str, str, Any],
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    service, method, request = call
    request.collection = collection

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(getattr(family, service), method)(request, timeout=SECONDS)

    info = info_of(refusal.value)
    assert (refusal.value.code(), info.reason, info.domain) == (code, reason, "trireme")
    assert info.metadata["field"] == field
    assert field in (refusal.value.details() or "")


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("searches", "Search", search_pb2.SearchRequest(collection="nowhere", query="x")),
        (
            "documents",
            "UpsertDocuments",
            document_pb2.UpsertDocumentsRequest(
                collection="nowhere", documents=[document_pb2.Document(id="a", text="x")]
            ),
        ),
        (
            "documents",
            "DeleteDocuments",
            document_pb2.DeleteDocumentsRequest(collection="nowhere", ids=["a"]),
        ),
        ("documents", "GetDocument", document_pb2.GetDocumentRequest(collection="nowhere", id="a")),
        ("documents", "ListDocuments", document_pb2.ListDocumentsRequest(collection="nowhere")),
        ("collections", "GetCollection", collection_pb2.GetCollectionRequest(name="nowhere")),
        ("collections", "DeleteCollection", collection_pb2.DeleteCollectionRequest(name="nowhere")),
    ],
)
async def test_an_unknown_collection_is_not_found(
    family: Family, service: str, method: str, request_: Any
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(getattr(family, service), method)(request_, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refusal.value) == "COLLECTION_NOT_FOUND"


async def test_a_collection_is_created_once(family: Family, collection: str) -> None:
    request = collection_pb2.CreateCollectionRequest(
        collection=collection_pb2.Collection(name=collection)
    )

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.collections.CreateCollection(request, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(refusal.value) == "COLLECTION_EXISTS"


@pytest.mark.parametrize("name", ["", "Ships", "1ships", "a/b", "x" * 64])
async def test_a_collection_name_has_rules(family: Family, name: str) -> None:
    request = collection_pb2.CreateCollectionRequest(
        collection=collection_pb2.Collection(name=name)
    )

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.collections.CreateCollection(request, timeout=SECONDS)

    assert refusal.value.code() is INVALID
    assert info_of(refusal.value).metadata["field"] == "collection.name"


async def test_nothing_of_a_refused_batch_is_stored(family: Family, collection: str) -> None:
    batch = document_pb2.UpsertDocumentsRequest(
        collection=collection,
        documents=[document_pb2.Document(id="good", text="x"), document_pb2.Document(id="bad")],
    )

    with pytest.raises(grpc.aio.AioRpcError):
        await family.documents.UpsertDocuments(batch, timeout=SECONDS)

    listed = await family.documents.ListDocuments(
        document_pb2.ListDocumentsRequest(collection=collection), timeout=SECONDS
    )
    assert not listed.documents


async def test_a_refused_batch_does_not_end_its_stream(family: Family, collection: str) -> None:
    def batch(*documents: document_pb2.Document) -> document_pb2.StreamDocumentsRequest:
        return document_pb2.StreamDocumentsRequest(collection=collection, documents=documents)

    requests = [
        batch(document_pb2.Document(id="a", text="first")),
        batch(document_pb2.Document(id="b")),
        batch(document_pb2.Document(id="c", text="third")),
    ]

    stream = family.documents.StreamDocuments(iter(requests), timeout=SECONDS)
    replies = [reply async for reply in stream]

    assert [reply.batch for reply in replies] == [0, 1, 2]
    assert [reply.HasField("position") for reply in replies] == [True, False, True]
    assert replies[1].error.reason == "FIELD_REQUIRED"
    assert replies[1].error.field == "documents[0].text"


# A SearchRequest and an UpsertDocumentsRequest whose text is the byte 0xff.
BAD_SEARCH = b"\x0a\x01c\x12\x01\xff"
BAD_UPSERT = b"\x0a\x01c\x12\x06\x0a\x01a\x1a\x01\xff"


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("/trireme.v1.SearchService/Search", BAD_SEARCH, "query"),
        ("/trireme.v1.DocumentService/UpsertDocuments", BAD_UPSERT, "documents[0].text"),
    ],
)
async def test_text_that_is_not_utf8_is_refused_by_field(
    family: Family, method: str, request_: bytes, field: str
) -> None:
    call: Any = family.channel.unary_unary(method)

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(request_, timeout=SECONDS)

    assert (refusal.value.code(), reason_of(refusal.value)) == (INVALID, "NOT_UTF8")
    assert info_of(refusal.value).metadata["field"] == field


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("Embed", inference_pb2.EmbedRequest(), "texts"),
        ("Embed", inference_pb2.EmbedRequest(texts=["a", " "]), "texts[1]"),
        ("Embed", inference_pb2.EmbedRequest(texts=["a"] * 257), "texts"),
        ("Rerank", inference_pb2.RerankRequest(passages=["a"]), "query"),
        ("Rerank", inference_pb2.RerankRequest(query="a"), "passages"),
        ("Rerank", inference_pb2.RerankRequest(query="a", passages=["b"], top_k=-1), "top_k"),
    ],
)
async def test_inference_checks_its_input(
    family: Family, method: str, request_: Any, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(family.inference, method)(request_, timeout=SECONDS)

    assert refusal.value.code() is INVALID
    assert info_of(refusal.value).metadata["field"] == field


async def test_an_unknown_model_is_not_found(family: Family) -> None:
    request = inference_pb2.EmbedRequest(
        texts=["x"], encoder=collection_pb2.ModelVersion(model="nothing")
    )

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.inference.Embed(request, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refusal.value) == "MODEL_NOT_FOUND"
