"""The `trireme` command."""

from __future__ import annotations

import click

from deploy.cli import (
    aliases,
    evaluate,
    explain,
    index,
    load,
    migrate,
    models,
    quarantine,
    ranking,
    search,
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
    aliases.aliases,
    quarantine.quarantine,
    models.models,
    snapshot.snapshot,
    migrate.migrate,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="trireme")
