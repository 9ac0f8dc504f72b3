"""Who calls: the bearer credential of a call, as a caller with its rights and its meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.errors import BadEnvironment, CredentialsInvalid, CredentialsMissing
from core.security.caller import Caller
from core.security.key_file import read_keys
from core.security.keys import PREFIX, KeyRing
from core.security.quotas import Meters
from core.security.settings import SecuritySettings
from core.security.watched import Watched

if TYPE_CHECKING:
    from core.security.jwt_tokens import JwtTokens

HEADER = "authorization"
_MOST_BYTES = 8192


class Identity:
    """Knows callers by API keys, by tokens, or by both."""

    def __init__(
        self,
        keys: Watched[KeyRing] | None,
        tokens: JwtTokens | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._clock = clock
        self._meters = Meters()

    @classmethod
    def create(cls, settings: SecuritySettings) -> Identity | None:
        """None if there is no security; raises BadEnvironment rather than letting anybody in."""
        path = settings.api_keys_file
        if path is None and not settings.jwt_jwks:
            return None
        keys = None if path is None else Watched([path], lambda: read_keys(path), "api_keys_file")
        return cls(keys, _tokens(settings) if settings.jwt_jwks else None)

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """The caller that `authorization: Bearer KEY_OR_TOKEN` stands for; names in lower case.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired, or IdentityUnavailable if
        the keys of a token's issuer cannot be had.
        """
        scheme, _, credential = metadata.get(HEADER, "").partition(" ")
        if not credential:
            raise CredentialsMissing(
                "this call carries no credentials",
                remedy=f"send metadata `{HEADER}: Bearer KEY`; the CLI takes TRIREME_API_KEY",
            )
        if scheme.lower() != "bearer" or len(credential) > _MOST_BYTES:
            raise CredentialsInvalid(
                f"{HEADER} is not of the form `Bearer KEY`", remedy="send it in that form"
            )
        if credential.startswith(PREFIX) or self._tokens is None:
            return self._holder(credential)
        return await self._tokens.caller(credential, self._meters)

    async def stop(self) -> None:
        """Ends what is under way."""
        if self._tokens is not None:
            await self._tokens.stop()

    def _holder(self, key: str) -> Caller:
        ring = KeyRing(()) if self._keys is None else self._keys.current()
        return ring.find(key, self._clock()).caller(self._meters)

    def __repr__(self) -> str:
        known = "no keys" if self._keys is None else repr(self._keys.value)
        return f"<Identity {known}, {'tokens too' if self._tokens else 'no tokens'}>"


def _tokens(settings: SecuritySettings) -> JwtTokens:
    try:
        from core.security.jwt_tokens import JwtTokens
    except ImportError as error:
        raise BadEnvironment(
            "needs PyJWT", field="jwt_jwks", remedy="run: pip install 'trireme[jwt]'"
        ) from error
    return JwtTokens.create(settings)
