"""A retriever for Haystack; needs the extra `haystack`."""

from __future__ import annotations

from typing import Any, Unpack

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret

from deploy.integrations.searching import Found, Options, Searcher


@component
class TriremeRetriever:
    """Finds passages in a pipeline; options are as in `searching.Options`.

    `api_key` is a Secret of the environment, so that a pipeline can be written to a file.
    """

    def __init__(
        self,
        address: str,
        collection: str,
        *,
        top_k: int = 10,
        api_key: Secret | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Raises what `Searcher` raises."""
        self._address = address
        self._collection = collection
        self._top_k = top_k
        self._api_key = api_key
        self._options = options
        key = api_key.resolve_value() if api_key is not None else None
        self._searcher = Searcher(address, collection, key or "", options)

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """The best documents for a query."""
        found = self._searcher.search(query, top_k or self._top_k)
        return {"documents": [_document(each) for each in found]}

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    async def run_async(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """The same in an asynchronous pipeline."""
        found = await self._searcher.search_async(query, top_k or self._top_k)
        return {"documents": [_document(each) for each in found]}

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are written to files."""
        written: dict[str, Any] = default_to_dict(
            self,
            address=self._address,
            collection=self._collection,
            top_k=self._top_k,
            api_key=self._api_key,
            **self._options,
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TriremeRetriever:
        """As pipelines are read from files."""
        made: TriremeRetriever = default_from_dict(cls, data)
        return made


def _document(found: Found) -> Document:
    return Document(id=found.id, content=found.text, meta=found.metadata, score=found.score)
