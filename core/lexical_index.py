"""What lies in the directory of a lexical index: its schema, how it is opened, its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tantivy

from core.analysis import Analyzer
from core.errors import StorageFull, TriremeError

META = "meta.json"
BODY = "body"
_MANAGED = ".managed.json"
_COMPONENTS = ("idx", "pos", "term", "store", "fast", "fieldnorm")


def open_index(directory: Path, analyzer: Analyzer) -> tuple[tantivy.Index, bool]:
    """The index in a directory, a new one if that is empty, and whether it has positions."""
    meta = directory / META
    fields = json.loads(meta.read_bytes())["schema"] if meta.exists() else []
    kept = [f["options"]["indexing"]["record"] for f in fields if f["name"] == BODY]
    has_positions = kept != ["freq"]
    schema = _schema(analyzer.name, "position" if has_positions else "freq")
    index = tantivy.Index(schema, path=str(directory), reuse=True)
    index.register_tokenizer(analyzer.name, analyzer.tantivy_analyzer)
    return index, has_positions


def _schema(analyzer: str, kept: str) -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("sequence", fast=True)
    builder.add_text_field("id", tokenizer_name="raw", index_option="basic")
    builder.add_text_field(BODY, tokenizer_name=analyzer, index_option=kept)
    return builder.build()


def committed_files(directory: Path, meta: bytes) -> Iterator[str]:
    """Names of the files that a `meta.json` refers to."""
    names = {path.name for path in directory.iterdir()}
    for segment in json.loads(meta)["segments"]:
        stem = segment["segment_id"].replace("-", "")
        yield from sorted(names & {f"{stem}.{component}" for component in _COMPONENTS})
        if segment["deletes"] is not None:
            yield f"{stem}.{segment['deletes']['opstamp']}.del"


def manage_files(directory: Path) -> None:
    """Lets Tantivy remove files that it did not write itself, such as those of a restored index."""
    managed = directory / _MANAGED
    if not managed.exists():
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        managed.write_text(json.dumps(sorted(names)))


@contextmanager
def failures(kind: type[TriremeError], doing: str) -> Iterator[None]:
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
