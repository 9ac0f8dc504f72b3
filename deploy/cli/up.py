"""`trireme up`: a whole cluster on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from deploy.cli.client import DEFAULT_STATE, console, readable_errors
from deploy.local.cluster import Cluster, ClusterConfig

STOP_GRACE_SECONDS = 10.0


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    show_default=True,
    help="Folder for documents, indexes, logs and the address.",
)
@click.option("--shards", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option(
    "--replicas",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Processes per shard; searches go on, complete, while one of them is away or slow.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of the gateway; 0 picks a free one.",
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port of the HTTP doors and the console; 0 picks a free one.",
)
@click.option(
    "--index-url",
    metavar="s3://BUCKET/PREFIX",
    envvar="TRIREME_INDEX_URL",
    default="",
    help="Publish the index in a bucket; AWS_* variables say where and who. Default: in --state.",
)
@click.option(
    "--database-url",
    metavar="postgresql://USER@HOST/NAME",
    envvar="TRIREME_DATABASE_URL",
    default="",
    help="Keep the documents in PostgreSQL. Default: in --state.",
)
@readable_errors
def up(
    state: Path,
    shards: int,
    replicas: int,
    port: int,
    http_port: int,
    index_url: str,
    database_url: str,
) -> None:
    """Start Triton, indexer, shards and gateway; stop them on Ctrl-C."""
    config = ClusterConfig(
        state=state,
        shards=shards,
        replicas=replicas,
        port=port,
        http_port=http_port,
        index_url=index_url,
        database_url=database_url,
    )
    asyncio.run(_up(config))


async def _up(config: ClusterConfig) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    cluster = await Cluster.create(config)
    starting = asyncio.ensure_future(cluster.start(on_progress=_say))
    asked_to_stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([starting, asked_to_stop], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            console.print(f"[bold green]ready[/] at [bold]{cluster.address}[/]  (Ctrl-C stops)")
            console.print(f"console at [bold]http://{cluster.http_address}/console/[/]")
            await asked_to_stop
    finally:
        starting.cancel()
        _say("stopping")
        await cluster.stop(STOP_GRACE_SECONDS)


def _say(step: str) -> None:
    console.print(f"[dim]·[/] {step}", highlight=False)
