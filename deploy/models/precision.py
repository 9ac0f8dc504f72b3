"""A module in lower precision. It still takes INT64 and gives FP32.

fp16 and bf16 are for GPUs: a CPU runs them, but slower than fp32. int8 is for CPUs, its kernels
exist nowhere else: linear layers multiply in 8 bits, the rest stays FP32. Weights have a scale per
output channel. A layer's input has one fixed scale, measured at export, so that a text's numbers do
not depend on the texts it is batched with, as they would with scales found anew in each call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized.modules.linear import LinearPackedParams

from core.errors import BadEnvironment
from deploy.models.bi_encoder import BiEncoder
from deploy.models.tracing import Signature, example

_HALVES: Mapping[str, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
# A layer this narrow gives scores, whose rounding nothing behind it evens out, and costs nothing.
_NARROW = 16
# x86 without VNNI adds two products in 16 bits: 2 * 255 * 63 fits. Inputs need the eighth bit more
# than weights do.
_INPUT_STEPS = 255
_WEIGHT_STEPS = 63
_MEASURED_LENGTHS = (5, 9, 16, 33, 64, 100, 128, 200)
_SMALLEST = 1e-8

Range = tuple[float, float]


def lower(module: nn.Module, precision: str, signature: Signature) -> nn.Module:
    """Turns an FP32 `module` into `precision`, in place; what follows a pooling stays FP32."""
    if precision == "int8":
        return _quantize(module, signature)
    if precision in _HALVES:
        (module.trunk if isinstance(module, BiEncoder) else module).to(_HALVES[precision])
    return module


class Int8Linear(nn.Module):
    """A linear layer in 8 bits whose input is expected between `low` and `high`."""

    def __init__(self, linear: nn.Linear, low: float, high: float) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, 0.0)
        self.scale = max((high - low) / _INPUT_STEPS, _SMALLEST)
        self.zero_point = min(round(-low / self.scale), _INPUT_STEPS)
        weight = linear.weight.detach()
        scales = (weight.abs().amax(dim=1) / _WEIGHT_STEPS).clamp(min=_SMALLEST).double()
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = LinearPackedParams(dtype=torch.qint8)  # type: ignore[no-untyped-call]
        self.packed.set_weight_bias(quantized, linear.bias)

    def forward(self, values: Tensor) -> Tensor:
        """FP32 [..., in] to FP32 [..., out]."""
        result: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            values, self.scale, self.zero_point, self.packed._packed_params
        )
        return result


def _quantize(module: nn.Module, signature: Signature) -> nn.Module:
    if torch.backends.quantized.engine not in ("x86", "fbgemm"):
        raise BadEnvironment(
            "PyTorch has no int8 kernels with scales per channel for this processor",
            field="precision",
            remedy="export int8 on x86-64, or choose another precision",
        )
    inner = module.trunk if isinstance(module, BiEncoder) else module
    layers = {
        name: layer
        for name, layer in inner.named_modules()
        if type(layer) is nn.Linear and layer.out_features >= _NARROW
    }
    ranges = _measured_ranges(module, layers, signature)
    with _quiet_quantization():
        for name, (low, high) in ranges.items():
            parent, _, own = name.rpartition(".")
            setattr(inner.get_submodule(parent), own, Int8Linear(layers[name], low, high))
    return module


def _measured_ranges(
    module: nn.Module, layers: Mapping[str, nn.Linear], signature: Signature
) -> dict[str, Range]:
    """The lowest and highest input of each layer that runs, over texts of random tokens.

    Layer norms fix the ranges far more than the text does: on all-MiniLM-L6-v2 random tokens served
    as well as sentences. A layer that these texts never reach is left out.
    """
    seen: dict[str, list[Range]] = {}
    with torch.inference_mode(), _watched(layers, seen):
        for tokens in _MEASURED_LENGTHS:
            module(*example(signature, 1, tokens))
    return {name: _widest(found) for name, found in seen.items()}


@contextmanager
def _watched(layers: Mapping[str, nn.Linear], seen: dict[str, list[Range]]) -> Iterator[None]:
    def watch(name: str, values: Tensor) -> None:
        seen.setdefault(name, []).append((float(values.min()), float(values.max())))

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: watch(name, inputs[0]))
        for name, layer in layers.items()
    ]
    yield
    for hook in hooks:
        hook.remove()


def _widest(found: list[Range]) -> Range:
    lows, highs = zip(*found, strict=True)
    return min(lows), max(highs)


@contextmanager
def _quiet_quantization() -> Iterator[None]:
    # Deprecated for a package whose models cannot be served through TorchScript.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
