"""The `trireme` command."""

from __future__ import annotations

import click

from deploy.cli import (
    aliases,
    batching,
    evaluate,
    explain,
    index,
    keys,
    load,
    migrate,
    models,
    quarantine,
    ranking,
    search,
    size,
    snapshot,
    status,
    tune,
    up,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trireme")
def main() -> None:
    """Hybrid semantic search on Triton, FAISS and Tantivy."""


for command in (
    up.up,
    index.index,
    search.search,
    explain.explain,
    ranking.ranking,
    evaluate.evaluate,
    tune.tune,
    load.load,
    status.status,
    size.size,
    aliases.aliases,
    quarantine.quarantine,
    models.models,
    snapshot.snapshot,
    migrate.migrate,
    keys.keys,
):
    main.add_command(command)
models.models.add_command(batching.batching)


if __name__ == "__main__":
    main(prog_name="trireme")
