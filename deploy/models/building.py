"""A plan to the bytes of its model.pt: load, check, lower the precision, trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from tokenizers import Tokenizer
from torch import Tensor

from deploy.models import tracing
from deploy.models.model_files import Trunk, UnsupportedModel
from deploy.models.plans import Plan
from deploy.models.precision import lower
from deploy.models.pretrained import load_tokenizer
from deploy.models.sparse_encoder import dense_weights

# Nothing but special tokens.
_SHORTEST_PAIR = 3
_PROBES = (
    "How do I compress bytes with gzip?",
    "Größe [SEP] naïve café 東京 \U0001f600 don't (x_1 += 2.5) ",
    "the quick brown fox " * 3,
)


def build(plan: Plan, extra: Mapping[str, str]) -> bytes:
    """TorchScript of the plan's model, with `extra` files in its archive.

    Raises UnsupportedModel if the tokenizer, the width or the trace is not what it should be.
    """
    check_tokenizer(plan.tokenizer, plan.trunk)
    module = plan.load()
    signature = signature_of(plan)
    with torch.inference_mode():
        width = module(*tracing.example(signature, 1, 4)).shape[1]
    if width != plan.width:
        raise UnsupportedModel(
            f"gives {width} numbers, its JSON files say {plan.width}",
            field=str(plan.trunk.directory),
        )
    return tracing.trace(lower(module, plan.precision, signature), signature, extra)


def signature_of(plan: Plan) -> tracing.Signature:
    """What the plan's module takes."""
    comparable: Callable[[Tensor], Tensor] = torch.clone
    if plan.kind == "sparse_encoder":
        # Terms of almost equal weight may change places.
        comparable = partial(dense_weights, vocabulary=plan.trunk.vocabulary)
    return tracing.Signature(
        inputs=plan.inputs,
        vocabulary=plan.trunk.vocabulary,
        max_length=int(plan.shared["max_length"]),
        min_length=_SHORTEST_PAIR if plan.kind == "cross_encoder" else 1,
        pad_id=plan.trunk.pad_id,
        comparable=comparable,
    )


def check_tokenizer(content: bytes, trunk: Trunk) -> None:
    """Raises UnsupportedModel if tokenizer.json gives other ids than the library's tokenizer."""
    ours = Tokenizer.from_buffer(content)
    library = load_tokenizer(trunk.directory)
    for text in _PROBES:
        said = text.lower() if trunk.lower_case else text
        if ours.encode(text).ids != library(said)["input_ids"]:
            raise UnsupportedModel(
                "gives other token ids than transformers does for this directory",
                field=str(trunk.tokenizer),
                remedy="load the model with sentence-transformers and save it again",
            )
