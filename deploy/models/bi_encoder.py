"""A sentence encoder as one module: transformer, pooling, and what follows them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from deploy.models.model_files import UnsupportedModel
from deploy.models.modules import Step, activation_of
from deploy.models.packing import PackedTrunk
from deploy.models.pooling import pool
from deploy.models.pretrained import load_transformer
from deploy.models.sentence_model import SentenceModel


class BiEncoder(nn.Module):
    """Token ids of texts to one vector each. Only the trunk may be of lower precision."""

    def __init__(
        self,
        trunk: nn.Module,
        modes: tuple[str, ...],
        *,
        on_tokens: Iterable[nn.Module] = (),
        on_vectors: Iterable[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.modes = modes
        self.on_tokens = nn.Sequential(*on_tokens)
        self.on_vectors = nn.Sequential(*on_vectors)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pooling_mask: Tensor | None = None
    ) -> Tensor:
        """All inputs INT64 [batch, tokens]; `pooling_mask` is 1 for tokens that are pooled.

        Returns FP32 [batch, dimension].
        """
        states = self.trunk(input_ids=input_ids, attention_mask=attention_mask)[0]
        pooled = attention_mask if pooling_mask is None else pooling_mask
        vectors = pool(self.on_tokens(states.float()), attention_mask, pooled, self.modes)
        encoded: Tensor = self.on_vectors(vectors)
        return encoded


class Dense(nn.Module):
    """A linear layer, its activation and, where the model has one, its residual connection."""

    def __init__(
        self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation
        self.residual = residual

    def forward(self, values: Tensor) -> Tensor:
        """FP32 [..., in] to FP32 [..., out]."""
        result: Tensor = self.activation(self.linear(values))
        return result if self.residual is None else result + self.residual(values)


class Normalize(nn.Module):
    """Length 1 along the last dimension."""

    def forward(self, values: Tensor) -> Tensor:
        """FP32 [..., width], and so again."""
        return functional.normalize(values, p=2.0, dim=-1)


def load_bi_encoder(model: SentenceModel) -> BiEncoder:
    """The eager module in evaluation mode, FP32, from local files only."""
    trunk = load_transformer(model.trunk)
    return BiEncoder(
        PackedTrunk(trunk) if model.trunk.packs else trunk,
        model.pooling.modes,
        on_tokens=[_module(step) for step in model.token_steps],
        on_vectors=[_module(step) for step in model.vector_steps],
    ).eval()


def _module(step: Step) -> nn.Module:
    if step.kind == "Dense":
        return _dense(step)
    if step.kind == "LayerNorm":
        norm = nn.LayerNorm(int(step.settings["dimension"]))
        return _filled(nn.ModuleDict({"norm": norm}), step)["norm"]
    return Normalize() if step.kind == "Normalize" else nn.Identity()


def _dense(step: Step) -> Dense:
    width, out = int(step.settings["in_features"]), int(step.settings["out_features"])
    parts = nn.ModuleDict({"linear": nn.Linear(width, out, step.settings.get("bias", True))})
    residual: nn.Module | None = nn.Identity() if step.settings.get("use_residual") else None
    if residual is not None and width != out:
        residual = parts["residual"] = nn.Linear(width, out, bias=False)
    _filled(parts, step)
    linear = parts["linear"]
    assert isinstance(linear, nn.Linear)
    return Dense(linear, getattr(torch.nn, activation_of(step))(), residual)


def _filled(parts: nn.ModuleDict, step: Step) -> nn.ModuleDict:
    """`parts` with the weights that the module's directory holds."""
    try:
        path = next(iter(step.weights))
        safe = path.suffix == ".safetensors"
        values = load_file(path) if safe else torch.load(path, weights_only=True)
        parts.load_state_dict({name: value.float() for name, value in values.items()})
    except Exception as error:  # missing, damaged, or of another shape
        raise UnsupportedModel(
            f"the weights of its module {step.kind} do not fit: {error!r}",
            field=str(step.directory),
        ) from error
    return parts
