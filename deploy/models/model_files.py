"""The files around one transformer, read without PyTorch: settings, weights, tokenizer, lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from core.errors import BadEnvironment

# These count positions from the padding id on, so that the first ones are never used.
_SHIFTED_POSITIONS = frozenset(
    {
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "mpnet",
        "data2vec-text",
        "longformer",
    }
)
# These take positions, and hand arguments they do not know on to their attention.
_PACKED = frozenset({"bert", "roberta", "xlm-roberta"})
_NO_LIMIT = 10**9
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_PLAIN = "save the model again with a plain text Transformer"


class UnsupportedModel(BadEnvironment):
    """The directory holds something the exporter cannot serve faithfully; the message names it."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A transformer on disk. `max_length` counts special tokens; ids lie below `vocabulary`."""

    directory: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    task: str
    max_length: int
    vocabulary: int
    takes_types: bool
    lower_case: bool

    @property
    def tokenizer(self) -> Path:
        return self.directory / "tokenizer.json"

    @property
    def pad_id(self) -> int:
        """The id of the padding token; 0 where there is none."""
        return int(self.config.get("pad_token_id") or 0)

    @property
    def packs(self) -> bool:
        """Whether its layers can be given tokens without padding, see packing.py."""
        return self.config["model_type"] in _PACKED


def read_trunk(directory: Path) -> Trunk:
    """Describe the transformer in `directory`; raises UnsupportedModel."""
    config = read_json(directory / "config.json")
    settings = _library_settings(directory)
    tokenizer = read_json(directory / "tokenizer_config.json", default={})
    vocabulary = int(_needed(config, "vocab_size", directory))
    weights = _weights(directory)
    _check_settings(settings, directory)
    names = tokenizer.get("model_input_names", ["token_type_ids"])
    trunk = Trunk(
        directory=directory,
        config=config,
        weights=weights,
        task=str(settings.get("transformer_task", "")),
        max_length=_max_length(config, settings, tokenizer),
        vocabulary=vocabulary,
        takes_types=int(config.get("type_vocab_size") or 0) > 1 and "token_type_ids" in names,
        lower_case=bool(settings.get("do_lower_case")),
    )
    _check_vocabulary(trunk)
    return trunk


def check_task(trunk: Trunk, task: str) -> None:
    """Raises UnsupportedModel if the trunk says that it has another head than that of `task`."""
    if trunk.task not in ("", task):
        raise UnsupportedModel(
            f"cannot export a Transformer for {trunk.task} here, only for {task}",
            field=str(trunk.directory),
        )


def tokenizer_bytes(trunk: Trunk) -> bytes:
    """tokenizer.json without truncation and padding: both are the caller's business."""
    tokenizer = read_json(trunk.tokenizer)
    tokenizer["truncation"] = None
    tokenizer["padding"] = None
    if trunk.lower_case:
        before = [tokenizer["normalizer"]] if tokenizer["normalizer"] else []
        tokenizer["normalizer"] = {
            "type": "Sequence",
            "normalizers": [{"type": "Lowercase"}, *before],
        }
    return json.dumps(tokenizer, ensure_ascii=False, indent=1).encode()


def read_json(path: Path, *, default: Any = None) -> Any:
    """The content of a JSON file, or `default` (if one is given) where there is none."""
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(
            f"cannot be read: {error}",
            field=str(path),
            remedy="give a directory that sentence-transformers saved",
        ) from error


def _library_settings(directory: Path) -> dict[str, Any]:
    """What sentence-transformers adds, under one of the names it has used for this file."""
    found = sorted(directory.glob("sentence_*_config.json"))
    settings: dict[str, Any] = read_json(found[0]) if found else {}
    return settings


def _check_settings(settings: Mapping[str, Any], directory: Path) -> None:
    if (directory / "adapter_config.json").exists():
        raise UnsupportedModel(
            "is a PEFT adapter", field=str(directory), remedy="merge it into its base model first"
        )
    for key in ("query_length", "document_length", "query_expansion"):
        if settings.get(key):
            raise UnsupportedModel(f"cannot export {key}", field=str(directory), remedy=_PLAIN)
    text = settings.get("modality_config", {}).get("text", {"method": "forward"})
    output = text.get("method_output_name") or "last_hidden_state"
    known = ("last_hidden_state", "logits")
    if text.get("method") != "forward" or output not in known:
        raise UnsupportedModel(
            f"cannot export the modality_config {text}", field=str(directory), remedy=_PLAIN
        )


def _weights(directory: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        path = directory / name
        if path.exists() and name.endswith(".json"):
            parts = sorted(set(read_json(path)["weight_map"].values()))
            return tuple(directory / part for part in parts)
        if path.exists():
            return (path,)
    raise UnsupportedModel(f"has none of {', '.join(_WEIGHTS)}", field=str(directory))


def _max_length(
    config: Mapping[str, Any], settings: Mapping[str, Any], tokenizer: Mapping[str, Any]
) -> int:
    positions = int(config.get("max_position_embeddings") or _NO_LIMIT)
    if config.get("model_type") in _SHIFTED_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    wanted = settings.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    return int(min(wanted, positions))


def _check_vocabulary(trunk: Trunk) -> None:
    if not trunk.tokenizer.exists():
        raise UnsupportedModel(
            "has no tokenizer.json",
            field=str(trunk.directory),
            remedy="load and save the model once with a current sentence-transformers, "
            "which writes it",
        )
    try:
        tokens = Tokenizer.from_file(str(trunk.tokenizer)).get_vocab(with_added_tokens=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise UnsupportedModel(f"is no tokenizer: {error}", field=str(trunk.tokenizer)) from error
    highest = max(tokens, key=tokens.__getitem__, default="")
    if not highest or tokens[highest] >= trunk.vocabulary:
        raise UnsupportedModel(
            f"gives the token {highest!r} the id {tokens.get(highest)}, but the model knows ids "
            f"below {trunk.vocabulary}",
            field=str(trunk.tokenizer),
            remedy="put the tokenizer there that belongs to the model",
        )


def _needed(config: Mapping[str, Any], key: str, directory: Path) -> Any:
    if key not in config:
        raise UnsupportedModel(f"config.json lacks {key}", field=str(directory))
    return config[key]


def only_known(names: Sequence[str], known: frozenset[str], *, what: str, field: Path) -> None:
    """Raises UnsupportedModel naming what is not among `known`."""
    if unknown := sorted(set(names) - known):
        raise UnsupportedModel(f"cannot export the {what} {', '.join(unknown)}", field=str(field))
