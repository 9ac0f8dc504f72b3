"""The index store: what the indexer publishes and the shards serve, as files under keys.

    format.json                                 {"format": 1}
    names.json                                  aliases and what collections are called inside
    <uid>/collection.json                       name, uid, shard count; before any manifest
    <uid>/DELETED                               the collection is gone; its tree is being removed
    <uid>/<shard>/files/<sha256>                immutable files, named by content
    <uid>/<shard>/manifests/<generation>-<epoch>.json   created, never overwritten
    <uid>/<shard>/CURRENT                       name of the newest published manifest

Publishing: `put_files`, `write_manifest`, then the compare-and-set in the document store, which is
the commit point, then `set_current`. CURRENT is a hint: a reader never goes to a lower (epoch,
generation). Two engines keep the keys: a directory (`local`) and S3 (`s3`).

Start with `store.IndexStore` and `shard_store.ShardStore`. May import: core.
"""

from core.index_store.location import Location
from core.index_store.shard_store import ShardStore, check_counts
from core.index_store.store import CollectionEntry, IndexStore

__all__ = ["CollectionEntry", "IndexStore", "Location", "ShardStore", "check_counts"]
