"""The docstrings of the Python standard library as documents: real text that is on every machine.

Sources are parsed, never imported, so nothing of them runs.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from core.documents import AttributeValue, Document

# Large modules that few programmers ask about, so that the rest embeds within a minute.
LEFT_OUT = frozenset(
    (
        "antigravity",
        "ctypes",
        "curses",
        "dbm",
        "distutils",
        "email",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "msilib",
        "nntplib",
        "pdb",
        "pickletools",
        "pydoc",
        "pydoc_data",
        "telnetlib",
        "this",
        "tkinter",
        "turtle",
        "turtledemo",
        "unittest",
        "xml",
    )
)
MINIMUM_CHARACTERS = 50


def standard_library() -> list[Document]:
    """Every public function, class and method that has a docstring, about 2,000 of them.

    Id and title are the qualified name, such as `gzip.compress`.
    """
    root = Path(sysconfig.get_path("stdlib"))
    modules = sorted(sys.stdlib_module_names - LEFT_OUT)
    found = (document for name in modules for document in _module(root, name))
    return list({document.id: document for document in found}.values())


def _module(root: Path, name: str) -> Iterator[Document]:
    single = root / f"{name}.py"
    files = [single] if single.exists() else sorted((root / name).rglob("*.py"))
    for path in files:
        parts = [
            part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"
        ]
        if any(part.startswith(("_", "test")) for part in parts):
            continue
        tree = ast.parse(path.read_bytes())
        yield from _entries(tree, ".".join(parts), ".".join(parts))


def _entries(tree: ast.AST, prefix: str, module: str) -> Iterator[Document]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        text = inspect.cleandoc(ast.get_docstring(node) or "")
        if len(text) >= MINIMUM_CHARACTERS:
            yield _document(node, name, module, text)
        if isinstance(node, ast.ClassDef):
            yield from _entries(node, name, module)


def _document(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, name: str, module: str, text: str
) -> Document:
    attributes: dict[str, AttributeValue] = {"module": module, "line": float(node.lineno)}
    if not isinstance(node, ast.ClassDef):
        attributes["signature"] = f"({ast.unparse(node.args)})"
    return Document(id=name, title=name, text=text, attributes=attributes)
