"""Fine-tune an encoder or a reranker on your own pairs, measure it, export it.

    python -m deploy.training.finetune --pairs FILE --model DIR --kind bi_encoder --out DIR

FILE holds JSON lines {"query", "positive", "negatives"?, "score"?, "margin"?}. The model is
measured before and after on a BEIR folder (`--beir`) or on a share of the queries held out of
training, and with `--export NAME` it becomes a new version of NAME in Triton's repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from sentence_transformers import CrossEncoder, SentenceTransformer

from core.errors import InvalidInput
from deploy.cli.client import readable_errors
from deploy.cli.models import REPOSITORY
from deploy.models.export import PRECISIONS, export_directory
from deploy.models.hub import local_directory
from deploy.models.sentence_model import packaged_minilm
from deploy.training.examples import Example, read_examples, split_examples
from deploy.training.hard_negatives import mine_negatives
from deploy.training.held_out import (
    Legs,
    collection_of,
    hybrid_heads,
    measure_bi_encoder,
    measure_cross_encoder,
    read_folder,
    texts_of,
)
from deploy.training.losses import BI_ENCODER, CROSS_ENCODER, find_loss
from deploy.training.retrieval_data import Collection
from deploy.training.tuning import Model, Settings, open_model, tune

DEFAULT_LOSSES = {
    BI_ENCODER: "MultipleNegativesRankingLoss",
    CROSS_ENCODER: "BinaryCrossEntropyLoss",
}
Measure = Callable[[], Mapping[str, float]]


def fine_tune(
    model: Model,
    kind: str,
    examples: Sequence[Example],
    *,
    settings: Settings,
    judged: Collection,
    out: Path,
) -> dict[str, Mapping[str, float]]:
    """Measure, train and save to `out/model`, measure again; writes `out/report.json`."""
    measure = _measure(model, judged)
    before = measure()
    losses = tune(model, kind, examples, settings, out)
    report = {
        "before": before,
        "after": measure(),
        "loss": {"first": losses[0], "last": losses[-1]},
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _measure(model: Model, judged: Collection) -> Measure:
    if isinstance(model, SentenceTransformer):
        return lambda: measure_bi_encoder(model, judged)
    assert isinstance(model, CrossEncoder)
    heads = hybrid_heads(_default_encoder(), judged)
    return lambda: measure_cross_encoder(model, judged, heads)


def _default_encoder() -> SentenceTransformer:
    return SentenceTransformer(str(packaged_minilm()), local_files_only=True)


def _held_out(examples: Sequence[Example], share: float) -> tuple[list[Example], Collection]:
    training, outside = split_examples(examples, share)
    if not training or not outside:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"{len(examples)} pairs leave {len(training)} to train and {len(outside)} to measure",
            field="held-out",
            remedy="give more pairs, another --held-out, or --beir DIR to measure on",
        )
    return training, collection_of(outside, texts_of(examples))


@click.command()
@click.option("--pairs", type=click.Path(path_type=Path), required=True, help="JSON lines.")
@click.option("--model", "source", default="", help="Directory or hub id. Default: MiniLM.")
@click.option("--kind", type=click.Choice((BI_ENCODER, CROSS_ENCODER)), default=BI_ENCODER)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--loss", default="", help="Name in the library. Default: by kind.")
@click.option("--mine", default=0, help="Hard negatives per pair that has none.")
@click.option("--epochs", default=1.0, show_default=True)
@click.option("--steps", default=0, help="Instead of epochs.")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--learning-rate", default=2e-5, show_default=True)
@click.option("--seed", default=17, show_default=True)
@click.option("--beir", type=click.Path(path_type=Path), help="Folder to measure on.")
@click.option("--split", default="test", show_default=True, help="Judgements of --beir.")
@click.option(
    "--held-out", default=0.1, show_default=True, help="Share of queries, without --beir."
)
@click.option("--export", "name", default="", help="Name in Triton's repository.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True)
@click.option("--repository", type=click.Path(path_type=Path), default=REPOSITORY)
@readable_errors
def main(
    pairs: Path,
    source: str,
    kind: str,
    out: Path,
    loss: str,
    mine: int,
    epochs: float,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    beir: Path | None,
    split: str,
    held_out: float,
    name: str,
    precision: str,
    repository: Path,
) -> None:
    """Fine-tune a model on the pairs of a file, measure it, and export it if asked."""
    settings = Settings(
        loss=find_loss(kind, loss or DEFAULT_LOSSES[kind]).name,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    examples = read_examples(pairs)
    if beir is not None:
        training, judged = examples, read_folder(beir, split)
    else:
        training, judged = _held_out(examples, held_out)
    if mine:
        texts = texts_of(examples)
        training = mine_negatives(training, Legs(_default_encoder(), texts), texts, mine)
    find_loss(kind, settings.loss).columns(training)
    out.mkdir(parents=True, exist_ok=True)
    model = open_model(kind, local_directory(source) if source else packaged_minilm())
    report = fine_tune(model, kind, training, settings=settings, judged=judged, out=out)
    click.echo(json.dumps(report, indent=2))
    if name:
        click.echo(export_directory(repository, str(out / "model"), name=name, precision=precision))


if __name__ == "__main__":
    main()
