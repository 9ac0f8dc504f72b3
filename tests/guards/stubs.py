"""Generates the stubs in protos/gen, or checks that the committed ones are fresh.

python -m tests.guards.stubs --write
python -m tests.guards.stubs --check
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
GENERATED = PROTOS / "gen"


def generate(directory: Path) -> None:
    """Runs protoc over every .proto file and makes the result importable and typed."""
    sources = sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "trireme").rglob("*.proto"))
    outputs = [f"--{kind}_out={directory}" for kind in ("python", "mypy", "grpc_python")]
    outputs.append(f"--mypy_grpc_out={directory}")
    plugins = Path(sys.executable).parent
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *sources],
        check=True,
        env={"PATH": f"{plugins}:/usr/bin:/bin"},
    )
    for package in {path.parent for path in directory.rglob("*.py")} | {directory / "trireme"}:
        for folder in (package, *package.parents):
            if folder == directory:
                break
            (folder / "__init__.py").touch()
    (directory / "trireme" / "py.typed").touch()


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of the files that are missing, superfluous or different."""
    names = {
        path.relative_to(base)
        for base in (fresh, committed)
        for path in base.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        str(name)
        for name in names
        if not (fresh / name).exists()
        or not (committed / name).exists()
        or not filecmp.cmp(fresh / name, committed / name, shallow=False)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="replace protos/gen")
    choice.add_argument("--check", action="store_true", help="fail if protos/gen is not fresh")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A folder of its own: that of `tempfile` is closed to others, and so would be the copy.
        fresh = Path(folder) / "gen"
        fresh.mkdir()
        generate(fresh)
        if arguments.check:
            stale = differences(fresh, GENERATED)
            if stale:
                print("stubs are not fresh, run `make protos`:", *stale, sep="\n  ")
            return 1 if stale else 0
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(fresh, GENERATED)
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
