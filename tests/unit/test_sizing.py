"""The sizes that the guide promises are those of the software."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.vectors.kinds import lists_for
from deploy.cli.size import size
from deploy.sizing import GIBIBYTE, Corpus, needs

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operations" / "sizing.md"
# Of the columns of the guide's table.
CORPORA = [
    Corpus(1_000_000),
    Corpus(10_000_000, shards=2),
    Corpus(100_000_000, shards=16),
    Corpus(1_000_000_000, shards=128),
]


def test_the_table_of_the_guide_is_what_the_formulas_say() -> None:
    rows = re.findall(r"^\| ([A-Z_0-9]+) \| (f32|f16|i8) \| (.*) \|$", GUIDE.read_text(), re.M)
    shown = {(kind.lower(), stored): cells.split(" | ") for kind, stored, cells in rows}
    columns = [{(n.kind, n.precision or "f32"): n for n in needs(corpus)} for corpus in CORPORA]

    assert shown.keys() == columns[0].keys()
    for key, cells in shown.items():
        wanted = [each[key].hot_bytes for each in columns] + [columns[-1][key].disk_bytes]
        given = [float(cell.replace(",", "")) for cell in cells]
        assert given == pytest.approx([amount / GIBIBYTE for amount in wanted], abs=0.5, rel=0.04)


def test_a_million_vectors_take_what_a_million_took() -> None:
    [found] = [n for n in needs(Corpus(1_000_000)) if (n.kind, n.precision) == ("ivf_sq8", "f16")]

    measured_files = 1.16e9
    assert found.vector_bytes == pytest.approx(measured_files, rel=0.01)


def test_a_passage_takes_its_vector_its_words_and_its_share_of_the_middles() -> None:
    rows = 1_000_000
    [found] = [n for n in needs(Corpus(rows, dimension=384, words=110)) if n.kind == "ivf_flat"]

    vectors = rows * (4 * 384 + 8 + 4 * 384) + lists_for(rows) * 4 * 384
    assert found.vector_bytes == vectors
    assert found.hot_bytes == pytest.approx(vectors + rows * 272)
    assert found.disk_bytes == pytest.approx(vectors + rows * 272 + rows * (3_000 - 1_536))


def test_replicas_take_memory_and_no_place_in_the_bucket() -> None:
    def row(*options: str) -> list[str]:
        output = CliRunner().invoke(size, ["100000000", "--shards", "4", *options]).output
        [line] = [line for line in output.splitlines() if line.split()[:2] == ["ivf_pq", "f16"]]
        return re.findall(r"[\d,.]+(?= GiB)", line)

    memory, process, disk = row()
    twice, same_process, same_disk = row("--replicas", "2")
    assert float(twice) == pytest.approx(2 * float(memory), abs=0.2)
    assert (same_process, same_disk) == (process, disk)
    assert float(process) == pytest.approx(float(memory) / 4, abs=0.1)
