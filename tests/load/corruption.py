"""Damages an index store many times, one file at a time, and asks `verify` each time.

    python -m tests.load.corruption --count 2000 --seed 1

Exits with 1 unless every damage is found and the undamaged store is sound.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from core.index_store import IndexStore, Location
from core.index_store.verification import Verified, verify
from core.manifest import Manifest
from tests.fakes.corruption import corrupt, files_of
from tests.fakes.publisher import Publisher


class Target:
    """A store with two collections, every kind of file, and generations that were replaced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._current: dict[tuple[str, int], Manifest] = {}
        for number, sparse in enumerate((True, False)):
            publisher = Publisher(root, f"c{number}", uid=f"uid-{number}", sparse=sparse)
            for generation in range(3):
                for document in range(20):
                    name = f"d{generation * 15 + document}"
                    publisher.put(name, f"galley {document} of {generation}\nis rowed {name}")
                manifest = publisher.publish()
            publisher.delete("d3")
            manifest = publisher.publish()
            self._current[publisher.uid, 0] = manifest

    def files(self) -> list[Path]:
        """Every file that the current generations need."""
        needed = {file.sha256 for each in self._current.values() for file in each.files()}
        needed |= {each.name for each in self._current.values()}
        return files_of(self.root, needed)

    def verify(self) -> Verified:
        """As a process that has read nothing yet, and knows what is committed."""
        committed = {key: each.generation for key, each in self._current.items()}
        return verify(IndexStore(Location(self.root).engine()), committed=committed)


def undetected(target: Target, count: int, seed: int, found: Counter[str]) -> list[str]:
    """Damages `count` times; what `verify` did not notice. `found` counts the rest by kind."""
    numbers = random.Random(seed)
    missed = []
    files = target.files()
    for _ in range(count):
        corruption = corrupt(files, numbers)
        try:
            if target.verify().is_sound:
                missed.append(f"{corruption.kind} {corruption.path.relative_to(target.root)}")
            else:
                found[corruption.kind] += 1
        finally:
            corruption.undo()
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder) / "index")
        kinds = {path.suffix or path.name for path in target.files()}
        missed = undetected(target, options.count, options.seed, found)
        sound = target.verify().is_sound
    print(f"seed {options.seed}: {found.total():,} of {options.count:,} damages found")
    print(f"  {len(kinds)} kinds of names; " + ", ".join(f"{k} {n}" for k, n in found.items()))
    for each in missed:
        print(f"  missed: {each}")
    print(f"  the undamaged store is {'sound' if sound else 'NOT sound'}")
    return 1 if missed or not sound else 0


if __name__ == "__main__":
    sys.exit(main())
