"""The lexical index finds what was committed, by any text, and survives restarts and damage."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.lexical_index
from core.analysis import ENGLISH_ANALYZER, analyzer_of
from core.errors import CorruptFile, StorageFull
from core.languages import LexicalSettings
from core.lexical import LexicalReader, LexicalWriter
from core.lexical_index import META

Export = Callable[[], Path]


@pytest.fixture
def writer(tmp_path: Path) -> LexicalWriter:
    (tmp_path / "writer").mkdir()
    return LexicalWriter.open(tmp_path / "writer")


@pytest.fixture
def export(writer: LexicalWriter, tmp_path: Path) -> Export:
    """Commits and exports; each call gives another directory."""
    made: list[Path] = []

    def commit_and_export() -> Path:
        made.append(tmp_path / f"export-{len(made)}")
        made[-1].mkdir()
        writer.commit()
        writer.export(made[-1])
        return made[-1]

    return commit_and_export


def found(directory: Path, query: str, limit: int = 10) -> list[int]:
    return search(LexicalReader.open(directory), query, limit)


def search(reader: LexicalReader, query: str, limit: int = 10) -> list[int]:
    """Sequences of what is found if every term weighs its repetition alone."""
    numbers: list[int] = reader.search(
        ENGLISH_ANALYZER.query_terms(query), limit
    ).sequences.tolist()
    return numbers


def test_words_match_by_stem_case_and_accent(writer: LexicalWriter, export: Export) -> None:
    writer.put(1, "a", "", "Running cafés")

    directory = export()

    assert found(directory, "runs CAFE") == [1]


def test_stop_words_count_only_if_there_is_nothing_else(
    writer: LexicalWriter, export: Export
) -> None:
    writer.put(1, "a", "", "to be or not to be")
    writer.put(2, "b", "", "the ship")

    directory = export()

    assert found(directory, "the ship to be") == [2]
    assert found(directory, "to be or not to be") == [1]


def test_what_has_no_words_finds_nothing(writer: LexicalWriter, export: Export) -> None:
    writer.put(1, "a", "", "ship")

    directory = export()

    assert found(directory, "?! ... ()") == []
    assert found(directory, "") == []


def test_an_index_without_documents_finds_nothing(export: Export) -> None:
    assert found(export(), "ship") == []


def test_candidates_are_scored_with_the_weights_given(
    writer: LexicalWriter, export: Export
) -> None:
    writer.put(1, "a", "ship", "ship sail wind")
    writer.put(2, "b", "", "wind water")
    writer.put(3, "c", "", "nothing")

    matches = LexicalReader.open(export()).search({"ship": 5.0, "wind": 0.5}, 1)

    assert (matches.sequences.tolist(), matches.complete) == ([1], False)
    assert matches.mean_length == pytest.approx((4 + 2 + 1) / 3)
    saturation = 1.2 * (1 - 0.75 + 0.75 * 4 / matches.mean_length)
    assert matches.lowest == pytest.approx(
        5 * 2 / (2 + saturation) + 0.5 * 1 / (1 + saturation), rel=1e-6
    )
    assert matches.unscored == 0


def test_live_documents_with_a_term_are_counted_whether_or_not_others_died(
    writer: LexicalWriter, export: Export
) -> None:
    for sequence in range(1, 7):
        writer.put(sequence, f"d{sequence}", "", "ship ship")
    before = LexicalReader.open(export())
    writer.delete("d1")
    writer.put(7, "d2", "", "raft")
    after = LexicalReader.open(export())

    assert before.count(["ship", "raft", "sail"]) == {"ship": 6, "raft": 0, "sail": 0}
    assert after.count(["ship", "raft", "sail"]) == {"ship": 6 - 2, "raft": 1, "sail": 0}


@settings(max_examples=200, deadline=None)
@given(
    query=st.text(max_size=60) | st.sampled_from(["a:b", '"x', "(+-", "[1 TO", "*", "AND OR NOT"])
)
def test_no_text_is_a_syntax_error(tmp_path_factory: pytest.TempPathFactory, query: str) -> None:
    directory = tmp_path_factory.getbasetemp() / "any-text"
    if not directory.exists():
        directory.mkdir()
        (directory / "w").mkdir()
        (directory / "e").mkdir()
        writer = LexicalWriter.open(directory / "w")
        writer.put(1, "a", "", "x b to")
        writer.commit()
        writer.export(directory / "e")

    assert set(found(directory / "e", query)) <= {1}


def test_a_document_put_again_is_found_once_in_its_new_form(
    writer: LexicalWriter, export: Export
) -> None:
    writer.put(1, "a", "", "galley")
    writer.put(2, "a", "", "frigate")
    before = export()
    writer.put(3, "a", "", "raft")

    after = export()

    assert (found(before, "galley"), found(before, "frigate")) == ([], [2])
    assert (found(after, "frigate"), found(after, "raft")) == ([], [3])
    assert LexicalReader.open(after).document_count == 1


def test_deleting_takes_one_document_and_no_other(writer: LexicalWriter, export: Export) -> None:
    writer.put(1, "a", "", "ship")
    writer.put(2, "a b", "", "ship")
    writer.delete("a")
    writer.delete("never was there")

    assert found(export(), "ship") == [2]


def test_a_document_takes_the_place_of_an_earlier_one_unless_it_is_new(
    writer: LexicalWriter, export: Export
) -> None:
    writer.put(1, "a", "", "ship", is_new=True)
    writer.put(2, "b", "", "ship", is_new=True)
    assert sorted(found(export(), "ship")) == [1, 2]

    writer.put(3, "a", "", "ship")
    assert sorted(found(export(), "ship")) == [2, 3]


def test_an_export_does_not_change_with_the_index(writer: LexicalWriter, export: Export) -> None:
    writer.put(1, "a", "", "ship")
    first = export()
    content = {path.name: path.read_bytes() for path in first.iterdir()}

    for sequence in range(2, 40):
        writer.put(sequence, f"d{sequence}", "", "ship")
        export()
    writer.close()

    assert {path.name: path.read_bytes() for path in first.iterdir()} == content
    assert found(first, "ship") == [1]


def test_an_export_holds_nothing_but_what_its_meta_names(
    writer: LexicalWriter, export: Export
) -> None:
    for sequence in range(1, 30):
        writer.put(sequence, f"d{sequence % 7}", "", "ship")
        directory = export()

        meta = json.loads((directory / META).read_text())
        stems = {segment["segment_id"].replace("-", "") for segment in meta["segments"]}
        names = {path.name for path in directory.iterdir()} - {META}
        assert {name.split(".")[0] for name in names} == stems
        assert LexicalReader.open(directory).document_count == min(sequence, 7)


def test_an_index_goes_on_from_exported_files(
    writer: LexicalWriter, export: Export, tmp_path: Path
) -> None:
    writer.put(1, "a", "", "ship")
    writer.put(2, "b", "", "ship")
    again = LexicalWriter.open(export())

    again.delete("a")
    again.put(3, "c", "", "ship")
    again.commit()
    (tmp_path / "next").mkdir()
    again.export(tmp_path / "next")

    assert sorted(found(tmp_path / "next", "ship")) == [2, 3]


def test_an_index_without_places_of_words_goes_on_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = core.lexical_index._schema
    with monkeypatch.context() as patch:
        patch.setattr(core.lexical_index, "_schema", lambda name, kept: schema(name, "freq"))
        writer = LexicalWriter.open(tmp_path)
        writer.put(1, "a", "", "ship")
        writer.commit()
        writer.close()

    again = LexicalWriter.open(tmp_path)
    again.put(2, "b", "", "ship")
    again.commit()

    reader = LexicalReader.open(tmp_path)
    assert (reader.has_positions, sorted(search(reader, "ship"))) == (False, [1, 2])


def test_an_index_of_another_language_is_not_opened(tmp_path: Path) -> None:
    writer = LexicalWriter.open(tmp_path, analyzer_of(LexicalSettings("de")))
    writer.commit()

    with pytest.raises(CorruptFile):
        LexicalReader.open(tmp_path)


def test_what_was_not_committed_is_gone_after_closing(tmp_path: Path) -> None:
    writer = LexicalWriter.open(tmp_path)
    writer.put(1, "a", "", "ship")
    writer.commit()
    writer.put(2, "b", "", "ship")
    writer.close()

    again = LexicalWriter.open(tmp_path)
    again.commit()

    assert found(tmp_path, "ship") == [1]


def test_threads_may_search_one_reader_at_a_time(writer: LexicalWriter, export: Export) -> None:
    for sequence in range(1, 200):
        writer.put(sequence, f"d{sequence}", "", f"ship number {sequence}")
    reader = LexicalReader.open(export())
    wrong: list[object] = []

    def ask(number: int) -> None:
        for _ in range(100):
            sequences = search(reader, f"{number}", 1)
            if sequences != [number]:
                wrong.append(sequences)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize("suffix", ["idx", "term", "fast", "fieldnorm", "store", "json"])
def test_a_file_cut_short_is_corrupt_and_no_panic(
    writer: LexicalWriter, export: Export, suffix: str
) -> None:
    writer.put(1, "a", "ship", "ship")
    directory = export()
    for path in directory.glob(f"*.{suffix}"):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])

    with pytest.raises(CorruptFile):
        LexicalReader.open(directory).search({"ship": 1.0}, 1)


def test_a_full_disk_is_told_from_other_failures(
    writer: LexicalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def commit(self) -> None:
            raise ValueError("An IO error occurred: 'No space left on device (os error 28)'")

    monkeypatch.setattr(writer, "_writer", FullDisk())

    with pytest.raises(StorageFull):
        writer.commit()
