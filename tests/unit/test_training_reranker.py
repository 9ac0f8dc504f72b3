"""The shipped reranker's head, its mining and its training, on a tiny random trunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `local`")

from tokenizers import Tokenizer  # noqa: E402

from deploy.models.cross_encoder import (  # noqa: E402
    CrossEncoder,
    from_sentence_encoder,
    load_cross_encoder,
    own_weights,
)
from deploy.training.first_stage import min_max, top_scores  # noqa: E402
from deploy.training.groups import Group, head_scores, mine, split_held_back  # noqa: E402
from deploy.training.listwise import group_loss, sample_group  # noqa: E402
from deploy.training.measures import ndcg  # noqa: E402
from deploy.training.pair_encoder import PairEncoder  # noqa: E402
from deploy.training.pseudo_queries import sentence_groups, split_docstring  # noqa: E402
from deploy.training.rarity import token_rarity  # noqa: E402
from deploy.training.recipe import Recipe  # noqa: E402
from deploy.training.reranking import blend, blended_ndcg, first_stage, score_heads  # noqa: E402
from deploy.training.retrieval_data import Collection  # noqa: E402
from deploy.training.trainer import Trainer  # noqa: E402
from tests.parity.tiny import word_pieces, write_transformer  # noqa: E402

LAYERS = (0, 1)
RECIPE = Recipe(
    layers=LAYERS, steps=12, queries=2, negatives=2, max_tokens=32, mixture={"words": 1.0}
)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformer(tmp_path_factory.mktemp("trunk"), "bert")


@pytest.fixture
def model(trunk: Path) -> CrossEncoder:
    torch.manual_seed(1)
    return from_sentence_encoder(trunk, LAYERS)


@pytest.fixture
def pairs() -> PairEncoder:
    return PairEncoder(word_pieces(), 32)


def test_a_passage_with_the_query_s_words_scores_higher_before_any_training(
    model: CrossEncoder, pairs: PairEncoder
) -> None:
    batch = pairs.encode("zebra", ["a zebra ran", "an owl hid in"])

    shared, other = model(*batch)[:, 0].tolist()

    assert shared > other


def test_a_pair_scores_alike_in_any_company(model: CrossEncoder, pairs: PairEncoder) -> None:
    with torch.inference_mode():
        alone = model(*pairs.encode("zebra", ["a zebra"]))[0]
        beside = model(*pairs.encode("zebra", ["a zebra", "many more words than that one"]))[0]

    assert torch.allclose(alone, beside, atol=1e-4)


def test_rarity_is_the_inverse_document_frequency_of_tokens() -> None:
    tokenizer = Tokenizer.from_str(word_pieces().to_str())

    rarity = token_rarity(tokenizer, ["a b", "a a", "a c"], tokenizer.get_vocab_size())

    once, always = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5)), np.log(1 + (3 - 3 + 0.5) / (3 + 0.5))
    assert rarity[tokenizer.token_to_id("b")] == pytest.approx(once)
    assert rarity[tokenizer.token_to_id("a")] == pytest.approx(always)


def test_training_lowers_the_loss_and_leaves_the_embeddings(
    model: CrossEncoder, pairs: PairEncoder, tmp_path: Path
) -> None:
    trainer = Trainer(RECIPE, model, pairs=pairs, groups={"words": [group()]}, out=tmp_path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mean_before = loss_of(model, pairs)

    trainer.run()

    assert loss_of(model, pairs) < mean_before
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert "head.scales" in changed
    assert any(name.startswith("trunk.encoder.layer.0") for name in changed)
    assert not any(name.startswith("trunk.embeddings") for name in changed)


def test_an_interrupted_training_ends_with_the_very_same_weights(
    trunk: Path, pairs: PairEncoder, tmp_path: Path
) -> None:
    def fresh(out: Path) -> Trainer:
        torch.manual_seed(1)
        fresh_model = from_sentence_encoder(trunk, LAYERS)
        out.mkdir(exist_ok=True)
        return Trainer(RECIPE, fresh_model, pairs=pairs, groups={"words": [group()]}, out=out)

    through = fresh(tmp_path / "through")
    through.run()
    interrupted = fresh(tmp_path / "interrupted")
    for _ in range(5):
        interrupted.step()
    interrupted.save(loss=0.0)
    resumed = fresh(tmp_path / "interrupted")
    resumed.run()

    assert resumed.done == RECIPE.steps
    for name, value in through.average.items():
        assert torch.equal(value, resumed.average[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(
    model: CrossEncoder, pairs: PairEncoder, tmp_path: Path
) -> None:
    def trainer(recipe: Recipe) -> Trainer:
        return Trainer(recipe, model, pairs=pairs, groups={"words": [group()]}, out=tmp_path)

    trainer(RECIPE).save(loss=0.0)

    with pytest.raises(ValueError, match="another recipe"):
        trainer(replace(RECIPE, seed=18)).resume()


def test_saved_weights_score_as_the_average_does(
    model: CrossEncoder, pairs: PairEncoder, trunk: Path, tmp_path: Path
) -> None:
    trainer = Trainer(RECIPE, model, pairs=pairs, groups={"words": [group()]}, out=tmp_path)
    trainer.run()

    loaded = own_weights(load_cross_encoder(tmp_path / "weights.safetensors", trunk))

    for name, value in trainer.average.items():
        assert torch.allclose(loaded[name], value, atol=1e-2), name


def test_the_residual_leaves_less_to_learn_where_fusion_is_right() -> None:
    sample = sample_group(group(), 2, np.random.default_rng(1))
    logits = torch.zeros(3)

    alone = group_loss(logits, sample, residual=0.0, taught_weight=0.0)
    helped = group_loss(logits, sample, residual=3.0, taught_weight=0.0)

    assert float(alone) == pytest.approx(np.log(3))
    assert helped < alone


def test_mined_negatives_answer_nothing_and_come_hardest_first() -> None:
    collection = small_collection()
    vectors = np.eye(4, dtype=np.float32)

    found = mine(collection, vectors[:1], vectors)[0]

    assert found.positives == ["red fox"]
    assert found.negatives[0] == "red hen"
    assert "red fox" not in found.negatives
    assert len(found.fused) == len(found.taught or ()) == 1 + len(found.negatives)


def test_fused_scores_span_the_head_and_vanish_below_it() -> None:
    ranked = [(row, 1 / (60 + row)) for row in range(1, 31)]

    best, last, below = head_scores(ranked, [1, 20, 30])

    assert (best, last, below) == (1.0, 0.0, 0.0)


def test_held_back_queries_are_the_same_few_in_every_run() -> None:
    groups = [replace(group(), query=f"query {number}") for number in range(500)]

    training, back = split_held_back(groups)

    assert 20 <= len(back) <= 90  # a tenth of 500, give or take
    assert split_held_back(groups) == (training, back)
    assert not {one.query for one in training} & {one.query for one in back}


def test_a_sentence_taken_out_asks_for_the_rest() -> None:
    texts = [
        f"The {animal} sleeps in its den all day long. It wakes at night. Then the {animal} eats."
        for animal in ("fox", "owl", "bat")
    ]

    for found in sentence_groups(texts, 3, seed=1):
        assert found.query not in found.positives[0]
        assert found.positives[0] not in found.negatives
        assert len(found.fused) == 1 + len(found.negatives)


def test_a_docstring_is_taken_out_of_its_function() -> None:
    source = 'def double(x):\n    """Twice the number.\n\n    More."""\n    return 2 * x\n'

    assert split_docstring(source) == ("Twice the number", "def double(x):\n    return 2 * x")
    assert split_docstring("def broken(:") is None
    assert split_docstring("x = 1") is None


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    ideal = 1 + 1 / np.log2(3)

    assert ndcg([7, 1, 2], {1: 1.0, 2: 1.0}) == pytest.approx((1 / np.log2(3) + 0.5) / ideal)
    assert ndcg([1, 2, 7], {1: 1.0, 2: 1.0}) == 1.0


def test_a_blend_goes_from_the_fused_order_to_the_reranker_s() -> None:
    head = [(4, 0.9), (5, 0.5), (6, 0.1)]

    assert blend(head, [0.0, 1.0, 2.0], 0.0) == [4, 5, 6]
    assert blend(head, [0.0, 1.0, 2.0], 1.0) == [6, 5, 4]
    assert min_max([3.0, 3.0]).tolist() == [0.0, 0.0]
    assert [row for row, _ in top_scores(np.array([0.1, 0.9, 0.5], np.float32), 2)] == [1, 2]


def test_heads_are_scored_as_each_pair_alone(model: CrossEncoder, pairs: PairEncoder) -> None:
    collection = small_collection()
    vectors = np.eye(4, dtype=np.float32)
    stages = first_stage(collection, vectors[:1], vectors, [0])

    logits = score_heads(model, pairs, collection, stages, depth=5)

    row, _ = stages[0].fused[1]
    with torch.inference_mode():
        expected = model(*pairs.encode("red fox", [collection.documents[row]]))[0, 0]
    assert logits[0, 1] == pytest.approx(float(expected), abs=1e-4)
    assert np.isnan(logits[0, 4])
    assert blended_ndcg(collection, stages, logits[:, :4], 0.0) == [1.0]


def group() -> Group:
    return Group(
        query="fast car",
        positives=["red motor"],
        negatives=["fast hen", "old car"],
        fused=[1.0, 0.5, 0.0],
        taught=[0.5, 0.1, -0.6],
    )


def loss_of(model: CrossEncoder, pairs: PairEncoder) -> float:
    sample = sample_group(group(), 2, np.random.default_rng(1))
    with torch.inference_mode():
        logits = model(*pairs.encode("fast car", sample.passages)).squeeze(1)
        return float(group_loss(logits, sample, residual=0.0, taught_weight=0.0))


def small_collection() -> Collection:
    return Collection(
        name="small",
        queries=["red fox"],
        query_ids=["q"],
        own_documents=["red fox", "red hen", "blue owl", "grey cat"],
        document_ids=list("abcd"),
        relevant={0: {0: 1.0}},
    )
