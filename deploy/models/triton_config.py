"""The config.pbtxt of a model: written as text, so that the same model gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_MEANINGS = {
    "ids": "token ids",
    "mask": "1 for tokens, 0 for padding",
    "types": "0 for the query, 1 after it",
    "pooling_mask": "1 for tokens that are pooled, 0 for the prompt and padding",
}
_ALWAYS = {"INTRA_OP_THREAD_COUNT": "1", "DISABLE_OPTIMIZED_EXECUTION": "true"}

_BATCHING = (
    "# No priorities, timeouts or bounds: with any of them Triton forms a batch only once an\n"
    "# instance is free, which kept instances waiting for a sixth of the time.\n"
    "dynamic_batching {\n"
    "}\n"
)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What differs between models.

    `inputs` are names out of core.model_info.INPUTS, `warmup` holds (rows, tokens) pairs,
    `cpu_only` says that a version cannot run on a GPU.
    """

    name: str
    inputs: Sequence[str]
    output_width: int
    max_batch_size: int
    warmup: Sequence[tuple[int, int]]
    parameters: Mapping[str, str] = field(default_factory=dict)
    cpu_only: bool = False


def config_text(config: ModelConfig) -> str:
    """The whole file. Rows and tokens are free; requests of equal length run as one batch."""
    parts = [
        "# Written by `trireme models export`; change deploy/models/triton_config.py instead.\n"
        f'name: "{config.name}"\n'
        'backend: "pytorch"\n'
        f"max_batch_size: {config.max_batch_size}\n",
        *(
            f"# {_MEANINGS[name]}\n"
            f'input {{ name: "INPUT__{number}" data_type: TYPE_INT64 dims: [ -1 ] }}\n'
            for number, name in enumerate(config.inputs)
        ),
        f'output {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ {config.output_width} ] }}\n',
        "# Two: with one, Triton 2.51 left one request in twenty waiting for half a second.\n"
        f"instance_group {{ kind: {'KIND_CPU' if config.cpu_only else 'KIND_AUTO'} count: 2 }}\n",
        "version_policy { all {} }\n",
        _BATCHING,
        *(_warmup(rows, tokens, config.inputs) for rows, tokens in config.warmup),
        *(_parameter(key, value) for key, value in (dict(config.parameters) | _ALWAYS).items()),
    ]
    return "\n".join(parts)


def _warmup(rows: int, tokens: int, inputs: Sequence[str]) -> str:
    # Random INT64 data would be no valid ids, and a mask of zeros would leave no token to run.
    data = {"mask": "random_data"}
    entries = "".join(
        f'  inputs {{ key: "INPUT__{number}"'
        f" value {{ data_type: TYPE_INT64 dims: [ {tokens} ] "
        f"{data.get(name, 'zero_data')}: true }} }}\n"
        for number, name in enumerate(inputs)
    )
    return f'model_warmup {{\n  name: "{rows}x{tokens}"\n  batch_size: {rows}\n{entries}}}\n'


def _parameter(key: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'parameters {{ key: "{key}" value {{ string_value: "{quoted}" }} }}\n'
