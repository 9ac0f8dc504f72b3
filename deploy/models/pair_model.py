"""What a cross-encoder's directory is, read from its JSON files without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.models.model_files import Trunk, UnsupportedModel, check_task, only_known, read_trunk
from deploy.models.modules import read_steps
from deploy.models.sentence_model import library_config, read_prompts

_ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}
# Names under which a label says that the second text answers or follows from the first.
_RELEVANT = frozenset({"entailment", "relevant", "true", "yes"})


@dataclass(frozen=True, slots=True)
class PairModel:
    """A cross-encoder on disk. `relevance_label` ranks; it is empty where nobody can tell."""

    name: str
    trunk: Trunk
    labels: tuple[str, ...]
    activation: str
    relevance_label: str


def read_pair_model(directory: Path) -> PairModel:
    """Describe `directory`; raises UnsupportedModel naming what is not understood."""
    steps = read_steps(directory) if (directory / "modules.json").exists() else []
    only_known(
        [step.kind for step in steps], frozenset({"Transformer"}), what="module", field=directory
    )
    trunk = read_trunk(steps[0].directory if steps else directory)
    check_task(trunk, "sequence-classification")
    about = library_config(directory)
    if any(read_prompts(about)):
        raise UnsupportedModel("cannot export the prompts of a cross-encoder", field=str(directory))
    labels = _labels(trunk.config)
    return PairModel(
        name=directory.name,
        trunk=trunk,
        labels=labels,
        activation=_activation(trunk.config, about, len(labels), directory),
        relevance_label=next((label for label in labels if label.lower() in _RELEVANT), ""),
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the logits; those of config.pbtxt are separated by commas."""
    names = config.get("id2label") or {}
    count = len(names) or int(config.get("num_labels") or 2)
    by_number = {int(number): str(name).replace(",", " ") for number, name in names.items()}
    return tuple(by_number.get(number, f"LABEL_{number}") for number in range(count))


def _activation(
    config: Mapping[str, Any], about: Mapping[str, Any], labels: int, directory: Path
) -> str:
    """What the library would apply; softmax where it leaves several logits as they are."""
    path = (
        about.get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or ("Sigmoid" if labels == 1 else "Softmax")
    )
    name = str(path).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(f"cannot export the activation {path}", field=str(directory))
    return "softmax" if labels > 1 and name == "Identity" else _ACTIVATIONS[name]
