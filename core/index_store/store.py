"""All collections of one index store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from core import config
from core.errors import BadEnvironment, CorruptFile, NewerFormat
from core.index_store.engine import COLLECTION_FILE, DELETED_FILE, NAMES_FILE, Engine
from core.index_store.location import Location
from core.index_store.shard_store import ShardStore

FORMAT = 1
_FORMAT_FILE = "format.json"


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """A collection as the index store knows it."""

    name: str
    uid: str
    shard_count: int


class IndexStore:
    """Collections in `engine`; `create` for whoever writes, `open` for readers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._shards: dict[tuple[str, int], ShardStore] = {}
        self._entries: dict[str, CollectionEntry] = {}
        self._names: tuple[bytes, bytes] | None = None
        self._checked = False

    @classmethod
    def create(cls, where: Path | Location) -> IndexStore:
        """Makes the store if it is not there; raises NewerFormat."""
        engine = _engine(where)
        engine.prepare()
        if engine.read(_FORMAT_FILE) is None:
            engine.replace(_FORMAT_FILE, json.dumps({"format": FORMAT}).encode())
        store = cls(engine)
        store.check_format()
        return store

    @classmethod
    def open(cls, where: Path | Location) -> IndexStore:
        """Opens the store for reading; one that is not there yet has no collections.

        Raises NewerFormat if a newer version wrote it, CorruptFile if its format cannot be told.
        """
        store = cls(_engine(where))
        store.check_format()
        return store

    def check_format(self) -> bool:
        """False if the store is absent; raises NewerFormat or CorruptFile unless it can be read."""
        data = self.engine.read(_FORMAT_FILE)
        if data is None:
            return False
        where = f"{self.engine.where}/{_FORMAT_FILE}"
        try:
            found = json.loads(data)["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{where} does not tell the format") from error
        if found != FORMAT:
            raise NewerFormat(
                f"the index store has format {found}, this version reads {FORMAT}",
                field=self.engine.where,
                remedy="run the newer version, or give another index directory",
            )
        return True

    def create_collection(self, entry: CollectionEntry) -> None:
        """Makes a collection known to readers; doing so again changes nothing."""
        data = json.dumps(asdict(entry)).encode()
        self.engine.replace(f"{entry.uid}/{COLLECTION_FILE}", data)

    def collections(self) -> list[CollectionEntry]:
        """Collections that are not deleted, by uid.

        Raises CorruptFile if one cannot be read, NewerFormat if the store is not for this version.
        """
        self._checked = self._checked or self.check_format()
        uids = sorted(self.engine.uids(self._entries))
        self._entries = {uid: self._entries.get(uid) or self.entry(uid) for uid in uids}
        return list(self._entries.values())

    def delete_collection(self, uid: str) -> None:
        """Removes a collection; one half removed stays deleted and can be removed again."""
        if self.engine.listed(uid):
            self.engine.replace(f"{uid}/{DELETED_FILE}", b"")
        self.engine.remove_tree(uid)
        self._shards = {key: shard for key, shard in self._shards.items() if key[0] != uid}

    def shard(self, uid: str, shard: int) -> ShardStore:
        """One shard of one collection, which need not have been published yet."""
        key = uid, shard
        if key not in self._shards:
            self._shards[key] = ShardStore(self.engine, f"{uid}/{shard}")
        return self._shards[key]

    def read_names(self) -> bytes | None:
        """What collections are called, as `write_names` was given it; None if it never was."""
        mark = self.engine.mark(NAMES_FILE)
        if mark is None:
            return None
        if self._names is None or self._names[0] != mark:
            data = self.engine.read(NAMES_FILE)
            if data is None:
                return None
            self._names = mark, data
        return self._names[1]

    def write_names(self, data: bytes) -> None:
        """Tells readers what collections are called, in one step."""
        self.engine.replace(NAMES_FILE, data)

    def entry(self, uid: str) -> CollectionEntry:
        """A collection as it stands in the store; raises CorruptFile."""
        key = f"{uid}/{COLLECTION_FILE}"
        data = self.engine.read(key)
        try:
            if data is None:
                raise ValueError("it is gone")
            entry = config.build(CollectionEntry, json.loads(data), key)
        except (ValueError, BadEnvironment) as error:
            raise CorruptFile(f"{self.engine.where}/{key} cannot be read: {error}") from error
        if entry.uid != uid:
            raise CorruptFile(f"{self.engine.where}/{key} is of {entry.uid}")
        return entry


def _engine(where: Path | Location) -> Engine:
    return (where if isinstance(where, Location) else Location(where)).engine()
