"""What gateway and Triton cost and save when texts are encoded, as ratios within one run.

    python -m tests.load.encoding [--data DIR] [--texts 5000] [--queries 200]

Throughput is compared with SentenceTransformer.encode in this process, window by window in turn,
over the same texts with as many threads; a query's time with a bare TorchScript call of one thread.
DIR holds `scifact/corpus.jsonl.gz` and `scale/enwiki.jsonl.gz`, of which each gives half of the
texts; without it they are the docstrings of the standard library. Prints JSON.
"""

from __future__ import annotations

import os

# As in Triton's processes; read when torch is imported.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import asyncio
import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tritonclient.grpc import service_pb2, service_pb2_grpc

from core.batching import padded_length
from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder
from core.rpc import CHANNEL_OPTIONS, reason_of
from core.triton import TritonClient
from deploy.cli.cluster import started_cluster
from deploy.cli.lines import read_documents
from deploy.local.cluster import MODEL_REPOSITORY, Cluster, ClusterConfig
from deploy.local.docstrings import standard_library
from deploy.models.export import export_directory
from deploy.models.sentence_model import packaged_minilm
from trireme.v1 import collection_pb2, inference_pb2, inference_pb2_grpc

FP32, INT8 = "bi_encoder", "bi_encoder_int8"
THREADS = 2
WINDOW = 250
TEXTS_PER_CALL = 64
CALLS_AT_ONCE = 3
PASSAGES = 20
CLIENTS = 16
# Who is refused asks again after this.
AGAIN_SECONDS = 0.02
SECONDS = 120.0


class Counting(TritonClient):
    """Counts the tokens it sends, with and without padding."""

    padded = real = 0

    async def infer(self, model: str, version: str, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        ids, mask = inputs[:2]
        self.padded += ids.size
        self.real += int(mask.sum())
        return await super().infer(model, version, inputs, *args, **kwargs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
    texts = _texts(options.data, options.texts)
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        repository = _repository(Path(folder) / "models")
        config = ClusterConfig(Path(folder) / "state", shards=1, model_directory=repository)
        with started_cluster(config) as cluster, _connected(cluster.address) as channel:
            report = _throughput(channel, texts)
            report |= asyncio.run(_through_triton(cluster, repository, texts, options.queries))
            report |= _many_clients(channel, cluster.triton_address, texts, options.queries)
    print(json.dumps(report, indent=2))


def _texts(data: Path | None, count: int) -> list[str]:
    if data is None:
        documents = standard_library()
        return [f"{each.title} {each.text}" for each in documents][:count]
    paths = (data / "scifact" / "corpus.jsonl.gz", data / "scale" / "enwiki.jsonl.gz")
    halves = [itertools.islice(read_documents(path), count // 2) for path in paths]
    texts = [f"{line.document.title} {line.document.text}" for half in halves for line in half]
    random.Random(0).shuffle(texts)
    return texts


def _repository(target: Path) -> Path:
    """The project's exported models, and the bi-encoder in int8 beside them."""
    for name in (FP32, "cross_encoder"):
        shutil.copytree(MODEL_REPOSITORY / name, target / name)
    export_directory(target, packaged_minilm(), name=INT8, precision="int8")
    return target


def _throughput(channel: grpc.Channel, texts: Sequence[str]) -> dict[str, Any]:
    """Tokens per second of the library and through the gateway, each window by each in turn."""
    torch.set_num_threads(THREADS)
    library = SentenceTransformer(str(packaged_minilm()), device="cpu")
    ways: dict[str, Callable[[Sequence[str]], object]] = {
        "sentence_transformers": lambda window: library.encode(window, show_progress_bar=False),
        "fp32": lambda window: _embed(channel, FP32, window),
        "int8": lambda window: _embed(channel, INT8, window),
    }
    seconds = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way(texts[:TEXTS_PER_CALL])
    for number, start in enumerate(range(0, len(texts), WINDOW)):
        window = texts[start : start + WINDOW]
        for name in sorted(ways, reverse=bool(number % 2)):
            seconds[name] += _timed(ways[name], window)
    tokens = sum(map(len, library.tokenizer(list(texts), truncation=True)["input_ids"]))
    speed = {name: tokens / taken for name, taken in seconds.items()}
    return {
        "texts": len(texts),
        "tokens": tokens,
        "tokens_per_second": {name: round(value) for name, value in speed.items()},
        "fp32_to_library": round(speed["fp32"] / speed["sentence_transformers"], 3),
        "int8_to_library": round(speed["int8"] / speed["sentence_transformers"], 3),
    }


def _embed(channel: grpc.Channel, model: str, texts: Sequence[str]) -> None:
    """All texts through InferenceService.Embed, a few calls at once."""
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    requests = [
        inference_pb2.EmbedRequest(
            texts=texts[start : start + TEXTS_PER_CALL],
            kind=inference_pb2.EMBED_KIND_DOCUMENT,
            encoder=collection_pb2.ModelVersion(model=model),
        )
        for start in range(0, len(texts), TEXTS_PER_CALL)
    ]
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        replies = pool.map(lambda request: stub.Embed(request, timeout=SECONDS), requests)
        assert sum(len(reply.embeddings) for reply in replies) == len(texts)


async def _through_triton(
    cluster: Cluster, repository: Path, texts: Sequence[str], queries: int
) -> dict[str, Any]:
    """Single queries against the bare model, and the padding of reranked passages."""
    torch.set_num_threads(1)
    client = Counting.create(cluster.triton_address)
    found: dict[str, Any] = {}
    for model in (FP32, INT8):
        encoder = await Encoder.create(client, model, "", repository, Deadline.after(SECONDS))
        bare: Any = torch.jit.load(str(repository / model / "1" / "model.pt"))  # type: ignore[no-untyped-call]
        rows = [await _one_query(encoder, bare, text) for text in _queries(texts, queries)]
        through, alone = np.median(rows[len(rows) // 10 :], axis=0)
        found[f"query_{model}"] = {
            "p50_ms": round(float(through), 2),
            "bare_p50_ms": round(float(alone), 2),
            "ratio": round(float(through / alone), 3),
        }
    cross = await CrossEncoder.create(
        client, "cross_encoder", "", repository, Deadline.after(SECONDS)
    )
    client.padded = client.real = 0
    ids = [tokens.ids for tokens in cross.tokenizer.encode_batch(texts[: PASSAGES * 20])]
    for start in range(0, len(ids) - PASSAGES + 1, PASSAGES):
        await cross.score(
            ids[start][:10],
            ids[start : start + PASSAGES],
            Deadline.after(SECONDS),
            max_length=cross.info.recommended_length,
        )
    found["rerank_padding"] = round(client.padded / client.real, 4)
    await client.stop(0)
    return found


async def _one_query(encoder: Encoder, bare: Any, text: str) -> tuple[float, float]:
    """Milliseconds through Triton, and of the model alone over the same tensors."""
    ids = encoder.tokenizer.encode(text).ids
    started = time.perf_counter()
    await encoder.encode([ids], Deadline.after(SECONDS), priority=1)
    through = time.perf_counter() - started
    length = padded_length(len(ids) + encoder.tokenizer.single.count, encoder.info.max_length)
    tensor: NDArray[np.int64] = np.full((1, length), 100, dtype=np.int64)
    tensor[0, : len(ids)] = ids
    with torch.inference_mode():
        inputs = torch.from_numpy(tensor), torch.ones((1, length), dtype=torch.int64)
        return through * 1000, _timed(bare, *inputs) * 1000


def _many_clients(
    channel: grpc.Channel, triton_address: str, texts: Sequence[str], queries: int
) -> dict[str, Any]:
    """Queries per second of one client and of many, and how many queries ran as one batch."""
    stub = inference_pb2_grpc.InferenceServiceStub(channel)

    def ask(text: str) -> None:
        request = inference_pb2.EmbedRequest(texts=[text], kind=inference_pb2.EMBED_KIND_QUERY)
        while True:
            try:
                stub.Embed(request, timeout=SECONDS)
            except grpc.RpcError as error:
                if reason_of(error) != "OVERLOADED":
                    raise
                time.sleep(AGAIN_SECONDS)
            else:
                return

    def run(clients: int, asked: Sequence[str]) -> float:
        with ThreadPoolExecutor(clients) as pool:
            return len(asked) / _timed(lambda: list(pool.map(ask, asked)))

    with _connected(triton_address) as triton:
        # Each text once, since the gateway remembers.
        one = run(1, [f"one {text}" for text in _queries(texts, queries)])
        before = _counts(triton)
        many = run(CLIENTS, [f"many {text}" for text in _queries(texts, queries * 4)])
        rows, executions = (
            after - start for after, start in zip(_counts(triton), before, strict=True)
        )
    return {
        "queries_per_second_1": round(one, 1),
        f"queries_per_second_{CLIENTS}": round(many, 1),
        "many_to_one": round(many / one, 3),
        "mean_batch": round(rows / executions, 2),
    }


def _counts(triton: grpc.Channel) -> tuple[int, int]:
    """Rows and executions of the bi-encoder so far."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(triton)
    reply = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=FP32))
    return int(reply.model_stats[0].inference_count), int(reply.model_stats[0].execution_count)


def _queries(texts: Sequence[str], count: int) -> list[str]:
    """Nine words of each text, at another place each time round."""
    words = [text.split() for text in texts]
    rounds = range(count // len(texts) + 1)
    chosen = (each[9 * n : 9 * n + 9] for n in rounds for each in words)
    return [" ".join(part) or "nothing" for part in itertools.islice(chosen, count)]


def _timed(call: Callable[..., object], *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def _connected(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS))


if __name__ == "__main__":
    main()
