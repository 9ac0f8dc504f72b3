"""Copies of collections that outlive them, kept in a directory or a bucket.

    snapshots/<name>/manifest.json    created last: without it there is no such snapshot
    snapshots/<name>/files/<sha256>   documents as JSON lines, compressed, in the feed's order

Start with `snapshots.Snapshots`. May import: core, indexer.
"""
