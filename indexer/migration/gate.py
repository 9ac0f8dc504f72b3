"""What a comparison must show before a target may answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gate:
    """`max_ndcg_loss` None asks for nothing; so does a `min_overlap` of 0."""

    min_overlap: float = 0.0
    max_ndcg_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What asking both indexes the same queries gave; see `Comparison` in migration.proto.

    `compare_micros` is since 1970.
    """

    query_count: int
    incomplete_count: int
    mean_overlap: float
    lowest_overlap: float
    lowest_query: str
    judged_count: int
    source_ndcg: float
    target_ndcg: float
    ndcg_difference_low: float
    ndcg_difference_high: float
    compare_micros: int
    passed: bool = False


def objections(found: Comparison, gate: Gate) -> list[str]:
    """Why a comparison does not pass, in words; empty if it does."""
    reasons = []
    if not found.query_count:
        reasons.append("no query was asked")
    if found.incomplete_count:
        reasons.append(
            f"{found.incomplete_count} of {found.query_count} queries were not answered whole"
        )
    if found.mean_overlap < gate.min_overlap:
        reasons.append(f"overlap@10 is {found.mean_overlap:.3f}, below {gate.min_overlap:g}")
    if gate.max_ndcg_loss is None:
        return reasons
    if not found.judged_count:
        reasons.append("no query with a relevant document was asked, so nDCG@10 is not known")
    elif found.ndcg_difference_low < -gate.max_ndcg_loss:
        reasons.append(
            f"nDCG@10 may fall by {-found.ndcg_difference_low:.3f} (from {found.source_ndcg:.3f} "
            f"to {found.target_ndcg:.3f} as measured), more than {gate.max_ndcg_loss:g}"
        )
    return reasons
