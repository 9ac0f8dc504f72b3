"""API keys: how they look, what is stored of them, who holds which.

    trireme_<id: 12 hex digits>_<secret: 43 characters, 256 random bits>

Of a key only the SHA-256 is stored. Slow hashes as for passwords are there to make guessing dear;
nobody guesses 256 random bits, while a slow hash would give every stranger a means to keep our
processors busy. The id finds the entry, so that one comparison, in constant time, decides.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.errors import CredentialsExpired, CredentialsInvalid
from core.security.caller import Caller, Grant
from core.security.quotas import NO_LIMITS, Limits, Meters

PREFIX = "trireme_"
_ID_BYTES = 6
_SECRET_BYTES = 32
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored of a key. Several keys may have one name: they share its quota."""

    id: str
    name: str
    sha256: str
    grants: tuple[Grant, ...]
    created: datetime
    expires: datetime | None = None
    weight: float = 1.0
    limits: Limits = NO_LIMITS

    def caller(self, meters: Meters) -> Caller:
        """Who holds it."""
        return Caller(self.name, self.grants, self.weight, meters.of(self.name, self.limits))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key's id, its text, which is shown once and kept nowhere, and the hash of that."""

    id: str
    text: str
    sha256: str

    @classmethod
    def make(cls) -> NewKey:
        """A random one."""
        number = secrets.token_hex(_ID_BYTES)
        text = f"{PREFIX}{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        return cls(number, text, _digest(text))

    def __repr__(self) -> str:
        return f"<NewKey {self.id}>"


class KeyRing:
    """All keys of a file, found by what callers present."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in keys}

    def find(self, text: str, now: datetime) -> ApiKey:
        """The entry of a presented key; raises CredentialsInvalid or CredentialsExpired."""
        found = self._by_id.get(text.removeprefix(PREFIX).partition("_")[0])
        stored = _NOBODY if found is None else found.sha256
        matches = hmac.compare_digest(_digest(text), stored)
        if found is None or not matches:
            raise CredentialsInvalid(
                "this API key is not known", remedy="check it, or have one made"
            )
        if found.expires is not None and now >= found.expires:
            raise CredentialsExpired(
                f"this API key expired at {found.expires:%Y-%m-%d %H:%M:%S} UTC",
                remedy="have a new one made",
            )
        return found

    def __repr__(self) -> str:
        return f"<KeyRing {len(self.keys)} keys>"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
