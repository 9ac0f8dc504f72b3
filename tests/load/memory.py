"""What a process holds in memory, as Linux counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: `resident` in all, `own` those of them that no file backs."""

    resident: int
    own: int

    @property
    def mapped(self) -> int:
        """Pages of mapped files that are in memory; they can be dropped and read again."""
        return self.resident - self.own

    def __sub__(self, other: Memory) -> Memory:
        return Memory(self.resident - other.resident, self.own - other.own)


def memory_of(pid: int) -> Memory:
    """Reads /proc/PID/smaps_rollup; pages shared with other processes count in full (RSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) for name, value in (s.split(":") for s in lines)}
    return Memory(1024 * kilobytes["Rss"], 1024 * kilobytes["Anonymous"])


def peak_of(pid: int) -> int:
    """The most bytes that a process ever had resident (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
