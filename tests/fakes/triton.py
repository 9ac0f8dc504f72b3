"""A Triton that speaks KServe v2 over real gRPC, answers by arithmetic and fails on demand.

In a test: `async with FakeTriton() as fake: TritonClient.create(fake.address)`. As a process:
`python -m tests.fakes.triton --address 127.0.0.1:0 --address-file F --fault-file G`, where G holds
a fault, or lines of model and fault, and is read again before each inference.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self, get_args

import grpc
import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from core.model_info import INPUTS
from tests.fakes import models
from tests.fakes.models import MODELS, FakeModel, write_fake_models

Fault = Literal[
    "ok", "slow", "hang", "stopped", "unhealthy", "queue_full", "wrong_shape", "nan", "half"
]
"""`slow` answers after `slow_seconds`, `hang` leaves inferences unanswered, `stopped`, of every
model, also whether the server is live. `unhealthy` is a model whose process died, `half` returns
half of the bytes that the shape promises."""

FAULTS: tuple[Fault, ...] = get_args(Fault)
MAX_BATCH_SIZE = 64


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves the fake models in the given versions; each version embeds differently.

    A text that holds the word `poison` fails its whole request. `inferences` and `rows` count what
    each model did, `told` holds each inference's model, request id and traceparent. `versions` are
    those in its repository: ones added later are served once the model is loaded again, and then
    each of `broken` refuses to load.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:0",
        *,
        served: tuple[FakeModel, ...] = MODELS,
        versions: tuple[str, ...] = ("1",),
        poison: str = "",
        fault_file: Path | None = None,
    ) -> None:
        self.address = address
        self.served = served
        self.versions = versions
        self.broken: set[str] = set()
        self.slow_seconds = 0.2
        self._loaded = {model.name: versions for model in served}
        self.inferences: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.told: list[tuple[str, str, str]] = []
        self._faults: dict[str, tuple[Fault, int]] = {}
        self._fault_file = fault_file
        self._poison = models.words_of_text(poison)
        self._directory = tempfile.TemporaryDirectory(prefix="fake-models-")
        self.model_directory = write_fake_models(Path(self._directory.name))
        self._server: grpc.aio.Server | None = None

    def set_poison(self, text: str) -> None:
        """From now on a text that holds one of these words fails its whole request."""
        self._poison = models.words_of_text(text)

    def set_fault(self, fault: Fault, model: str = "", *, times: int = -1) -> None:
        """From now on inferences of `model` ("": of every model) meet `fault`, `times` of them."""
        if not model:
            self._faults.clear()
        self._faults[model] = (fault, times)

    async def start(self) -> None:
        """Listens; `address` then holds the real port."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        port = server.add_insecure_port(self.address)
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stops at once, calls in flight included; `start` brings it back on the same port."""
        if self._server is not None:
            await self._server.stop(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
        self._directory.cleanup()

    # The names below are KServe's.

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._faults.get("", ("ok", -1))[0] == "stopped":
            await asyncio.Event().wait()
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._find(request.name, request.version, context)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._find(request.name, request.version, context)
        return service_pb2.ModelMetadataResponse(
            name=request.name, versions=self._loaded[request.name], platform="fake"
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        model, version = await self._find(request.name, request.version, context)
        return service_pb2.ModelConfigResponse(config=_config(model, version))

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        reply = service_pb2.RepositoryIndexResponse()
        for name, versions in self._loaded.items():
            for version in self.versions:
                ready = version in versions
                reply.models.add(
                    name=name,
                    version=version,
                    state="READY" if ready else "UNAVAILABLE",
                    reason="" if ready else "unloaded",
                )
        return reply

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        name, config = request.model_name, model_config_pb2.ModelConfig()
        if name not in self._loaded:
            detail = f"failed to load '{name}', failed to poll from model repository"
            await context.abort(grpc.StatusCode.INTERNAL, detail)
        json_format.Parse(request.parameters["config"].string_param or "{}", config)
        wanted = [str(version) for version in config.version_policy.specific.versions]
        if broken := self.broken & set(self.versions):
            detail = (
                f"load failed for model '{name}': version {min(broken)} is at UNAVAILABLE state"
            )
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, detail)
        self._loaded[name] = tuple(wanted) or self.versions
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._loaded[request.model_name] = ()
        return service_pb2.RepositoryModelUnloadResponse()

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelStatisticsResponse(
            model_stats=[
                service_pb2.ModelStatistics(
                    name=model.name,
                    version=self.versions[-1],
                    inference_count=self.rows[model.name],
                    execution_count=self.inferences[model.name],
                )
                for model in self.served
            ]
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        model, version = await self._find(request.model_name, request.model_version, context)
        fault = self._next_fault(model.name)
        await self._refuse(model, request, fault, context)
        inputs = [
            np.frombuffer(content, dtype=np.int64).reshape(tuple(tensor.shape))
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        ]
        if self._poison and any(self._is_poisoned(row) for row in inputs[0]):
            await context.abort(grpc.StatusCode.INTERNAL, "the model failed on a poisonous text")
        self.inferences[model.name] += 1
        self.rows[model.name] += len(inputs[0])
        headers = dict(context.invocation_metadata())
        self.told.append((model.name, request.id, headers.get("traceparent", "")))
        return _response(model, version, self.answer(model, version, inputs), fault)

    def answer(
        self, model: FakeModel, version: str, inputs: list[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """A model's output, float32 [n, width], for its inputs, int64 [n, length] each."""
        return _output(model, version, inputs)

    async def _refuse(self, model: FakeModel, request: Any, fault: Fault, context: Any) -> None:
        """Aborts, or waits, where the request or the fault asks for that."""
        if len(request.inputs) != model.input_count:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"expected {model.input_count} inputs but got {len(request.inputs)} inputs",
            )
        if request.inputs[0].shape[0] > MAX_BATCH_SIZE:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"inference request batch-size must be <= {MAX_BATCH_SIZE} for '{model.name}'",
            )
        if fault == "slow":
            await asyncio.sleep(self.slow_seconds)
        if fault in ("hang", "stopped"):
            await asyncio.Event().wait()
        if fault == "unhealthy":
            await context.abort(
                grpc.StatusCode.INTERNAL, f"Stub process '{model.name}_0_0' is not healthy."
            )
        if fault == "queue_full":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    async def _find(self, name: str, version: str, context: Any) -> tuple[FakeModel, str]:
        for model in self.served:
            served = self._loaded[model.name] if model.name == name else ()
            if served and (not version or version in served):
                return model, version or max(served, key=int)
        detail = f"Request for unknown model: '{name}' version {version or -1} is not found"
        await context.abort(grpc.StatusCode.NOT_FOUND, detail)
        raise AssertionError("abort returned")

    def _is_poisoned(self, ids: NDArray[np.int64]) -> bool:
        return not set(self._poison).isdisjoint(models.words_of(ids))

    def _next_fault(self, model: str) -> Fault:
        if self._fault_file is not None:
            return _read_fault(self._fault_file, model)
        key = model if model in self._faults else ""
        fault, times = self._faults.get(key, ("ok", -1))
        if times == 0:
            return "ok"
        self._faults[key] = (fault, times - 1)
        return fault


def _read_fault(path: Path, model: str) -> Fault:
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    named = [words[-1] for words in lines if words and words[0] in (model, words[-1])]
    found = named[-1] if named else "ok"
    return next(fault for fault in FAULTS if fault == found)


def _output(model: FakeModel, version: str, inputs: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    if model.kind == "bi_encoder":
        return models.embed(inputs[0], inputs[1], version, normalize=model.normalize)
    if model.kind == "sparse_encoder":
        return models.weigh(inputs[0], inputs[1], version)
    judge = models.score if model.dimension == 1 else models.judge
    return judge(inputs[0], inputs[1], inputs[2])


def _config(model: FakeModel, version: str) -> Any:
    config = model_config_pb2.ModelConfig(
        name=model.name, backend="pytorch", max_batch_size=MAX_BATCH_SIZE
    )
    for number in range(model.input_count):
        kind = model_config_pb2.TYPE_INT64
        config.input.add(name=f"INPUT__{number}", data_type=kind, dims=[-1])
    sparse = model.kind == "sparse_encoder"
    config.output.add(
        name="OUTPUT__0",
        data_type=model_config_pb2.TYPE_FP32,
        dims=[2 * models.TOP_TERMS if sparse else model.dimension],
    )
    parameters = {
        "kind": model.kind,
        "dimension": str(model.dimension),
        "max_length": str(model.max_length),
        "similarity": model.similarity,
        "fingerprint": f"fake-{model.name}-{version}",
        "tokenizer_sha256": hashlib.sha256(models.tokenizer_bytes()).hexdigest(),
        "query_prompt": "",
        "document_prompt": "",
        "inputs": ",".join(INPUTS[: model.input_count]),
        "normalize": "true" if model.normalize else "",
        "precision": "fp32",
        "top_terms": str(models.TOP_TERMS),
        **dict(model.parameters),
    }
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    return config


def _response(model: FakeModel, version: str, output: NDArray[np.float32], fault: Fault) -> Any:
    if fault == "nan":
        output[-1, 0] = np.nan
    if fault == "wrong_shape":
        output = np.concatenate([output, output], axis=1)
    content = output.tobytes()
    response = service_pb2.ModelInferResponse(model_name=model.name, model_version=version)
    response.outputs.add(name="OUTPUT__0", datatype="FP32", shape=output.shape)
    kept = len(content) // 2 if fault == "half" else len(content)
    response.raw_output_contents.append(content[:kept])
    return response


async def _serve(address: str, address_file: Path | None, fault_file: Path | None) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with FakeTriton(address, fault_file=fault_file) as fake:
        if address_file is not None:
            temporary = address_file.with_suffix(".new")
            temporary.write_text(fake.address)
            os.replace(temporary, address_file)
        await stopped.wait()


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:0")
    parser.add_argument("--address-file", type=Path)
    parser.add_argument("--fault-file", type=Path)
    options = parser.parse_args()
    asyncio.run(_serve(options.address, options.address_file, options.fault_file))


if __name__ == "__main__":
    main()
