"""Stores a few documents and searches them, call by call: python search.py [HOST:PORT]."""

import sys

import grpc

from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

TEXTS = {
    "oars": "A trireme was rowed by 170 men in three rows.",
    "sails": "Merchant ships relied on sails and the wind.",
    "salt": "The tax on salt was hated for centuries.",
}


def main(address: str) -> None:
    """Creates a collection, writes, reads its own writes, and removes it again."""
    with grpc.insecure_channel(address) as channel:
        collections = collection_pb2_grpc.CollectionServiceStub(channel)
        documents = document_pb2_grpc.DocumentServiceStub(channel)
        searches = search_pb2_grpc.SearchServiceStub(channel)

        collection = collection_pb2.Collection(name="example-search")
        collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=collection), timeout=10
        )
        try:
            written = documents.UpsertDocuments(
                document_pb2.UpsertDocumentsRequest(
                    collection=collection.name,
                    documents=[document_pb2.Document(id=i, text=t) for i, t in TEXTS.items()],
                ),
                timeout=10,
            )
            # `min_position` waits until the search can see what was just written.
            request = search_pb2.SearchRequest(
                collection=collection.name,
                query="how many people rowed a trireme?",
                min_position=written.position,
            )
            reply = searches.Search(request, timeout=10)
            for hit in reply.hits:
                print(f"{hit.score:.3f}  {hit.document.id:6} {hit.document.text}")
            for shortfall in reply.degraded:
                print("degraded:", shortfall.message)
        finally:
            collections.DeleteCollection(
                collection_pb2.DeleteCollectionRequest(name=collection.name), timeout=10
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080")
