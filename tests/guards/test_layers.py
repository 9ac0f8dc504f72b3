"""Which package may import which: the arrows of the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"gateway", "shard", "indexer"}
OURS = {"core", "deploy", "tests", *ROLES}
MAY_IMPORT = {
    "core": {"core"},
    "gateway": {"core", "gateway"},
    "shard": {"core", "shard"},
    "indexer": {"core", "indexer"},
    "deploy": {"core", "deploy"},
}
# Settings are tried by the very code that serves them; it is pure.
ALSO_IMPORTS = {"deploy/evaluation": "gateway.fusion"}
# Libraries that only some parts may know.
KNOWN_BY = {
    "aiohttp": {"gateway/http"},
    "faiss": {"core/vectors", "core/gpu", "shard"},
    "tantivy": {
        "core/analysis.py",
        "core/cjk.py",
        "core/lexical.py",
        "core/lexical_index.py",
        "deploy/training",
    },
    "pyarrow": {
        "core/columns.py",
        "core/filters",
        "core/merging.py",
        "core/segment.py",
        "core/segment_tables.py",
        "core/segment_writing.py",
        "core/sparse.py",
    },
    "jwt": {"core/security"},
    "lark": {"core/filters"},
    "obstore": {"core/index_store/bucket.py", "core/index_store/s3_errors.py"},
    "opentelemetry": {"core/spans.py"},
    "sqlalchemy": {"indexer"},
    "tritonclient": {"core/triton.py", "deploy"},
    "torch": {"deploy"},
}


def modules(package: str) -> Iterator[tuple[str, str]]:
    """Every (file, imported module) in a package, imports inside functions too."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield name, node.module


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    forbidden = [
        (file, module)
        for file, module in modules(package)
        if (top := module.partition(".")[0]) in OURS
        and top not in MAY_IMPORT[package]
        and ALSO_IMPORTS.get(str(Path(file).parent)) != module
    ]

    assert not forbidden


@pytest.mark.parametrize("library", sorted(KNOWN_BY))
def test_a_library_is_known_where_it_is_needed_and_nowhere_else(library: str) -> None:
    strangers = [
        file
        for package in MAY_IMPORT
        for file, module in modules(package)
        if module.partition(".")[0] == library
        and not any(file.startswith(known) for known in KNOWN_BY[library])
    ]

    assert not strangers


def test_below_the_services_nobody_knows_protobuf() -> None:
    translators = (
        "service",
        "answers",
        "conversation",
        "wire",
        "inference",
        "passthrough",
        "rpc",
        "server",
        "decoding",
    )
    clients = (
        "attributes",
        "gathering",
        "line",
        "peer",
        "topology",
        "scatter",
        "statistics",
        "stored",
        "triton",
    )
    strangers = [
        file
        for package in ("core", *sorted(ROLES))
        for file, module in modules(package)
        if module.startswith(("trireme.", "google.protobuf"))
        and not any(word in Path(file).stem for word in (*translators, *clients))
    ]

    assert not strangers
