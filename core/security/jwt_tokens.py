"""Callers who bring a JWT (RFC 7519), checked by its issuer's public keys."""

from __future__ import annotations

from typing import Any

import jwt

from core.errors import BadEnvironment, CredentialsExpired, CredentialsInvalid, InvalidInput
from core.security.caller import Caller, Grant
from core.security.jwks import KeySource, key_source
from core.security.quotas import Limits, Meters
from core.security.settings import SecuritySettings

# Public keys only: a shared secret could make tokens too, and a public key must never pass for one.
ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
_REQUIRED = ("exp", "iss", "aud", "sub")


class JwtTokens:
    """Tokens of one issuer for one audience, by pinned algorithms."""

    def __init__(self, settings: SecuritySettings, keys: KeySource) -> None:
        self._settings = settings
        self._keys = keys
        self._limits = Limits(
            settings.jwt_requests_per_minute, settings.jwt_model_tokens_per_minute
        )

    @classmethod
    def create(cls, settings: SecuritySettings) -> JwtTokens:
        """Raises BadEnvironment if a setting is missing or would let anybody in."""
        for name in ("jwt_issuer", "jwt_audience", "jwt_algorithms"):
            if not getattr(settings, name):
                raise BadEnvironment(
                    "is needed where jwt_jwks is set",
                    field=name,
                    remedy="say what tokens must have",
                )
        if unknown := set(settings.jwt_algorithms) - ALGORITHMS:
            raise BadEnvironment(
                f"{sorted(unknown)} cannot be used",
                field="jwt_algorithms",
                remedy=f"choose of {', '.join(sorted(ALGORITHMS))}",
            )
        return cls(settings, key_source(settings.jwt_jwks, settings.jwt_refresh_seconds))

    async def caller(self, token: str, meters: Meters) -> Caller:
        """Whom a token speaks for.

        Raises CredentialsInvalid, CredentialsExpired or IdentityUnavailable.
        """
        claims = self._claims(token, await self._key(token))
        name = f"{self._settings.jwt_issuer}#{claims['sub']}"
        grants = _grants(claims.get(self._settings.jwt_scope_claim))
        return Caller(name, grants, meter=meters.of(name, self._limits))

    async def stop(self) -> None:
        """Ends what is under way."""
        await self._keys.stop()

    async def _key(self, token: str) -> Any:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _refused("is not a JWT") from error
        if header.get("alg") not in self._settings.jwt_algorithms:
            raise _refused("is not signed by an algorithm that is accepted here")
        wanted = str(header.get("kid", ""))
        keys = await self._keys.keys(wanted)
        if not wanted and len(keys) == 1:
            return next(iter(keys.values()))
        if wanted not in keys:
            raise _refused("is signed by a key that its issuer does not name")
        return keys[wanted]

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(settings.jwt_algorithms),
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
                leeway=settings.jwt_leeway_seconds,
                options={"require": list(_REQUIRED)},
            )
        except jwt.ExpiredSignatureError as error:
            raise CredentialsExpired("this token has expired", remedy="have it renewed") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            # The kind of failure, never a part of the token.
            raise _refused(f"cannot be accepted ({type(error).__name__})") from error


def _grants(claim: Any) -> tuple[Grant, ...]:
    """The grants among what a token may hold, such as `openid read:papers-*`."""
    words = claim.split() if isinstance(claim, str) else claim
    found = []
    for word in words if isinstance(words, list) else ():
        try:
            found.append(Grant.parse(str(word)))
        except InvalidInput:
            continue
    return tuple(found)


def _refused(why: str) -> CredentialsInvalid:
    return CredentialsInvalid(f"this token {why}", remedy="get a token of this service's issuer")
