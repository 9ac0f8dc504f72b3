"""The `trireme` command."""

from __future__ import annotations

import click

from deploy.cli.later import LaterGroup

COMMANDS = {
    "up": "deploy.cli.up:up",
    "index": "deploy.cli.index:index",
    "search": "deploy.cli.search:search",
    "explain": "deploy.cli.explain:explain",
    "ranking": "deploy.cli.ranking:ranking",
    "eval": "deploy.cli.evaluate:evaluate",
    "tune": "deploy.cli.tune:tune",
    "load": "deploy.cli.load:load",
    "status": "deploy.cli.status:status",
    "size": "deploy.cli.size:size",
    "aliases": "deploy.cli.aliases:aliases",
    "quarantine": "deploy.cli.quarantine:quarantine",
    "models": "deploy.cli.models:models",
    "snapshot": "deploy.cli.snapshot:snapshot",
    "migrate": "deploy.cli.migrate:migrate",
    "keys": "deploy.cli.keys:keys",
}


@click.group(
    cls=LaterGroup, later=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="trireme")
def main() -> None:
    """Hybrid semantic search on Triton, FAISS and Tantivy."""


if __name__ == "__main__":
    main(prog_name="trireme")
