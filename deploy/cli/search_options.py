"""The options that say what to search, the same for `trireme search` and `trireme explain`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from deploy.cli.ranking_options import ranking_options
from trireme.v1 import lexical_pb2, ranking_pb2, search_pb2

MODES = {
    "hybrid": search_pb2.SEARCH_MODE_HYBRID,
    "dense": search_pb2.SEARCH_MODE_DENSE,
    "lexical": search_pb2.SEARCH_MODE_LEXICAL,
    "sparse": search_pb2.SEARCH_MODE_SPARSE,
}
SYNTAXES = {
    "words": lexical_pb2.QUERY_SYNTAX_WORDS,
    "operators": lexical_pb2.QUERY_SYNTAX_OPERATORS,
}
_OPTIONS = (
    click.argument("collection"),
    click.argument("query"),
    click.option("--top", type=int, default=10, show_default=True, help="Hits wanted on a page."),
    click.option("--mode", type=click.Choice(list(MODES)), default="hybrid", show_default=True),
    click.option("--group-by", metavar="ATTRIBUTE", default="", help="One group for each value."),
    click.option("--group-size", type=int, default=0, help="Hits per group. Default: 1."),
    click.option(
        "--min-coverage", type=float, help="Share of the collection that must answer, 0 to 1."
    ),
    click.option(
        "--syntax",
        type=click.Choice(list(SYNTAXES)),
        default="words",
        show_default=True,
        help='operators: "a phrase", +required, -excluded.',
    ),
    click.option("--highlight", is_flag=True, help="Mark the query's words."),
    click.option(
        "--filter",
        "filter_",
        metavar="EXPR",
        default="",
        help="Only documents that match, as in 'year >= 2020 AND tags : \"nlp\" AND NOT draft'.",
    ),
)

Function = TypeVar("Function", bound=Callable[..., Any])


def search_options(function: Function) -> Function:
    """Adds the arguments and options; the command gets `request`, the SearchRequest they make."""

    @wraps(function)
    def command(
        *,
        collection: str,
        query: str,
        top: int,
        mode: str,
        group_by: str,
        group_size: int,
        min_coverage: float | None,
        syntax: str,
        highlight: bool,
        filter_: str,
        ranking: ranking_pb2.SearchDefaults,
        **others: Any,
    ) -> Any:
        request = search_pb2.SearchRequest(
            collection=collection,
            query=query,
            page_size=top,
            mode=MODES[mode],
            fusion=ranking.fusion,
            rerank=ranking.rerank,
            window=ranking.window,
            group_by=group_by,
            group_size=group_size,
            min_coverage=min_coverage,
            query_syntax=SYNTAXES[syntax],
            highlight=highlight,
            filter=filter_,
        )
        return function(request=request, **others)

    command = ranking_options(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]
