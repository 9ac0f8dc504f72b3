"""Fine-tuning on a user's own pairs: what is refused, what each loss reads, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("datasets", reason="fine-tuning needs the extra `train`")
pytest.importorskip("accelerate", reason="fine-tuning needs the extra `train`")

from sentence_transformers import CrossEncoder, SentenceTransformer

from core.errors import InvalidInput
from deploy.models.export import export_directory
from deploy.training.examples import Example, read_examples, split_examples
from deploy.training.hard_negatives import mine_negatives
from deploy.training.held_out import (
    Legs,
    collection_of,
    hybrid_heads,
    measure_bi_encoder,
    measure_cross_encoder,
    texts_of,
)
from deploy.training.losses import BI_ENCODER, CROSS_ENCODER, LOSSES, find_loss
from deploy.training.tuning import Settings, open_model, tune
from tests.parity.tiny import save_sentence_model, write_transformer

pytestmark = [
    # The libraries' own: ours see no warning of theirs as an error.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
FULL = Example("red fox", "a red fox", ("a hen", "an owl"), (0.9, 0.2, 0.1), (0.7, 0.8), "f:1")
BARE = Example("red fox", "a red fox", place="f:1")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("judge")
    return write_transformer(directory, "bert", head="ForSequenceClassification", num_labels=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"positive": "p"}', "query is no text"),
        ('{"query": "q", "positive": " "}', "positive is no text"),
        ('{"query": "q"', "is no JSON"),
        ('["q", "p"]', "is no JSON object"),
        ('{"query": "q", "positive": "p", "negatives": "n"}', "negatives is no list"),
        ('{"query": "q", "positive": "p", "score": "high"}', "score is no finite number"),
        ('{"query": "q", "positive": "p", "score": NaN}', "score is no finite number"),
        ('{"query": "q", "positive": "p", "negatives": ["n"], "margin": [1, 2]}', "2 numbers"),
        ('{"query": "q", "positive": "p", "negative": "n"}', "unknown field 'negative'"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "q", "positive": "p"}\n' + line + "\n")

    with pytest.raises(InvalidInput, match=message) as caught:
        read_examples(path)

    assert caught.value.field == f"{path}:2"
    assert caught.value.remedy


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n")

    with pytest.raises(InvalidInput, match="holds no pair"):
        read_examples(path)


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="no loss 'Hinge'") as caught:
        find_loss(BI_ENCODER, "Hinge")

    assert "MarginMSELoss" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "loss", "message"),
    [
        (CROSS_ENCODER, "BinaryCrossEntropy", "every pair has the label 1"),
        (CROSS_ENCODER, "LambdaLoss", "needs negatives"),
        (BI_ENCODER, "TripletLoss", "needs negatives"),
        (BI_ENCODER, "MarginMSE", "needs negatives"),
        (BI_ENCODER, "CoSENT", "needs score"),
    ],
)
def test_a_loss_says_what_its_examples_lack(kind: str, loss: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        find_loss(kind, loss).columns([BARE])

    assert caught.value.field.startswith("f")


def test_a_score_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidInput, match="outside 0 to 1"):
        find_loss(BI_ENCODER, "CosineSimilarity").columns([Example("q", "p", scores=(4.5,))])


def test_margins_follow_from_scores_where_none_are_given() -> None:
    scored = Example("q", "p", ("n", "m"), scores=(0.9, 0.2, 0.4))

    columns = find_loss(BI_ENCODER, "MarginMSE").columns([scored])

    assert columns["label"] == pytest.approx([0.9 - 0.2, 0.9 - 0.4])
    assert columns["negative"] == ["n", "m"]


def test_a_query_is_never_on_both_sides_of_the_split() -> None:
    examples = [Example(f"query {number // 2}", f"text {number}") for number in range(200)]

    training, outside = split_examples(examples, 0.25)

    assert len(training) + len(outside) == 200
    assert outside
    assert not {one.query for one in training} & {one.query for one in outside}


def test_mined_negatives_never_answer_the_query(encoder: Path) -> None:
    examples = [
        Example("red fox", "a red fox"),
        Example("red fox", "the fox is red"),
        Example("blue owl", "a blue owl"),
        Example("grey cat", "a grey cat", ("a given one",)),
    ]
    texts = texts_of(examples)

    mined = mine_negatives(examples, Legs(library_model(encoder), texts), texts, 2)

    answers = {"a red fox", "the fox is red"}
    assert all(len(one.negatives) == 2 and not answers & set(one.negatives) for one in mined[:2])
    assert mined[3].negatives == ("a given one",)


def test_asking_for_more_negatives_than_texts_is_refused(encoder: Path) -> None:
    texts = ["a red fox", "a hen"]

    with pytest.raises(InvalidInput, match="only 1 of 2"):
        mine_negatives([BARE], Legs(library_model(encoder), texts), texts, 2)


@pytest.mark.parametrize("loss", [one.name for one in LOSSES[BI_ENCODER]])
def test_every_loss_trains_an_encoder(encoder: Path, tmp_path: Path, loss: str) -> None:
    assert_two_steps_change(BI_ENCODER, encoder, tmp_path, loss)


@pytest.mark.parametrize("loss", [one.name for one in LOSSES[CROSS_ENCODER]])
def test_every_loss_trains_a_reranker(judge: Path, tmp_path: Path, loss: str) -> None:
    assert_two_steps_change(CROSS_ENCODER, judge, tmp_path, loss)


def test_a_tuned_encoder_fits_its_pairs_better_and_exports_as_the_next_version(
    encoder: Path, tmp_path: Path
) -> None:
    words = ["fox", "owl", "hen", "cat", "bat", "elk", "yak", "gnu"]
    examples = [Example(word, word[::-1] + " " + word[0] * 3) for word in words]
    model = open_model(BI_ENCODER, encoder)
    assert isinstance(model, SentenceTransformer)
    judged = collection_of(examples, texts_of(examples))
    before = measure_bi_encoder(model, judged)
    settings = Settings("MultipleNegativesRankingLoss", steps=15, batch_size=8, learning_rate=3e-3)

    losses = tune(model, BI_ENCODER, examples, settings, tmp_path / "out")

    assert losses[-1] < losses[0]
    assert measure_bi_encoder(model, judged)["dense"] > before["dense"]
    repository = tmp_path / "repository"
    first = export_directory(repository, str(encoder), name="mine")
    second = export_directory(repository, str(tmp_path / "out" / "model"), name="mine")
    assert (first.version, second.version) == ("1", "2")
    assert first.fingerprint != second.fingerprint


def test_an_interrupted_tuning_goes_on_from_its_checkpoint(encoder: Path, tmp_path: Path) -> None:
    def run(out: Path, steps: int) -> tuple[SentenceTransformer, list[float]]:
        model = open_model(BI_ENCODER, encoder)
        assert isinstance(model, SentenceTransformer)
        settings = Settings("CoSENTLoss", steps=steps, batch_size=2, warmup=0.0, save_steps=2)
        losses = tune(model, BI_ENCODER, [FULL] * 8, settings, out)
        return model, losses

    run(tmp_path, 2)
    _, losses = run(tmp_path, 4)

    assert len(losses) == 4
    steps = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert steps == ["checkpoint-2", "checkpoint-4"]


def test_a_reranker_is_measured_alone_and_blended(judge: Path, encoder: Path) -> None:
    examples = [Example("red fox", "a red fox"), Example("blue owl", "a blue owl")]
    judged = collection_of(examples, [*texts_of(examples), "a hen"])
    model = open_model(CROSS_ENCODER, judge)
    assert isinstance(model, CrossEncoder)
    heads = hybrid_heads(library_model(encoder), judged)

    figures = measure_cross_encoder(model, judged, heads)

    assert set(figures) == {"hybrid", "reranked", "blended"}
    assert all(0.0 <= value <= 1.0 for value in figures.values())


def test_the_command_ends_with_one_line_naming_file_and_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from deploy.training.finetune import main

    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"positive": "p"}) + "\n")

    result = CliRunner().invoke(main, ["--pairs", str(path), "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert f"{path}:1: query is no text" in result.output


def assert_two_steps_change(kind: str, directory: Path, out: Path, loss: str) -> None:
    model = open_model(kind, directory)
    before = {name: value.clone() for name, value in parameters(model).items()}

    losses = tune(model, kind, [FULL] * 4, Settings(loss, steps=2, batch_size=2), out)

    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert any(not value.equal(before[name]) for name, value in parameters(model).items())
    saved = open_model(kind, out / "model")
    assert all(value.equal(parameters(saved)[name]) for name, value in parameters(model).items())


def parameters(model: Any) -> dict[str, Any]:
    return {name: value.detach().cpu() for name, value in model.named_parameters()}


def library_model(directory: Path) -> SentenceTransformer:
    return SentenceTransformer(str(directory), local_files_only=True)
