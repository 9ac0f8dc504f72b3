"""The public keys that tokens are checked by: a JWKS (RFC 7517) from a file or from its issuer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt

from core.errors import BadEnvironment, IdentityUnavailable, TriremeError
from core.security.watched import Watched, read_file

log = logging.getLogger(__name__)

FETCH_SECONDS = 5.0
# A stranger who makes up key ids must not make us ask the issuer with every call.
LEAST_SECONDS_BETWEEN = 10.0
# Keys that the issuer took back must not be good for ever because it cannot be reached.
MOST_STALE_SECONDS = 24 * 3600.0
_MOST_BYTES = 1_000_000
_KINDS = {"RSA", "EC", "OKP"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Keys = Mapping[str, Any]


class KeySource(Protocol):
    """Public keys by their id."""

    async def keys(self, wanted: str) -> Keys:
        """All keys; looks for new ones first if `wanted` is not known."""

    async def stop(self) -> None:
        """Ends what is under way."""


class FileKeys:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._watched = Watched([path], lambda: parse_keys(read_file(path, "jwt_jwks")), "jwt_jwks")

    async def keys(self, wanted: str) -> Keys:
        return self._watched.current()

    async def stop(self) -> None:
        """There is nothing to end."""


class IssuerKeys:
    """The keys at a URL, asked for again from time to time and when an unknown one is wanted.

    While the issuer does not answer, the keys of before are good for a day.
    """

    def __init__(self, url: str, refresh_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise BadEnvironment(
                f"{url!r} is not an https URL", field="jwt_jwks", remedy="name a file or https URL"
            )
        self._url = url
        self._refresh_seconds = refresh_seconds
        self._keys: Keys = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self, wanted: str) -> Keys:
        now = time.monotonic()
        unknown = wanted not in self._keys
        is_due = now - self._fetched >= self._refresh_seconds
        if (unknown or is_due) and now - self._tried >= LEAST_SECONDS_BETWEEN:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        if unknown and self._fetching is not None:
            await asyncio.shield(self._fetching)
        if time.monotonic() - self._fetched > MOST_STALE_SECONDS:
            raise IdentityUnavailable(
                "the keys of the tokens' issuer cannot be had", remedy="try again shortly"
            )
        return self._keys

    async def stop(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._read)
        except (OSError, TriremeError) as error:
            log.error("keys of the issuer not read", extra={"url": self._url, "why": str(error)})
            return
        self._fetched = time.monotonic()

    def _read(self) -> Keys:
        request = urllib.request.Request(self._url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as reply:
            return parse_keys(reply.read(_MOST_BYTES))


def parse_keys(content: bytes) -> Keys:
    """The signing keys of a JWKS by key id; raises BadEnvironment.

    Keys for encryption, shared secrets and kinds that are not known are left out.
    """
    try:
        entries = json.loads(content)["keys"]
        found = [
            entry
            for entry in entries
            if entry.get("kty") in _KINDS and entry.get("use", "sig") == "sig"
        ]
        keys = {str(entry.get("kid", "")): jwt.PyJWK(entry) for entry in found}
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise BadEnvironment(f"is not a JWKS: {error!r}", field="jwt_jwks") from error
    if not keys:
        raise BadEnvironment("has no key for signatures", field="jwt_jwks")
    return keys


def key_source(place: str, refresh_seconds: float) -> KeySource:
    """For a path or URL; raises BadEnvironment."""
    if "://" in place:
        return IssuerKeys(place, refresh_seconds)
    return FileKeys(Path(place))
