"""An eager module to TorchScript bytes that hold for every batch size, length and device."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import BadModelOutput

TOLERANCE = 1e-4
_EXAMPLE_SHAPE = (2, 9)
_CHECKED_SHAPES = ((1, 1), (1, 7), (3, 16), (5, 33), (2, 128))


def trace(module: nn.Module, inputs: int, vocabulary: int, extra: Mapping[str, str]) -> bytes:
    """TorchScript of `module` with `extra` files in its archive.

    The module takes `inputs` INT64 tensors [batch, tokens]: ids below `vocabulary`, a mask and
    token types. Raises BadModelOutput if the trace and the module differ by more than TOLERANCE
    for any checked shape.
    """
    with torch.inference_mode(), _quiet_torchscript():
        traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, example(inputs, vocabulary, *_EXAMPLE_SHAPE), check_trace=False
        )
        follow_the_input_device(traced)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files=dict(extra))
    content = buffer.getvalue()
    difference = worst_difference(module, load(content), inputs, vocabulary)
    if not difference <= TOLERANCE:
        raise BadModelOutput(
            f"the trace of {type(module).__name__} is off by {difference:.2g} for other shapes"
        )
    return content


def load(content: bytes) -> Any:
    """The TorchScript module in `content`, on the CPU."""
    with _quiet_torchscript():
        return torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]


def follow_the_input_device(traced: Any) -> None:
    """Replace devices frozen into the graph by the device of the first input, in place.

    Tensors that the module makes itself (positions, masks) would else stay on the CPU that traced
    it, and fail beside weights on a GPU.
    """
    graph = traced.graph
    torch._C._jit_pass_inline(graph)
    first_input = list(graph.inputs())[1]
    device = graph.create("prim::device", [first_input], 1)
    graph.prependNode(device)
    device.output().setType(torch._C.DeviceObjType.get())
    for node in frozen_devices(graph):
        node.output().replaceAllUsesWith(device.output())
    torch._C._jit_pass_dce(graph)


def frozen_devices(graph: Any) -> list[Any]:
    """The constants of `graph` that name a device."""
    constants = graph.findAllNodes("prim::Constant")
    return [node for node in constants if str(node.output().type()) == "Device"]


def worst_difference(module: nn.Module, traced: Any, inputs: int, vocabulary: int) -> float:
    """The largest absolute difference of outputs over several batch sizes and lengths."""
    differences = []
    with torch.inference_mode():
        for shape in _CHECKED_SHAPES:
            tensors = example(inputs, vocabulary, *shape)
            differences.append((module(*tensors) - traced(*tensors)).abs().max())
    return float(torch.stack(differences).max())


def example(inputs: int, vocabulary: int, batch: int, tokens: int) -> tuple[Tensor, ...]:
    """Random ids, a mask whose rows are padded by 0, 1, 2, ... tokens, types 0 then 1."""
    generator = torch.Generator().manual_seed(batch * 1000 + tokens)
    ids = torch.randint(1, vocabulary, (batch, tokens), generator=generator)
    lengths = (tokens - torch.arange(batch)).clamp(min=1).unsqueeze(1)
    positions = torch.arange(tokens).unsqueeze(0)
    mask = (positions < lengths).long()
    types = (positions >= tokens // 2).long() * mask
    return (ids * mask, mask, types)[:inputs]


@contextmanager
def _quiet_torchscript() -> Iterator[None]:
    # TorchScript is deprecated, yet still what Triton serves; generality is checked, not guessed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)
        yield
