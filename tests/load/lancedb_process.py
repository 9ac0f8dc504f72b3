"""LanceDB's half of the comparison from our side: its environment, its process, what it tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.cli.beir import Judged
from deploy.models.sentence_model import packaged_minilm
from tests.load.closed_loop import Measured

LANCEDB = ("lancedb==0.40.0", "torch==2.13.0", "sentence-transformers==6.2.0")
# Queries that are asked beforehand, by search.
WARM_UP = {"hybrid": 50, "reranked": 5}
TOP = 10
# Documents that either side reranks.
DEPTH = 20
# Our passages are no longer, so their cross-encoder shall not have to read more either.
RERANK_TOKENS = 256
ROOT = Path(__file__).resolve().parents[2]


class LanceDb:
    """A process of its own that holds the table; it does nothing unless it is asked.

    `told` is what it said of itself: the ids that it ranked, by query, and the like.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: dict[str, Any] = {}
        self._read("ready")

    def measure(
        self, search: str, *, clients: int, threads: int, seconds: float, fewest: int
    ) -> Measured:
        """Its figures with so many clients, PyTorch being given so many `threads`."""
        order = {"search": search, "clients": clients, "threads": threads}
        self._ask(order | {"seconds": seconds, "fewest": fewest})
        return Measured(**self._read("measured"))

    def memory_mb(self) -> float:
        """The most that it has held so far."""
        self._ask({})
        return float(self._read("memory_mb"))

    def _ask(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def _read(self, wanted: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if wanted in said:
                return said[wanted]
            self.told |= said
        raise RuntimeError("LanceDB's process has ended; what it wrote above says why")

    def __repr__(self) -> str:
        return f"<LanceDb, process {self._process.pid}>"


@contextmanager
def started_lancedb(work: Path, judged: Judged) -> Iterator[LanceDb]:
    """LanceDB with its table, which is made in `work` unless it is there."""
    python = _environment(work / "environment")
    order = work / "order.json"
    order.write_text(json.dumps(_order(work, judged)))
    command: list[str | Path] = [python, "-m", "tests.load.lancedb_table", order]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield LanceDb(process)
        finally:
            process.kill()


def _order(work: Path, judged: Judged) -> dict[str, Any]:
    return {
        "folder": str(work / "table"),
        "corpus": str(judged.corpus.absolute()),
        "queries": list(judged.queries.values()),
        "judged": dict(judged.queries),
        "model": str(packaged_minilm()),
        "cross_encoder": str(work / "cross_encoder"),
        "rerank_tokens": RERANK_TOKENS,
        "top": TOP,
        "depth": DEPTH,
        "warm_up": WARM_UP,
    }


def _environment(folder: Path) -> Path:
    """The Python of an environment that holds LanceDB and what its guide asks for beside it."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*install, *LANCEDB], check=True, stdout=sys.stderr)
        (folder / "ready").touch()
    return python
