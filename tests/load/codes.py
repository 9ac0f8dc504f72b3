"""How many codes of an index FAISS looks at per second of one core: python -m tests.load.codes

FAISS alone, random vectors, one thread, processor time, as a base for docs/operations/sizing.md.
"""

from __future__ import annotations

import time

import faiss
import numpy as np

from core.similarity import COSINE
from core.vectors.kinds import IVF_PQ, IVF_SQ8, KINDS, METRICS

VECTORS = 100_000
DIMENSION = 384
LISTS = 512
PROBED = 170
QUERIES = 64
WANTED = 100


def main() -> None:
    faiss.omp_set_num_threads(1)
    drawn = np.random.default_rng(1)
    vectors = drawn.standard_normal((VECTORS, DIMENSION), dtype=np.float32)
    faiss.normalize_L2(vectors)
    noise = drawn.standard_normal((QUERIES, DIMENSION), dtype=np.float32) / DIMENSION**0.5
    queries = vectors[:QUERIES] + noise / 2
    for name in (IVF_PQ, IVF_SQ8):
        kind = KINDS[name]
        index = kind.make(DIMENSION, METRICS[COSINE], LISTS)
        index.train(vectors[: 48 * LISTS])
        index.add(vectors)
        index.nprobe = PROBED
        fetched = round(WANTED * kind.fetched)
        started = time.process_time()
        for query in queries:
            index.search(query[None], fetched)
        seconds = time.process_time() - started
        codes = QUERIES * VECTORS * PROBED / LISTS
        print(f"{name}: {codes / seconds / 1e6:.0f} million codes per second and core")


if __name__ == "__main__":
    main()
