"""How far an upload has come, kept on disk so that it can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path


def journal_directory() -> Path:
    """Where journals lie: TRIREME_JOURNALS, else the user's state folder."""
    given = os.environ.get("TRIREME_JOURNALS")
    state = os.environ.get("XDG_STATE_HOME", "~/.local/state")
    return Path(given) if given else Path(state).expanduser() / "trireme" / "uploads"


@dataclass(slots=True)
class Journal:
    """One file's upload into one collection.

    `run` makes request ids that are the same when a batch is sent again after a crash, and
    different when the file is uploaded anew.
    """

    path: Path
    run: str
    line: int

    @classmethod
    def open(cls, collection_uid: str, source: Path) -> Journal:
        """The journal of an upload that was cut off, or a new one.

        A source that has changed since (size or modification time) is a new upload.
        """
        stat = source.stat()
        key = f"{collection_uid}\n{source.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
        path = journal_directory() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        try:
            saved = json.loads(path.read_text())
            return cls(path, str(saved["run"]), int(saved["line"]))
        except (OSError, ValueError, KeyError, TypeError):
            journal = cls(path, uuid.uuid4().hex, 0)
            journal.save(0)
            return journal

    def request_id(self, line: int) -> str:
        """The id of the batch that starts after `line`."""
        return f"{self.run}-{line}"

    def save(self, line: int) -> None:
        """Notes that everything up to `line` is acknowledged."""
        self.line = line
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps({"run": self.run, "line": line}))
        partial.replace(self.path)

    def close(self) -> None:
        """Forgets an upload that is complete."""
        self.path.unlink(missing_ok=True)
