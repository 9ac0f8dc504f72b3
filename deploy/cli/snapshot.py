"""`trireme snapshot`: copies of collections that outlive them."""

from __future__ import annotations

from datetime import UTC

import click
from rich.table import Table

from deploy.cli.client import address_option, connected, console, readable_errors
from trireme.v1 import snapshot_pb2, snapshot_pb2_grpc

LONGEST_SECONDS = 24 * 3600.0
"""For millions of documents; Ctrl-C ends it sooner."""

SECONDS = 30.0


@click.group()
def snapshot() -> None:
    """Copy collections, and make collections of copies."""


@snapshot.command()
@click.argument("name")
@click.argument("collection")
@address_option
@readable_errors
def create(name: str, collection: str, address: str | None) -> None:
    """Make the snapshot NAME of a COLLECTION as it is now.

    It holds every document with its version and time, and the settings. Vectors are made anew when
    it is restored.
    """
    wanted = snapshot_pb2.Snapshot(name=name, collection=collection)
    with connected(address) as channel:
        reply = snapshot_pb2_grpc.SnapshotServiceStub(channel).CreateSnapshot(
            snapshot_pb2.CreateSnapshotRequest(snapshot=wanted), timeout=LONGEST_SECONDS
        )
    made = reply.snapshot
    console.print(
        f"{made.document_count:,} documents of [bold]{made.collection}[/] in [bold]{made.name}[/], "
        f"{made.size_bytes:,} bytes"
    )


@snapshot.command("list")
@address_option
@readable_errors
def list_(address: str | None) -> None:
    """Show all snapshots."""
    table = Table("snapshot", "collection", "documents", "bytes", "made (UTC)", box=None)
    token = ""
    with connected(address) as channel:
        stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        while True:
            page = stub.ListSnapshots(
                snapshot_pb2.ListSnapshotsRequest(page_token=token), timeout=SECONDS
            )
            for each in page.snapshots:
                made = each.create_time.ToDatetime(UTC)
                table.add_row(
                    each.name,
                    each.collection,
                    f"{each.document_count:,}",
                    f"{each.size_bytes:,}",
                    f"{made:%Y-%m-%d %H:%M:%S}",
                )
            token = page.next_page_token
            if not token:
                break
    console.print(table if table.row_count else "no snapshots")


@snapshot.command()
@click.argument("name")
@click.argument("collection", default="")
@address_option
@readable_errors
def restore(name: str, collection: str, address: str | None) -> None:
    """Make a COLLECTION of the snapshot NAME; default: under the name that it had.

    Every file is verified first. Whatever goes wrong, no half of it is ever seen, and the same
    command can be given again.
    """
    with connected(address) as channel:
        reply = snapshot_pb2_grpc.SnapshotServiceStub(channel).RestoreSnapshot(
            snapshot_pb2.RestoreSnapshotRequest(name=name, collection=collection),
            timeout=LONGEST_SECONDS,
        )
    made = reply.collection
    console.print(
        f"{made.document_count:,} documents in [bold]{made.name}[/]; they are being indexed "
        "(`trireme status`)"
    )


@snapshot.command()
@click.argument("name")
@address_option
@readable_errors
def delete(name: str, address: str | None) -> None:
    """Remove the snapshot NAME."""
    with connected(address) as channel:
        snapshot_pb2_grpc.SnapshotServiceStub(channel).DeleteSnapshot(
            snapshot_pb2.DeleteSnapshotRequest(name=name), timeout=SECONDS
        )
    console.print(f"snapshot [bold]{name}[/] removed")
