"""Every role computes with one thread per operation, whoever starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deploy.local.children import same_python

pytest.importorskip("threadpoolctl")

SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
# Asked in a thread, as searches are: OpenMP counts for each thread anew.
PROGRAM = """
import importlib, json, sys
from concurrent.futures import ThreadPoolExecutor
importlib.import_module(sys.argv[1])
import faiss, numpy
from threadpoolctl import threadpool_info
with ThreadPoolExecutor(1) as pool:
    pools = pool.submit(threadpool_info).result()
    # By what makes the threads: one OpenBLAS makes its own, FAISS's takes those of OpenMP.
    made_by = [each.get("threading_layer") or each["internal_api"] for each in pools]
    print(json.dumps(dict(zip(made_by, [each["num_threads"] for each in pools]))))
"""


def pools(module: str, **settings: str) -> dict[str, int]:
    """Threads of each kind of pool in a process that has imported `module` first."""
    clean = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, module],
        env=same_python(clean) | settings,
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, int] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    "module", ["gateway.__main__", "gateway.worker", "shard.__main__", "indexer.__main__"]
)
def test_a_role_computes_with_one_thread(module: str) -> None:
    found = pools(module)

    assert {"openmp", "pthreads"} <= set(found)
    assert set(found.values()) == {1}


def test_what_the_environment_says_holds() -> None:
    found = pools("shard.__main__", OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="2")

    assert found["openmp"] == 3
    assert found["pthreads"] == 2
