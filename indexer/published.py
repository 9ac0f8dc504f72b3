"""What a shard has published, as the document store and the index store know it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from core.errors import CorruptFile
from core.index_store import ShardStore
from core.manifest import Manifest
from indexer.heads import Head

log = logging.getLogger(__name__)


def current(files: ShardStore, fields: Mapping[str, object]) -> Manifest | None:
    """The manifest that searchers read, None if there is none or it is unreadable.

    `fields` name the shard in the log.
    """
    try:
        return files.read_current()
    except CorruptFile as error:
        log.error("current generation unreadable", extra={**fields, "why": str(error)})
        return None


def committed(files: ShardStore, head: Head, fields: Mapping[str, object]) -> Manifest | None:
    """The manifest that the document store names, with CURRENT brought up to it.

    None before the first. Raises CorruptFile if it is gone.
    """
    if not head.manifest:
        return None
    for manifest in files.manifests():
        if manifest.name == head.manifest:
            if current(files, fields) != manifest:
                files.set_current(manifest)
            return manifest
    raise CorruptFile(f"manifest {head.manifest} is missing")
