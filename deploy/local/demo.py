"""`make demo`: a real cluster, real documents, real questions, and what happened at each stage."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from core.rpc import CHANNEL_OPTIONS
from core.wire import attributes_to_json
from deploy.cli.client import console
from deploy.cli.cluster import started_cluster
from deploy.cli.explain import print_explanation
from deploy.cli.hits import print_hits
from deploy.cli.index import index_files
from deploy.cli.reply import print_settings, print_shortfalls, print_timings
from deploy.cli.status import list_collections, print_collections
from deploy.local.cluster import ClusterConfig
from deploy.local.docstrings import standard_library
from trireme.v1 import search_pb2, search_pb2_grpc

COLLECTION = "python-docs"
SHARDS = 2
TOP = 3
WANTED_QUESTIONS = 5
DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the entries that answer it; one of them should be in the top 3."""

    text: str
    answers: frozenset[str]


# Something that looks right and is not among the first, for the question that it stands under.
MISSED = ("cache the results of a function call", "functools.partial")
QUESTIONS = (
    Question("how do I compress bytes with gzip?", frozenset({"gzip.compress"})),
    Question(
        "find the most common elements of a list",
        frozenset({"collections.Counter.most_common", "statistics.multimode"}),
    ),
    Question(
        "create a temporary directory that is deleted afterwards",
        frozenset({"tempfile.TemporaryDirectory"}),
    ),
    Question(
        "cache the results of a function call",
        frozenset({"functools.lru_cache", "functools.cache"}),
    ),
    Question(
        "run a shell command and capture its output",
        frozenset({"subprocess.check_output", "subprocess.getoutput", "subprocess.run"}),
    ),
    Question("how to copy a directory tree", frozenset({"shutil.copytree"})),
)


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trireme-demo-") as folder:
        console.rule("1. a cluster on this machine")
        config = ClusterConfig(state=Path(folder) / "state", shards=SHARDS, port=0)
        with started_cluster(config) as cluster:
            console.print(f"gateway at [bold]{cluster.address}[/]")
            options = list(CHANNEL_OPTIONS)
            with grpc.insecure_channel(cluster.address, options=options) as channel:
                _index(channel, Path(folder))
                stub = search_pb2_grpc.SearchServiceStub(channel)
                answered = _ask(stub)
                _explain(stub)
    seconds = time.monotonic() - started
    console.rule("6. done")
    verdict = f"{answered} of {len(QUESTIONS)} questions have the right entry in the top {TOP}"
    console.print(f"[bold]{verdict}[/] ({seconds:.0f} s, everything stopped)")
    return 0 if answered >= WANTED_QUESTIONS else 1


def _index(channel: grpc.Channel, folder: Path) -> None:
    console.rule("2. documents: the docstrings of Python's standard library")
    path = write_docstrings(folder / "docstrings.jsonl")
    lines = path.read_text().splitlines()
    console.print(f"{len(lines):,} entries; here is one:")
    console.print_json(next(line for line in lines if '"gzip.compress"' in line))
    console.rule("3. stored, embedded by Triton, indexed, published")
    started = time.monotonic()
    index_files(channel, COLLECTION, (path,), wait=True)
    console.print(f"searchable after {time.monotonic() - started:.0f} s")
    print_collections(list_collections(channel))


def _ask(stub: search_pb2_grpc.SearchServiceStub) -> int:
    console.rule("4. questions, the first with all that decided")
    return sum(
        _answered(stub, question, explain=number == 0) for number, question in enumerate(QUESTIONS)
    )


def _answered(
    stub: search_pb2_grpc.SearchServiceStub, question: Question, *, explain: bool
) -> bool:
    reply = stub.Search(_request(question.text), timeout=DEADLINE_SECONDS)
    rank = _rank(reply.hits, question.answers)
    console.print(f"\n[bold cyan]{question.text}[/]")
    print_hits(reply, explain=explain)
    if explain:
        print_settings(reply)
        print_timings(reply)
    print_shortfalls(reply)
    found = f"right entry at rank {rank}" if rank else f"right entry not in the top {TOP}"
    milliseconds = reply.total_microseconds / 1000
    console.print(f"[{'green' if rank else 'red'}]{found}[/] [dim]({milliseconds:.0f} ms)[/]")
    return rank is not None


def _explain(stub: search_pb2_grpc.SearchServiceStub) -> None:
    text, document_id = MISSED
    console.rule(f"5. why is {document_id} not there?")
    request = search_pb2.ExplainHitRequest(search=_request(text), document_id=document_id)
    console.print(f"[bold cyan]{text}[/]")
    print_explanation(stub.ExplainHit(request, timeout=DEADLINE_SECONDS), document_id)


def _request(question: str) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(
        collection=COLLECTION, query=question, page_size=TOP, highlight=True
    )


def _rank(hits: Sequence[search_pb2.Hit], answers: frozenset[str]) -> int | None:
    ranks = (rank for rank, hit in enumerate(hits, start=1) if hit.document.id in answers)
    return next(ranks, None)


def write_docstrings(path: Path) -> Path:
    """Writes the standard library's docstrings as JSON lines."""
    with path.open("w") as lines:
        for document in standard_library():
            own = {"_id": document.id, "title": document.title, "text": document.text}
            print(json.dumps({**own, **attributes_to_json(document.attributes)}), file=lines)
    return path


if __name__ == "__main__":
    sys.exit(main())
