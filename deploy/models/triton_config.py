"""The config.pbtxt of a model: written as text, so that the same model gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

QUERY_PRIORITY = 1
INDEXING_PRIORITY = 2

_MEANINGS = {
    "ids": "token ids",
    "mask": "1 for tokens, 0 for padding",
    "types": "0 for the query, 1 after it",
    "pooling_mask": "1 for tokens that are pooled, 0 for the prompt and padding",
}
_ALWAYS = {"INTRA_OP_THREAD_COUNT": "1", "DISABLE_OPTIMIZED_EXECUTION": "true"}


def _queue(priority: int, *, max_size: int, timeout_us: int) -> str:
    return (
        f"  priority_queue_policy {{\n    key: {priority}\n    value {{ timeout_action: REJECT"
        f" default_timeout_microseconds: {timeout_us} allow_timeout_override: true"
        f" max_queue_size: {max_size} }}\n  }}\n"
    )


_LANES = (
    "# Queries (priority 1) overtake indexing (priority 2, the default). What waits too long\n"
    "# is refused rather than run for a caller that has gone.\n"
    "dynamic_batching {\n"
    "  priority_levels: 2\n"
    f"  default_priority_level: {INDEXING_PRIORITY}\n"
    f"{_queue(QUERY_PRIORITY, max_size=128, timeout_us=2_000_000)}"
    f"{_queue(INDEXING_PRIORITY, max_size=256, timeout_us=30_000_000)}"
    "}\n"
)
_ONE_QUEUE = (
    "# No priorities, timeouts or bounds: with any of them Triton forms a batch only once an\n"
    "# instance is free, which kept instances waiting for a sixth of the time.\n"
    "dynamic_batching {\n"
    "}\n"
)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What differs between models.

    `inputs` are names out of core.model_info.INPUTS, `warmup` holds (rows, tokens) pairs,
    `cpu_only` says that a version cannot run on a GPU, `has_lanes` that indexing uses it beside
    queries, so that somebody has to go first.
    """

    name: str
    inputs: Sequence[str]
    output_width: int
    max_batch_size: int
    warmup: Sequence[tuple[int, int]]
    parameters: Mapping[str, str] = field(default_factory=dict)
    cpu_only: bool = False
    has_lanes: bool = True


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
        _LANES if config.has_lanes else _ONE_QUEUE,
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
