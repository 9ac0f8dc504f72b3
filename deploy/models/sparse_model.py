"""What a SPLADE-style encoder's directory is, read from its JSON files without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.models.model_files import Trunk, UnsupportedModel, check_task, only_known, read_trunk
from deploy.models.modules import read_steps
from deploy.models.sentence_model import library_config, read_prompts

TOP_TERMS = 256
_ACTIVATIONS = frozenset({"relu", "log1p_relu"})
_STRATEGIES = frozenset({"max", "sum"})


@dataclass(frozen=True, slots=True)
class SparseModel:
    """A sparse encoder on disk. `dimension` is the size of the vocabulary."""

    name: str
    trunk: Trunk
    strategy: str
    activation: str
    query_prompt: str
    document_prompt: str

    @property
    def dimension(self) -> int:
        return self.trunk.vocabulary

    @property
    def top_terms(self) -> int:
        return min(TOP_TERMS, self.dimension)


def read_sparse_model(directory: Path) -> SparseModel:
    """Describe `directory`; raises UnsupportedModel naming what is not understood."""
    steps = read_steps(directory)
    kinds = [step.kind for step in steps]
    if kinds[1:] != ["SpladePooling"] or kinds[0] not in ("Transformer", "MLMTransformer"):
        raise UnsupportedModel(
            f"cannot export the modules {', '.join(kinds)} together", field=str(directory)
        )
    settings = steps[1].settings
    strategy = str(settings.get("pooling_strategy", "max"))
    activation = str(settings.get("activation_function", "relu"))
    only_known([strategy], _STRATEGIES, what="pooling", field=steps[1].directory)
    only_known([activation], _ACTIVATIONS, what="activation", field=steps[1].directory)
    query, document = read_prompts(library_config(directory))
    trunk = read_trunk(steps[0].directory)
    check_task(trunk, "fill-mask")
    return SparseModel(
        name=directory.name,
        trunk=trunk,
        strategy=strategy,
        activation=activation,
        query_prompt=query,
        document_prompt=document,
    )
