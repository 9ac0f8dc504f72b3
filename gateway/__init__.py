"""The front of the query path: one address for every client.

Start with `search`, which tells what happens to a query in order. `fusion` and `planning` are pure;
`topology` knows which shard serves what; `scatter` asks shards; `passthrough` hands document and
collection calls to the indexer unread. `inference` tells what happens to texts without an index.
May import: `core` and the stubs. No index libraries here.
"""
