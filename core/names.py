"""What a name stands for: aliases of collections, and the index that serves each collection.

Pure data. The document store holds the truth; after every change it is written to the index store
as JSON, where shards read it:

    {"revision": 7, "aliases": {"news": "news-2026"}, "indexes": {"papers": "papers~2"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from core.errors import CorruptFile


@dataclass(frozen=True, slots=True)
class Names:
    """All names at one `revision`, which grows by one with every change; 0: nothing ever changed.

    `aliases` leads to names of collections. `indexes` has the internal names of the indexes of
    collections that are not served by the index of their own name.
    """

    revision: int = 0
    aliases: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)

    def collection(self, name: str) -> str:
        """The collection that a name stands for: an alias's, else the one of that very name."""
        return self.aliases.get(name, name)

    def index(self, collection: str) -> str:
        """The internal name of the index that serves a collection."""
        return self.indexes.get(collection, collection)

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Names:
        """The names in a file, none without one; raises CorruptFile."""
        if data is None:
            return cls()
        try:
            values = json.loads(data)
            return cls(
                int(values["revision"]), _texts(values["aliases"]), _texts(values["indexes"])
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(f"the names cannot be read: {error!r}") from error


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}
