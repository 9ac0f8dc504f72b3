"""Walks over all pages of an answer, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tests.paths.conftest import Client
from trireme.v1 import search_pb2


async def pages(
    client: Client, collection: str, query: str, **fields: Any
) -> AsyncIterator[search_pb2.SearchResponse]:
    """Every page, one after another."""
    token = ""
    while True:
        page = await client.search(collection, query, page_token=token, **fields)
        yield page
        token = page.next_page_token
        if not token:
            return


async def walk(
    client: Client, collection: str, query: str, **fields: Any
) -> list[search_pb2.SearchResponse]:
    """All pages."""
    return [page async for page in pages(client, collection, query, **fields)]


def hits(walked: list[search_pb2.SearchResponse]) -> list[search_pb2.Hit]:
    """The hits of all pages, in order."""
    return [hit for page in walked for hit in page.hits]
