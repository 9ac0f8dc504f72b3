"""The write path: accepts documents, stores them, embeds them, builds and publishes indexes.

Start with `ingest` (one shard's way from change to published generation, told in order) and `store`
(what an acknowledgement means); `changes`, `passages` and `merge` are pure.
May import: `core`, the generated stubs in the servicers, and libraries. No other role.
"""
