"""Settings: unknown, missing and mistyped keys are refused by name."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from core.config import load
from core.errors import BadEnvironment


@dataclass(frozen=True)
class Example:
    name: str
    seconds: float = 1.0
    shards: tuple[str, ...] = ()
    folder: Path | None = None


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_values_take_the_types_of_their_fields(tmp_path: Path) -> None:
    path = written(tmp_path, "role: {name: x, seconds: 2, shards: ['a:1', 'b:2'], folder: /srv}\n")

    config = load(Example, path, "role")

    assert config == Example("x", 2.0, ("a:1", "b:2"), Path("/srv"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("role: {name: x, nmae: y}", "role.nmae"),
        ("role: {}", "role.name"),
        ("role: {name: 7}", "role.name"),
        ("role: {name: x, seconds: soon}", "role.seconds"),
        ("other: {}", "'role'"),
        ("role: [", "config.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(BadEnvironment, match=names):
        load(Example, written(tmp_path, text), "role")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match=r"gone\.yaml"):
        load(Example, tmp_path / "gone.yaml", "role")
