"""Vector indexes on GPUs: clones of the published ones, which stay what they are, on the CPU.

Start with `placement` (which index goes where), then `engine` (one search on a clone). `device`
says what is asked of GPUs, `faiss_device` asks FAISS for it, `probe` finds out whether they can be
trusted. May import: core.
"""
