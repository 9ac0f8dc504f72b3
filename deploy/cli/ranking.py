"""`trireme ranking`: how searches of a collection rank where they do not say otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import click
from google.protobuf import field_mask_pb2
from google.protobuf.json_format import MessageToJson
from rich.table import Table
from rich.text import Text

from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.ranking_options import FUSIONS, LEGS, ranking_options
from trireme.v1 import collection_pb2, collection_pb2_grpc, ranking_pb2

CALL_SECONDS = 10.0
_FIELD = "search_defaults"


@click.command()
@click.argument("collection")
@ranking_options
@click.option("--reset", is_flag=True, help="Forget what was set before.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def ranking(
    collection: str,
    ranking: ranking_pb2.SearchDefaults,
    reset: bool,
    as_json: bool,
    address: str | None,
) -> None:
    """Show how searches of COLLECTION rank, after changing what the options name.

    A search may still say otherwise for itself.
    """
    paths = [_FIELD] if reset else list(_given(ranking))
    with connected(address) as channel:
        stub = collection_pb2_grpc.CollectionServiceStub(channel)
        if paths:
            update = collection_pb2.UpdateCollectionRequest(
                collection=collection_pb2.Collection(name=collection, search_defaults=ranking),
                update_mask=field_mask_pb2.FieldMask(paths=paths),
            )
            found = stub.UpdateCollection(update, timeout=CALL_SECONDS).collection
        else:
            get = collection_pb2.GetCollectionRequest(name=collection)
            found = stub.GetCollection(get, timeout=CALL_SECONDS).collection
    if as_json:
        click.echo(MessageToJson(found.search_defaults, preserving_proto_field_name=True))
        return
    console.print(_table(found.search_defaults))


def _given(ranking: ranking_pb2.SearchDefaults) -> Iterator[str]:
    """Paths of the fields that are set."""
    for part in (ranking.fusion, ranking.rerank):
        for field, _ in part.ListFields():
            yield f"{_FIELD}.{part.DESCRIPTOR.name.lower()}.{field.name}"
    if ranking.window:
        yield f"{_FIELD}.window"


def _table(ranking: ranking_pb2.SearchDefaults) -> Table:
    """Every setting with its value, dim where nobody has set it."""
    fusion, rerank = ranking.fusion, ranking.rerank
    names = {number: name for name, number in FUSIONS.items()}
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_row("fusion", _value(names.get(fusion.method), "rrf"))
    table.add_row("k", _value(fusion.k if fusion.HasField("k") else None, "60"))
    for leg in LEGS:
        name = f"{leg}_weight"
        weight = getattr(fusion, name) if fusion.HasField(name) else None  # type: ignore[arg-type]
        table.add_row(f"weight of the {leg} leg", _value(weight, "1"))
    enabled = rerank.enabled if rerank.HasField("enabled") else None
    table.add_row("reranking", _value({True: "on", False: "off", None: None}[enabled], "on"))
    table.add_row("depth", _value(rerank.depth or None, "the gateway's"))
    weight = rerank.weight if rerank.HasField("weight") else None
    table.add_row("weight of the cross-encoder", _value(weight, "the gateway's"))
    table.add_row("window", _value(ranking.window or None, "100"))
    return table


def _value(value: str | float | None, default: str) -> Text:
    if value is None:
        return Text(f"{default} (not set)", style="dim")
    return Text(value if isinstance(value, str) else f"{value:g}")
