"""Which versions of a model may be unloaded."""

from __future__ import annotations

import pytest

from core.errors import ModelInUse
from deploy.cli.models import check_unused
from trireme.v1.collection_pb2 import Collection, CollectionIndex, ModelVersion

ENCODER_1 = ModelVersion(model="bi_encoder", version="1")
ENCODER_2 = ModelVersion(model="bi_encoder", version="2")
SPARSE = ModelVersion(model="sparse_encoder", version="1")


def test_what_a_collection_was_built_with_is_in_use() -> None:
    papers = Collection(name="papers", encoder=ENCODER_1, sparse_encoder=SPARSE)

    for name, version in (("bi_encoder", "1"), ("bi_encoder", ""), ("sparse_encoder", "1")):
        with pytest.raises(ModelInUse, match="is what papers was built with"):
            check_unused([papers], name, version)
    check_unused([papers], "bi_encoder", "2")


def test_while_a_collection_migrates_both_of_its_indexes_are_in_use() -> None:
    other = CollectionIndex(name="papers~1", encoder=ENCODER_2)
    papers = Collection(name="papers", encoder=ENCODER_1, other_index=other)

    for version in ("1", "2"):
        with pytest.raises(ModelInUse):
            check_unused([papers], "bi_encoder", version)
    check_unused([papers], "bi_encoder", "3")
