"""The HTTP doors to the models: other people's shapes, our answers, errors and rights."""

from __future__ import annotations

import asyncio
import base64
import io
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from core.errors import BadEnvironment
from gateway.http.body import MAX_BODY_BYTES
from tests.fakes.credentials import Certificates, Keys
from tests.fakes.doors import Doors, open_gateway
from tests.fakes.triton import FakeTriton
from trireme.v1 import collection_pb2, inference_pb2, inference_pb2_grpc

EMBEDDINGS, RERANK = "/v1/embeddings", "/v2/rerank"
SHIPS = ["ships with sails", "ships with oars", "a tax on salt"]
SECONDS = 20.0


@pytest_asyncio.fixture(scope="module")
async def triton() -> AsyncIterator[FakeTriton]:
    async with FakeTriton(versions=("1", "2")) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def doors(triton: FakeTriton) -> AsyncIterator[Doors]:
    async with open_gateway(triton.address, triton.model_directory) as opened:
        yield opened


async def embed(doors: Doors, **fields: Any) -> inference_pb2.EmbedResponse:
    """The same by gRPC."""
    stub: Any = inference_pb2_grpc.InferenceServiceStub(doors.channel)
    request = inference_pb2.EmbedRequest(**fields)
    reply: inference_pb2.EmbedResponse = await stub.Embed(request, timeout=SECONDS)
    return reply


# POST /v1/embeddings


async def test_embeddings_are_those_of_the_rpc(doors: Doors) -> None:
    expected = await embed(doors, texts=SHIPS)

    reply = await doors.post(EMBEDDINGS, {"model": "bi_encoder", "input": SHIPS})

    assert reply.status == 200
    assert reply.body["model"] == "bi_encoder:2"
    assert [each["index"] for each in reply.body["data"]] == [0, 1, 2]
    for ours, theirs in zip(expected.embeddings, reply.body["data"], strict=True):
        assert theirs["embedding"] == list(ours.values)
    tokens = sum(each.token_count for each in expected.embeddings)
    assert reply.body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_base64_holds_the_same_numbers(doors: Doors) -> None:
    request = {"model": "bi_encoder:1", "input": SHIPS[0], "dimensions": 8}

    plain = await doors.post(EMBEDDINGS, request)
    packed = await doors.post(EMBEDDINGS, {**request, "encoding_format": "base64"})

    (numbers,) = [each["embedding"] for each in plain.body["data"]]
    (text,) = [each["embedding"] for each in packed.body["data"]]
    assert len(numbers) == 8
    assert struct.unpack("<8f", base64.b64decode(text)) == tuple(numbers)


async def test_a_query_gets_the_prompt_of_queries(doors: Doors) -> None:
    kind = inference_pb2.EMBED_KIND_QUERY
    encoder = collection_pb2.ModelVersion(model="bi_prompted")
    expected = await embed(doors, texts=SHIPS[:1], kind=kind, encoder=encoder)

    request = {"model": "bi_prompted", "input": SHIPS[0]}
    query = await doors.post(EMBEDDINGS, {**request, "input_type": "query"})
    passage = await doors.post(EMBEDDINGS, {**request, "input_type": "passage"})

    assert query.body["data"][0]["embedding"] == list(expected.embeddings[0].values)
    assert passage.body["data"][0]["embedding"] != list(expected.embeddings[0].values)


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"input": []}, 400, "input", "FIELD_REQUIRED"),
        ({"input": ["ships", " "]}, 400, "input[1]", "FIELD_REQUIRED"),
        ({"input": [17, 18]}, 400, "input", "MALFORMED"),
        ({"input": {"text": "ships"}}, 400, "input", "MALFORMED"),
        ({"dimensions": 0}, 400, "dimensions", "OUT_OF_RANGE"),
        ({"dimensions": 65}, 400, "dimensions", "OUT_OF_RANGE"),
        ({"dimensions": 1.5}, 400, "dimensions", "MALFORMED"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "OUT_OF_RANGE"),
        ({"input_type": "image"}, 400, "input_type", "OUT_OF_RANGE"),
        ({"tempo": 3}, 400, "tempo", "MALFORMED"),
        ({"model": "nobody"}, 404, None, "MODEL_NOT_FOUND"),
        ({"model": "cross_encoder"}, 400, None, "MODEL_MISMATCH"),
    ],
)
async def test_a_refused_embedding_names_its_field_as_openai_does(
    doors: Doors, change: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    reply = await doors.post(EMBEDDINGS, {"model": "bi_encoder", "input": SHIPS, **change})

    error = reply.body["error"]
    assert (reply.status, error["code"]) == (status, code)
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param
        assert error["message"].startswith(f"{param}: ")


async def test_openais_own_client_reads_embeddings_and_errors(doors: Doors) -> None:
    openai = pytest.importorskip("openai")
    expected = await embed(doors, texts=SHIPS, dimensions=16)
    async with openai.AsyncOpenAI(
        base_url=f"{doors.url}/v1", api_key="none", max_retries=0
    ) as client:
        reply = await client.embeddings.create(model="bi_encoder", input=SHIPS, dimensions=16)
        with pytest.raises(openai.NotFoundError) as refused:
            await client.embeddings.create(model="nobody", input=SHIPS)

    # This client asks for base64 unless told otherwise.
    for ours, theirs in zip(expected.embeddings, reply.data, strict=True):
        assert theirs.embedding == list(ours.values)
    assert reply.usage.total_tokens == sum(each.token_count for each in expected.embeddings)
    assert refused.value.code == "MODEL_NOT_FOUND"


# POST /v2/rerank


async def test_reranked_documents_are_those_of_the_rpc(doors: Doors) -> None:
    stub: Any = inference_pb2_grpc.InferenceServiceStub(doors.channel)
    kind = inference_pb2.SCORE_KIND_SIGMOID
    request = inference_pb2.RerankRequest(query="salt tax", passages=SHIPS, score_kind=kind)
    expected = await stub.Rerank(request, timeout=SECONDS)

    body = {"model": "cross_encoder", "query": "salt tax", "documents": SHIPS, "top_n": 2}
    reply = await doors.post(RERANK, body)

    assert reply.status == 200
    found = [(each["index"], each["relevance_score"]) for each in reply.body["results"]]
    assert found == [(each.index, each.score) for each in expected.passages[:2]]
    read = sum(each.token_count for each in expected.passages)
    tokens = read + len(SHIPS) * expected.query_token_count
    assert reply.body["meta"]["tokens"]["input_tokens"] == tokens


async def test_what_was_cut_is_warned_of(doors: Doors) -> None:
    body = {"model": "cross_encoder", "query": "salt", "documents": ["salt " * 600, "salt"]}

    reply = await doors.post(RERANK, body)

    (warning,) = reply.body["meta"]["warnings"]
    assert warning.startswith("1 documents were cut")


@pytest.mark.parametrize(
    ("change", "reason", "named"),
    [
        ({"query": ""}, "FIELD_REQUIRED", "query: "),
        ({"documents": []}, "FIELD_REQUIRED", "documents: "),
        ({"documents": ["salt", ""]}, "FIELD_REQUIRED", "documents[1]: "),
        ({"documents": [{"text": "salt"}]}, "MALFORMED", "documents: "),
        ({"top_n": 0}, "OUT_OF_RANGE", "top_n: "),
        ({"max_tokens_per_doc": 10}, "OUT_OF_RANGE", "max_tokens_per_doc: "),
        ({"rank_fields": ["a"]}, "MALFORMED", "rank_fields: "),
    ],
)
async def test_a_refused_reranking_says_why_as_cohere_does(
    doors: Doors, change: dict[str, Any], reason: str, named: str
) -> None:
    body = {"model": "cross_encoder", "query": "salt", "documents": SHIPS, **change}

    reply = await doors.post(RERANK, body)

    assert (reply.status, reply.body["reason"]) == (400, reason)
    assert reply.body["message"].startswith(named)


async def test_coheres_own_client_reads_results_and_errors(doors: Doors) -> None:
    cohere = pytest.importorskip("cohere")
    async with cohere.AsyncClientV2(api_key="none", base_url=doors.url) as client:
        reply = await client.rerank(model="cross_encoder", query="salt tax", documents=SHIPS)
        with pytest.raises(cohere.errors.NotFoundError) as refused:
            await client.rerank(model="nobody", query="salt", documents=SHIPS)

    assert reply.results[0].index == SHIPS.index("a tax on salt")
    assert {each.index for each in reply.results} == {0, 1, 2}
    assert refused.value.body["reason"] == "MODEL_NOT_FOUND"


# Every door


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "MALFORMED"),
        (b"[1]", "MALFORMED"),
        (b'{"input": NaN}', "MALFORMED"),
        (b'{"input": "ships', "MALFORMED"),
        (b"[" * 100_000, "MALFORMED"),
        (b'{"input": "\xff"}', "NOT_UTF8"),
        (b'{"input": "\\ud800"}', "NOT_UTF8"),
    ],
)
@pytest.mark.parametrize("path", [EMBEDDINGS, RERANK, "/v1/collections/any/search"])
async def test_a_body_that_cannot_be_read_is_refused(
    doors: Doors, path: str, content: bytes, reason: str
) -> None:
    headers = {"content-type": "application/json"}

    reply = await doors.post(path, data=content, headers=headers)

    told = {EMBEDDINGS: lambda: reply.body["error"]["code"], RERANK: lambda: reply.body["reason"]}
    assert reply.status == 400
    assert told.get(path, lambda: reply.reason)() in {reason, "MALFORMED"}


async def test_a_body_of_another_type_is_refused(doors: Doors) -> None:
    reply = await doors.post("/v1/collections/any/search", data=b'{"query": "ships"}')

    assert (reply.status, reply.reason) == (400, "MALFORMED")


async def test_a_body_that_is_too_large_is_not_read(doors: Doors) -> None:
    headers = {"content-type": "application/json"}

    reply = await doors.post(
        EMBEDDINGS, data=io.BytesIO(b" " * (MAX_BODY_BYTES + 1)), headers=headers
    )

    assert (reply.status, reply.body["error"]["code"]) == (413, "TOO_LONG")


async def test_a_path_that_there_is_not_is_said_so(doors: Doors) -> None:
    unknown = await doors.get("/v1/secrets")
    console = await doors.get("/console/")
    method = await doors.get(EMBEDDINGS)

    assert (unknown.status, console.status, method.status) == (404, 404, 405)
    assert unknown.headers["Server"] == "trireme"


async def test_a_gateway_without_shards_lives_but_is_not_ready(doors: Doors) -> None:
    reply = await doors.get("/health")

    assert (reply.status, reply.body) == (503, {"status": "NOT_SERVING"})


async def test_the_callers_deadline_holds(triton: FakeTriton, doors: Doors) -> None:
    triton.set_fault("hang")
    try:
        reply = await doors.post(
            EMBEDDINGS, {"input": "late ships"}, headers={"trireme-timeout-ms": "100"}
        )
    finally:
        triton.set_fault("ok")

    # The gateway's own answer, or gRPC's where the gateway was a moment late with it.
    assert reply.status in {503, 504}
    assert reply.body["error"]["type"] == "server_error"


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "999999999999"])
async def test_a_deadline_that_is_none_is_refused(doors: Doors, given: str) -> None:
    reply = await doors.post(
        "/v1/collections/any/search", {"query": "ships"}, headers={"trireme-timeout-ms": given}
    )

    assert (reply.status, reply.reason) == (400, "MALFORMED")


async def test_a_caller_that_hangs_up_is_not_worked_for(triton: FakeTriton) -> None:
    async with open_gateway(
        triton.address, triton.model_directory, max_concurrent_searches=1
    ) as doors:
        triton.set_fault("hang")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await doors.post(EMBEDDINGS, {"input": "ships that hang"})
        triton.set_fault("ok")

        # A call in flight would hold the only permit until the longest deadline.
        async with asyncio.timeout(SECONDS):
            reply = await doors.post(EMBEDDINGS, {"input": "ships that sail"})
    assert reply.status == 200


async def test_a_full_gateway_says_when_to_come_back(triton: FakeTriton) -> None:
    async with open_gateway(
        triton.address, triton.model_directory, max_concurrent_searches=1
    ) as full:
        triton.set_fault("hang")
        # One has the permit, and of a burst 64 may wait.
        late = {"trireme-timeout-ms": f"{SECONDS * 1000:.0f}"}
        posts = [
            asyncio.create_task(full.post(EMBEDDINGS, {"input": f"ship {n}"}, headers=late))
            for n in range(80)
        ]
        async with asyncio.timeout(SECONDS):
            answered = asyncio.as_completed(posts)
            refused = [await next(answered) for _ in range(15)]
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        triton.set_fault("ok")

    for reply in refused:
        assert reply.status == 429
        assert reply.body["error"]["code"] == "OVERLOADED"
        assert reply.body["error"]["type"] == "rate_limit_error"
        assert int(reply.headers["Retry-After"]) >= 1
        assert int(reply.headers["retry-after-ms"]) > 0


async def test_a_stranger_learns_nothing_before_the_body_is_read(
    triton: FakeTriton, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    good, elsewhere = keys.add("reader", "read:*"), keys.add("other", "read:other")
    unreadable: dict[str, Any] = {"data": b"{", "headers": {"content-type": "application/json"}}
    async with open_gateway(
        triton.address, triton.model_directory, api_keys_file=str(keys.path), console=True
    ) as guarded:
        nobody = await guarded.post(EMBEDDINGS, **unreadable)
        wrong = await guarded.get("/v1/collections", {"authorization": "Bearer trireme_x"})
        bearer = {"authorization": f"Bearer {good}"}
        right = await guarded.post(EMBEDDINGS, {"input": "ships"}, headers=bearer)
        foreign = await guarded.post(
            "/v1/collections/secret/search",
            {"query": "ships"},
            headers={"authorization": f"Bearer {elsewhere}"},
        )
        health = await guarded.get("/health")
        async with guarded.session.get(f"{guarded.url}/console/") as page:
            console = page.status

    assert (nobody.status, nobody.body["error"]["code"]) == (401, "CREDENTIALS_MISSING")
    assert nobody.body["error"]["type"] == "authentication_error"
    assert (wrong.status, wrong.reason) == (401, "CREDENTIALS_INVALID")
    assert right.status == 200
    assert (foreign.status, foreign.reason) == (403, "PERMISSION_DENIED")
    assert (health.status, console) == (503, 200)


async def test_https_shows_the_certificate_that_is_there(
    triton: FakeTriton, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path / "tls")
    context = ssl.create_default_context(cadata=certificates.ca.cert_pem.bytes().decode())
    async with open_gateway(
        triton.address, triton.model_directory, context, **certificates.settings
    ) as doors:
        first = await peer_certificate(doors, context)
        certificates.renew()
        second = await peer_certificate(doors, context)
        with pytest.raises(aiohttp.ClientError):
            await doors.session.get(doors.url.replace("https", "http") + "/health")

    assert first != second


async def peer_certificate(doors: Doors, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown, in DER."""
    host, port = doors.url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return shown


async def test_a_console_without_doors_is_refused(triton: FakeTriton) -> None:
    with pytest.raises(BadEnvironment, match="http_address"):
        async with open_gateway(
            triton.address, triton.model_directory, http_address="", console=True
        ):
            pass


async def test_numbers_in_json_are_those_of_single_precision(doors: Doors) -> None:
    reply = await doors.post(EMBEDDINGS, {"input": SHIPS})

    for each in reply.body["data"]:
        row = each["embedding"]
        assert np.asarray(row, dtype=np.float32).astype(float).tolist() == row
