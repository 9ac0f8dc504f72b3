"""Page tokens: frozen candidates, compressed and signed, for any gateway that has the key.

    base64url( version (1 byte) | signature (16 bytes) | PageToken )

The signature is keyed BLAKE2b over version and content (RFC 7693), so that nothing is parsed that
we did not write. Compressing would take longer than all the rest together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.errors import BadEnvironment, InvalidInput, PageTokenExpired
from gateway.candidates import Place
from gateway.page_wire import place_from_bytes, place_to_bytes

# Another one for every change after which the same candidates would be ordered differently.
_VERSION = b"\x01"
_SIGNATURE_BYTES = 16
_MIN_KEY_BYTES = 16
_NOT_OURS = "was not given out by this service, or was changed on the way"
_START_AGAIN = "start again with an empty token"


class PageTokens:
    """Writes and reads the tokens of one key."""

    def __init__(
        self, key: bytes, lifetime_seconds: float, *, clock: Callable[[], float] = time.time
    ) -> None:
        # Keys of any length become one of the length that BLAKE2b takes.
        self._key = hashlib.blake2b(key, digest_size=32).digest()
        self._lifetime = timedelta(seconds=lifetime_seconds)
        self._clock = clock

    @classmethod
    def create(cls, key_file: Path | None, lifetime_seconds: float) -> PageTokens:
        """With the key in a file, or one of this process; raises BadEnvironment."""
        if key_file is None:
            return cls(secrets.token_bytes(_SIGNATURE_BYTES), lifetime_seconds)
        try:
            key = key_file.read_bytes()
        except OSError as error:
            raise BadEnvironment(
                f"{key_file} cannot be read: {error}", field="page_token_key_file"
            ) from error
        if len(key) < _MIN_KEY_BYTES:
            raise BadEnvironment(
                f"{key_file} has {len(key)} bytes",
                field="page_token_key_file",
                remedy=f"put at least {_MIN_KEY_BYTES} random bytes into it",
            )
        return cls(key, lifetime_seconds)

    def expiry(self) -> datetime:
        """When a token expires that is given out now."""
        return self._now() + self._lifetime

    def write(self, place: Place, digest: bytes) -> str:
        """The token for a place in the answer to the request with that digest."""
        content = place_to_bytes(place, digest)
        return _encoded(_VERSION + self._sign(content) + content)

    def read(self, token: str, digest: bytes) -> Place:
        """The place that a token stands for.

        Raises InvalidInput (BAD_PAGE_TOKEN) if it is not ours or belongs to another request,
        PageTokenExpired if its time has passed.
        """
        place, own_digest = place_from_bytes(self._verified(token))
        if own_digest != digest:
            raise _refused("belongs to another request", "change nothing but page_size")
        if self._now() >= place.expires:
            raise PageTokenExpired(
                f"expired at {place.expires:%H:%M:%S} UTC", field="page_token", remedy=_START_AGAIN
            )
        return place

    def _verified(self, token: str) -> bytes:
        try:
            data = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _refused(_NOT_OURS, _START_AGAIN) from error
        version, data = data[: len(_VERSION)], data[len(_VERSION) :]
        signature, content = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        is_ours = hmac.compare_digest(signature, self._sign(content))
        if version != _VERSION or not is_ours or _encoded(version + data) != token:
            raise _refused(_NOT_OURS, _START_AGAIN)
        return content

    def _sign(self, content: bytes) -> bytes:
        signer = hashlib.blake2b(
            _VERSION, digest_size=_SIGNATURE_BYTES, key=self._key, person=b"trireme page"
        )
        signer.update(content)
        return signer.digest()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _refused(message: str, remedy: str) -> InvalidInput:
    return InvalidInput("BAD_PAGE_TOKEN", message, field="page_token", remedy=remedy)
