"""`trireme migrate`: a collection moves to another index while it is searched and written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToJson

from deploy.cli.beir import read_judgements, read_queries
from deploy.cli.chosen_models import model_of
from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.migration_page import SOON, headline, page
from trireme.v1 import collection_pb2, lexical_pb2, migration_pb2, migration_pb2_grpc

CALL_SECONDS = 30.0
LOOK_SECONDS = 0.5
NONE = "none"
BEGINNING = ("to", "sparse_to", "max_tokens", "dimensions", "language", "rebuild")
"""Options of which any one begins a migration."""

SHOW, COMPARE, SWITCH, ROLLBACK, FINISH = "show", "compare", "switch", "rollback", "finish"

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("collection")
@click.option("--to", metavar="MODEL[:VERSION]", default="", help="Encoder of the new index.")
@click.option(
    "--sparse-to",
    metavar="MODEL[:VERSION]",
    help="Sparse encoder of the new index; `none` for no learned-sparse leg.",
)
@click.option("--max-tokens", type=click.IntRange(0), default=0, help="Tokens per passage.")
@click.option("--dimensions", type=click.IntRange(0), default=0, help="Components per vector.")
@click.option("--language", metavar="CODE", default="", help="Of the words of the new index.")
@click.option("--rebuild", is_flag=True, help="Begin though nothing is to be different.")
@click.option("--queries", type=_FILE, help="Compare by these: JSON lines with _id and text.")
@click.option("--qrels", type=_FILE, help="Their judgments: query, document, grade, by tabs.")
@click.option(
    "--live-queries",
    type=click.IntRange(0, 1000),
    default=0,
    help="Compare by so many of the latest queries that a gateway remembers.",
)
@click.option("--min-overlap", type=click.FloatRange(0, 1), default=0.0, help="Of the first ten.")
@click.option("--max-ndcg-loss", type=click.FloatRange(0, 1), help="Of nDCG@10, with certainty.")
@click.option("--tokens-per-second", type=click.IntRange(0), default=0, help="Limit of building.")
@click.option("--auto-switch", is_flag=True, help="Switch as soon as the gate is passed.")
@click.option("--compare", "act", flag_value=COMPARE, help="Compare again, or by --queries.")
@click.option("--switch", "act", flag_value=SWITCH, help="Let the new index answer.")
@click.option("--rollback", "act", flag_value=ROLLBACK, help="End it with the index of before.")
@click.option("--finish", "act", flag_value=FINISH, help="End it, and give the old index up.")
@click.option("--force", is_flag=True, help="Switch without a passed gate; or though one lags.")
@click.option("--wait/--no-wait", default=True, help="Wait until there is something to decide.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def migrate(collection: str, act: str | None, wait: bool, as_json: bool, **said: Any) -> None:
    """Move COLLECTION to another encoder version or other settings, or see how far that is.

    A new index is built beside the one that answers, compared with it, and takes its place.
    Searches and writes go on. The old index follows until --finish, so that --rollback is one call.
    """
    begins = any(said[option] for option in BEGINNING)
    if begins and act:
        raise click.UsageError(f"--{act} is about a migration that has begun; leave the rest out")
    if said["qrels"] and not said["queries"]:
        raise click.UsageError("--qrels are judgments of --queries; give these too")
    with connected(said["address"]) as channel:
        stub = migration_pb2_grpc.MigrationServiceStub(channel)
        found = _begin(stub, collection, said) if begins else _act(stub, collection, act, said)
        if wait and (begins or act == COMPARE):
            found = _follow(stub, found)
    if as_json:
        click.echo(MessageToJson(found, preserving_proto_field_name=True))
        return
    console.print(page(found))


def _begin(
    stub: migration_pb2_grpc.MigrationServiceStub, collection: str, said: dict[str, Any]
) -> migration_pb2.Migration:
    sparse, language = said["sparse_to"] or "", said["language"]
    request = migration_pb2.MigrateCollectionRequest(
        collection=collection,
        encoder=model_of(said["to"]),
        sparse_encoder=collection_pb2.ModelVersion() if sparse == NONE else model_of(sparse),
        passaging=collection_pb2.Passaging(max_tokens=said["max_tokens"]),
        dimensions=said["dimensions"],
        tokens_per_second=said["tokens_per_second"],
        queries=_queries(said),
        live_queries=said["live_queries"],
        gate=migration_pb2.Gate(
            min_overlap=said["min_overlap"], max_ndcg_loss=said["max_ndcg_loss"]
        ),
        auto_switch=said["auto_switch"],
        lexical=lexical_pb2.LexicalSettings(language=language) if language else None,
    )
    return stub.MigrateCollection(request, timeout=CALL_SECONDS).migration


def _act(
    stub: migration_pb2_grpc.MigrationServiceStub,
    collection: str,
    act: str | None,
    said: dict[str, Any],
) -> migration_pb2.Migration:
    named: dict[str, Any] = {"collection": collection}
    forced = {**named, "force": said["force"]}
    calls: dict[str, tuple[grpc.UnaryUnaryMultiCallable[Any, Any], Any]] = {
        SHOW: (stub.GetMigration, migration_pb2.GetMigrationRequest(**named)),
        COMPARE: (
            stub.CompareMigration,
            migration_pb2.CompareMigrationRequest(**named, queries=_queries(said)),
        ),
        SWITCH: (stub.SwitchMigration, migration_pb2.SwitchMigrationRequest(**forced)),
        ROLLBACK: (stub.RollbackMigration, migration_pb2.RollbackMigrationRequest(**forced)),
        FINISH: (stub.FinishMigration, migration_pb2.FinishMigrationRequest(**named)),
    }
    call, request = calls[act or SHOW]
    found: migration_pb2.Migration = call(request, timeout=CALL_SECONDS).migration
    return found


def _queries(said: dict[str, Any]) -> list[migration_pb2.ShadowQuery]:
    if said["queries"] is None:
        return []
    judgments = read_judgements(said["qrels"]) if said["qrels"] else {}
    return [
        migration_pb2.ShadowQuery(text=text, judgments=judgments.get(id, {}))
        for id, text in read_queries(said["queries"]).items()
    ]


def _follow(
    stub: migration_pb2_grpc.MigrationServiceStub, found: migration_pb2.Migration
) -> migration_pb2.Migration:
    """The migration once there is something to decide, with a line of progress until then."""
    request = migration_pb2.GetMigrationRequest(collection=found.collection)
    with console.status(headline(found)) as line:
        while _goes_on(found):
            time.sleep(LOOK_SECONDS)
            found = stub.GetMigration(request, timeout=CALL_SECONDS).migration
            line.update(headline(found))
    return found


def _goes_on(found: migration_pb2.Migration) -> bool:
    """Whether it moves on without being told to."""
    waits_to_switch = found.auto_switch and found.state == migration_pb2.MIGRATION_STATE_READY
    return found.state in SOON or waits_to_switch
