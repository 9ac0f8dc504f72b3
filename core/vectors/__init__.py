"""Nearest vectors of a segment: every kind of index behind one interface.

Start in `index`: a `VectorIndex` answers searches and scores rows. `kinds` is the table of what can
be built, `choosing` says which kind a segment gets, `sealing` builds and measures it. May import
FAISS and the plain modules of `core`, no role.
"""
