"""What a config.pbtxt says of a model, by version, and what it must not say."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from core.errors import ModelMismatch
from core.model_info import model_info

BI_ENCODER = {
    "kind": "bi_encoder",
    "dimension": "384",
    "max_length": "256",
    "similarity": "cosine",
    "fingerprint": "first",
    "tokenizer_sha256": "0" * 64,
}
JUDGE = BI_ENCODER | {
    "kind": "cross_encoder",
    "dimension": "3",
    "similarity": "",
    "inputs": "ids,mask,types",
    "activation": "softmax",
    "labels": "contradiction,entailment,neutral",
    "relevance_label": "entailment",
    "recommended_length": "128",
}


def config(parameters: dict[str, str], inputs: int = 2) -> Any:
    made = model_config_pb2.ModelConfig(name="model", max_batch_size=64)
    for number in range(inputs):
        made.input.add(name=f"INPUT__{number}")
    for key, value in parameters.items():
        made.parameters[key].string_value = value
    return made


def test_a_version_has_its_own_values_where_they_differ() -> None:
    own = {"fingerprint@2": "second", "precision@2": "int8", "precision": "fp32"}
    own |= {"padding": "computed", "padding@2": "skipped"}
    both = config(BI_ENCODER | own)

    first, second = model_info(both, "1"), model_info(both, "2")

    assert (first.fingerprint, first.precision) == ("first", "fp32")
    assert (second.fingerprint, second.precision) == ("second", "int8")
    assert (first.skips_padding, second.skips_padding) == (False, True)
    assert model_info(both, "12").fingerprint == "first"


def test_what_is_left_out_has_a_default() -> None:
    info = model_info(config(BI_ENCODER, inputs=3), "1")

    assert info.inputs == ("ids", "mask", "types")
    assert (info.recommended_length, info.width, info.top_terms) == (256, 384, 0)
    assert (info.activation, info.normalize, info.precision) == ("identity", False, "fp32")
    assert not info.skips_padding


def test_a_judge_of_several_labels_says_which_of_them_ranks() -> None:
    info = model_info(config(JUDGE, inputs=3), "1")

    assert info.labels.index(info.relevance_label) == 1
    assert (info.activation, info.recommended_length) == ("softmax", 128)


def test_a_sparse_encoder_returns_a_term_and_a_weight_for_each_of_its_terms() -> None:
    info = model_info(config(BI_ENCODER | {"kind": "sparse_encoder", "top_terms": "10"}), "1")

    assert info.width == 2 * 10


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "decoder"}, "kind is 'decoder'"),
        ({"dimension": "wide"}, "wide"),
        ({"inputs": "ids"}, "inputs names 1, the model takes 3"),
        ({"inputs": "ids,mask,shape"}, "inputs is 'shape'"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"labels": "yes,no"}, "labels names 2, dimension is 3"),
        ({"relevance_label": "maybe"}, "relevance_label is 'maybe'"),
    ],
)
def test_what_we_do_not_know_is_refused_by_name(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ModelMismatch, match=named) as caught:
        model_info(config(JUDGE | wrong, inputs=3), "1")

    assert caught.value.field == "model"
    assert "trireme models export" in caught.value.remedy


def test_a_model_without_our_parameters_is_refused() -> None:
    with pytest.raises(ModelMismatch, match="'kind'"):
        model_info(config({}), "1")
