"""`trireme size`: what an index of so many passages will take."""

from __future__ import annotations

import click
from rich.table import Table

from deploy.cli.client import console
from deploy.sizing import GIBIBYTE, Corpus, needs

_COUNT = click.IntRange(min=1)


@click.command("size")
@click.argument("passages", type=_COUNT)
@click.option("--dimension", type=_COUNT, default=384, show_default=True, help="Of the vectors.")
@click.option("--words", type=_COUNT, default=110, show_default=True, help="Of a passage.")
@click.option("--shards", type=_COUNT, default=1, show_default=True)
@click.option("--replicas", type=_COUNT, default=1, show_default=True)
def size(passages: int, dimension: int, words: int, shards: int, replicas: int) -> None:
    """Estimate memory and disk for PASSAGES passages, by kind of vector index.

    Memory is what searches read all the time, all replicas together, and for one shard process;
    disk is what is published, once. docs/operations/sizing.md tells what is measured of that.
    """
    corpus = Corpus(passages, dimension, words, shards)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("kind", "stored as", "memory", "a process", "disk"):
        table.add_column(heading, justify="left" if heading in {"kind", "stored as"} else "right")
    for need in needs(corpus):
        amounts = (need.hot_bytes * replicas, need.hot_bytes / shards, need.disk_bytes)
        shown = (f"{amount / GIBIBYTE:,.1f} GiB" for amount in amounts)
        table.add_row(need.kind, need.precision or "f32", *shown)
    console.print(table)
