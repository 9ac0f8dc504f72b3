"""What callers must know of a served model: the parameters of its config.pbtxt, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import ModelMismatch

KINDS = ("bi_encoder", "cross_encoder", "sparse_encoder")
INPUTS = ("ids", "mask", "types", "pooling_mask")
ACTIVATIONS = ("identity", "sigmoid", "softmax")
DEFAULT_TOP_TERMS = 256


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One version of a served model.

    `kind` is one of KINDS and decides what `dimension` is: the width of a vector, the number of
    labels (cross_encoder) or the vocabulary's size (sparse_encoder). Lengths count special tokens;
    `recommended_length` is what pairs are cut to when they are reranked. `similarity` is "cosine",
    "dot", "euclidean", "manhattan" or "". `inputs` are names out of INPUTS in the model's order.
    `normalize` says that vectors have length 1. A cross-encoder returns logits, to which its
    library would apply `activation`; `relevance_label` is the one of its `labels` that ranks. A
    sparse encoder gives each text's `top_terms` heaviest terms. `skips_padding` says that a batch
    costs no more than its tokens.
    """

    name: str
    version: str
    kind: str
    dimension: int
    max_length: int
    similarity: str
    fingerprint: str
    tokenizer_sha256: str
    query_prompt: str
    document_prompt: str
    max_batch_size: int
    inputs: tuple[str, ...] = ("ids", "mask")
    model_name: str = ""
    precision: str = "fp32"
    normalize: bool = False
    activation: str = "identity"
    labels: tuple[str, ...] = ()
    relevance_label: str = ""
    recommended_length: int = 0
    top_terms: int = 0
    skips_padding: bool = False

    @property
    def input_count(self) -> int:
        """How many tensors the model takes."""
        return len(self.inputs)

    @property
    def width(self) -> int:
        """Numbers per row of the model's output."""
        return 2 * self.top_terms if self.kind == "sparse_encoder" else self.dimension

    def prompt(self, *, query: bool) -> str:
        """What is put before a text."""
        return self.query_prompt if query else self.document_prompt


def model_info(config: Any, version: str) -> ModelInfo:
    """Reads one version's properties from Triton's ModelConfig message.

    A parameter `key@version` goes before the plain `key`. Raises ModelMismatch naming the model if
    it was not exported by us or says what we do not know.
    """
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    own = {
        name.removesuffix(f"@{version}"): value
        for name, value in parameters.items()
        if name.endswith(f"@{version}")
    }
    try:
        return _model_info(config, version, parameters | own)
    except (KeyError, ValueError) as error:
        raise ModelMismatch(
            f"its config.pbtxt lacks a usable parameter: {error}",
            field=config.name,
            remedy="export it with `trireme models export`",
        ) from error


def _model_info(config: Any, version: str, parameters: Mapping[str, str]) -> ModelInfo:
    kind = _one_of(KINDS, "kind", parameters["kind"])
    dimension = int(parameters["dimension"])
    max_length = int(parameters["max_length"])
    inputs = _list(parameters.get("inputs", "")) or INPUTS[: len(config.input)]
    if len(inputs) != len(config.input):
        raise ValueError(f"inputs names {len(inputs)}, the model takes {len(config.input)}")
    labels = _list(parameters.get("labels", ""))
    if labels and len(labels) != dimension:
        raise ValueError(f"labels names {len(labels)}, dimension is {dimension}")
    relevance_label = parameters.get("relevance_label", "")
    if relevance_label:
        _one_of(labels, "relevance_label", relevance_label)
    top_terms = int(parameters.get("top_terms", DEFAULT_TOP_TERMS))
    return ModelInfo(
        name=config.name,
        version=version,
        kind=kind,
        dimension=dimension,
        max_length=max_length,
        similarity=parameters["similarity"],
        fingerprint=parameters["fingerprint"],
        tokenizer_sha256=parameters["tokenizer_sha256"],
        query_prompt=parameters.get("query_prompt", ""),
        document_prompt=parameters.get("document_prompt", ""),
        max_batch_size=config.max_batch_size,
        inputs=tuple(_one_of(INPUTS, "inputs", name) for name in inputs),
        model_name=parameters.get("model_name", ""),
        precision=parameters.get("precision", "fp32"),
        normalize=parameters.get("normalize", "") == "true",
        activation=_one_of(ACTIVATIONS, "activation", parameters.get("activation") or "identity"),
        labels=labels,
        relevance_label=relevance_label,
        recommended_length=min(max_length, int(parameters.get("recommended_length", max_length))),
        top_terms=top_terms if kind == "sparse_encoder" else 0,
        skips_padding=parameters.get("padding", "") == "skipped",
    )


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _one_of(known: tuple[str, ...], key: str, value: str) -> str:
    if value not in known:
        raise ValueError(f"{key} is {value!r}, not one of {', '.join(known) or 'none'}")
    return value
