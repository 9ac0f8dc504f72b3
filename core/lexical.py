"""The lexical leg's candidates: one Tantivy index per shard, a Tantivy document per live document.

Fields: `sequence` (the document's key, a fast field), `id` (raw, to delete by) and `body` (title
and text together, as `analysis` has them; with the places of words since format 4). Tantivy scores
by its own statistics, which count deleted documents too, and cannot be told others; so it only
finds candidates, with its weight of each term corrected, and `matching` scores these exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray

from core import bm25, fsops
from core.analysis import ENGLISH_ANALYZER, Analyzer, Phrase
from core.errors import CorruptFile, TriremeError
from core.lexical_index import BODY, META, committed_files, failures, manage_files, open_index

_HEAP_BYTES = 64 * 1024 * 1024
# A query's terms are counted, then searched for; many come back in other queries.
_KEPT_TERMS = 4096


class LexicalWriter:
    """Writes the index of one shard. Not safe to share between threads."""

    def __init__(self, directory: Path, index: tantivy.Index, analyzer: Analyzer) -> None:
        self._directory = directory
        self._analyzer = analyzer
        self._writer = index.writer(_HEAP_BYTES, 1)

    @classmethod
    def open(cls, directory: Path, analyzer: Analyzer = ENGLISH_ANALYZER) -> LexicalWriter:
        """Continues the index in a directory, or starts one if it is empty.

        Raises CorruptFile if the directory holds something else.
        """
        with failures(CorruptFile, f"cannot open the lexical index in {directory}"):
            index, _ = open_index(directory, analyzer)
            manage_files(directory)
            return cls(directory, index, analyzer)

    def put(
        self, sequence: int, document_id: str, title: str, text: str, *, is_new: bool = False
    ) -> None:
        """Adds a document in place of any earlier one of its id, from the next commit on.

        With `is_new` there is none, and the commit need not look for it in every segment.
        """
        document = tantivy.Document(id=document_id)
        document.add_unsigned("sequence", sequence)
        for value in self._analyzer.values(title, text):
            if isinstance(value, str):
                document.add_text(BODY, value)
            else:
                document.add_pre_tokenized_text(BODY, value)
        with self._writing():
            if not is_new:
                self._writer.delete_documents_by_term("id", document_id)
            self._writer.add_document(document)

    def delete(self, document_id: str) -> None:
        """Removes a document, if it is there, from the next commit on."""
        with self._writing():
            self._writer.delete_documents_by_term("id", document_id)

    def commit(self) -> None:
        """Makes everything so far part of the index."""
        with self._writing():
            self._writer.commit()

    def export(self, directory: Path) -> tuple[Path, ...]:
        """Hard-links the files of the last commit into an empty directory and returns their paths.

        Tantivy merges in the background and may replace `meta.json` and remove files at any moment;
        files are only removed after that, so an unchanged `meta.json` means that all were caught.
        """
        while True:
            meta = (self._directory / META).read_bytes()
            try:
                for name in committed_files(self._directory, meta):
                    fsops.link_file(self._directory / name, directory / name)
            except TriremeError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            if (self._directory / META).read_bytes() == meta:
                fsops.write_file(directory / META, meta)
                return tuple(sorted(directory.iterdir()))
            for path in directory.iterdir():
                path.unlink()

    def close(self) -> None:
        """Gives up what is not committed and frees the directory."""
        with self._writing():
            self._writer.rollback()
        del self._writer

    def _writing(self) -> AbstractContextManager[None]:
        return failures(TriremeError, f"cannot write the lexical index in {self._directory}")


@dataclass(frozen=True, slots=True, eq=False)
class LexicalMatches:
    """Documents that Tantivy found: their `sequences`, int64, best first.

    The others, none if `complete`, have at most the `lowest` score, to which the terms that could
    not be scored may add `unscored`. `mean_length` is the one that was scored with.
    """

    sequences: NDArray[np.int64]
    lowest: float
    unscored: float
    complete: bool
    mean_length: float


class LexicalReader:
    """One committed state of an index; immutable and safe to share between threads.

    `mean_length` is the one that Tantivy scores with, 0 before the first match. Without
    `has_positions` an earlier format wrote it, which did not keep the places of words.
    """

    def __init__(
        self, index: tantivy.Index, analyzer: Analyzer, rows: int, has_positions: bool
    ) -> None:
        self.analyzer = analyzer
        self.has_positions = has_positions
        self.mean_length = 0.0
        self._schema = index.schema
        self._searcher = index.searcher()
        self._rows = rows
        self._doc_freq = lru_cache(_KEPT_TERMS)(partial(self._searcher.doc_freq, BODY))

    @classmethod
    def open(cls, directory: Path, analyzer: Analyzer = ENGLISH_ANALYZER) -> LexicalReader:
        """Opens verified files in a writable directory (Tantivy puts a lock file beside them).

        Raises CorruptFile if they are not an index of this version.
        """
        with failures(CorruptFile, f"cannot open the lexical index in {directory}"):
            index, has_positions = open_index(directory, analyzer)
            index.config_reader("manual")
            segments = json.loads((directory / META).read_bytes())["segments"]
            rows = sum(segment["max_doc"] for segment in segments)
            return cls(index, analyzer, rows, has_positions)

    @property
    def document_count(self) -> int:
        """Live documents."""
        return int(self._searcher.num_docs)

    def count(self, terms: Iterable[str]) -> dict[str, int]:
        """How many live documents have each of the terms."""
        with failures(CorruptFile, "cannot search the lexical index"):
            if self.document_count == self._rows:
                return {term: self._doc_freq(term) for term in terms}
            return {term: self._count_live(term) for term in terms}

    def search(self, weights: Mapping[str, float], limit: int) -> LexicalMatches:
        """The `limit` documents with the highest sums of weight * f / (f + K), as `bm25` has them.

        K takes Tantivy's mean length, sums are in float32; ties are cut anywhere. Tantivy counts
        every match: without that it skips blocks of documents by bounds that do not hold once an
        index has segments of different mean lengths.
        """
        with failures(CorruptFile, "cannot search the lexical index"):
            clauses, unscored = self._clauses(weights)
            query = tantivy.Query.boolean_query(clauses)
            found: Any = self._searcher.search(query, limit, count=True)
            hits = found.hits
            addresses = [address for _, address in hits]
            if hits and not self.mean_length:
                explanation = query.explain(self._searcher, addresses[0]).to_json()
                self.mean_length = _mean_length(json.loads(explanation))
            sequences = self._searcher.fast_field_values("sequence", addresses)
            return LexicalMatches(
                sequences=np.array(sequences, np.int64),
                lowest=hits[-1][0] if hits else 0.0,
                unscored=unscored,
                complete=len(hits) == found.count,
                mean_length=self.mean_length,
            )

    def holding(self, phrases: Sequence[Phrase]) -> NDArray[np.int64]:
        """Sequences of the live documents that hold every one of the phrases.

        Without positions a phrase is its words wherever they stand.
        """
        with failures(CorruptFile, "cannot search the lexical index"):
            clauses = [(tantivy.Occur.Must, self._phrase(each)) for each in phrases]
            query = tantivy.Query.const_score_query(tantivy.Query.boolean_query(clauses), 1.0)
            first: Any = self._searcher.search(query, 1, count=True)
            found: Any = self._searcher.search(query, max(1, first.count), count=False)
            addresses = [address for _, address in found.hits]
            return np.array(self._searcher.fast_field_values("sequence", addresses), np.int64)

    def _phrase(self, phrase: Phrase) -> tantivy.Query:
        if len(phrase) > 1 and self.has_positions:
            return tantivy.Query.phrase_query(self._schema, BODY, list(phrase))
        words = [(tantivy.Occur.Must, self._term(term)) for _, term in phrase]
        return tantivy.Query.boolean_query(words)

    def _clauses(
        self, weights: Mapping[str, float]
    ) -> tuple[list[tuple[tantivy.Occur, tantivy.Query]], float]:
        """A clause per term that is here, its own weight replaced by ours.

        Where that is nothing in float32, ours is lost: the second value sums those.
        """
        holding = [self._doc_freq(term) for term in weights]
        own = (bm25.tantivy_idf(self._rows, holding) * (bm25.K1 + 1)).tolist()
        clauses, unscored = [], 0.0
        for (term, weight), here, theirs in zip(weights.items(), holding, own, strict=True):
            if not here:
                continue
            unscored += 0.0 if theirs else weight
            query = tantivy.Query.boost_query(self._term(term), weight / theirs if theirs else 1.0)
            clauses.append((tantivy.Occur.Should, query))
        return clauses, unscored

    def _count_live(self, term: str) -> int:
        found: Any = self._searcher.search(self._term(term), 1, count=True)
        return int(found.count)

    def _term(self, term: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, BODY, term, "freq")


def count_dead(directory: Path) -> int:
    """Documents that the last commit in a directory has removed but not yet dropped."""
    with failures(CorruptFile, f"cannot read the lexical index in {directory}"):
        segments = json.loads((directory / META).read_bytes())["segments"]
        return sum(each["deletes"]["num_deleted_docs"] for each in segments if each["deletes"])


def _mean_length(explanation: Mapping[str, Any]) -> float:
    """The mean length that Tantivy scores with, from its explanation of a score."""
    if explanation["description"].startswith("avgdl"):
        return float(explanation["value"])
    return max(map(_mean_length, explanation.get("details", ())), default=0.0)
