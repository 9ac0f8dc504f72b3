"""The lexical leg: BM25 over one Tantivy index per shard, one Tantivy document per live document.

Fields: `sequence` (the document's key, a fast field), `id` (raw, to delete by) and `body` (title
and text together, folded to ASCII, lower case, English stems). A query is analysed like a text and
asked for term by term, so it is never parsed and cannot be a syntax error. Its stop words are left
out unless it has nothing else; a term that it repeats counts by BM25's k3. BM25 is Tantivy's: k1 =
1.2, b = 0.75. One field for both did better than separate boosted ones on the collections tried.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tantivy

from core import fsops
from core.errors import CorruptFile, StorageFull, TriremeError
from core.ranking import count_with_ties

META = "meta.json"
_MANAGED = ".managed.json"
_ANALYZER = "trireme_en"
_LONGEST_TERM = 40
_HEAP_BYTES = 64 * 1024 * 1024
_COMPONENTS = ("idx", "pos", "term", "store", "fast", "fieldnorm")
# Sums of float32 differ in their last bits with the order of terms; scores are rounded to this many
# decimals so that equal documents tie in whichever part of the index they lie.
_SCORE_DECIMALS = 4

# Okapi's saturation of a query's own term frequencies (Robertson et al., TREC-3): long queries
# repeat what they are about.
_K3 = 8.0
# Lucene's English stop words; their stems are themselves.
_STOP_TEXT = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there
    these they this to was will with
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


class LexicalWriter:
    """Writes the index of one shard. Not safe to share between threads."""

    def __init__(self, directory: Path, index: tantivy.Index) -> None:
        self._directory = directory
        self._writer = index.writer(_HEAP_BYTES, 1)

    @classmethod
    def open(cls, directory: Path) -> LexicalWriter:
        """Continues the index in a directory, or starts one if it is empty.

        Raises CorruptFile if the directory holds something else.
        """
        with _failures(CorruptFile, f"cannot open the lexical index in {directory}"):
            index = tantivy.Index(_schema(), path=str(directory), reuse=True)
            index.register_tokenizer(_ANALYZER, _analyzer())
            _manage_files(directory)
            return cls(directory, index)

    def put(self, sequence: int, document_id: str, title: str, text: str) -> None:
        """Adds a document in place of any earlier one of its id, from the next commit on."""
        document = tantivy.Document(id=document_id, body=f"{title}\n{text}")
        document.add_unsigned("sequence", sequence)
        with self._writing():
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
                for name in _committed_files(self._directory, meta):
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
        return _failures(TriremeError, f"cannot write the lexical index in {self._directory}")


class LexicalReader:
    """One committed state of an index; immutable and safe to share between threads."""

    def __init__(self, index: tantivy.Index) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self._analyzer = _analyzer()

    @classmethod
    def open(cls, directory: Path) -> LexicalReader:
        """Opens verified files in a writable directory (Tantivy puts a lock file beside them).

        Raises CorruptFile if they are not an index of this version.
        """
        with _failures(CorruptFile, f"cannot open the lexical index in {directory}"):
            index = tantivy.Index(_schema(), path=str(directory), reuse=True)
            index.register_tokenizer(_ANALYZER, _analyzer())
            index.config_reader("manual")
            index.reload()
            return cls(index)

    @property
    def document_count(self) -> int:
        """Live documents."""
        return int(self._searcher.num_docs)

    def search(self, query: str, limit: int) -> tuple[list[int], list[float]]:
        """The best documents for any text, best first.

        Returns sequence numbers and BM25 scores of the best `limit` documents and of all that tie
        with the last.
        """
        terms = self._analyzer.analyze(query)
        if not terms or not self.document_count:
            return [], []
        with _failures(CorruptFile, "cannot search the lexical index"):
            return self._search(self._any_of(terms), limit)

    def _search(self, query: tantivy.Query, limit: int) -> tuple[list[int], list[float]]:
        wanted = limit + 8
        while True:
            hits = self._searcher.search(query, wanted, count=False).hits
            scores = np.round([score for score, _ in hits], _SCORE_DECIMALS).tolist()
            if len(hits) < wanted or scores[-1] < scores[limit - 1]:
                break
            wanted *= 4
        kept = count_with_ties(scores, limit)
        addresses = [address for _, address in hits[:kept]]
        sequences: list[Any] = self._searcher.fast_field_values("sequence", addresses)
        return sequences, scores[:kept]

    def _any_of(self, terms: list[str]) -> tantivy.Query:
        counts = Counter([term for term in terms if term not in _STOP_WORDS] or terms)
        should = tantivy.Occur.Should
        return tantivy.Query.boolean_query(
            [(should, self._term(term, count)) for term, count in counts.items()]
        )

    def _term(self, term: str, count: int) -> tantivy.Query:
        query = tantivy.Query.term_query(self._schema, "body", term, "freq")
        if count == 1:
            return query
        return tantivy.Query.boost_query(query, (_K3 + 1) * count / (_K3 + count))


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("sequence", fast=True)
    builder.add_text_field("id", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("body", tokenizer_name=_ANALYZER, index_option="freq")
    return builder.build()


def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(_LONGEST_TERM),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stemmer("english"),
    ):
        builder = builder.filter(step)
    return builder.build()


def _committed_files(directory: Path, meta: bytes) -> Iterator[str]:
    """Names of the files that a `meta.json` refers to."""
    names = {path.name for path in directory.iterdir()}
    for segment in json.loads(meta)["segments"]:
        stem = segment["segment_id"].replace("-", "")
        yield from sorted(names & {f"{stem}.{component}" for component in _COMPONENTS})
        if segment["deletes"] is not None:
            yield f"{stem}.{segment['deletes']['opstamp']}.del"


def _manage_files(directory: Path) -> None:
    """Lets Tantivy remove files that it did not write itself, such as those of a restored index."""
    managed = directory / _MANAGED
    if not managed.exists():
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        managed.write_text(json.dumps(sorted(names)))


@contextmanager
def _failures(kind: type[TriremeError], doing: str) -> Iterator[None]:
    """Turns Tantivy's failures into `kind`; its panics are no Exception, only a BaseException."""
    try:
        yield
    except TriremeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "os error 28" in str(error):
            raise StorageFull("no space left for the lexical index") from error
        raise kind(f"{doing}: {error}") from error
