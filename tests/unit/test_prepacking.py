"""What the local Triton's backend makes of the linear layers of a traced module."""

from __future__ import annotations

import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deploy.models.tracing import follow_the_input_device, load

TOLERANCE = 1e-5
ROWS = torch.randn((2, 3, 8), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def prepack() -> Callable[[Any], None]:
    """The backend's function; Triton's own module is there only inside of Triton."""
    name = "triton_python_backend_utils"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, types.ModuleType(name))
        backend = importlib.import_module("deploy.local.backends.pytorch.model")
    function: Callable[[Any], None] = backend.prepack
    return function


class Layers(nn.Module):
    """Every kind of layer that comes up: followed by GELU, used twice, without a bias, tied."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)
        self.rest = nn.Linear(8, 8, bias=False)
        self.words = nn.Embedding(5, 8)
        self.vocabulary = nn.Linear(8, 5)
        self.vocabulary.weight = self.words.weight

    def forward(self, values: Tensor, ids: Tensor) -> Tensor:
        wide = self.wide(values)
        inner = nn.functional.gelu(self.narrow(nn.functional.gelu(wide, approximate="tanh")))
        result: Tensor = self.vocabulary(inner + self.rest(inner) + self.words(ids)) + wide.mean()
        return result


def served(module: nn.Module, *inputs: Tensor) -> Any:
    """What Triton would load."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced: Any = torch.jit.trace(module.eval(), inputs)  # type: ignore[no-untyped-call]
        follow_the_input_device(traced)
        torch.jit.save(traced, content)
    return load(content.getvalue())


def kinds(module: Any) -> list[str]:
    return [node.kind() for node in module.graph.nodes()]


def test_every_layer_is_prepacked_and_gives_the_same(prepack: Callable[[Any], None]) -> None:
    ids = torch.tensor([[0, 1, 2], [3, 4, 0]])
    layers = Layers()
    module = served(layers, ROWS, ids)

    with torch.inference_mode():
        expected = layers(ROWS, ids)

        prepack(module)
        found = module(ROWS, ids)
        fewer = module(ROWS[:1, :2], ids[:1, :2])

    assert kinds(module).count("mkldnn::_linear_pointwise") == 4
    assert "aten::linear" not in kinds(module)
    # That of a layer whose output something else uses too stays by itself.
    assert kinds(module).count("aten::gelu") == 1
    assert (found - expected).abs().max() < TOLERANCE
    assert fewer.shape == (1, 2, 5)


def test_only_weights_that_something_else_uses_are_kept_twice(
    prepack: Callable[[Any], None],
) -> None:
    module = served(Layers(), ROWS, torch.zeros((2, 3), dtype=torch.int64))

    prepack(module)

    assert [module.wide.weight.numel(), module.narrow.weight.numel()] == [0, 0]
    assert module.words.weight.numel() == 5 * 8


def test_a_layer_that_is_used_twice_is_laid_out_once(prepack: Callable[[Any], None]) -> None:
    layer = nn.Linear(8, 8)
    module = served(nn.Sequential(layer, layer), ROWS)
    with torch.inference_mode():
        expected = layer(layer(ROWS))

        prepack(module)

        assert (module(ROWS) - expected).abs().max() < TOLERANCE
    assert kinds(module).count("mkldnn::_linear_pointwise") == 2
    assert hasattr(module, "prepacked_0")
    assert not hasattr(module, "prepacked_1")


def test_other_precisions_stay_as_they_are(prepack: Callable[[Any], None]) -> None:
    module = served(nn.Linear(8, 4).bfloat16(), ROWS.bfloat16())

    prepack(module)

    assert "aten::linear" in kinds(module)
    assert torch.isfinite(module(ROWS.bfloat16())).all()
