"""Many searches side by side in one event loop: python search_asyncio.py COLLECTION [HOST:PORT]."""

import asyncio
import sys

import grpc

from trireme.v1 import search_pb2, search_pb2_grpc

QUERIES = ["ships with sails", "ships with oars", "a tax on salt"]


async def main(collection: str, address: str) -> None:
    """Prints the best document for each query, and what was refused."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        calls = [
            stub.Search(
                search_pb2.SearchRequest(collection=collection, query=query, page_size=1),
                timeout=10,
            )
            for query in QUERIES
        ]
        replies = await asyncio.gather(*calls, return_exceptions=True)
    for query, reply in zip(QUERIES, replies, strict=True):
        if isinstance(reply, grpc.RpcError):
            print(f"{query}: {reply.code().name}: {reply.details()}")
        elif isinstance(reply, BaseException):
            raise reply
        else:
            print(f"{query}: {', '.join(hit.document.id for hit in reply.hits) or 'nothing'}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8080"))
