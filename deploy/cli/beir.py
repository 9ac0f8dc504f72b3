"""Reads a collection in BEIR layout: corpus, queries and relevance judgements."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import BadEnvironment


@dataclass(frozen=True, slots=True)
class Judged:
    """A corpus file, its queries by id, and per query the judged documents with their grades."""

    name: str
    corpus: Path
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]

    @property
    def digest(self) -> str:
        """Tells this corpus from others of the same name."""
        return hashlib.sha256(self.corpus.read_bytes()).hexdigest()[:8]

    def only(self, queries: Collection[str]) -> Judged:
        """With these queries alone."""
        return replace(
            self,
            queries={id: text for id, text in self.queries.items() if id in queries},
            judgements={id: of for id, of in self.judgements.items() if id in queries},
        )


def load(folder: Path, split: str, max_queries: int | None) -> Judged:
    """The judged queries of one split, the first `max_queries` by id order of the file.

    Raises BadEnvironment naming the file that is missing or cannot be read.
    """
    judgements = read_judgements(folder / "qrels" / f"{split}.tsv")
    texts = read_queries(_either(folder, "queries.jsonl"))
    queries = {id: text for id, text in texts.items() if id in judgements}
    if not queries:
        raise BadEnvironment(f"no query of split {split!r} has a judgement", field=str(folder))
    chosen = dict(list(queries.items())[:max_queries])
    return Judged(
        name=folder.resolve().name,
        corpus=_either(folder, "corpus.jsonl"),
        queries=chosen,
        judgements={id: judgements[id] for id in chosen},
    )


def _either(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise BadEnvironment(
        f"has neither {name} nor {name}.gz",
        field=str(folder),
        remedy="give a folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv",
    )


def read_queries(path: Path) -> dict[str, str]:
    """Texts by id, from JSON lines with `_id` and `text`, plain or .gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return {str(row["_id"]): str(row["text"]) for row in rows}


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and document, from a table of these three with a head line.

    Raises BadEnvironment if it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))[1:]
    except OSError as error:
        raise BadEnvironment(
            "cannot be read", field=str(path), remedy="name another --split"
        ) from error
    judged: dict[str, dict[str, int]] = {}
    for query, document, grade in rows:
        judged.setdefault(query, {})[document] = int(float(grade))
    return judged
