"""What benchmarks print: numbers that can be read, sizes of what was published."""

from __future__ import annotations

from typing import Any

from core.manifest import Manifest


def rounded(values: Any) -> Any:
    """Numbers with three decimals, however deep they lie."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 3) if isinstance(values, float) else values


def by_file(manifest: Manifest) -> dict[str, float]:
    """Megabytes of the lexical index, and of each kind of segment file."""
    sizes = {"lexical": sum(file.size for file in manifest.lexical) / 1e6}
    for file in (file for segment in manifest.segments for file in segment.files):
        sizes[file.name] = sizes.get(file.name, 0.0) + file.size / 1e6
    return sizes
