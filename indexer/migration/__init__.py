"""A collection moves to another index while it is searched and written: built beside, compared,
switched, taken back or released.

Start with `migrations`, which tells it in order; `states` says what may follow what. May import
what `indexer` may.
"""
