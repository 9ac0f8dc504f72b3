"""LanceDB's half of the comparison from our side: its environment, its order, its answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.cli.beir import Judged
from deploy.evaluation.measures import MeanNdcg
from deploy.models.sentence_model import packaged_minilm
from tests.load.report import rounded

LANCEDB = ("lancedb==0.40.0", "torch==2.13.0", "sentence-transformers==6.2.0")
CLIENTS = (1, 8)
# Queries that are asked beforehand, by search.
WARM_UP = {"hybrid": 50, "reranked": 5}
TOP = 10
# Documents that either side reranks.
DEPTH = 20
# Our passages are no longer, so their cross-encoder shall not have to read more either.
RERANK_TOKENS = 256
ROOT = Path(__file__).resolve().parents[2]

Figures = dict[str, dict[int, dict[str, Any]]]
"""By search and number of clients."""


@dataclass(frozen=True, slots=True)
class Side:
    """One system: figures, nDCG@10 of its hybrid search, memory in MB while it was measured.

    `reranked_documents` is how many a query's cross-encoder read on average. `build_seconds` is
    what embedding and indexing took, 0 where that was done in an earlier run.
    """

    figures: Figures
    ndcg: float
    memory_mb: float
    build_seconds: float
    reranked_documents: float


def measure_lancedb(work: Path, judged: Judged, seconds: float) -> Side:
    """LanceDB's figures, each with the number of threads of PyTorch that served it better."""
    python = _environment(work / "environment")
    order = work / "order.json"
    order.write_text(json.dumps(_order(work, judged, seconds)))
    command: list[str | Path] = [python, "-m", "tests.load.lancedb_table", order]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | quiet, stdout=subprocess.PIPE, text=True, check=True
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    told = {name: value for each in said if "search" not in each for name, value in each.items()}
    figures: Figures = {}
    for each in (each for each in said if "search" in each):
        print(json.dumps(rounded({"lancedb": each})), file=sys.stderr, flush=True)
        rows = figures.setdefault(each["search"], {})
        best = rows.get(each["clients"])
        if best is None or each["per_second"] > best["per_second"]:
            rows[each["clients"]] = each
    ndcg = MeanNdcg(judged.judgements).of(told["ranked"])
    return Side(
        figures=figures,
        ndcg=ndcg,
        memory_mb=told["memory_mb"],
        build_seconds=told.get("build_seconds", 0.0),
        reranked_documents=told["reranked_documents"],
    )


def _order(work: Path, judged: Judged, seconds: float) -> dict[str, Any]:
    cores = os.cpu_count() or 1
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
        "clients": CLIENTS,
        "threads": sorted({1, cores}),
        "seconds": seconds,
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
