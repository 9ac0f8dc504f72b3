"""The words of a query are marked in the passages and titles that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.paths.conftest import SECONDS, Family
from tests.paths.walking import hits, walk
from trireme.v1 import document_pb2, search_pb2

TEXT = "Über Wale: whales are running, and the WHALE runs. Ends."


def words(text: str, spans: Sequence[search_pb2.TextSpan]) -> list[str]:
    return [text.encode()[span.start_byte : span.end_byte].decode() for span in spans]


async def put(family: Family, collection: str, count: int) -> document_pb2.Position:
    documents = [
        document_pb2.Document(id=f"d{n:02}", title=f"Whale {n}", text=TEXT) for n in range(count)
    ]
    reply = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=collection, documents=documents),
        timeout=SECONDS,
    )
    position: document_pb2.Position = reply.position
    return position


async def test_words_are_marked_as_the_lexical_leg_takes_them(
    family: Family, collection: str
) -> None:
    position = await put(family, collection, 1)

    reply = await family.search(collection, "whales run", min_position=position, highlight=True)

    (hit,) = reply.hits
    assert words(TEXT, hit.highlights) == ["whales", "running", "WHALE", "runs"]
    assert words("Whale 0", hit.title_highlights) == ["Whale"]


async def test_nothing_else_changes_with_the_marks(family: Family, collection: str) -> None:
    position = await put(family, collection, 15)
    fields: dict[str, Any] = {"min_position": position, "page_size": 4}

    plain = hits(await walk(family, collection, "whale", **fields))
    marked = hits(await walk(family, collection, "whale", highlight=True, **fields))

    assert len(plain) == 15
    assert all(hit.highlights and hit.title_highlights for hit in marked)
    for hit in marked:
        hit.ClearField("highlights")
        hit.ClearField("title_highlights")
    assert marked == plain


async def test_marks_stand_in_groups_too(family: Family, collection: str) -> None:
    position = await put(family, collection, 3)

    reply = await family.search(
        collection, "whale", min_position=position, highlight=True, group_by="none"
    )

    assert [len(hit.highlights) for group in reply.groups for hit in group.hits] == [2]
