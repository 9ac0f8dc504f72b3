"""A retriever for LangChain; needs the extra `langchain`."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr, SecretStr

from deploy.integrations.searching import Found, Mode, Options, Searcher


class TriremeRetriever(BaseRetriever):  # type: ignore[misc]
    """Finds passages by `invoke` and `ainvoke`; fields are as in `searching.Options`."""

    address: str
    collection: str
    k: int = 10
    api_key: SecretStr = SecretStr("")
    mode: Mode = "hybrid"
    filter: str = ""
    rerank: bool | None = None
    whole_documents: bool = False
    seconds: float = 2.0
    ca_file: str = ""
    _searcher: Searcher = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Raises what `Searcher` raises."""
        options = Options(
            mode=self.mode,
            filter=self.filter,
            rerank=self.rerank,
            whole_documents=self.whole_documents,
            seconds=self.seconds,
            ca_file=self.ca_file,
        )
        key = self.api_key.get_secret_value()
        self._searcher = Searcher(self.address, self.collection, key, options)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [_document(found) for found in self._searcher.search(query, self.k)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = await self._searcher.search_async(query, self.k)
        return [_document(each) for each in found]


def _document(found: Found) -> Document:
    metadata = {**found.metadata, "score": found.score}
    return Document(id=found.id, page_content=found.text, metadata=metadata)
