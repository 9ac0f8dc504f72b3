"""One model in a Triton of its own, measured with one batching setting after another.

Each setting is written into a copy of its config.pbtxt, and the model is loaded anew. Clients
in a closed loop then ask for one text at a time, as the gateway does for queries.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from core.deadline import Deadline
from core.errors import BadEnvironment
from core.triton import QUERY_PRIORITY, TritonClient
from deploy.load.choice import Measured, Setting
from deploy.load.tally import Histogram
from deploy.local.children import Children
from deploy.local.control import TritonControl
from deploy.local.ports import free_ports
from deploy.local.triton import TritonConfig, TritonServer

_LOAD_SECONDS = 120.0
_CALL_SECONDS = 30.0
_WARM_UP_SECONDS = 0.5

OnMeasured = Callable[[Measured], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What clients send: `rows` texts of `tokens` tokens at a time, for `seconds` per setting."""

    clients: tuple[int, ...] = (1, 8)
    rows: int = 1
    tokens: int = 16
    seconds: float = 5.0


def current_setting(repository: Path, model: str) -> Setting:
    """As config.pbtxt has it; raises BadEnvironment if there is no such model."""
    config = _read(repository / model / "config.pbtxt")
    delay = config.dynamic_batching.max_queue_delay_microseconds
    return Setting(int(config.max_batch_size), int(delay))


def with_setting(config: str, setting: Setting) -> str:
    """The text of a config.pbtxt with other batching; warm-up keeps within the batch."""
    changed = text_format.Parse(config, model_config_pb2.ModelConfig())
    changed.max_batch_size = setting.batch
    changed.dynamic_batching.max_queue_delay_microseconds = setting.delay_us
    changed.dynamic_batching.ClearField("preferred_batch_size")
    for warm_up in changed.model_warmup:
        warm_up.batch_size = min(warm_up.batch_size, setting.batch)
    return str(text_format.MessageToString(changed))


async def sweep(
    repository: Path,
    model: str,
    settings: Sequence[Setting],
    work: Work,
    *,
    state: Path,
    on_measured: OnMeasured = lambda _: None,
) -> list[Measured]:
    """Figures per setting and number of clients; `state` is an empty directory.

    Raises BadEnvironment if Triton is not on this machine or there is no such model, and what a
    call to Triton raises.
    """
    original = repository / model / "config.pbtxt"
    _read(original)
    shutil.copytree(repository / model, state / "models" / model)
    found: list[Measured] = []
    async with _triton(state) as address:
        for setting in settings:
            changed = with_setting(original.read_text(encoding="utf-8"), setting)
            (state / "models" / model / "config.pbtxt").write_text(changed, encoding="utf-8")
            await _load(address, model)
            for clients in work.clients:
                found.append(await _measure(address, model, setting, work, clients))
                on_measured(found[-1])
    return found


@asynccontextmanager
async def _triton(state: Path) -> AsyncIterator[str]:
    """The address of a Triton over the models below `state`."""
    grpc_port, metrics_port = free_ports(2, "127.0.0.1")
    config = TritonConfig(
        state / "models", state / "triton", grpc_port, metrics_port, state / "triton.log"
    )
    async with AsyncExitStack() as stack:
        children = await Children.create()
        stack.push_async_callback(children.stop)
        server = TritonServer.create(config, children)
        stack.push_async_callback(server.stop, 10.0)
        await server.start()
        yield config.address


async def _load(address: str, model: str) -> None:
    control = TritonControl.create(address)
    try:
        await control.load(model, Deadline.after(_LOAD_SECONDS))
    finally:
        await control.stop()


async def _measure(
    address: str, model: str, setting: Setting, work: Work, clients: int
) -> Measured:
    client = TritonClient.create(address, max_in_flight=clients)
    try:
        info = await client.model_info(model, "", Deadline.after(_CALL_SECONDS))
        ids = np.ones((min(work.rows, setting.batch), work.tokens), dtype=np.int64)

        async def ask() -> None:
            deadline = Deadline.after(_CALL_SECONDS)
            inputs = [ids] * info.input_count
            await client.infer(model, info.version, inputs, deadline, priority=QUERY_PRIORITY)

        await _closed_loop(ask, clients, _WARM_UP_SECONDS)
        texts_before, batches_before = await _counted(address, model)
        times, seconds = await _closed_loop(ask, clients, work.seconds)
        texts, batches = await _counted(address, model)
    finally:
        await client.stop(0)
    per_second = len(times) * len(ids) / seconds
    per_batch = (texts - texts_before) / max(1, batches - batches_before)
    p50, p99 = times.percentile(50), times.percentile(99)
    if p50 is None or p99 is None:
        raise BadEnvironment("must be longer", field="seconds")
    return Measured(setting, clients, per_second, p50, p99, per_batch)


async def _closed_loop(ask: Any, clients: int, seconds: float) -> tuple[Histogram, float]:
    """Each client asks again as soon as it is answered; returns times and what it took in all."""
    times, started = Histogram(), time.perf_counter()

    async def client() -> None:
        while (sent := time.perf_counter()) - started < seconds:
            await ask()
            times.record(time.perf_counter() - sent)

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, time.perf_counter() - started


async def _counted(address: str, model: str) -> tuple[int, int]:
    """Texts and batches that Triton has run so far: it counts both a moment after it answered."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelStatisticsRequest(name=model)
        reply = await stub.ModelStatistics(request, timeout=_CALL_SECONDS)
        stats = reply.model_stats
        return sum(s.inference_count for s in stats), sum(s.execution_count for s in stats)


def _read(path: Path) -> Any:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except OSError as error:
        raise BadEnvironment(
            "cannot be read", field=str(path), remedy="see `trireme models list`"
        ) from error
