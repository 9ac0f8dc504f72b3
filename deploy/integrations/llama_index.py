"""A retriever for LlamaIndex; needs the extra `llama-index`."""

from __future__ import annotations

from typing import Unpack

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from deploy.integrations.searching import Found, Options, Searcher


class TriremeRetriever(BaseRetriever):  # type: ignore[misc]
    """Finds passages by `retrieve` and `aretrieve`; options are as in `searching.Options`."""

    def __init__(
        self,
        address: str,
        collection: str,
        *,
        similarity_top_k: int = 10,
        api_key: str = "",
        **options: Unpack[Options],
    ) -> None:
        """Raises what `Searcher` raises."""
        super().__init__()
        self._top_k = similarity_top_k
        self._searcher = Searcher(address, collection, api_key, options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._searcher.search(query_bundle.query_str, self._top_k)
        return [_node(each) for each in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = await self._searcher.search_async(query_bundle.query_str, self._top_k)
        return [_node(each) for each in found]


def _node(found: Found) -> NodeWithScore:
    # How a hit was found is for people who look into it, not for models that read it.
    hidden = ["provenance", "degraded", "id"]
    node = TextNode(
        id_=found.id,
        text=found.text,
        metadata=found.metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
    )
    return NodeWithScore(node=node, score=found.score)
