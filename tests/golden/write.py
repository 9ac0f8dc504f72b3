"""Writes the golden index store of the current format; refuses to replace one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from core.documents import AttributeValue
from core.filters.schema import BOOL, NUMBER, Attribute, Schema
from core.manifest import FORMAT
from core.ranking_wish import Z_SCORE, FusionWish, RankingWish
from core.vectors.choosing import Plan
from core.vectors.kinds import IVF_SQ8, KINDS
from core.vectors.stored import F16
from tests.fakes.publisher import WRITTEN, Publisher

HERE = Path(__file__).parent


def main() -> None:
    """Two segments, one document replaced, one deleted, one with a title only.

    Distances and weighted terms, which is what format 2 brought, how searches rank (3), and
    what is known of attributes and a segment that is not searched vector by vector (4).
    """
    target = HERE / f"format-{FORMAT}"
    if target.exists():
        raise SystemExit(f"{target} exists: a golden store is never replaced")
    with tempfile.TemporaryDirectory() as directory:
        publisher = Publisher(
            Path(directory) / "index",
            "golden",
            uid="uid-golden",
            similarity="euclidean",
            sparse=True,
        )
        publisher.schema = Schema((Attribute("n", NUMBER),), seen=(Attribute("flag", BOOL),))
        publisher.search_defaults = RankingWish(FusionWish(method=Z_SCORE, k=7.0), window=50)
        attributes: dict[str, AttributeValue] = {
            "n": 1.5,
            "flag": True,
            "when": WRITTEN,
            "tags": ("x", "y"),
            "s": "ä",
        }
        publisher.put("galley", "rowed by oarsmen\nslow and heavy", title="Galley")
        publisher.put("raft", "made of logs")
        publisher.put("kayak", "paddled by one person")
        publisher.publish()
        publisher.plan = Plan(KINDS[IVF_SQ8], F16, 0.98)
        publisher.put("raft", "made of reeds ☃", title="Floß", attributes=attributes)
        publisher.put("title-only", title="Brigantine")
        publisher.delete("kayak")
        publisher.publish()
        shutil.copytree(Path(directory) / "index", target)


if __name__ == "__main__":
    main()
