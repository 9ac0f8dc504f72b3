"""The library's losses by name, and the table of columns that each of them trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.cross_encoder import losses as cross_losses
from sentence_transformers.sentence_transformer import losses as bi_losses
from torch import nn

from core.errors import InvalidInput
from deploy.training.examples import Example

Columns = dict[str, list[Any]]
BI_ENCODER, CROSS_ENCODER = "bi_encoder", "cross_encoder"


@dataclass(frozen=True)
class Loss:
    """A loss of the library and how examples become its columns."""

    name: str
    build: Callable[..., nn.Module]
    columns: Callable[[Sequence[Example]], Columns]


def find_loss(kind: str, name: str) -> Loss:
    """The loss `name` for a model `kind`, with or without the ending "Loss"; any letter case."""
    known = {_key(loss.name): loss for loss in LOSSES[kind]}
    try:
        return known[_key(name)]
    except KeyError:
        raise InvalidInput(
            "MALFORMED",
            f"there is no loss {name!r} for a {kind}",
            field="loss",
            remedy=f"name one of {', '.join(loss.name for loss in LOSSES[kind])}",
        ) from None


def groups(examples: Sequence[Example]) -> Columns:
    """anchor, positive, negative_1 ... as many negatives as every example has."""
    count = min(len(example.negatives) for example in examples)
    columns: Columns = {
        "anchor": [example.query for example in examples],
        "positive": [example.positive for example in examples],
    }
    for place in range(count):
        columns[f"negative_{place + 1}"] = [example.negatives[place] for example in examples]
    return columns


def triplets(examples: Sequence[Example]) -> Columns:
    """One row per negative."""
    rows = [(one.query, one.positive, text) for one in examples for text in one.negatives]
    if not rows:
        raise _lacking(examples[0], "negatives", "add negatives, or let --mine find them")
    queries, positives, negatives = zip(*rows, strict=True)
    return {"anchor": [*queries], "positive": [*positives], "negative": [*negatives]}


def margins(examples: Sequence[Example]) -> Columns:
    """Triplets with the teacher's margin between the positive and that negative."""
    return {**triplets(examples), "label": [m for one in examples for m in _margins(one)]}


def scored_pairs(examples: Sequence[Example]) -> Columns:
    """Two texts and how alike they are; negatives take part if they have a score too."""
    rows = []
    for one in examples:
        if not one.scores:
            raise _lacking(one, "score", "give the pair a score, or choose another loss")
        texts = [one.positive, *one.negatives][: len(one.scores)]
        rows += [(one.query, text, score) for text, score in zip(texts, one.scores, strict=True)]
    queries, texts_, scores = zip(*rows, strict=True)
    return {"sentence1": [*queries], "sentence2": [*texts_], "score": [*scores]}


def unit_scored_pairs(examples: Sequence[Example]) -> Columns:
    """Scored pairs whose scores lie in 0..1."""
    for one in examples:
        if any(not 0.0 <= score <= 1.0 for score in one.scores):
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"score {max(one.scores):g} is outside 0 to 1",
                field=one.place,
                remedy="bring scores to 0..1, or choose a loss that takes any number",
            )
    return scored_pairs(examples)


def labelled_pairs(examples: Sequence[Example]) -> Columns:
    """Two texts and a label: scores in 0..1 where given, else 1 for positives, 0 for negatives."""
    rows = []
    for one in examples:
        texts = [one.positive, *one.negatives]
        labels = list(one.scores) if len(one.scores) == len(texts) else None
        labels = labels or [*(one.scores or (1.0,)), *(0.0 for _ in one.negatives)]
        rows += [(one.query, text, label) for text, label in zip(texts, labels, strict=True)]
    queries, texts_, found = zip(*rows, strict=True)
    _check_classes(examples[0], found)
    return {"query": [*queries], "text": [*texts_], "label": [*found]}


def lists(examples: Sequence[Example]) -> Columns:
    """A query, its texts, and their grades: scores where all have one, else 1 and 0."""
    columns: Columns = {"query": [], "texts": [], "label": []}
    for one in examples:
        if not one.negatives:
            raise _lacking(one, "negatives", "add negatives, or let --mine find them")
        texts = [one.positive, *one.negatives]
        graded = list(one.scores) if len(one.scores) == len(texts) else None
        columns["query"].append(one.query)
        columns["texts"].append(texts)
        columns["label"].append(graded or [1.0, *(0.0 for _ in one.negatives)])
    return columns


def _margins(example: Example) -> Sequence[float]:
    if len(example.margins) == len(example.negatives):
        return example.margins
    if len(example.scores) == 1 + len(example.negatives):
        return [example.scores[0] - score for score in example.scores[1:]]
    raise _lacking(example, "margin", "give a margin per negative, or a score per text")


def _check_classes(first: Example, labels: Sequence[float]) -> None:
    if any(not 0.0 <= label <= 1.0 for label in labels):
        raise InvalidInput(
            "OUT_OF_RANGE",
            "a score lies outside 0 to 1",
            field=first.place.rpartition(":")[0],
            remedy="bring scores to 0..1, or choose a loss that takes any number",
        )
    if len(set(labels)) == 1:
        raise InvalidInput(
            "FIELD_REQUIRED",
            f"every pair has the label {labels[0]:g}: there is nothing to tell apart",
            field=first.place.rpartition(":")[0],
            remedy="add negatives, or let --mine find them",
        )


def _lacking(example: Example, field: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        "FIELD_REQUIRED", f"this loss needs {field}", field=example.place, remedy=remedy
    )


def _key(name: str) -> str:
    return name.lower().removesuffix("loss")


LOSSES: Mapping[str, Sequence[Loss]] = {
    BI_ENCODER: (
        Loss("MultipleNegativesRankingLoss", bi_losses.MultipleNegativesRankingLoss, groups),
        Loss(
            "CachedMultipleNegativesRankingLoss",
            bi_losses.CachedMultipleNegativesRankingLoss,
            groups,
        ),
        Loss("TripletLoss", bi_losses.TripletLoss, triplets),
        Loss("MarginMSELoss", bi_losses.MarginMSELoss, margins),
        Loss("CosineSimilarityLoss", bi_losses.CosineSimilarityLoss, unit_scored_pairs),
        Loss("CoSENTLoss", bi_losses.CoSENTLoss, scored_pairs),
        Loss("AnglELoss", bi_losses.AnglELoss, scored_pairs),
    ),
    CROSS_ENCODER: (
        Loss("BinaryCrossEntropyLoss", cross_losses.BinaryCrossEntropyLoss, labelled_pairs),
        Loss("MultipleNegativesRankingLoss", cross_losses.MultipleNegativesRankingLoss, groups),
        Loss(
            "CachedMultipleNegativesRankingLoss",
            cross_losses.CachedMultipleNegativesRankingLoss,
            groups,
        ),
        Loss("MarginMSELoss", cross_losses.MarginMSELoss, margins),
        Loss("MSELoss", cross_losses.MSELoss, scored_pairs),
        Loss("LambdaLoss", cross_losses.LambdaLoss, lists),
        Loss("ListNetLoss", cross_losses.ListNetLoss, lists),
        Loss("ListMLELoss", cross_losses.ListMLELoss, lists),
        Loss("PListMLELoss", cross_losses.PListMLELoss, lists),
        Loss("RankNetLoss", cross_losses.RankNetLoss, lists),
        Loss("ADRMSELoss", cross_losses.ADRMSELoss, lists),
    ),
}
