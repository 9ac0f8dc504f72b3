"""A load as plain data: what `--json` prints and what the page is drawn from."""

from __future__ import annotations

from typing import Any

from deploy.load.tally import Histogram, Histograms, Tally

# Up to where a curve of percentiles goes, as far as there are enough queries.
_CURVE = (0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999)
# Queries sent later than this are the generator's fault, and so is part of their latency.
LATE_MS = 10.0
# Beyond, a Python process cannot be trusted to keep time.
BUSY = 0.9


def summarise(tally: Tally, *, rate: float, seconds: float, processes: int = 1) -> dict[str, Any]:
    """The report of one rate; times in milliseconds, latencies from when a query was due."""
    failed = {reason: len(times) for reason, times in sorted(tally.failed.items())}
    answered = len(tally.answered)
    return {
        "rate_per_second": round(rate, 3),
        "seconds": seconds,
        "sent": answered + sum(failed.values()),
        "answered": answered,
        "answered_per_second": round(answered / max(tally.seconds, seconds), 3),
        "degraded": tally.degraded,
        "degradations": dict(tally.shortfalls.most_common()),
        "failed": failed,
        **_percentiles(tally.answered, 50, 90, 95, 99, 99.9),
        "mean_ms": tally.answered.mean,
        "max_ms": tally.answered.longest,
        "percentiles_ms": _curve(tally.answered),
        "shapes": _each(tally.shapes, 50, 95, 99),
        "failures_ms": _each(tally.failed, 50, 99),
        "stages": _stages(tally),
        "generator": _generator(tally, processes),
    }


def _generator(tally: Tally, processes: int) -> dict[str, Any]:
    late = tally.late.percentile(99)
    return {
        "processes": processes,
        "late_p99_ms": late,
        "late_max_ms": tally.late.longest,
        "busy": round(tally.busy, 3),
        "was_late": (late or 0.0) > LATE_MS or tally.busy > BUSY,
    }


def _stages(tally: Tally) -> dict[str, dict[str, Any]]:
    """Stages in the order in which they begin; `inner` is what the stage's own description says."""
    begun = sorted(tally.stages, key=lambda name: tally.starts[name].percentile(50) or 0.0)
    return {
        name: {
            "count": len(tally.stages[name]),
            "start_p50_ms": tally.starts[name].percentile(50),
            **_percentiles(tally.stages[name], 50, 95, 99),
            "inner_p50_ms": tally.waits[name].percentile(50) if name in tally.waits else None,
        }
        for name in begun
    }


def _each(histograms: Histograms, *shares: float) -> dict[str, dict[str, Any]]:
    return {
        name: {"count": len(histogram), **_percentiles(histogram, *shares)}
        for name, histogram in sorted(histograms.items())
    }


def _percentiles(histogram: Histogram, *shares: float) -> dict[str, float | None]:
    return {f"p{share:g}_ms".replace(".", ""): histogram.percentile(share) for share in shares}


def _curve(histogram: Histogram) -> dict[str, float | None]:
    """Percentiles as far as at least one query lies beyond."""
    known = [share for share in _CURVE if len(histogram) * (100 - share) >= 100]
    return {f"{share:g}": histogram.percentile(share) for share in known}
