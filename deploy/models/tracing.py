"""An eager module to TorchScript bytes that hold for every batch size, length and device."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deploy.models.model_files import UnsupportedModel

TOLERANCE = 1e-4
_EXAMPLE_SHAPE = (2, 9)
_CHECKED_SHAPES = ((1, 1), (1, 7), (3, 16), (5, 33), (2, 150))

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a module takes: its `inputs` by name, ids below `vocabulary`, and how many of them.

    `comparable` turns an output into one in which a tiny error is a tiny difference.
    """

    inputs: Sequence[str]
    vocabulary: int
    max_length: int
    min_length: int = 1
    pad_id: int = 0
    comparable: Callable[[Tensor], Tensor] = torch.clone


def trace(module: nn.Module, signature: Signature, extra: Mapping[str, str]) -> bytes:
    """TorchScript of `module` with `extra` files in its archive.

    Raises UnsupportedModel if `module` cannot be traced, if it gives numbers that are not finite,
    or if it and its trace differ by more than TOLERANCE for any checked shape.
    """
    name = type(getattr(module, "trunk", module)).__name__
    try:
        with torch.inference_mode(), _quiet_torchscript():
            content = _traced(module, signature, extra)
            difference = worst_difference(module, load(content), signature)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [""])[-1]
        raise UnsupportedModel(f"cannot trace {name}: {reason}") from error
    if difference != difference:
        raise UnsupportedModel(
            f"{name} gives numbers that are not finite",
            remedy="look at its weights, or choose a precision with more range",
        )
    if difference > TOLERANCE:
        raise UnsupportedModel(f"the trace of {name} is off by {difference:.2g} for other shapes")
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


def worst_difference(module: nn.Module, traced: Any, signature: Signature) -> float:
    """The largest absolute difference of outputs over several batch sizes and lengths.

    NaN if any output of the module itself is not finite.
    """
    worst = 0.0
    for rows, tokens in _CHECKED_SHAPES:
        tensors = example(signature, rows, tokens)
        expected = signature.comparable(module(*tensors))
        if not expected.isfinite().all():
            return float("nan")
        difference = (expected - signature.comparable(traced(*tensors))).abs().max()
        worst = max(worst, float(difference.nan_to_num(nan=torch.inf)))
    return worst


def example(signature: Signature, rows: int, tokens: int) -> Tensors:
    """Random ids whose rows are padded by 0, 1, 2, ... tokens, and the inputs that go with them.

    The second half of a text has type 1, the first two tokens of long ones are not pooled.
    """
    tokens = min(max(tokens, signature.min_length), signature.max_length)
    generator = torch.Generator().manual_seed(rows * 1000 + tokens)
    ids = torch.randint(1, signature.vocabulary, (rows, tokens), generator=generator)
    lengths = (tokens - torch.arange(rows)).clamp(min=1).unsqueeze(1)
    positions = torch.arange(tokens).unsqueeze(0)
    mask = (positions < lengths).long()
    tensors = {
        "ids": torch.where(mask == 1, ids, signature.pad_id),
        "mask": mask,
        "types": (positions >= tokens // 2).long() * mask,
        "pooling_mask": mask * ((positions >= 2) | (lengths <= 2)).long(),
    }
    return tuple(tensors[name] for name in signature.inputs)


def _traced(module: nn.Module, signature: Signature, extra: Mapping[str, str]) -> bytes:
    traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
        module, example(signature, *_EXAMPLE_SHAPE), check_trace=False
    )
    follow_the_input_device(traced)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files=dict(extra))
    return buffer.getvalue()


@contextmanager
def _quiet_torchscript() -> Iterator[None]:
    # TorchScript is deprecated, yet still what Triton serves; generality is checked, not guessed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)
        yield
