"""Which score of a cross-encoder counts, of which kind, and in which order it puts passages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInput
from core.model_info import ModelInfo

RAW = "identity"
SIGMOID = "sigmoid"
SOFTMAX = "softmax"
MODEL_DEFAULT = "default"

Floats = NDArray[np.float32]


def label_names(info: ModelInfo) -> tuple[str, ...]:
    """The names of a model's labels, or their numbers if it names none; () if it has only one."""
    if info.dimension == 1:
        return ()
    return info.labels or tuple(str(number) for number in range(info.dimension))


def ranking_label(info: ModelInfo, label: str) -> int:
    """The column of the label that ranks: `label`, or the model's own if that is "".

    Raises InvalidInput if there is no such label, or the model has several and none of its own.
    """
    names = label_names(info)
    if not names:
        if label:
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"is {label!r}, but {info.name} has one label",
                field="label",
                remedy="leave it empty",
            )
        return 0
    wanted = label or info.relevance_label
    if wanted in names:
        return names.index(wanted)
    raise InvalidInput(
        "OUT_OF_RANGE" if label else "FIELD_REQUIRED",
        f"is {label!r}, which {info.name} does not have" if label else "is empty",
        field="label",
        remedy=f"give one of {', '.join(names)}",
    )


def kind_of_score(info: ModelInfo, wanted: str) -> str:
    """RAW, SIGMOID or SOFTMAX: what was wanted, or what the model's library returns."""
    kind = info.activation if wanted == MODEL_DEFAULT else wanted
    if kind == SOFTMAX and info.dimension == 1:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"the softmax of one label is always 1, and {info.name} has one",
            field="score_kind",
            remedy="ask for SCORE_KIND_SIGMOID",
        )
    return kind


def best_first(scores: Floats, logits: Floats) -> list[int]:
    """Places by descending score; where scores are equal after rounding, by logit, then place."""
    places: list[int] = np.lexsort((np.arange(len(scores)), -logits, -scores)).tolist()
    return places
