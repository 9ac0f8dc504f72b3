"""modules.json: the chain of modules of a sentence-transformers directory, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.models.model_files import UnsupportedModel, only_known, read_json

_LIBRARY = "sentence_transformers."
_BEFORE, _AFTER = "token_embeddings", "sentence_embedding"
_VECTOR_MODULES = frozenset({"Dense", "LayerNorm", "Normalize", "Dropout"})
_TOKEN_MODULES = frozenset({"Dense", "Normalize"})
# The order in which the library joins poolings that are switched on one by one.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = frozenset(_SWITCHES.values())
ACTIVATIONS = frozenset(
    {"CELU", "ELU", "GELU", "Hardtanh", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU"}
    | {"Sigmoid", "Softplus", "Softsign", "Tanh"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """One module: its class, its settings, where its weights are."""

    kind: str
    directory: Path
    settings: Mapping[str, Any]

    @property
    def weights(self) -> tuple[Path, ...]:
        names = ("model.safetensors", "pytorch_model.bin")
        return tuple(path for name in names if (path := self.directory / name).exists())[:1]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token vectors become one: the modes are concatenated in their order."""

    modes: tuple[str, ...]
    width: int
    include_prompt: bool


def read_steps(directory: Path) -> list[Step]:
    """The modules of `directory` in order; raises UnsupportedModel naming a stranger."""
    steps = []
    for row in read_json(directory / "modules.json"):
        path, kind = directory / row["path"], row["type"].rpartition(".")[2]
        if not row["type"].startswith(_LIBRARY):
            raise UnsupportedModel(
                f"cannot export the module {row['type']}: sentence-transformers has none",
                field=str(directory),
            )
        is_trunk = kind in ("Transformer", "MLMTransformer")
        settings = {} if is_trunk else read_json(path / "config.json", default={})
        steps.append(Step(kind, path, settings))
    return steps


def split_at_pooling(
    steps: list[Step], directory: Path
) -> tuple[tuple[Step, ...], Step, tuple[Step, ...]]:
    """The modules behind the transformer: those on token vectors, the pooling, those on texts'."""
    places = [place for place, step in enumerate(steps) if step.kind == "Pooling"]
    if len(places) != 1:
        raise UnsupportedModel(f"has {len(places)} Pooling modules, not one", field=str(directory))
    before, after = steps[: places[0]], steps[places[0] + 1 :]
    _check(before, _TOKEN_MODULES, _BEFORE)
    _check(after, _VECTOR_MODULES, _AFTER)
    return tuple(before), steps[places[0]], tuple(after)


def read_pooling(step: Step) -> Pooling:
    """What a Pooling module does, from either form of its settings."""
    settings = step.settings
    mode = settings.get("pooling_mode") or [
        name for switch, name in _SWITCHES.items() if settings.get(switch)
    ]
    modes = (mode,) if isinstance(mode, str) else tuple(mode) or ("mean",)
    switches = [key for key in settings if key.startswith("pooling_mode_") and settings[key]]
    only_known(switches, frozenset(_SWITCHES), what="pooling", field=step.directory)
    only_known(modes, POOLINGS, what="pooling", field=step.directory)
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    if not width:
        raise UnsupportedModel("names no embedding_dimension", field=str(step.directory))
    return Pooling(modes, int(width), bool(settings.get("include_prompt", True)))


def activation_of(step: Step) -> str:
    """The name of a Dense module's activation in torch.nn."""
    path = str(step.settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = path.rpartition(".")[2]
    if not path.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise UnsupportedModel(f"cannot export the activation {path}", field=str(step.directory))
    return name


def _check(steps: list[Step], known: frozenset[str], place: str) -> None:
    for step in steps:
        only_known([step.kind], known, what="module", field=step.directory)
        source = step.settings.get("module_input_name", _AFTER)
        target = step.settings.get("module_output_name") or source
        if (source, target) != (place, place):
            raise UnsupportedModel(
                f"cannot export the module {step.kind} from {source} to {target} at this place",
                field=str(step.directory),
            )
        if step.kind == "Dense":
            activation_of(step)
